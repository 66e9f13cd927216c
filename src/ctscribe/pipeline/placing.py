"""Putting a scan under the model's eye: where the grid is centred, the regions on it, and what falls outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ctscribe.pipeline.evidence import Placed
from ctscribe.tensors import Volume

if TYPE_CHECKING:
    from ctscribe.data import Study
    from ctscribe.data.anatomy import Segmentation

CENTRE_REGIONS = ("lungs", "thorax")
"""The first of these that was found is centred in the model's field of view."""
OUTSIDE_TOLERANCE = 0.01
"""Share of the lungs that may lie outside the field of view before the report says so."""


def centre_of_chest(volume: Volume, segmentation: Segmentation) -> tuple[float, float, float]:
    """World (x, y, z) of the middle of the lungs' bounding box; of the thorax, then of the scan, without lungs."""
    for region in CENTRE_REGIONS:
        if segmentation.has(region):
            return _middle(volume, _bounds(segmentation.mask(region)))
    return _middle(volume, (np.zeros(3), np.asarray(volume.shape) - 1.0))


def place(
    study: Study,
    segmentation: Segmentation,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    regions: Sequence[str],
    cells: tuple[int, int, int],
    centre: tuple[float, float, float] | None = None,
) -> Placed:
    """The scan and its regions on the model's grid.

    Args:
        shape, spacing: the model's grid (z, y, x), voxels and mm.
        regions: region ids in the order the model pools them.
        cells: token grid (t, h, w) on which region occupancy is given.
        centre: world (x, y, z) of the grid's middle; None takes that of the chest.
    """
    from ctscribe.data.geometry import to_grid

    volume = study.volume
    grid = to_grid(volume, shape, spacing, centre or centre_of_chest(volume, segmentation))
    occupancy, present = labels_on_grid(segmentation, volume, grid).occupancy(tuple(regions), cells)
    return Placed(grid, occupancy, present, tuple(regions), volume, study.source)


def labels_on_grid(segmentation: Segmentation, volume: Volume, grid: Volume) -> Segmentation:
    """The same labels on another grid (nearest voxel; 0 outside the scan)."""
    from dataclasses import replace

    from scipy import ndimage

    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij", sparse=False)
    index = np.stack([z, y, x], axis=-1).reshape(-1, 3)
    source = volume.affine.to_index(grid.affine.to_world(index)).T.reshape(3, *grid.shape)
    labels = ndimage.map_coordinates(segmentation.labels, source, order=0, mode="constant", cval=0, prefilter=False)
    return replace(segmentation, labels=labels.astype(np.uint8))


def outside_share(segmentation: Segmentation, volume: Volume, grid: Volume, region: str = "lungs") -> float:
    """Share of a region's voxels outside the model's field of view (0 when the region was not found)."""
    index = np.argwhere(segmentation.mask(region)[::2, ::2, ::2]) * 2
    if not len(index):
        return 0.0
    on_grid = grid.affine.to_index(volume.affine.to_world(index))
    inside = np.all((on_grid >= -0.5) & (on_grid <= np.asarray(grid.shape) - 0.5), axis=1)
    return float(1 - inside.mean())


def _bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((hit[0], hit[-1]))
    low, high = zip(*ends, strict=True)
    return np.asarray(low, dtype=float), np.asarray(high, dtype=float)


def _middle(volume: Volume, bounds: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, float]:
    x, y, z = volume.affine.to_world((bounds[0] + bounds[1]) / 2)
    return float(x), float(y), float(z)
