"""Reading the scan of a source's study: Hounsfield units are made once, never twice.

CT-RATE is the case in point. Its first release stored raw values and kept slope and intercept in a table; its second
(folders ``*_fixed``) stores Hounsfield units, and the same table still lists the old slope and intercept. Applying
them again moves air to about -9000 HU or, worse, by a plausible 1024. So the values decide, not the table: whatever
already looks like Hounsfield units is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ctscribe.data.ingest import load_study
from ctscribe.data.intensity import check_hounsfield
from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.study import IngestPolicy, Study
from ctscribe.errors import GeometryRefused, UsageError, WrongModality

SPACING_TOLERANCE = 0.02
"""Relative difference of a voxel size between header and table that counts as rounding."""


def read_scan(study: SourceStudy, policy: IngestPolicy = IngestPolicy()) -> Study:  # noqa: B008 - frozen
    """The scan in Hounsfield units.

    Raises:
        UsageError: the study has no scan.
        GeometryRefused: ``spacing_conflict``, the header contradicts the source's table.
        WrongModality: neither the stored nor the rescaled values are Hounsfield units.
        InputRefused: see `load_study`.
    """
    if study.image is None:
        raise UsageError(f"{study.where} has no scan", expected="a source of scans", hint="this one holds texts only")
    if study.rescale is None:
        return load_study(study.image, series=study.series, policy=policy)
    with TemporaryDirectory(prefix="ctscribe-") as folder:
        path = _in_hounsfield(study, Path(folder))
        found = load_study(path, policy=policy)
    note = "applied" if path != study.image else "already_hu"
    return replace(found, ingest=replace(found.ingest, rescale=note))


def _in_hounsfield(study: SourceStudy, folder: Path) -> Path:
    """The file itself where it holds Hounsfield units already, else a rescaled copy."""
    import nibabel as nib

    assert study.image is not None
    assert study.rescale is not None
    image = nib.load(study.image)
    _check_spacing(study, tuple(float(size) for size in image.header.get_zooms()[:3]))
    values = np.asanyarray(image.dataobj)
    if check_hounsfield(np.squeeze(values)).verdict == "hounsfield":
        return study.image
    slope, intercept = study.rescale
    rescaled = (values.astype(np.float32) * np.float32(slope) + np.float32(intercept)).clip(-32768, 32767)
    check = check_hounsfield(np.squeeze(rescaled))
    if check.verdict != "hounsfield":
        raise WrongModality(
            f"the values of {study.where} are not Hounsfield units",
            code="not_hounsfield",
            expected="Hounsfield units as stored, or after the table's slope and intercept",
            got=check.message,
            hint="download the volume again",
        )
    copy = nib.Nifti1Image(np.rint(rescaled).astype(np.int16), image.affine, image.header)
    copy.header.set_data_dtype(np.int16)
    copy.header.set_slope_inter(1, 0)
    path = folder / "scan.nii"
    nib.save(copy, path)
    return path


def _check_spacing(study: SourceStudy, stored_xyz: tuple[float, ...]) -> None:
    if study.spacing is None:
        return
    wanted = study.spacing[::-1]
    if np.allclose(sorted(stored_xyz), sorted(wanted), rtol=SPACING_TOLERANCE, atol=1e-3):
        return
    raise GeometryRefused(
        f"the header of {study.where} gives another voxel size than the table of the data set",
        code="spacing_conflict",
        expected=" x ".join(f"{size:g}" for size in wanted) + " mm",
        got=" x ".join(f"{size:g}" for size in stored_xyz) + " mm",
        hint="this release has broken headers; use the corrected one (folders that end in _fixed)",
    )
