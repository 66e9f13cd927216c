"""Things that were put in: pacemaker, port, stent, sternal wires, tracheal tube."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.anatomy import BodyPlan
from ctscribe.phantom.canvas import Array, resample_line, tube_points
from ctscribe.phantom.heart_lesions import coronary_paths
from ctscribe.phantom.scene import Mark, Scene, lighten, mark, solid

_KIND = "medical_material"
_SHARE = {"pacemaker": 0.28, "port_catheter": 0.24, "sternal_wires": 0.24, "tracheal_tube": 0.14, "stent": 0.10}


def medical_material(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """One device, chosen among those the picture has room for."""
    drawn = scene.available
    usable = [name for name, region in (("stent", "heart"), ("tracheal_tube", "trachea")) if region in drawn]
    if scene.plan is not None:
        usable += ["pacemaker", "port_catheter", "sternal_wires"]
    if not usable:
        return []
    share = np.array([_SHARE[name] for name in usable])
    device = str(rng.choice(usable, p=share / share.sum()))
    if scene.plan is None or device in ("stent", "tracheal_tube"):
        return (_stent if device == "stent" else _tracheal_tube)(scene, rng)
    make = {"pacemaker": _pacemaker, "port_catheter": _port, "sternal_wires": _wires}[device]
    return make(scene, scene.plan, rng)


def _line(scene: Scene, line: Array, radius: float, hu: float) -> tuple[tuple[slice, slice, slice], Array]:
    line, radii = resample_line(line, np.full(len(line), radius), 0.5 * scene.canvas.soft)
    points, volume, _ = tube_points(line, radii, 0.6 * scene.canvas.soft)
    box, occupancy, _ = scene.canvas.splat(points, volume)
    occupancy = np.minimum(occupancy, 1.0)
    lighten(scene.canvas, box, occupancy, hu)
    return box, occupancy


def _join(scene: Scene, pieces: list[tuple[tuple[slice, slice, slice], Array]]) -> tuple[tuple, Array]:
    """One box around several pieces."""
    box = tuple(slice(min(b[k].start for b, _ in pieces), max(b[k].stop for b, _ in pieces)) for k in range(3))
    out = np.zeros([s.stop - s.start for s in box], np.float32)
    for part, occupancy in pieces:
        at = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        out[at] = np.maximum(out[at], occupancy)
    return box, out


def _skin(scene: Scene, plan: BodyPlan, body: Array, depth: float) -> Array:
    """Walk from a body point to the front until the skin, then back by ``depth`` mm."""
    canvas = scene.canvas
    start = plan.to_world(body[None])[0]
    steps = np.arange(0.0, 90.0, 1.5)
    path = start - np.outer(steps, [0, 1, 0])
    inside = canvas.label_at(path) > 0
    last = int(np.argmin(inside)) if not inside.all() else len(steps) - 1
    return path[last] + np.array([0, depth, 0])


def _pacemaker(scene: Scene, plan: BodyPlan, rng: np.random.Generator) -> list[Mark]:
    side = 1.0 if rng.random() < 0.85 else -1.0
    centre = _skin(scene, plan, np.array([side * 72.0, -70.0, 34.0]), 13.0)

    def can(x: Array, y: Array, z: Array) -> Array:
        flat = np.sqrt((x / 24.0) ** 2 + (z / 21.0) ** 2) - 1.0
        return np.maximum(flat * 21.0, np.abs(y) - 4.5)

    pieces = [solid(scene.canvas, centre, 27.0, can)]
    lighten(scene.canvas, pieces[0][0], pieces[0][1], 3071.0)
    inner = np.array(
        [
            (side * 60, -50, 60),
            (side * 36, -32, 62),
            (side * 6 - 14, -34, 42),
            (-27, -18, 24),
            (-29, -14, -24),
        ]
    )
    tips = [
        np.array([(-30, -8, -50), (-12, -26, -76), (16, -34, -98)]),
        np.array([(-34, -8, -48), (-42, -16, -42)]),
    ]
    for tip in tips[: int(rng.integers(1, 3))]:
        line = np.vstack([centre, plan.to_world(np.vstack([inner, tip]).astype(float))])
        pieces.append(_line(scene, line, 1.3, 2800.0))
    scene.metal.append((*centre.tolist(),))
    box, occupancy = _join(scene, pieces)
    return mark(scene, _KIND, box, occupancy, ("chest_wall",), 0.2, attributes={"device": "pacemaker"})


def _port(scene: Scene, plan: BodyPlan, rng: np.random.Generator) -> list[Mark]:
    side = -1.0 if rng.random() < 0.75 else 1.0
    centre = _skin(scene, plan, np.array([side * 68.0, -70.0, 24.0]), 11.0)

    def chamber(x: Array, y: Array, z: Array) -> Array:
        return np.maximum(np.sqrt(x * x + z * z) - 13.0, np.abs(y) - 6.0)

    pieces = [solid(scene.canvas, centre, 16.0, chamber)]
    lighten(scene.canvas, pieces[0][0], pieces[0][1], 1500.0)
    path = np.array(
        [(side * 50, -46, 66), (side * 34, -18, 72), (-27, -18, 34), (-29, -14, -20), (-31, -10, -36)], float
    )
    pieces.append(_line(scene, np.vstack([centre, plan.to_world(path)]), 1.5, 1300.0))
    box, occupancy = _join(scene, pieces)
    return mark(scene, _KIND, box, occupancy, ("chest_wall",), 0.2, attributes={"device": "port_catheter"})


def _wires(scene: Scene, plan: BodyPlan, rng: np.random.Generator) -> list[Mark]:
    pieces = []
    for z in np.linspace(44, -62, int(rng.integers(5, 7))):
        _, depth, centre = plan.cage(float(z))
        y = float(centre - depth) - 8.0
        angle = np.linspace(0, 2 * np.pi, 15)
        loop = np.stack([19.0 * np.cos(angle), y + 8.0 * np.sin(angle), z + 2.0 * np.sin(2 * angle)], axis=-1)
        knot = np.array([[0, y - 9, z], [5, y - 12, z + 2], [-4, y - 12, z + 4]], float)
        for body in (loop, knot):
            pieces.append(_line(scene, plan.to_world(body), 1.2, 3000.0))
        scene.metal.append((*plan.to_world(knot[:1])[0].tolist(),))
    box, occupancy = _join(scene, pieces)
    return mark(scene, _KIND, box, occupancy, ("chest_wall",), 0.2, attributes={"device": "sternal_wires"})


def _stent(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    paths = coronary_paths(scene)
    if not paths:
        return []
    path = paths[str(rng.choice(sorted(paths)))]
    if len(path) < 4:
        return []
    half = len(path) // 2
    line = path[max(0, half - 5) : half + 2]
    box, occupancy = _line(scene, line, 2.3, 1900.0)
    return mark(scene, _KIND, box, occupancy, ("heart",), 0.2, attributes={"device": "stent"})


def _tracheal_tube(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    canvas = scene.canvas
    box = scene.bounds(("trachea",))
    index = np.argwhere(canvas.labels[box] == canvas.id("trachea")) + [s.start for s in box]
    points = canvas.world(index)
    heights = np.arange(points[:, 2].min() + rng.uniform(28, 45), points[:, 2].max() + 1.0, 4.0)
    line = [points[np.abs(points[:, 2] - h) <= canvas.spacing[0]].mean(axis=0) for h in heights
            if (np.abs(points[:, 2] - h) <= canvas.spacing[0]).any()]  # fmt: skip
    if len(line) < 3:
        return []
    path, radii = resample_line(np.array(line), np.full(len(line), 5.6), 1.2)
    wall, volume, _ = tube_points(path, radii, 0.7, inner=0.72)
    part, occupancy, _ = canvas.splat(wall, volume)
    occupancy = np.minimum(occupancy, 1.0)
    lighten(canvas, part, occupancy, 450.0)
    stripe = path + np.array([0, -5.0, 0])
    pieces = [(part, occupancy), _line(scene, stripe, 1.0, 2200.0)]
    joined, total = _join(scene, pieces)
    return mark(scene, _KIND, joined, total, ("mediastinum",), 0.2, attributes={"device": "tracheal_tube"})
