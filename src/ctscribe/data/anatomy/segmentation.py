"""What a segmentation is, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.tensors import Volume


@dataclass(frozen=True)
class Segmentation:
    """Named regions on the grid of one volume.

    Attributes:
        labels: disjoint leaf labels, 0 where nothing is named.
        names: label value -> region id of the ontology.
        source: who made it, such as ``"classical 1"`` or ``"totalsegmentator_v2"``.
        quality: measured numbers to judge it by; volumes in ml, lengths in mm, ratios without unit.
        notes: sentences about what is approximate or doubtful.
    """

    labels: UInt8[np.ndarray, "z y x"]
    names: dict[int, str]
    source: str
    quality: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def values(self, region_id: str) -> tuple[int, ...]:
        """Label values that make up a region: its own and those of everything below it in the tree."""
        if region_id not in ontology.regions():
            raise UsageError(
                f"unknown region {region_id!r}",
                expected="an id of the ontology: " + ", ".join(ontology.regions()),
                hint="run `ctscribe info` for the list of regions",
            )
        inside = set(ontology.descendants(region_id))
        return tuple(value for value, name in self.names.items() if name in inside)

    def has(self, region_id: str) -> bool:
        """True when at least one voxel belongs to the region."""
        return bool(self._lookup(region_id)[self._counts() > 0].any())

    def mask(self, region_id: str) -> Bool[np.ndarray, "z y x"]:
        """Voxels of a region, as the union of the leaf labels under it."""
        return self._lookup(region_id)[self.labels]

    def occupancy(
        self, regions: tuple[str, ...], grid_shape: tuple[int, int, int]
    ) -> tuple[Float[np.ndarray, "r t h w"], Bool[np.ndarray, " r"]]:
        """Share of each cell of a coarse grid that each region fills.

        The grid covers the whole volume; a voxel belongs to the cell its centre falls into, so every
        voxel counts once. A cell without a voxel (grid finer than the volume) is zero.

        Returns:
            occupancy in 0..1, and for each region whether it is there at all.
        """
        width = max([int(self.labels.max()), *self.names]) + 1
        cells = cell_counts(self.labels, grid_shape, width)
        total = np.maximum(cells.sum(axis=1), 1)
        shares = np.empty((len(regions), cells.shape[0]), dtype=np.float32)
        present = np.zeros(len(regions), dtype=bool)
        for row, region in enumerate(regions):
            values = list(self.values(region))
            count = cells[:, values].sum(axis=1)
            shares[row] = count / total
            present[row] = bool(count.any())
        return shares.reshape(len(regions), *grid_shape), present

    def _counts(self) -> np.ndarray:
        return np.bincount(self.labels.ravel(), minlength=256)

    def _lookup(self, region_id: str) -> Bool[np.ndarray, "256"]:
        table = np.zeros(256, dtype=bool)
        table[list(self.values(region_id))] = True
        return table


def cell_counts(
    labels: UInt8[np.ndarray, "z y x"], grid_shape: tuple[int, int, int], width: int
) -> Float[np.ndarray, "cells values"]:
    """Voxels per (cell of a coarse grid, label value below `width`)."""
    index = [(np.arange(n) * cells) // n for n, cells in zip(labels.shape, grid_shape, strict=True)]
    t, h, w = grid_shape
    cell = (index[0][:, None, None] * h + index[1][None, :, None]) * w + index[2][None, None, :]
    joint = np.bincount((cell * width + labels).ravel(), minlength=t * h * w * width)
    return joint.reshape(t * h * w, width).astype(np.float64)


@runtime_checkable
class Segmenter(Protocol):
    """Anything that names regions in a canonical volume: the classical rules, a network, a reader of files."""

    def __call__(self, volume: Volume) -> Segmentation: ...
