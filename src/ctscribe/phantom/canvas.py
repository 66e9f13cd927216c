"""The sheet a phantom is drawn on: Hounsfield units and labels on a grid, and the few brushes that everything uses.

Two ways of drawing, both anti-aliased so that a thing smaller than a voxel leaves its partial volume:

* **fields**: a signed distance (mm, negative inside) turned into occupancy over one voxel;
* **splats**: points that each carry a little volume, dropped on the eight voxels around them
  (a tent-shaped point spread). Thousands of vessel, airway and rib segments cost one `numpy.bincount`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

Box = tuple[slice, slice, slice]
Array = np.ndarray


@dataclass(frozen=True)
class GridSpec:
    """Voxel grid: ``shape`` (z, y, x) and ``spacing`` (z, y, x) in mm."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return z, y, x


DEMO_GRID = GridSpec(shape=(64, 128, 128), spacing=(5.0, 2.75, 2.75))
NATIVE_GRID = GridSpec(shape=(150, 256, 256), spacing=(2.0, 1.4, 1.4))


def spline_matrix(coords: Array, start: float, step: float, count: int) -> Array:
    """Cubic B-spline weights (n, count) of points ``coords`` (mm) on controls at ``start + step * i``."""
    u = (np.asarray(coords, np.float32)[:, None] - start) / step - np.arange(count, dtype=np.float32)[None]
    a = np.abs(u)
    near = 2.0 / 3.0 - a**2 + a**3 / 2.0
    far = np.clip(2.0 - a, 0.0, None) ** 3 / 6.0
    return np.where(a < 1.0, near, far).astype(np.float32)


def interpolate(controls: Array, wz: Array, wy: Array, wx: Array) -> Array:
    """Tensor-product spline: controls (cz, cy, cx) -> float32 (z, y, x)."""
    out = np.tensordot(wz, controls.astype(np.float32), axes=(1, 0))
    return np.matmul(wy[None], np.matmul(out, wx.T))


