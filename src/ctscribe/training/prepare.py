"""A manifest row as inference would see it: read, segmented and placed on the model's grid by the same functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe import checkpoint, ontology
from ctscribe.data import load_study
from ctscribe.data.anatomy.labelmaps import lesion_names_of, names_of
from ctscribe.data.augment import AIR
from ctscribe.data.batch import Sample, with_outlines
from ctscribe.data.manifest import ManifestRow
from ctscribe.data.study import IngestPolicy, Study
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.model import GridContract
from ctscribe.pipeline.lesions import outlines_of_map
from ctscribe.pipeline.masks import Outlined, Outliner, place_outlined
from ctscribe.tensors import Volume


@dataclass(frozen=True)
class Preparation:
    """``prepare(row) -> Sample``, and the description of itself that names cache entries.

    Attributes:
        grid: the model's.
        region_grid: cells (z, y, x) of the region masks.
        policy: what may be repaired when a scan is read.
        segmenter: who outlines the regions of scans that bring no label map, see `pipeline.masks`. With ``labelmap``
            every scan must bring one; ``labelmap:PATTERN`` says where it lies (``{study}``, ``{patient}``, ``{name}``
            of the image).
        regions_scheme: what the values of the label maps mean; needed when there are any.
        lesions_scheme: the same of maps of outlined lesions.
        model: whose own masks are wanted, for ``own``.
    """

    grid: GridContract = GridContract()
    region_grid: tuple[int, int, int] = (32, 16, 16)
    policy: IngestPolicy = field(default_factory=IngestPolicy)
    segmenter: str = "classical"
    regions_scheme: str = ""
    lesions_scheme: str = ""
    model: Path | None = None

    def check(self) -> None:
        """Refuse before any scan is read what cannot work, see `Outliner.check`."""
        if self.regions_scheme or self._word == "labelmap":
            names_of(self.regions_scheme)
        if self.lesions_scheme:
            lesion_names_of(self.lesions_scheme)
        if self._word != "labelmap":
            self._outliner().check()

    def __call__(self, row: ManifestRow) -> Sample:
        """Read one scan.

        Raises:
            InputRefused: the scan cannot be used; says why.
            UsageError: the row names a label map and nothing says what its values mean.
        """
        name = f"line {row.line}"
        study = load_study(row.image, policy=self.policy)
        sample, grid = self.sample(study, self.outline(study, self.label_map(row), name), name)
        if row.lesions is None:
            return sample
        if not self.lesions_scheme:
            raise UsageError(f"{name} names a map of lesions", expected="Preparation(lesions_scheme=...)")
        outlines = outlines_of_map(row.lesions, study.volume, self.lesions_scheme, grid)
        return with_outlines(replace(sample, outlines=outlines))

    def label_map(self, row: Any) -> Path | None:
        """Where the label map of a study's regions lies: the one it brings, or the one that the pattern names.

        Args:
            row: with `study`, `patient`, `image` and `regions`.
        """
        pattern = self.segmenter.partition(":")[2] if self._word == "labelmap" else ""
        if row.regions is not None or not pattern:
            return row.regions
        name = row.image.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".zip")
        try:
            return Path(pattern.format(study=row.study, patient=row.patient, name=name))
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"--segmenter {self.segmenter}", expected="{study}, {patient} or {name} in braces", got=str(error)
            ) from error

    def outline(self, study: Study, label_map: Path | None, name: str) -> Outlined:
        """Regions of one scan.

        Raises:
            InputRefused: ``label_map_missing``, or see `Outliner`.
            UsageError: a label map without scheme.
        """
        if label_map is not None and not self.regions_scheme:
            raise UsageError(
                f"{name} names a label map of regions",
                expected="the scheme of its labels",
                hint="give --regions-scheme, or leave the column empty to segment by the built-in rules",
            )
        if label_map is not None and label_map.is_file():
            return Outliner(f"labelmap:{label_map}", self.regions_scheme)(study)
        if label_map is not None or self._word == "labelmap":
            raise UnreadableInput(
                "no label map of the regions comes with this scan",
                code="label_map_missing",
                expected="one in the manifest's column `regions`, or where the pattern says",
            )
        return self._outliner()(study)

    def sample(self, study: Study, outlined: Outlined, name: str) -> tuple[Sample, Volume]:
        """A scan that was read and segmented, on the model's grid; and that grid with its place in the patient."""
        placed = place_outlined(
            study,
            outlined,
            shape=self.grid.shape,
            spacing=self.grid.spacing,
            regions=ontology.model_regions(),
            cells=self.region_grid,
        )
        z, y, x = placed.volume.spacing
        sample = Sample(
            id=name,
            hu=np.rint(np.clip(placed.volume.hu, AIR, 32767)).astype(np.int16),
            spacing=(z, y, x),
            occupancy=np.rint(np.clip(placed.occupancy, 0, 1) * 255).astype(np.uint8),
            present=np.asarray(placed.present, bool),
        )
        return sample, placed.volume

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the result, for `data.cache.StudyCache`."""
        from ctscribe import __version__
        from ctscribe.data.anatomy.classical import SOURCE

        return {
            "version": __version__,
            "grid": asdict(self.grid),
            "region_grid": self.region_grid,
            "policy": asdict(self.policy),
            "segmentation": SOURCE if self._word == "classical" else self.segmenter,
            "schemes": (self.regions_scheme, self.lesions_scheme),
            "model": _load(self.model).info.checkpoint_hash if self._word == "own" else "",
        }

    @property
    def _word(self) -> str:
        return self.segmenter.partition(":")[0]

    def _outliner(self) -> Outliner:
        return Outliner(self.segmenter, model=partial(_load, self.model))


def preparation(segmenter: str, regions_scheme: str, lesions_scheme: str, model: Path | None) -> Preparation:
    """How scans are prepared with these words; on the grid of the model whose own masks are wanted.

    Raises:
        UsageError, DependencyMissing: see `Preparation.check`.
    """
    made = Preparation(segmenter=segmenter, regions_scheme=regions_scheme, lesions_scheme=lesions_scheme, model=model)
    made.check()
    if segmenter != "own":
        return made
    loaded = _load(model)
    return replace(made, grid=loaded.grid, region_grid=loaded.cells)


@lru_cache(maxsize=1)
def _load(folder: Path | None) -> checkpoint.LoadedModel:
    """The model of this process."""
    return checkpoint.load(folder)
