"""One plane of a scan as a picture: grey values, region outlines, the evidence box and the heat, in one pixel frame.

Display follows the radiological convention: the patient's right is on the left of axial and coronal pictures, anterior
is at the top of axial pictures and on the left of sagittal ones, superior is at the top of coronal and sagittal ones.

```
plane      rows             columns          axis it cuts
axial      y (posterior)    x (left)         z
coronal    z, flipped       x (left)         y
sagittal   z, flipped       y (posterior)    x
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import Bool, Shaped

from ctscribe.tensors import Volume

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
AXES: Mapping[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""Plane -> (axis it cuts, axis of its rows, axis of its columns), as indices into (z, y, x)."""
FLIPPED: Mapping[Plane, bool] = {"axial": False, "coronal": True, "sagittal": True}

WINDOWS: Mapping[str, tuple[float, float]] = {"lung": (-600, 1500), "soft": (40, 400), "bone": (400, 1800)}
"""Name -> (level, width) in HU; the usual presets of reading rooms (Radiopaedia, "Windowing (CT)")."""

MAX_PIXELS = 480
"""Longest side of an embedded picture."""
OUTLINE_TOLERANCE = 0.6
"""Pixels an outline may deviate when it is simplified."""


@dataclass(frozen=True)
class Frame:
    """Pixel frame of one plane: which voxels it shows and how large they are drawn.

    Attributes:
        index: voxel index along the axis that is cut.
        low, high: shown voxels along rows and columns, ``high`` exclusive.
        size: (rows, columns) of the picture in pixels; pixels are square in mm.
    """

    plane: Plane
    index: int
    low: tuple[int, int]
    high: tuple[int, int]
    size: tuple[int, int]

    def pixels(self, index_zyx: Shaped[np.ndarray, "n 3"]) -> Shaped[np.ndarray, "n 2"]:
        """Voxel indices (n, 3) -> picture positions (n, 2) as (column, row), the picture's corner is (0, 0)."""
        _, rows, columns = AXES[self.plane]
        return self.place(np.asarray(index_zyx, dtype=float)[:, [rows, columns]])

    def place(self, rows_columns: Shaped[np.ndarray, "n 2"]) -> Shaped[np.ndarray, "n 2"]:
        """In-plane voxel indices (n, 2) as (row, column) -> picture positions (n, 2) as (column, row)."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        share = (rows_columns - low + 0.5) / (high - low)
        if FLIPPED[self.plane]:
            share = np.stack([1 - share[:, 0], share[:, 1]], axis=1)
        return (share * np.asarray(self.size))[:, ::-1]


Crop = tuple[tuple[int, int, int], tuple[int, int, int]]


def crop_around(mask: Bool[np.ndarray, "z y x"], spacing: tuple[float, float, float], margin_mm: float = 10.0) -> Crop:
    """Bounding box (low, high exclusive) of a mask in voxels with a margin; everything when the mask is empty."""
    low, high = [], []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (int(hit[0]), int(hit[-1])) if len(hit) else (0, mask.shape[axis] - 1)
        margin = round(margin_mm / spacing[axis])
        low.append(max(0, first - margin))
        high.append(min(mask.shape[axis], last + 1 + margin))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def frame(volume: Volume, plane: Plane, index: int, crop: Crop | None = None) -> Frame:
    """Frame of one plane, cropped to a box of voxels (the body, see `crop_around`)."""
    axis, rows, columns = AXES[plane]
    low, high = crop if crop is not None else ((0, 0, 0), volume.shape)
    extent = [(high[a] - low[a]) * volume.spacing[a] for a in (rows, columns)]
    scale = MAX_PIXELS / max(extent)
    size = tuple(max(1, round(length * scale)) for length in extent)
    index = int(np.clip(index, 0, volume.shape[axis] - 1))
    return Frame(plane, index, (low[rows], low[columns]), (high[rows], high[columns]), (size[0], size[1]))


def cut(array: Shaped[np.ndarray, "z y x"], shown: Frame) -> np.ndarray:
    """The shown part of one plane, rows and columns in index order (not flipped)."""
    axis = AXES[shown.plane][0]
    plane = np.take(array, shown.index, axis=axis)
    return plane[shown.low[0] : shown.high[0], shown.low[1] : shown.high[1]]


def grey_png(volume: Volume, shown: Frame, window: str) -> bytes:
    """The plane in a display window as an 8-bit PNG."""
    from PIL import Image

    level, width = WINDOWS[window]
    grey = (cut(volume.hu, shown).astype(np.float32) - (level - width / 2)) / width
    image = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    if FLIPPED[shown.plane]:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return _png(image.resize((shown.size[1], shown.size[0]), Image.Resampling.BICUBIC))


def outline_path(mask: Bool[np.ndarray, "rows columns"], shown: Frame) -> str:
    """Outline of a region already `cut` to the plane, as SVG path data in picture pixels; empty for an empty mask."""
    from skimage.measure import approximate_polygon, find_contours

    flat = np.pad(mask, 1).astype(np.float32)
    if not flat.any():
        return ""
    parts = []
    for contour in find_contours(flat, 0.5):
        points = shown.place(contour - 1 + np.asarray(shown.low))
        points = approximate_polygon(points, OUTLINE_TOLERANCE)
        if len(points) >= 4:
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z")
    return "".join(parts)


def box_rectangle(volume: Volume, box_world: tuple, shown: Frame) -> tuple[float, float, float, float] | None:
    """An evidence box in the plane as (left, top, width, height) pixels, None when the plane misses it."""
    low, high = box_indices(volume, box_world)
    axis = AXES[shown.plane][0]
    if not low[axis] - 0.5 <= shown.index <= high[axis] + 0.5:
        return None
    ends = shown.pixels(np.stack([low, high]))
    (left, top), (right, bottom) = ends.min(axis=0), ends.max(axis=0)
    return round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)


def box_indices(volume: Volume, box_world: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest voxel index (z, y, x) of a world box, as fractions."""
    xs, ys, zs = zip(*box_world, strict=True)
    corners = np.stack(np.meshgrid(xs, ys, zs, indexing="ij"), axis=-1).reshape(-1, 3)
    index = volume.affine.to_index(corners)
    return index.min(axis=0), index.max(axis=0)


