"""What a lesion is, what it may hold on to, and the shared brushes of all lesions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import grey_dilation

from ctscribe import ontology
from ctscribe.phantom.anatomy import LOBES, Blood, BodyPlan
from ctscribe.phantom.canvas import Array, Box, Canvas, smoothstep
from ctscribe.phantom.trees import Branch

BoxIndex = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class Lesion:
    """One drawn abnormality.

    Attributes:
        kind: ontology id. label: 1, 2, ... within the study.
        regions: ontology ids. size_mm: () or (long,) or (long, short), whole mm.
        attributes: sorted (name, value) pairs that the picture shows.
        centre_world: (x, y, z) mm, LPS+. box_index: half-open voxel box ((z0, y0, x0), (z1, y1, x1)).
    """

    kind: str
    label: int
    regions: tuple[str, ...]
    size_mm: tuple[float, ...]
    attributes: tuple[tuple[str, str], ...]
    centre_world: tuple[float, float, float]
    box_index: BoxIndex


@dataclass
class Mark:
    """What a painter reports: a boolean mask over a box, and what it drew."""

    kind: str
    box: Box
    mask: Array
    regions: tuple[str, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    size_mm: tuple[float, ...] = ()


@dataclass
class Scene:
    """A canvas with anatomy on it. ``plan`` is None when the anatomy is a real CT."""

    canvas: Canvas
    plan: BodyPlan | None
    trees: dict[str, list[Branch]]
    blood: Blood
    metal: list[tuple[float, float, float]] = field(default_factory=list)
    chosen: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        present = np.bincount(self.canvas.labels.ravel(), minlength=256) > 40
        self.available = {name for key, name in self.canvas.names.items() if present[key]}
        self._bounds: dict[tuple[str, ...], Box] = {}

    @property
    def lobes(self) -> tuple[str, ...]:
        """Aerated lobes in the picture; whole lungs where a real CT comes without lobes."""
        airless = None if self.plan is None else self.plan.collapsed
        found = tuple(r for r in LOBES if r in self.available and r != airless)
        return found or tuple(r for r in ("right_lung", "left_lung") if r in self.available)

    def bounds(self, regions: tuple[str, ...]) -> Box:
        """Smallest box around leaf regions."""
        if regions not in self._bounds:
            mask = self.canvas.mask(regions)
            box = []
            for axis in range(3):
                line = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
                box.append(slice(int(line[0]), int(line[-1]) + 1) if len(line) else slice(0, 0))
            self._bounds[regions] = (box[0], box[1], box[2])
        return self._bounds[regions]

    def depth(self, box: Box) -> Array:
        """mm below the inner chest wall."""
        if self.canvas.costal_depth is None:
            raise ValueError("the scene has no costal depth")
        return self.canvas.costal_depth[box]


SEVERITY = {"mild": 0, "moderate": 1, "severe": 2}
"""Steps of the attribute ``severity``."""

Painter = Callable[[Scene, np.random.Generator], list[Mark]]


def pick(rng: np.random.Generator, kind: str, attribute: str, weights: tuple[float, ...] | None = None) -> str:
    """Draw one allowed value of an attribute."""
    values = ontology.findings()[kind].attributes[attribute]
    p = None if weights is None else np.asarray(weights) / np.sum(weights)
    return str(rng.choice(list(values), p=p))


def side_lobes(scene: Scene, side: str) -> tuple[str, ...]:
    """Lobes of one side, "right" or "left"."""
    return tuple(r for r in scene.lobes if r.startswith(side))


def choose_site(
    scene: Scene, rng: np.random.Generator, weights: tuple[float, float, float, float] = (0.3, 0.15, 0.4, 0.15),
    prefer: dict[str, float] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:  # fmt: skip
    """Draw where a spread-out disease is: both lungs, one lung, one lobe or two lobes.

    Returns:
        the leaf regions to draw in, and the region ids to report, in ontology order.
    """
    lobes = scene.lobes
    p = np.array([(prefer or {}).get(r, 1.0) for r in lobes])
    p /= p.sum()
    how = rng.choice(4, p=np.asarray(weights) / np.sum(weights))
    if how == 0 or len(lobes) < 3:
        return lobes, ("lungs",)
    if how == 1:
        side = "right" if rng.random() < 0.5 else "left"
        return side_lobes(scene, side), (f"{side}_lung",)
    count = 1 if how == 2 else 2
    chosen = set(rng.choice(list(lobes), size=count, replace=False, p=p).tolist())
    for side in ("right", "left"):
        whole = set(side_lobes(scene, side))
        if chosen == whole:
            return tuple(r for r in lobes if r in chosen), (f"{side}_lung",)
    leaf = tuple(r for r in lobes if r in chosen)
    return leaf, leaf


def point_in(
    scene: Scene, rng: np.random.Generator, region: str, depth: tuple[float, float] = (4.0, 1e9)
) -> Array | None:
    """A random world point in a region, at a depth below the chest wall; None when there is none."""
    canvas = scene.canvas
    box = scene.bounds((region,))
    inside = (canvas.labels[box] == canvas.id(region)) & (canvas.hu[box] < -450.0)  # aerated: a lesion must show
    if canvas.costal_depth is not None:
        d = scene.depth(box)
        inside &= (d > depth[0]) & (d < depth[1])
    flat = np.flatnonzero(inside)
    if not len(flat):
        return None
    index = np.array(np.unravel_index(int(rng.choice(flat)), inside.shape)) + [s.start for s in box]
    return canvas.world(index[None] + rng.random(3) - 0.5)[0]


def coverage(field_: Array, inside: Array, share: float, soft: float) -> Array:
    """Turn noise into patches that cover ``share`` of ``inside``; ``soft`` is the edge in noise units."""
    values = field_[inside]
    if not len(values):
        return np.zeros_like(field_)
    level = float(np.quantile(values[:: max(1, len(values) // 20000)], 1.0 - share))
    return smoothstep(field_, level - soft, level + soft) * inside


def solid(
    canvas: Canvas, centre: Array, half: float, distance: Callable[[Array, Array, Array], Array]
) -> tuple[Box, Array]:
    """Occupancy of a shape given by a signed distance around ``centre``; small ones are supersampled.

    ``distance`` gets open grids (x, y, z) in mm from the centre and returns mm, negative inside.
    """
    box = canvas.box(centre, half + canvas.soft)
    factor = [1, 1, 1]
    if half < 40.0:
        factor = [int(np.clip(np.ceil(s / 1.3), 1, 5)) for s in canvas.spacing]
    lines = []
    for axis in range(3):
        line = canvas.axis(axis, box).astype(np.float64)
        offset = (np.arange(factor[axis]) + 0.5) / factor[axis] - 0.5
        lines.append((line[:, None] + offset * canvas.spacing[axis]).reshape(-1) - float(centre[2 - axis]))
    z, y, x = (v.astype(np.float32) for v in lines)
    edge = float(np.cbrt(np.prod([s / f for s, f in zip(canvas.spacing, factor, strict=True)])))
    fine = np.clip(0.5 - distance(x[None, None, :], y[None, :, None], z[:, None, None]) / edge, 0.0, 1.0)
    nz, ny, nx = (s.stop - s.start for s in box)
    fine = fine.reshape(nz, factor[0], ny, factor[1], nx, factor[2])
    return box, fine.mean(axis=(1, 3, 5), dtype=np.float32)


def lighten(canvas: Canvas, box: Box, occupancy: Array, hu: Array | float) -> None:
    """Blend only where ``hu`` is denser than what is there: vessels and bone stay visible."""
    view = canvas.hu[box]
    view += occupancy * np.maximum(hu - view, 0.0)


def spill(scene: Scene, box: Box, occupancy: Array, hu: Array | float) -> None:
    """Carry a dense filling one voxel over the lung's edge, where voxels are only partly lung: no dark seam is left."""
    canvas = scene.canvas
    wide = grey_dilation(occupancy, size=(3, 3, 3))
    view = canvas.hu[box]
    edge = ~canvas.mask(scene.lobes, box) & (view < -115.0) & (canvas.labels[box] > 0)
    edge &= ~canvas.mask(("trachea", "right_main_bronchus", "left_main_bronchus", "upper_abdomen", "diaphragm"), box)
    lighten(canvas, box, edge * wide, hu)


