"""Small changes that keep every label true: shift, noise, gain. No mirror image: left and right are findings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from ctscribe.data.batch import Sample

AIR = -1024
"""Hounsfield units of what lies outside the scan."""


@dataclass(frozen=True)
class Augment:
    """``augment(sample, rng) -> sample``.

    Attributes:
        cells: shift (z, y, x) by up to so many cells of the region grid; voxels, regions and lesion tokens
            move together, exactly.
        jitter: further shift (z, y, x) of the voxels alone, less than a cell, so that anatomy is not tied to
            the token grid; labels may then be off by as much.
        noise: largest standard deviation of added Gaussian noise, HU.
        gain: largest relative change of contrast about 0 HU.
        offset: largest change of level, HU.
        forget: chance that all region masks are withheld: a scan without masks is a normal case.
        forget_lesions: chance that outlined lesions are withheld as an input (they stay what is taught).
    """

    cells: tuple[int, int, int] = (2, 1, 1)
    jitter: tuple[int, int, int] = (1, 2, 2)
    noise: float = 15.0
    gain: float = 0.04
    offset: float = 10.0
    forget: float = 0.05
    forget_lesions: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw first, then apply."""
        steps = [rng.integers(-c, c + 1) for c in self.cells]
        jitter = np.array([rng.integers(-j, j + 1) for j in self.jitter])
        sigma, gain = rng.uniform(0, self.noise), 1 + rng.uniform(-self.gain, self.gain)
        offset, forget = rng.uniform(-self.offset, self.offset), rng.random() < self.forget
        moved = shift(sample, (int(steps[0]), int(steps[1]), int(steps[2])))
        hu = roll_in(moved.hu, (int(jitter[0]), int(jitter[1]), int(jitter[2])), AIR).astype(np.float32)
        hu = hu * np.float32(gain) + np.float32(offset)
        hu += rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(sigma)
        moved = replace(moved, hu=np.clip(np.rint(hu), AIR, 32767).astype(np.int16))
        if sample.lesions is not None and rng.random() < self.forget_lesions:
            moved = replace(moved, lesions=None, lesion_kinds=None)
        if forget:
            moved = replace(moved, occupancy=np.zeros_like(moved.occupancy), present=np.zeros_like(moved.present))
            moved = replace(moved, lesions=None, lesion_kinds=None)
        # The patient does not lie the same way twice: an earlier scan has draws of its own.
        return moved if moved.prior is None else replace(moved, prior=self(moved.prior, rng))


def shift(sample: Sample, cells: tuple[int, int, int]) -> Sample:
    """Move a study by whole cells of its region grid; what enters is air without regions or lesions.

    Shifts that do not fall on whole voxels or whole fine tokens are not made (that axis stays).
    """
    regions = sample.occupancy.shape[1:]
    steps = list(cells)
    for axis in range(3):
        tokens = sample.dense.shape[1 + axis] if sample.dense is not None else regions[axis]
        if sample.hu.shape[axis] % regions[axis] or tokens % regions[axis]:
            steps[axis] = 0
    if not any(steps):
        return sample

    def scaled(shape: tuple[int, ...]) -> tuple[int, int, int]:
        z, y, x = (step * size // cell for step, size, cell in zip(steps, shape, regions, strict=True))
        return z, y, x

    occupancy = roll_in(sample.occupancy, (steps[0], steps[1], steps[2]), 0)
    return replace(
        sample,
        hu=roll_in(sample.hu, scaled(sample.hu.shape), AIR),
        occupancy=occupancy,
        present=sample.present & occupancy.any(axis=(1, 2, 3)),
        lesions=None if sample.lesions is None else roll_in(sample.lesions, (steps[0], steps[1], steps[2]), 0),
        dense=None if sample.dense is None else roll_in(sample.dense, scaled(sample.dense.shape[1:]), 0),
        outlines=None if sample.outlines is None else sample.outlines.shifted(scaled(sample.hu.shape)),
        boxes=None if sample.boxes is None else _moved_boxes(sample, scaled(sample.hu.shape)),
        valid=None if sample.valid is None else roll_in(sample.valid, scaled(sample.hu.shape), 0),
    )


def _moved_boxes(sample: Sample, voxels: tuple[int, int, int]) -> np.ndarray:
    """Boxes moved with the voxels, also beyond the grid: a slot's box may reach there too."""
    assert sample.boxes is not None
    step = np.array(voxels, np.float32) * np.array(sample.spacing, np.float32)
    return (sample.boxes + np.concatenate((step, step))).astype(sample.boxes.dtype)


def roll_in(array: Shaped[np.ndarray, "..."], steps: tuple[int, int, int], fill: int) -> np.ndarray:
    """Shift the last three axes by `steps`; what enters is `fill`, what leaves is lost."""
    moved = np.full_like(array, fill)
    source, target = [slice(None)] * array.ndim, [slice(None)] * array.ndim
    for axis, step in zip(range(-3, 0), steps, strict=True):
        size = array.shape[axis]
        if abs(step) >= size:
            return moved
        source[axis] = slice(max(0, -step), size - max(0, step))
        target[axis] = slice(max(0, step), size - max(0, -step))
    moved[tuple(target)] = array[tuple(source)]
    return moved