def heat_png(heat: Shaped[np.ndarray, "t h w"], grid: Volume, volume: Volume, shown: Frame) -> bytes | None:
    """The heat in the plane as a transparent PNG at a quarter of the picture's size (a browser smooths it).

    ``heat`` divides ``grid`` (the model's field of view) evenly and is shown relative to its own peak; None where
    nothing in the plane is warm.
    """
    from PIL import Image
    from scipy import ndimage

    rows, columns = (max(2, size // 4) for size in shown.size)
    values = ndimage.map_coordinates(
        heat.astype(np.float32), _cells(heat.shape, grid, volume, shown, rows, columns), order=1, mode="nearest"
    )
    inside = _inside_grid(grid, volume, shown, rows, columns)
    strength = np.clip(values * inside / max(float(heat.max(initial=0.0)), 1e-6), 0.0, 1.0)
    if float(strength.max(initial=0.0)) < 0.2:
        return None
    rgba = np.zeros((rows, columns, 4), np.uint8)
    rgba[..., 0] = 255
    rgba[..., 1] = (200 * strength**2).astype(np.uint8)
    rgba[..., 2] = 20
    rgba[..., 3] = (150 * np.clip((strength - 0.2) / 0.8, 0, 1)).astype(np.uint8)
    return _png(Image.fromarray(rgba))


def _plane_world(volume: Volume, shown: Frame, rows: int, columns: int) -> np.ndarray:
    """World (rows*columns, 3) of the pixel centres of a picture with the given size."""
    axis, row_axis, column_axis = AXES[shown.plane]
    share_r, share_c = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    if FLIPPED[shown.plane]:
        share_r = 1 - share_r
    r, c = np.meshgrid(
        shown.low[0] + share_r * (shown.high[0] - shown.low[0]) - 0.5,
        shown.low[1] + share_c * (shown.high[1] - shown.low[1]) - 0.5,
        indexing="ij",
    )
    index = np.empty((rows * columns, 3))
    index[:, axis], index[:, row_axis], index[:, column_axis] = shown.index, r.ravel(), c.ravel()
    return volume.affine.to_world(index)


def _cells(cells: tuple[int, ...], grid: Volume, volume: Volume, shown: Frame, rows: int, columns: int) -> np.ndarray:
    """Fractional cell positions (3, rows, columns) of a picture's pixels."""
    index = grid.affine.to_index(_plane_world(volume, shown, rows, columns))
    step = np.asarray(grid.shape) / np.asarray(cells)
    return ((index + 0.5) / step - 0.5).T.reshape(3, rows, columns)


def _inside_grid(grid: Volume, volume: Volume, shown: Frame, rows: int, columns: int) -> np.ndarray:
    """True (rows, columns) where a picture's pixel lies in the model's field of view."""
    index = grid.affine.to_index(_plane_world(volume, shown, rows, columns))
    inside = np.all((index >= -0.5) & (index <= np.asarray(grid.shape) - 0.5), axis=1)
    return inside.reshape(rows, columns)


def _png(image: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")  # type: ignore[attr-defined]
    return buffer.getvalue()
