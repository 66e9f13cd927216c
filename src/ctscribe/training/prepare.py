"""A manifest row as inference would see it: read, segmented and placed on the model's grid by the same functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ctscribe import ontology
from ctscribe.data import load_study
from ctscribe.data.anatomy import Segmentation, segment
from ctscribe.data.augment import AIR
from ctscribe.data.batch import Sample
from ctscribe.data.manifest import ManifestRow
from ctscribe.data.study import IngestPolicy, Study
from ctscribe.errors import UsageError
from ctscribe.model import GridContract
from ctscribe.pipeline.placing import place
from ctscribe.tensors import Volume

RegionReader = Callable[[ManifestRow, Volume], Segmentation]


@dataclass(frozen=True)
class Preparation:
    """``prepare(row) -> Sample``, and the description of itself that names cache entries.

    Attributes:
        grid: the model's.
        region_grid: cells (z, y, x) of the region masks.
        policy: what may be repaired when a scan is read.
        read_regions: reads a row's label map; needed when the manifest names any.
    """

    grid: GridContract = GridContract()
    region_grid: tuple[int, int, int] = (32, 16, 16)
    policy: IngestPolicy = field(default_factory=IngestPolicy)
    read_regions: RegionReader | None = None

    def __call__(self, row: ManifestRow) -> Sample:
        """Read one scan.

        Raises:
            InputRefused: the scan cannot be used; says why.
            UsageError: the row names a label map and there is nothing to read it with.
        """
        study = load_study(row.image, policy=self.policy)
        return self.sample(study, self._segment(row, study.volume), f"line {row.line}")[0]

    def sample(self, study: Study, segmentation: Segmentation, name: str) -> tuple[Sample, Volume]:
        """A scan that was read and segmented, on the model's grid; and that grid with its place in the patient."""
        placed = place(
            study,
            segmentation,
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
            "segmentation": SOURCE,
        }

    def _segment(self, row: ManifestRow, volume: Volume) -> Segmentation:
        if row.regions is None:
            return segment(volume)
        if self.read_regions is None:
            raise UsageError(
                f"line {row.line} names a label map of regions",
                expected="Preparation(read_regions=...)",
                hint="leave the column empty to segment by the built-in rules",
            )
        return self.read_regions(row, volume)