@dataclass
class Canvas:
    """Hounsfield units and region labels on a grid, in world mm (LPS+, x to the left, y back, z up).

    Attributes:
        hu: float32 (z, y, x).
        labels: uint8 (z, y, x), ids of `names`.
        spacing: (z, y, x) mm.
        origin: world (x, y, z) of voxel (0, 0, 0).
        names: label value -> ontology region id.
        costal_depth: mm from the inner chest wall, positive inside, (z, y, x) or None when unknown.
        landmarks: named polylines (n, 3) in world mm, and whatever else lesions may hold on to.
    """

    hu: Array
    labels: Array
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    names: dict[int, str]
    costal_depth: Array | None = None
    landmarks: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.hu.shape
        return z, y, x

    @property
    def voxel_mm3(self) -> float:
        return float(np.prod(self.spacing))

    @property
    def soft(self) -> float:
        """Width of the edge ramp of fields, mm."""
        return float(np.cbrt(self.voxel_mm3))

    @property
    def full(self) -> Box:
        z, y, x = self.shape
        return slice(0, z), slice(0, y), slice(0, x)

    def id(self, name: str) -> int:
        """Label value of a region id."""
        return next(k for k, v in self.names.items() if v == name)

    def ids(self, names: tuple[str, ...]) -> list[int]:
        return [k for k, v in self.names.items() if v in names]

    def mask(self, names: tuple[str, ...], box: Box | None = None) -> Array:
        """Boolean mask of the union of leaf regions."""
        table = np.zeros(256, bool)
        table[self.ids(names)] = True
        return table[self.labels if box is None else self.labels[box]]

    def axis(self, which: int, box: Box | None = None) -> Array:
        """World coordinate along array axis 0 (z), 1 (y) or 2 (x), float32."""
        n = self.shape[which]
        line = self.origin[2 - which] + self.spacing[which] * np.arange(n, dtype=np.float32)
        return line if box is None else line[box[which]]

    def coords(self, box: Box) -> tuple[Array, Array, Array]:
        """Open grids (x, y, z) in world mm over a box, broadcastable to (z, y, x)."""
        z, y, x = (self.axis(i, box) for i in range(3))
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def box(self, centre: Array, half: Array | tuple[float, float, float] | float) -> Box:
        """Voxels whose centre lies within ``half`` mm (x, y, z) of ``centre`` (x, y, z), clipped to the grid."""
        half = np.broadcast_to(np.asarray(half, float), (3,))
        out = []
        for k in range(3):
            c, h, n = float(centre[2 - k]), float(half[2 - k]), self.shape[k]
            lo = int(np.floor((c - h - self.origin[2 - k]) / self.spacing[k]))
            hi = int(np.ceil((c + h - self.origin[2 - k]) / self.spacing[k])) + 1
            out.append(slice(min(max(lo, 0), n), min(max(hi, 0), n)))
        return out[0], out[1], out[2]

    def world(self, index: Array) -> Array:
        """Voxel indices (n, 3) in z, y, x -> world (n, 3) in x, y, z."""
        return np.asarray(index, float)[:, ::-1] * np.asarray(self.spacing[::-1]) + np.asarray(self.origin)

    def index(self, world: Array) -> Array:
        """World (n, 3) in x, y, z -> fractional voxel indices (n, 3) in z, y, x."""
        world = np.atleast_2d(np.asarray(world, float))
        return ((world - np.asarray(self.origin)) / np.asarray(self.spacing[::-1]))[:, ::-1]

    def label_at(self, world: Array) -> Array:
        """Label values at world points (n, 3); 0 outside the grid."""
        index = np.rint(self.index(world)).astype(int)
        ok = np.all((index >= 0) & (index < np.asarray(self.shape)), axis=1)
        out = np.zeros(len(index), np.uint8)
        out[ok] = self.labels[tuple(index[ok].T)]
        return out

    def occupancy(self, distance: Array) -> Array:
        """Signed distance (mm, negative inside) -> occupancy 0..1 over one voxel."""
        return np.clip(0.5 - distance / self.soft, 0.0, 1.0)

    def paint(self, box: Box, occupancy: Array, hu: Array | float) -> None:
        """Blend ``hu`` into a box by occupancy."""
        view = self.hu[box]
        view += occupancy * (hu - view)

    def noise(self, rng: np.random.Generator, box: Box, scale: float, anchored: bool = False) -> Array:
        """Smooth noise over a box, unit variance, features about ``scale`` mm wide.

        ``anchored`` draws it for the whole canvas and returns the box's part, so that boxes fit together.
        """
        axes = [self.axis(k, box) for k in range(3)]
        weights, counts = [], []
        for k, line in enumerate(axes):
            span = self.axis(k) if anchored else line
            count = int(np.ceil(((len(span) and span[-1] - span[0]) or 0.0) / scale)) + 4
            start = (float(span[0]) if len(span) else 0.0) - 1.5 * scale + scale * (rng.random() - 0.5)
            weights.append(spline_matrix(line, start, scale, count))
            counts.append(count)
        controls = rng.standard_normal(counts, dtype=np.float32) * np.float32(2.1)
        return interpolate(controls, *weights)

    def splat(self, points: Array, volume: Array, value: Array | None = None) -> tuple[Box, Array, Array | None]:
        """Drop points on the grid.

        Args:
            points: world (n, 3). volume: mm3 carried by each (n,). value: optional quantity (n,) averaged by volume.

        Returns:
            The box around the points, occupancy (may exceed 1 where points pile up) and mean value over it.
        """
        index = self.index(points)
        low = np.floor(index).astype(np.int64)
        inside = np.all((low >= -1) & (low < np.asarray(self.shape)), axis=1)
        if not inside.any():
            empty = (slice(0, 0), slice(0, 0), slice(0, 0))
            return empty, np.zeros((0, 0, 0), np.float32), None
        low, index = low[inside], index[inside]
        start, stop = low.min(axis=0), low.max(axis=0) + 2
        size = stop - start
        high = (index - low).astype(np.float32).T  # share of the upper neighbour along each axis
        base = ((low[:, 0] - start[0]) * size[1] + low[:, 1] - start[1]) * size[2] + low[:, 2] - start[2]
        amount = (np.broadcast_to(volume, (len(points),))[inside] / self.voxel_mm3).astype(np.float32)
        where = np.empty((8, len(base)), np.int64)
        much = np.empty((8, len(base)))
        for k, (dz, dy, dx) in enumerate(np.ndindex(2, 2, 2)):
            np.add(base, (dz * size[1] + dy) * size[2] + dx, out=where[k])
            share = high[0] if dz else 1.0 - high[0]
            share = share * (high[1] if dy else 1.0 - high[1]) * (high[2] if dx else 1.0 - high[2])
            np.multiply(share, amount, out=much[k])
        total = int(np.prod(size))
        occupancy = np.bincount(where.ravel(), much.ravel(), total).astype(np.float32).reshape(size)
        mean = None
        if value is not None:
            much *= np.broadcast_to(value, (len(points),))[inside]
            mean = np.bincount(where.ravel(), much.ravel(), total).astype(np.float32).reshape(size)
            mean /= np.maximum(occupancy, 1e-6)
        first, last = np.maximum(start, 0), np.minimum(stop, self.shape)
        cut = tuple(slice(a - s, b - s) for a, b, s in zip(first, last, start, strict=True))
        box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return box, occupancy[cut], None if mean is None else mean[cut]  # type: ignore[return-value]

    def draw(self, points: Array, volume: Array, value: Array | float, label: int | None = None) -> tuple[Box, Array]:
        """Splat and blend; where more than half of a voxel is covered it takes ``label``. Returns box, occupancy."""
        many = np.asarray(value, np.float32) if np.ndim(value) else None
        box, occupancy, mean = self.splat(points, volume, many)
        occupancy = np.minimum(occupancy, 1.0)
        if occupancy.size:
            self.paint(box, occupancy, float(value) if mean is None else mean)
            if label is not None:
                self.labels[box][occupancy > 0.5] = label
        return box, occupancy


