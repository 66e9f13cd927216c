"""Rotation, zoom and elastic deformation of a whole study at once: voxels, masks, tokens and boxes by one mapping.

```
place in the result, mm from the middle  --rotation, elastic-->  place in the study, mm from the middle
```

A zoom never changes a size in millimetres, which the report may state: the voxels become smaller or larger instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ctscribe.data.augment import AIR
from ctscribe.data.batch import Sample

KNOTS = 4
"""Knots of the elastic field along each axis; between them it is smooth."""


@dataclass(frozen=True)
class Warp:
    """A transform: a study lying a little differently.

    Attributes:
        degrees: largest rotation about the (z, y, x) axes.
        zoom: largest relative change of the voxel size.
        elastic_mm: largest displacement of a knot of the elastic field; 0 leaves it out. Keep it far below the distance
            of the knots, or tissue folds.
        chance: share of the studies that are changed.
    """

    degrees: tuple[float, float, float] = (6.0, 3.0, 3.0)
    zoom: float = 0.08
    elastic_mm: float = 6.0
    chance: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw first, then apply."""
        angles = rng.uniform(-1, 1, 3) * np.array(self.degrees)
        zoom = 1 + rng.uniform(-self.zoom, self.zoom)
        knots = rng.uniform(-1, 1, (3, KNOTS, KNOTS, KNOTS)) * self.elastic_mm
        return warp(sample, angles, float(zoom), knots) if rng.random() < self.chance else sample


def warp(
    sample: Sample, angles: Float[np.ndarray, "3"], zoom: float, knots: Float[np.ndarray, "3 k k k"] | None = None
) -> Sample:
    """Rotate by `angles` (degrees about z, y, x), zoom in by `zoom`, move by the smooth field through `knots` (mm).

    Masks are interpolated; a lesion token stays where at least half of it does. What enters is air without regions.
    """
    spacing = (sample.spacing[0] / zoom, sample.spacing[1] / zoom, sample.spacing[2] / zoom)
    move = _Mapping(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), knots, _extent(sample))

    def shares(array: np.ndarray) -> np.ndarray:
        place = move.places(array.shape[1:], zoom)
        size = np.array(_extent(sample)) / np.array(array.shape[1:])
        moved = np.stack([_sampled(channel.astype(np.float32), place, size, 0.0) for channel in array])
        return np.clip(np.rint(moved), 0, 255).astype(array.dtype)

    voxels, size = move.places(sample.hu.shape, zoom), np.array(sample.spacing)
    hu = _sampled(sample.hu.astype(np.float32), voxels, size, float(AIR))

    def outline(mask: np.ndarray) -> np.ndarray:
        moved = _sampled(mask.astype(np.float32), voxels, size, 0.0)
        return moved >= min(0.5, float(moved.max())) if moved.any() else moved > 0

    occupancy = shares(sample.occupancy)
    return replace(
        sample,
        hu=np.rint(hu).astype(np.int16),
        spacing=spacing,
        occupancy=occupancy,
        present=sample.present & occupancy.any(axis=(1, 2, 3)),
        dense=None if sample.dense is None else shares(sample.dense.astype(np.uint8) * 2) >= 1,
        lesions=None if sample.lesions is None else shares(sample.lesions),
        valid=_valid(sample, move, zoom),
        boxes=None if sample.boxes is None else _boxes(sample.boxes, move),
        outlines=None if sample.outlines is None else sample.outlines.mapped(outline),
    )


@dataclass(frozen=True)
class _Mapping:
    """From a place in the result to the place in the study it shows; mm (z, y, x) from the middle."""

    rotation: Float[np.ndarray, "3 3"]
    knots: Float[np.ndarray, "3 k k k"] | None
    extent: tuple[float, float, float]

    def places(self, shape: tuple[int, ...], zoom: float) -> Float[np.ndarray, "z y x 3"]:
        """For the centre of every cell of a grid over the whole (zoomed) field."""
        axes = [(np.arange(n) - (n - 1) / 2) * (size / n / zoom) for n, size in zip(shape, self.extent, strict=True)]
        return self.source(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))

    def source(self, place: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
        return place @ self.rotation.T + self._shift(place)

    def target(self, place: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
        """The inverse, by repeated substitution: the field is weak and smooth."""
        found = place @ self.rotation
        for _ in range(20):
            found = (place - self._shift(found)) @ self.rotation
        return found

    def _shift(self, place: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
        if self.knots is None or not self.knots.any():
            return np.zeros_like(place)
        count = self.knots.shape[1]
        index = (place / np.array(self.extent) + 0.5) * (count - 1)
        flat = np.moveaxis(index, -1, 0).reshape(3, -1)
        moved = [ndimage.map_coordinates(k, flat, order=3, mode="nearest") for k in self.knots]
        return np.stack(moved, axis=-1).reshape(place.shape)


def _extent(sample: Sample) -> tuple[float, float, float]:
    z, y, x = (n * step for n, step in zip(sample.hu.shape, sample.spacing, strict=True))
    return z, y, x


def _sampled(
    array: Shaped[np.ndarray, "z y x"], place: Float[np.ndarray, "a b c 3"], size: np.ndarray, fill: float
) -> Float[np.ndarray, "a b c"]:
    """Values at places in mm from the middle; `size` is that of a cell."""
    index = np.round(place / size + (np.array(array.shape) - 1) / 2, 6)  # a whole turn must not fall off the edge
    return ndimage.map_coordinates(array, np.moveaxis(index, -1, 0), order=1, mode="constant", cval=fill)


def _valid(sample: Sample, move: _Mapping, zoom: float) -> np.ndarray | None:
    if sample.valid is None:
        return None
    place = move.places(sample.hu.shape, zoom)
    return _sampled(sample.valid.astype(np.float32), place, np.array(sample.spacing), 0.0) > 0.5


def _boxes(boxes: Float[np.ndarray, "o 6"], move: _Mapping) -> Float[np.ndarray, "o 6"]:
    """Around the moved centre, as large as before: a rotated box has no axes of its own, and the lesion is round."""
    low, high = boxes[:, :3].astype(float), boxes[:, 3:].astype(float)
    middle, half = move.target((low + high) / 2), (high - low) / 2
    return np.concatenate((middle - half, middle + half), axis=1).astype(boxes.dtype)