def lump(rng: np.random.Generator, radii: tuple[float, float, float], bumps: float) -> Callable[..., Array]:
    """Signed distance of an ellipsoid whose surface carries random low-order bumps of relative height ``bumps``."""
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].tolist()
    waves = rng.standard_normal((7, 3)) * 1.9
    phases = rng.uniform(0, 6.28, 7)
    size = float(np.mean(radii))

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v, w = ((row[0] * x + row[1] * y + row[2] * z) / r for row, r in zip(turn, radii, strict=True))
        r = np.sqrt(u * u + v * v + w * w) + 1e-6
        surface = 1.0
        for (a, b, c), phase in zip(waves.tolist(), phases.tolist(), strict=True):
            surface = surface + (bumps / 2.6) * np.sin((a * u + b * v + c * w) / r * 1.6 + phase)
        return (r - surface) * size

    return distance


def mark(
    scene: Scene,
    kind: str,
    box: Box,
    occupancy: Array,
    regions: tuple[str, ...],
    threshold: float = 0.35,
    **more: Any,
) -> list[Mark]:
    """A one-element list, or none when nothing is left inside the picture."""
    mask = occupancy > threshold
    if not mask.any():
        mask = occupancy > 0.5 * float(occupancy.max(initial=0.0)) if occupancy.size else mask
        if not mask.any() or float(occupancy.max()) < 0.05:
            return []
    return [Mark(kind, box, mask, regions, **more)]


def region_of(scene: Scene, point: Array, allowed: tuple[str, ...]) -> str | None:
    """Which allowed leaf region a world point lies in."""
    name = scene.canvas.names.get(int(scene.canvas.label_at(point)[0]))
    return name if name in allowed else None


def lung_inside(scene: Scene, leaf: tuple[str, ...]) -> tuple[Box, Array]:
    """The box around leaf regions, and their mask in it."""
    box = scene.bounds(leaf)
    return box, scene.canvas.mask(leaf, box)


def low_high(scene: Scene, box: Box) -> Array:
    """0 at the bottom of a box, 1 at its top."""
    return np.linspace(0, 1, box[0].stop - box[0].start, dtype=np.float32)[:, None, None]


def hilum(scene: Scene, region: str) -> Array:
    """World point where a lobe's bronchus enters it; the innermost lung voxel when unknown."""
    line = scene.canvas.landmarks.get(f"lobar_{region}")
    if line is not None:
        return np.asarray(line)[-1]
    box = scene.bounds((region,))
    index = np.argwhere(scene.canvas.labels[box] == scene.canvas.id(region))
    world = scene.canvas.world(index + [s.start for s in box])
    everything = scene.canvas.world(np.argwhere(scene.canvas.mask(scene.lobes)[::4, ::4, ::4]) * 4).mean(axis=0)
    return world[np.argmin(np.linalg.norm(world - everything, axis=1))]