def resample_line(points: Array, radii: Array, step: float) -> tuple[Array, Array]:
    """Smooth a polyline (n, 3) with radii (n,) by Catmull-Rom and sample it about every ``step`` mm."""
    points, radii = np.asarray(points, float), np.asarray(radii, float)
    data = np.column_stack([points, radii])
    padded = np.vstack([2 * data[0] - data[1], data, 2 * data[-1] - data[-2]])
    out = []
    for i in range(len(data) - 1):
        p0, p1, p2, p3 = padded[i : i + 4]
        n = max(2, int(np.ceil(np.linalg.norm((p2 - p1)[:3]) / step)))
        t = (np.arange(n) / n)[:, None]
        out.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    line = np.vstack([*out, data[-1:]])
    return line[:, :3], np.maximum(line[:, 3], 0.1)


@cache
def _disc(count: int) -> Array:
    """A sunflower of ``count`` points over the unit disc."""
    angle, rho = 2.399963 * np.arange(count), np.sqrt((np.arange(count) + 0.5) / count)
    return np.column_stack([rho * np.cos(angle), rho * np.sin(angle)])


def _points_for(wanted: float) -> int:
    """The next of a few sizes (4, 7, 12, 20, ...), each about 1.6 times the one before: every size is cached."""
    count = 4 if wanted > 1.0 else 1
    while count < wanted:
        count = int(1.6 * count) + 1
    return count


def frames(line: Array) -> tuple[Array, Array, Array]:
    """Tangent and two normals (n, 3 each) along a sampled line."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    ref = np.where(np.abs(tangent[:, 2:]) > 0.9, np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    a = np.cross(tangent, ref)
    a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-9)
    return tangent, a, np.cross(tangent, a)


def tube_points(
    line: Array, radii: Array, grain: float, flat: float = 1.0, inner: float = 0.0
) -> tuple[Array, Array, Array]:
    """Fill a tube with points: a sunflower disc at every sample of ``line``.

    Args:
        line, radii: sampled centre line (n, 3) and radius (n,), mm.
        grain: wanted distance between points, mm. flat: ratio of the second to the first cross axis.
        inner: fraction of the radius left empty (a wall only).

    Returns:
        points (m, 3), volume mm3 (m,), fraction of the radius (m,).
    """
    tangent, a, b = frames(line)
    count = _points_for(np.pi * float(radii.max()) ** 2 / grain**2)
    disc = _disc(count)
    rho = np.hypot(disc[:, 0], disc[:, 1])
    scale = np.sqrt(inner**2 + (1 - inner**2) * rho**2) / np.maximum(rho, 1e-9)
    disc, rho = disc * scale[:, None], rho * scale
    u = radii[:, None] * disc[None, :, 0]
    v = radii[:, None] * disc[None, :, 1] * flat
    points = line[:, None] + u[..., None] * a[:, None] + v[..., None] * b[:, None]
    step = np.einsum("nck,nk->nc", np.gradient(points, axis=0), tangent)  # longer on the outside of a bend
    volume = (np.pi * (1 - inner**2) * flat * radii**2 / count)[:, None] * np.maximum(step, 0.0)
    return points.reshape(-1, 3), volume.reshape(-1), np.tile(rho, len(line))


def smoothstep(x: Array | float, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between (also for low > high)."""
    t = np.clip((np.asarray(x, np.float32) - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))
