"""Grids in millimetres: turn to canonical orientation, crop, pad and resample without aliasing.

Arrays are ``(z, y, x)``; canonical means x -> left, y -> posterior, z -> superior (`Affine.is_canonical`).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float

from ctscribe.tensors import Affine, Volume

FILL = -1024.0
#: An axis this close (degrees) to a patient axis is taken for it; further away the volume is resampled.
AXIS_TOLERANCE_DEGREES = 0.5


def canonicalise(volume: Volume, *, tolerance_degrees: float = AXIS_TOLERANCE_DEGREES) -> Volume:
    """The same scan with x -> left, y -> posterior, z -> superior.

    Axis-aligned volumes are permuted and flipped (no value changes). Oblique or sheared ones (gantry tilt) are
    resampled by linear interpolation to an axis-aligned grid with the same spacing that covers all of them.
    """
    axes = _axis_order(volume.affine, tolerance_degrees)
    if axes is None:
        return _to_axes(volume)
    order, signs = axes
    return _permute(volume, order, signs)


def is_axis_aligned(affine: Affine, tolerance_degrees: float = AXIS_TOLERANCE_DEGREES) -> bool:
    """True when a flip and a permutation are enough to make it canonical."""
    return _axis_order(affine, tolerance_degrees) is not None


def _axis_order(affine: Affine, tolerance: float) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """For world x, y, z: which voxel axis (0 = x) runs along it and in which sense; None when none does."""
    direction = affine.direction
    order = [int(np.argmax(np.abs(direction[row]))) for row in range(3)]
    if sorted(order) != [0, 1, 2]:
        return None
    along = [float(direction[row, order[row]]) for row in range(3)]
    if min(abs(a) for a in along) < np.cos(np.radians(tolerance)):
        return None
    sx, sy, sz = (1 if a > 0 else -1 for a in along)
    return (order[0], order[1], order[2]), (sx, sy, sz)


def _permute(volume: Volume, order: tuple[int, int, int], signs: tuple[int, int, int]) -> Volume:
    matrix = volume.affine.matrix
    flips = [slice(None)] * 3
    last = np.zeros(4)
    last[3] = 1.0
    columns = np.zeros((4, 4))
    for world, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        columns[:, world] = sign * matrix[:, axis]
        if sign < 0:
            flips[2 - axis] = slice(None, None, -1)
            last[axis] = volume.shape[2 - axis] - 1
    columns[:, 3] = matrix @ last
    turned = volume.hu[tuple(flips)].transpose([2 - order[2], 2 - order[1], 2 - order[0]])
    return Volume(np.ascontiguousarray(turned), Affine(_snap(columns, turned.shape)))


def _snap(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Remove a residual rotation below the tolerance, around the centre of the volume."""
    out = np.eye(4)
    out[:3, :3] = np.diag(np.linalg.norm(matrix[:3, :3], axis=0))
    middle = (np.array(shape[::-1]) - 1) / 2
    out[:3, 3] = matrix[:3, 3] + (matrix[:3, :3] - out[:3, :3]) @ middle
    return out


def _to_axes(volume: Volume) -> Volume:
    import SimpleITK as sitk

    spacing = _nearest_axis_spacing(volume.affine)
    corners = np.array(list(product(*[(-0.5, n - 0.5) for n in volume.shape])))
    world = volume.affine.to_world(corners)
    low, high = world.min(axis=0), world.max(axis=0)
    size = [max(1, int(np.floor((b - a) / s + 1e-3))) for b, a, s in zip(high, low, spacing[::-1], strict=True)]
    origin = low + ((high - low) - (np.array(size) - 1) * np.array(spacing[::-1])) / 2
    target = Affine.from_spacing(spacing, (float(origin[0]), float(origin[1]), float(origin[2])))
    to_source = np.linalg.inv(volume.affine.matrix) @ target.matrix
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.hu))
    moved = sitk.Resample(
        image,
        size,
        transform,
        sitk.sitkLinear,
        (0.0,) * 3,
        (1.0,) * 3,
        np.eye(3).ravel().tolist(),
        FILL,
        sitk.sitkFloat32,
    )
    return Volume(_cast(sitk.GetArrayFromImage(moved), volume.hu.dtype), target)


def _nearest_axis_spacing(affine: Affine) -> tuple[float, float, float]:
    """Spacing (z, y, x) of the canonical grid: that of the voxel axis closest to each patient axis (for a tilted
    gantry: the table step)."""
    from scipy.optimize import linear_sum_assignment

    direction, spacing = np.abs(affine.direction), affine.spacing[::-1]
    rows, columns = linear_sum_assignment(-direction)
    x, y, z = (float(spacing[c]) for _, c in sorted(zip(rows, columns, strict=True)))
    return z, y, x


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Interpolated values back to the stored kind, rounded rather than cut."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return np.clip(np.rint(values), info.min, info.max).astype(dtype)
    return values.astype(dtype, copy=False)


# ------------------------------------------------------------------------------------------- other grids


