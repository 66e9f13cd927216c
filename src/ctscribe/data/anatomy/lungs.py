"""Right and left lung from the air inside the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from ctscribe.data.anatomy import grid

SMALLEST_ML = 25.0
"""An aerated piece smaller than this is no lung of its own (it may still be joined to one)."""
GAS_HU = -940.0
BOTH_SIDES = 0.17
"""A piece with at least this share on each side of the midline is two lungs in one."""
REGROWTH = 5
"""Rounds of regrowth beyond the erosion: thin parts of the lung (apex, lingula, recess) lie far from any seed."""
HOLE_MM2 = 500.0
"""A hole in a slice of the lung up to this area is a vessel or nodule; larger ones may be the dome of the liver
and are filled only when lung surrounds them on all sides."""
CLOSING_MM = 9.0
"""Vessels and nodules at the lung surface narrower than about 18 mm are closed over."""


@dataclass(frozen=True)
class Lungs:
    """``air``: aerated lung by side; ``right`` and ``left``: with vessels, nodules and small consolidations."""

    right: Bool[np.ndarray, "z y x"]
    left: Bool[np.ndarray, "z y x"]
    right_air: Bool[np.ndarray, "z y x"]
    left_air: Bool[np.ndarray, "z y x"]

    @property
    def both(self) -> Bool[np.ndarray, "z y x"]:
        return self.right | self.left

    @property
    def air(self) -> Bool[np.ndarray, "z y x"]:
        return self.right_air | self.left_air


def find_lungs(
    hu: Float[np.ndarray, "z y x"],
    air: Bool[np.ndarray, "z y x"],
    spacing: grid.Spacing,
    midline: Float[np.ndarray, " z"],
) -> Lungs:
    """Sort the pieces of air (airways already removed) into right lung, left lung and neither.

    Pieces are separated by eroding until none of them lies on both sides of ``midline`` (x index for each
    slice), judged one by one, and grown back.
    """
    seeds, rounds = _seeds(air, spacing, midline)
    sides = _judge(hu, seeds, spacing, midline)
    sorted_air = grid.grow_labels(sides[seeds], air, 2 * rounds + REGROWTH)
    right, left = sorted_air == 1, sorted_air == 2
    right_full = _complete(right, spacing) & ~left
    left_full = _complete(left, spacing) & ~right & ~right_full
    return Lungs(right_full, left_full, right, left)


def _seeds(
    air: Bool[np.ndarray, "z y x"], spacing: grid.Spacing, midline: Float[np.ndarray, " z"]
) -> tuple[Int[np.ndarray, "z y x"], int]:
    """Connected pieces after the least erosion that leaves no piece on both sides; how many rounds that took."""
    smallest = SMALLEST_ML * 1000 / float(np.prod(spacing))
    core = air
    for rounds in range(5):
        if rounds:
            core = grid.erode(core, max(spacing[1:]) if rounds > 1 else max(spacing), spacing)
        parts, count = ndimage.label(core)
        size = np.bincount(parts.ravel(), minlength=count + 1)
        on_left = np.bincount(parts.ravel(), weights=_left_of(midline, air.shape).ravel(), minlength=count + 1)
        share = np.minimum(on_left, size - on_left) / np.maximum(size, 1)
        big = size > smallest
        big[0] = False
        if rounds and not (big & (share > BOTH_SIDES)).any():
            return parts, rounds
    return _cut_at(parts, midline), rounds


def _left_of(midline: Float[np.ndarray, " z"], shape: tuple[int, ...]) -> Bool[np.ndarray, "z y x"]:
    flat = np.arange(shape[2])[None, :] >= midline[:, None]
    return np.broadcast_to(flat[:, None, :], shape)


def _cut_at(parts: Int[np.ndarray, "z y x"], midline: Float[np.ndarray, " z"]) -> Int[np.ndarray, "z y x"]:
    """Last resort: cut every piece along the midline."""
    left = _left_of(midline, parts.shape)
    return np.where(left & (parts > 0), parts + parts.max(), parts)


def _judge(
    hu: Float[np.ndarray, "z y x"],
    parts: Int[np.ndarray, "z y x"],
    spacing: grid.Spacing,
    midline: Float[np.ndarray, " z"],
) -> np.ndarray:
    """0 not lung, 1 right, 2 left, 3 neither (gas), for each piece.

    Bowel and stomach gas is emptier than lung and lies at the bottom; lung is judged by the largest piece.
    """
    count = int(parts.max())
    flat = parts.ravel()
    size = np.bincount(flat, minlength=count + 1).astype(float)
    size[0] = 0
    verdict = np.zeros(count + 1, dtype=np.uint8)
    if not size.any():
        return verdict
    safe = np.maximum(size, 1)
    z = np.broadcast_to(np.arange(parts.shape[0])[:, None, None], parts.shape)
    height = np.bincount(flat, weights=z.ravel(), minlength=count + 1) / safe
    gas = np.bincount(flat, weights=(hu < GAS_HU).ravel(), minlength=count + 1) / safe
    on_left = np.bincount(flat, weights=_left_of(midline, parts.shape).ravel(), minlength=count + 1) / safe
    lunglike = np.where(gas < 0.5, size, 0)
    main = int(lunglike.argmax()) if lunglike.any() else int(size.argmax())
    half = 0.5 * np.ptp(np.flatnonzero((parts == main).any(axis=(1, 2)))) if size[main] else 0
    for piece in np.flatnonzero(size).tolist():
        below = height[piece] < height[main] - 0.35 * half
        if piece != main and gas[piece] > 0.5 and below:
            verdict[piece] = 3
        elif size[piece] * np.prod(spacing) / 1000 >= SMALLEST_ML / 20 and not _stray(
            piece, main, height, size, gas, half
        ):
            verdict[piece] = 2 if on_left[piece] > 0.5 else 1
    return verdict


def _stray(piece: int, main: int, height: np.ndarray, size: np.ndarray, gas: np.ndarray, half: float) -> bool:
    """Small pieces far beyond the ends of the main lung, or empty ones in its lower half, are not lung."""
    if piece == main:
        return False
    rise = height[piece] - height[main]
    far = rise < -1.3 * half or (rise > 1.5 * half and gas[piece] > 0.5)
    low = height[piece] < height[main]
    return bool(size[piece] < 0.05 * size[main] and (far or (gas[piece] > 0.6 and low)))


def _complete(side: Bool[np.ndarray, "z y x"], spacing: grid.Spacing) -> Bool[np.ndarray, "z y x"]:
    """Close over vessels, airways and small nodules, and fill what the lung surrounds in a slice."""
    box = grid.bounding_box(side, [round(CLOSING_MM / s) + 1 for s in spacing])
    if box is None:
        return side
    hole = HOLE_MM2 / (spacing[1] * spacing[2])
    part = grid.fill_slices(grid.close(side[box], CLOSING_MM, spacing), hole)
    out = np.zeros_like(side)
    out[box] = part
    return out
