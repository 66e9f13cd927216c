"""Between lung and chest wall: fluid, air, thickening."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.canvas import Array, Box, smoothstep
from ctscribe.phantom.scene import Mark, Scene, lighten, mark, pick, side_lobes, spill


def _sides(rng: np.random.Generator, both: float) -> tuple[str, ...]:
    if rng.random() < both:
        return ("right", "left")
    return ("right",) if rng.random() < 0.55 else ("left",)


def _frame(scene: Scene, side: str) -> tuple[Box, Array, Array, Array]:
    """Box and mask of a lung, and its relative height (0 bottom) and depth (0 front, 1 back)."""
    leaf = side_lobes(scene, side)
    box = scene.bounds(leaf)
    inside = scene.canvas.mask(leaf, box)
    height = np.linspace(0, 1, inside.shape[0], dtype=np.float32)[:, None, None]
    back = np.linspace(0, 1, inside.shape[1], dtype=np.float32)[None, :, None]
    return box, inside, height, back


def _take(scene: Scene, box: Box, order: Array, inside: Array, share: float, soft: float) -> Array:
    """Occupancy of the ``share`` of a lung where ``order`` is largest."""
    values = order[inside]
    if not len(values):
        return np.zeros_like(order)
    level = float(np.quantile(values, 1.0 - share))
    return np.clip(0.5 + (order - level) / soft, 0.0, 1.0) * inside


def _pleura(side: str) -> str:
    return f"{side}_pleura"


def _relabel(scene: Scene, box: Box, occupancy: Array, side: str) -> None:
    name = _pleura(side)
    ids = scene.canvas.ids((name,))
    if ids:
        scene.canvas.labels[box][occupancy > 0.5] = ids[0]


def pleural_effusion(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Fluid gathers behind and below, with a meniscus along the wall."""
    kind = "pleural_effusion"
    severity = pick(rng, kind, "severity", (0.45, 0.35, 0.2))
    low, high = {"small": (0.035, 0.07), "moderate": (0.13, 0.22), "large": (0.36, 0.55)}[severity]
    marks: list[Mark] = []
    for side in _sides(rng, 0.45):
        box, inside, height, back = _frame(scene, side)
        if not inside.any():
            continue
        depth = np.clip(scene.depth(box), 0, 80)
        # mm of fluid level: depth of the supine lung is about 170 mm, its height about 230 mm
        order = 170.0 * back - 60.0 * height + 26.0 * np.exp(-depth / 9.0) + 2.0 * scene.canvas.noise(rng, box, 30.0)
        occupancy = _take(scene, box, order, inside, rng.uniform(low, high), scene.canvas.soft)
        squeezed = _take(
            scene, box, order, inside, min(0.95, 1.25 * float((occupancy > 0.5).sum() / inside.sum())), 25.0
        )
        lighten(scene.canvas, box, (squeezed * (1 - occupancy) * 0.45).astype(np.float32), -420.0)
        fluid = float(rng.normal(9, 5))
        scene.canvas.paint(box, occupancy.astype(np.float32), fluid)
        spill(scene, box, occupancy.astype(np.float32), fluid)
        _relabel(scene, box, occupancy, side)
        marks += mark(scene, kind, box, occupancy, (_pleura(side),), attributes={"severity": severity})
    return marks


def pneumothorax(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Air without vessels in front and above; the lung's edge is a thin line, a big one squeezes the lung."""
    kind = "pneumothorax"
    severity = pick(rng, kind, "severity", (0.35, 0.35, 0.3))
    low, high = {"small": (0.06, 0.11), "moderate": (0.2, 0.3), "large": (0.45, 0.65)}[severity]
    side = "right" if rng.random() < 0.5 else "left"
    box, inside, height, back = _frame(scene, side)
    if not inside.any():
        return []
    canvas = scene.canvas
    depth = np.clip(scene.depth(box), 0, 90)
    around = 0.4 if severity == "small" else 1.1
    order = 120.0 * (1 - back) + 70.0 * height - around * depth - 55.0 * smoothstep(depth, 0.0, 30.0)
    order = order + 2.0 * canvas.noise(rng, box, 35.0)
    occupancy = _take(scene, box, order, inside, rng.uniform(low, high), 1.3 * canvas.soft)
    rest = inside & (occupancy < 0.5)
    squeeze = {"small": 10.0, "moderate": 55.0, "large": 190.0}[severity]
    canvas.hu[box] += squeeze * rest * (canvas.hu[box] < -500)
    canvas.paint(box, occupancy.astype(np.float32), -998.0)
    line = np.clip(1.0 - np.abs(2.0 * occupancy - 1.0), 0, 1) * inside
    lighten(canvas, box, (0.35 * line).astype(np.float32), -50.0)
    _relabel(scene, box, occupancy, side)
    return mark(scene, kind, box, occupancy, (_pleura(side),), attributes={"severity": severity})


def pleural_thickening(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A plaque-like band along the ribs, sometimes calcified; not in the dependent recess, where fluid would lie."""
    kind = "pleural_thickening"
    marks: list[Mark] = []
    canvas = scene.canvas
    for side in _sides(rng, 0.3):
        box, inside, height, back = _frame(scene, side)
        if not inside.any():
            continue
        depth = scene.depth(box)
        thick = rng.uniform(6.0, 11.0)
        rim = inside & (depth < 14.0) & (depth > -2.0)
        free = smoothstep(height, 0.12, 0.3) * smoothstep(back, 0.97, 0.8)
        wide = coverage_on(rim, canvas.noise(rng, box, 32.0) + 2.0 * free, rng.uniform(0.3, 0.5)) * free
        occupancy = canvas.occupancy(depth - 1.0 - thick * wide) * inside * (wide > 0.15)
        lighten(canvas, box, occupancy.astype(np.float32), 45.0)
        spill(scene, box, occupancy.astype(np.float32), 45.0)
        fat = np.clip(1.0 - np.abs(depth - 0.5) / (0.6 * canvas.soft), 0.0, 1.0) * (occupancy > 0.3)
        canvas.paint(box, (0.8 * fat).astype(np.float32), -90.0)  # a layer of fat gathers outside a thick pleura
        if rng.random() < 0.5:
            plaque = smoothstep(canvas.noise(rng, box, 15.0), 0.2, 0.6) * (occupancy > 0.3)
            plaque = plaque * np.clip(1.0 - np.abs(depth - 3.5) / (0.75 * canvas.soft), 0.0, 1.0)
            lighten(canvas, box, (0.9 * plaque).astype(np.float32), 650.0)
        _relabel(scene, box, occupancy, side)
        marks += mark(scene, kind, box, occupancy, (_pleura(side),))
    return marks


def coverage_on(rim: Array, field: Array, share: float) -> Array:
    """Soft patches that cover ``share`` of a thin rim, defined everywhere so that depth can modulate them."""
    values = field[rim]
    if not len(values):
        return np.zeros_like(field)
    level = float(np.quantile(values, 1.0 - share))
    return smoothstep(field, level - 0.3, level + 0.6)