def to_grid(
    volume: Volume,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre_world: tuple[float, float, float] | None = None,
    *,
    fill: float = FILL,
) -> Volume:
    """Average the scan onto a grid of ``shape`` (z, y, x) voxels of ``spacing`` (z, y, x) mm.

    Each new voxel is the mean of what it covers (exact overlap weights along each axis), so fine structures fade
    instead of flickering; where the new voxels are smaller than the old ones the values are interpolated linearly.
    What lies outside the scan counts as ``fill``.

    Args:
        centre_world: world (x, y, z) mm of the centre of the new grid; the centre of the scan by default.

    Returns:
        float32 volume, canonical orientation.
    """
    volume = volume if volume.affine.is_canonical else canonicalise(volume)
    centre = centre_of(volume) if centre_world is None else np.asarray(centre_world, dtype=float)
    origin = centre - (np.array(shape[::-1]) - 1) / 2 * np.array(spacing[::-1])
    target = Affine.from_spacing(spacing, (float(origin[0]), float(origin[1]), float(origin[2])))
    first = volume.affine.to_index(target.to_world(np.zeros(3)))
    z, y, x = (
        axis_weights(n_old, n_new, float(start), new / old)
        for n_old, n_new, start, new, old in zip(volume.shape, shape, first, spacing, volume.spacing, strict=True)
    )
    return Volume(_average(volume.hu, z, y, x, fill), target)


def resample(volume: Volume, spacing: tuple[float, float, float], *, fill: float = FILL) -> Volume:
    """The whole scan at a new ``spacing`` (z, y, x) mm, antialiased when that is coarser; canonical, float32."""
    volume = volume if volume.affine.is_canonical else canonicalise(volume)
    nz, ny, nx = (max(1, int(np.ceil(extent / s - 1e-6))) for extent, s in zip(volume.extent_mm, spacing, strict=True))
    return to_grid(volume, (nz, ny, nx), spacing, fill=fill)


def crop_or_pad(
    volume: Volume,
    shape: tuple[int, int, int],
    centre_world: tuple[float, float, float] | None = None,
    *,
    fill: float = FILL,
) -> Volume:
    """Cut a box of ``shape`` (z, y, x) voxels around a world point; values are copied, never interpolated.

    The box is centred on the voxel grid as closely as whole voxels allow; outside the scan it holds ``fill``.
    """
    centre = centre_of(volume) if centre_world is None else np.asarray(centre_world, dtype=float)
    index = volume.affine.to_index(centre)
    start = [int(np.ceil(c - (n - 1) / 2 - 0.5)) for c, n in zip(index, shape, strict=True)]
    out = np.full(shape, fill, dtype=volume.hu.dtype)
    here, there = [], []
    for s, n_new, n_old in zip(start, shape, volume.shape, strict=True):
        low, high = max(s, 0), min(s + n_new, n_old)
        here.append(slice(low - s, max(high, low) - s))
        there.append(slice(low, max(high, low)))
    out[tuple(here)] = volume.hu[tuple(there)]
    matrix = volume.affine.matrix.copy()
    matrix[:3, 3] = volume.affine.to_world(np.array(start, dtype=float))
    return Volume(out, Affine(matrix))


def centre_of(volume: Volume) -> np.ndarray:
    """World (x, y, z) mm of the middle of the volume."""
    return volume.affine.to_world((np.array(volume.shape) - 1) / 2)


def axis_weights(n_old: int, n_new: int, first: float, ratio: float) -> Float[np.ndarray, "new old"]:
    """Weights that turn ``n_old`` samples into ``n_new`` along one axis.

    Args:
        first: index, on the old axis, of the centre of the first new voxel.
        ratio: size of a new voxel in old ones. At 1 and above the weights are overlap shares (area average), below
            they interpolate linearly.

    Rows sum to the share of the new voxel that the old ones cover: 1 inside, less at the border, 0 outside.
    """
    centres = first + np.arange(n_new) * ratio
    old = np.arange(n_old)
    if ratio >= 1.0:
        low, high = centres - ratio / 2, centres + ratio / 2
        overlap = np.minimum(high[:, None], old + 0.5) - np.maximum(low[:, None], old - 0.5)
        return np.clip(overlap, 0.0, None).astype(np.float32) / np.float32(ratio)
    inside = (centres >= -0.5 - 1e-9) & (centres <= n_old - 0.5 + 1e-9)
    place = np.clip(centres, 0, n_old - 1)
    weights = np.clip(1.0 - np.abs(place[:, None] - old), 0.0, None)
    return (weights * inside[:, None]).astype(np.float32)


def _average(hu: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, fill: float) -> np.ndarray:
    """Separable weighted sum, one axis after another, over the part of the volume that carries weight."""
    used = [np.flatnonzero(w.any(axis=0)) for w in (z, y, x)]
    if any(len(u) == 0 for u in used):
        return np.full((len(z), len(y), len(x)), fill, dtype=np.float32)
    (y0, y1), (x0, x1) = ((int(u[0]), int(u[-1]) + 1) for u in used[1:])
    wy, wx = np.ascontiguousarray(y[:, y0:y1]), np.ascontiguousarray(x[:, x0:x1].T)
    out = np.empty((len(z), len(y), len(x)), dtype=np.float32)
    for k, row in enumerate(z):
        at = np.flatnonzero(row)
        if len(at) == 0:
            out[k] = 0.0
            continue
        slab = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
        for i in at:
            slab += row[i] * (hu[i, y0:y1, x0:x1].astype(np.float32) - np.float32(fill))
        out[k] = (wy @ slab) @ wx
    return out + np.float32(fill)
