"""Small steps on voxel grids: block averages and back, and morphology measured in millimetres.

The morphology works by shifting boolean arrays. On the grids used here (at most a few million voxels)
this is several times faster than general structuring elements, and one million voxels must be segmented
in a fraction of a second when training data are prepared.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.draw import polygon

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


def largest(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """The largest connected part (empty when there is none)."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask.copy()
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def grow_labels(
    seeds: Int[np.ndarray, "z y x"], inside: Bool[np.ndarray, "z y x"], rounds: int
) -> Int[np.ndarray, "z y x"]:
    """Let seed labels spread into ``inside``, one voxel (26 neighbours) a round."""
    labels = seeds
    for _ in range(rounds):
        open_cells = inside & (labels == 0)
        if not open_cells.any():
            break
        labels = np.where(open_cells, ndimage.maximum_filter(labels, size=3), labels)
    return labels


def hull_slices(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Convex hull of every axial slice; only the ends of each row are handed to Qhull."""
    out = mask.copy()
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        rows = np.flatnonzero(mask[z].any(axis=1))
        first = mask[z, rows].argmax(axis=1)
        last = mask.shape[2] - 1 - mask[z, rows, ::-1].argmax(axis=1)
        points = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:  # fewer than three points that are not on one line: the slice is its own hull
            continue
        ys, xs = polygon(corners[:, 0], corners[:, 1], mask.shape[1:])
        out[z, ys, xs] = True
    return out
