"""Small steps on voxel grids: block averages and back, and morphology measured in millimetres.

The morphology works by shifting boolean arrays. On the grids used here (at most a few million voxels)
this is several times faster than general structuring elements, and one million voxels must be segmented
in a fraction of a second when training data are prepared.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from scipy import ndimage

Spacing = tuple[float, float, float]
IN_PLANE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3], dtype=bool)


def block_factors(spacing: Spacing, target_mm: float) -> tuple[int, int, int]:
    """Whole-number factors that bring each axis as near as possible to ``target_mm`` (never finer)."""
    z, y, x = (max(1, round(target_mm / s)) for s in spacing)
    return z, y, x


def block_mean(array: Shaped[np.ndarray, "z y x"], factors: tuple[int, int, int]) -> Float[np.ndarray, "c h w"]:
    """Average over blocks; a last incomplete block repeats the edge voxel."""
    if factors == (1, 1, 1):
        return array.astype(np.float32)
    out = array
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        short = -out.shape[axis] % factor
        if short:
            last = np.take(out, [-1], axis=axis)
            out = np.concatenate([out, np.repeat(last, short, axis=axis)], axis=axis)
        shape = out.shape[:axis] + (out.shape[axis] // factor, factor) + out.shape[axis + 1 :]
        out = out.reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return out.astype(np.float32)


def repeat_to(
    array: Shaped[np.ndarray, "c h w"], factors: tuple[int, int, int], shape: tuple[int, ...]
) -> Shaped[np.ndarray, "z y x"]:
    """Undo `block_mean` by repeating each block; cut to ``shape``."""
    out = array
    for axis, factor in enumerate(factors):
        if factor > 1:
            out = np.repeat(out, factor, axis=axis)
    return out[: shape[0], : shape[1], : shape[2]]


def _spread(mask: Bool[np.ndarray, "z y x"], axis: int, steps: int) -> Bool[np.ndarray, "z y x"]:
    """Dilate by ``steps`` voxels along one axis, doubling the reach each round."""
    out, done = mask.copy(), 0
    n = mask.shape[axis]
    while done < steps:
        step = min(done + 1 if done else 1, steps - done, max(n - 1, 1))
        moved = out.copy()
        head = [slice(None)] * 3
        tail = [slice(None)] * 3
        head[axis], tail[axis] = slice(step, None), slice(None, -step)
        moved[tuple(head)] |= out[tuple(tail)]
        moved[tuple(tail)] |= out[tuple(head)]
        out, done = moved, done + step
    return out


def dilate(mask: Bool[np.ndarray, "z y x"], radius_mm: float, spacing: Spacing) -> Bool[np.ndarray, "z y x"]:
    """Dilate by about ``radius_mm`` with a rounded box (a box, less its corners when the radius allows)."""
    steps = [round(radius_mm / s) for s in spacing]
    cut = [s // 3 for s in steps]
    out = mask
    for axis in range(3):
        out = _spread(out, axis, steps[axis] - cut[axis])
    if any(cut):
        out = np.logical_or.reduce([_spread(out, axis, cut[axis]) for axis in range(3)])
    return out


def erode(mask: Bool[np.ndarray, "z y x"], radius_mm: float, spacing: Spacing) -> Bool[np.ndarray, "z y x"]:
    """Erode by about ``radius_mm``; beyond the volume's border everything counts as inside."""
    return ~dilate(~mask, radius_mm, spacing)


def close(mask: Bool[np.ndarray, "z y x"], radius_mm: float, spacing: Spacing) -> Bool[np.ndarray, "z y x"]:
    """Close gaps narrower than twice the radius."""
    return erode(dilate(mask, radius_mm, spacing), radius_mm, spacing) | mask


def open_(mask: Bool[np.ndarray, "z y x"], radius_mm: float, spacing: Spacing) -> Bool[np.ndarray, "z y x"]:
    """Remove parts narrower than twice the radius."""
    return dilate(erode(mask, radius_mm, spacing), radius_mm, spacing) & mask


def fill_slices(mask: Bool[np.ndarray, "z y x"], largest: float) -> Bool[np.ndarray, "z y x"]:
    """Fill holes of each axial slice that have at most ``largest`` voxels, and holes closed on all sides."""
    parts, count = ndimage.label(~mask, structure=IN_PLANE)
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        outside[np.unique(edge)] = True
    outside |= np.bincount(parts.ravel(), minlength=count + 1) > largest
    outside[0] = False
    return ~_reaching_border(outside[parts])


def _reaching_border(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """The connected parts that reach a border of the volume."""
    parts, count = ndimage.label(mask)
    reaching = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        reaching[np.unique(np.take(parts, [0, -1], axis=axis))] = True
    reaching[0] = False
    return reaching[parts]


def bounding_box(mask: Bool[np.ndarray, "z y x"], margin: list[int]) -> tuple[slice, slice, slice] | None:
    """Box around the mask with a margin in voxels, inside the volume; None when the mask is empty."""
    slices = []
    for axis in range(3):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if held.size == 0:
            return None
        slices.append(slice(max(0, held[0] - margin[axis]), min(mask.shape[axis], held[-1] + margin[axis] + 1)))
    return slices[0], slices[1], slices[2]


def largest(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """The largest connected part (empty when there is none)."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask.copy()
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def grow_labels(
    seeds: Integer[np.ndarray, "z y x"], inside: Bool[np.ndarray, "z y x"], rounds: int
) -> Integer[np.ndarray, "z y x"]:
    """Let seed labels spread into ``inside``, one voxel (26 neighbours) a round."""
    labels = seeds
    for _ in range(rounds):
        open_cells = inside & (labels == 0)
        if not open_cells.any():
            break
        labels = np.where(open_cells, _max_of_neighbours(labels), labels)
    return labels


def _max_of_neighbours(labels: Integer[np.ndarray, "z y x"]) -> Integer[np.ndarray, "z y x"]:
    """Largest label among a voxel and its 26 neighbours."""
    out = labels
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        spread = out.copy()
        np.maximum(spread[tuple(low)], out[tuple(high)], out=spread[tuple(low)])
        np.maximum(spread[tuple(high)], out[tuple(low)], out=spread[tuple(high)])
        out = spread
    return out


def hull_slices(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Convex hull of every axial slice."""
    out = mask.copy()
    x = np.arange(mask.shape[2])
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        rows = np.flatnonzero(mask[z].any(axis=1))
        first = mask[z, rows].argmax(axis=1)
        last = mask.shape[2] - 1 - mask[z, rows, ::-1].argmax(axis=1)
        every = np.arange(rows[0], rows[-1] + 1)
        left = _lower_envelope(rows, first, every)
        right = -_lower_envelope(rows, -last, every)
        out[z, every] |= (x >= left[:, None]) & (x <= right[:, None])
    return out


def _lower_envelope(at: np.ndarray, value: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Largest convex function below the points (``at`` increasing), evaluated at ``every`` (monotone chain)."""
    chain: list[tuple[int, int]] = []
    for a, v in zip(at.tolist(), value.tolist(), strict=True):
        while len(chain) > 1:
            (a0, v0), (a1, v1) = chain[-2:]
            if (v1 - v0) * (a - a0) < (v - v0) * (a1 - a0):
                break
            chain.pop()
        chain.append((a, v))
    corners = np.array(chain)
    return np.interp(every, corners[:, 0], corners[:, 1])
