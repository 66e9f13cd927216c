"""Heart, great vessels, mediastinum: size, fluid, calcium, nodes, hernia."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctscribe.phantom.canvas import Array, resample_line, tube_points
from ctscribe.phantom.scene import Mark, Scene, lighten, lump, mark, pick, solid

# Rays from the middle of the heart (x, y, z) that follow the coronary arteries.
CORONARIES = {
    "left_anterior_descending": [
        (0.25, -0.45, 0.85),
        (0.5, -0.75, 0.4),
        (0.7, -0.7, 0.0),
        (0.8, -0.5, -0.35),
    ],
    "circumflex": [(0.3, -0.2, 0.92), (0.75, 0.1, 0.6), (0.85, 0.4, 0.1)],
    "right": [(-0.1, -0.6, 0.75), (-0.55, -0.75, 0.2), (-0.6, -0.6, -0.4)],
}


def _labelled(scene: Scene, kind: str, names: tuple[str, ...], region: str, **more: Any) -> list[Mark]:
    box = scene.bounds(names)
    return mark(scene, kind, box, scene.canvas.mask(names, box).astype(np.float32), (region,), **more)


def cardiomegaly(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the heart; here only found again."""
    return _labelled(scene, "cardiomegaly", ("heart",), "heart", attributes=dict(scene.chosen["cardiomegaly"]))


def pericardial_effusion(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the heart; here only found again."""
    chosen = dict(scene.chosen["pericardial_effusion"])
    return _labelled(scene, "pericardial_effusion", ("pericardium",), "pericardium", attributes=chosen)


def aortic_aneurysm(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the aorta; here only found again."""
    if scene.plan is None or scene.plan.aneurysm is None:
        return []
    where, diameter = scene.plan.aneurysm
    canvas = scene.canvas
    points = np.array([(-12, -30, -18)] if where == "ascending" else [(25, 38, -30)], float)
    centre = scene.plan.to_world(points)[0]
    box = canvas.box(centre, (0.8 * diameter, 0.8 * diameter, 42.0))
    occupancy = canvas.mask(("aorta",), box).astype(np.float32)
    return mark(scene, "aortic_aneurysm", box, occupancy, ("aorta",), size_mm=(float(diameter),))


def enlarged_pulmonary_artery(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the artery; here only found again."""
    if scene.plan is None:
        return []
    size = (float(round(scene.plan.trunk)),)
    return _labelled(scene, "enlarged_pulmonary_artery", ("pulmonary_artery",), "pulmonary_artery", size_mm=size)


def _plaques(
    scene: Scene,
    rng: np.random.Generator,
    spots: Array,
    normals: Array,
    size: tuple[float, float],
    hu: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """Flat discs of calcium lying on a wall: points, volumes, HU."""
    points, volume, value = [], [], []
    for spot, normal in zip(spots, normals, strict=True):
        r = rng.uniform(*size)
        thick = rng.uniform(1.6, 2.8)
        cloud = rng.uniform(-1, 1, (60, 3))
        cloud *= r
        along = cloud @ normal
        cloud += np.outer(along * (thick / (2 * r) - 1.0), normal)
        points.append(spot + cloud)
        volume.append(np.full(60, (2 * r) ** 2 * thick / 60))
        value.append(np.full(60, rng.uniform(*hu)))
    return np.concatenate(points), np.concatenate(volume), np.concatenate(value)


def arterial_wall_calcification(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Plaques on the wall of the aorta, more of them the more severe."""
    kind = "arterial_wall_calcification"
    severity = pick(rng, kind, "severity")
    count = {
        "mild": int(rng.integers(4, 7)),
        "moderate": int(rng.integers(10, 16)),
        "severe": int(rng.integers(24, 36)),
    }[severity]
    canvas = scene.canvas
    box = scene.bounds(("aorta",))
    inside = canvas.mask(("aorta",), box)
    # wall voxels: inside, with a neighbour outside
    core = inside.copy()
    for axis in range(1, 3):
        core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    wall = np.argwhere(inside & ~core)
    if len(wall) < 10:
        return []
    # plaques gather around a few places: the arch and the lower descending part
    spots = canvas.world(wall[rng.integers(0, len(wall), count)] + [s.start for s in box])
    normals = rng.standard_normal((count, 3)) * [1, 1, 0.2]
    middle = canvas.world(np.argwhere(inside) + [s.start for s in box])
    for k, spot in enumerate(spots):
        near = middle[np.abs(middle[:, 2] - spot[2]) < 3.0]
        near = near[np.linalg.norm(near[:, :2] - spot[:2], axis=1) < 24.0]
        if len(near):
            normals[k] = spot - near.mean(axis=0)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    points, volume, value = _plaques(scene, rng, spots, normals, (2.6, 5.0), (750, 1300))
    part, occupancy, mean = canvas.splat(points, volume, value)
    occupancy = np.minimum(occupancy, 1.0)
    lighten(canvas, part, occupancy, mean if mean is not None else 900.0)
    return mark(scene, kind, part, occupancy, ("aorta",), 0.25, attributes={"severity": severity})


def coronary_paths(scene: Scene) -> dict[str, Array]:
    """Coronary arteries as lines 2 mm under the surface of the heart region, world mm."""
    if "coronaries" in scene.canvas.landmarks:
        return scene.canvas.landmarks["coronaries"]
    canvas = scene.canvas
    box = scene.bounds(("heart",))
    inside = np.argwhere(canvas.labels[box] == canvas.id("heart"))
    centre = canvas.world(inside + [s.start for s in box]).mean(axis=0)
    heart = canvas.id("heart")
    paths = {}
    for name, rays in CORONARIES.items():
        line, _ = resample_line(np.array(rays, float), np.ones(len(rays)), 0.12)
        line /= np.linalg.norm(line, axis=1, keepdims=True)
        reach = np.arange(10.0, 110.0, 1.5)
        points = centre + line[:, None] * reach[None, :, None]
        hit = canvas.label_at(points.reshape(-1, 3)).reshape(points.shape[:2]) == heart
        last = np.where(hit.any(axis=1), len(reach) - 1 - np.argmax(hit[:, ::-1], axis=1), 0)
        if not hit.any():
            continue
        distance = reach[last] - 3.0
        paths[name] = centre + line * distance[:, None]
    canvas.landmarks["coronaries"] = paths
    return paths


def coronary_artery_wall_calcification(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Short calcified stretches along the coronary arteries."""
    kind = "coronary_artery_wall_calcification"
    severity = pick(rng, kind, "severity")
    count = {"mild": 2, "moderate": 6, "severe": 14}[severity] + int(rng.integers(0, 3))
    paths = list(coronary_paths(scene).values())
    if not paths:
        return []
    points, volume = [], []
    for _ in range(count):
        path = paths[
            int(rng.choice(len(paths), p=[0.55, 0.2, 0.25][: len(paths)] / np.sum([0.55, 0.2, 0.25][: len(paths)])))
        ]
        at = int(rng.integers(0, max(1, int(0.7 * len(path)))))
        length = rng.uniform(4, 10) * (1.5 if severity == "severe" else 1.0)
        near = path[max(0, at - 1) : at + 2]
        direction = (near[-1] - near[0]) if len(near) > 1 else np.array([0, 0, 1.0])
        direction /= max(float(np.linalg.norm(direction)), 1e-6)
        line = path[at] + np.linspace(-0.5, 0.5, 10)[:, None] * length * direction
        p, v, _ = tube_points(line, np.full(10, rng.uniform(1.4, 2.1)), 0.8)
        points.append(p)
        volume.append(v)
    box, occupancy, _ = scene.canvas.splat(np.concatenate(points), np.concatenate(volume))
    occupancy = np.minimum(occupancy, 1.0)
    lighten(scene.canvas, box, occupancy, float(rng.uniform(800, 1200)))
    return mark(scene, kind, box, occupancy, ("heart",), 0.2, attributes={"severity": severity})


def hiatal_hernia(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Stomach behind the heart: a wall, fluid, and gas in front of it."""
    kind = "hiatal_hernia"
    severity = pick(rng, kind, "severity")
    if scene.plan is None:
        return []
    size = {"small": rng.uniform(26, 36), "moderate": rng.uniform(42, 56), "large": rng.uniform(66, 90)}[severity]
    canvas, plan = scene.canvas, scene.plan
    r = size / 2.0
    centre = plan.to_world(np.array([[13.0, 22.0 - 0.12 * r, plan.dome - 6.0 + 0.55 * r]]))[0]
    shape = lump(rng, (r * 1.1, r * 0.9, r), 0.06)
    box, occupancy = solid(canvas, centre, 1.3 * r, shape)
    keep = ~canvas.mask(("spine", "aorta", "ribs"), box)
    canvas.paint(box, occupancy * keep, 40.0)
    hole_box, hole = solid(canvas, centre, 1.3 * r, lambda x, y, z: shape(x, y, z) + 3.5)
    keep = ~canvas.mask(("spine", "aorta", "ribs"), hole_box)
    canvas.paint(hole_box, hole * keep, 20.0)
    y = canvas.axis(1, hole_box)[None, :, None] - np.float32(centre[1] + rng.uniform(-0.35, 0.1) * r)
    gas = hole * np.clip(0.5 - y / canvas.spacing[1], 0, 1) * keep
    canvas.paint(hole_box, gas.astype(np.float32), -940.0)
    where = (occupancy > 0.5) & canvas.mask(("mediastinum", "heart", "pericardium", *scene.lobes), box)
    canvas.labels[box][where] = canvas.id("oesophagus")
    return mark(scene, kind, box, occupancy, ("oesophagus",), attributes={"severity": severity})


# Mediastinal stations, body mm relative to the carina: right and left paratracheal, pretracheal, subcarinal,
# aorto-pulmonary window, right and left hilum, prevascular.
_STATIONS = (
    (-19, 8, 24), (-17, 4, 10), (0, -4, 12), (2, 20, -22), (26, 4, 10), (-36, 14, -24), (48, 12, -24), (-2, -52, 22)
)  # fmt: skip


def _stations(scene: Scene) -> Array:
    if scene.plan is not None:
        return scene.plan.to_world(np.array(_STATIONS, float))
    canvas = scene.canvas
    box = scene.bounds(("trachea",))
    index = np.argwhere(canvas.labels[box] == canvas.id("trachea"))
    carina = canvas.world(index[index[:, 0] == index[:, 0].min()] + [s.start for s in box]).mean(axis=0)
    return carina + np.array(_STATIONS[:4], float) - [0, 18.0, 0]


def lymphadenopathy(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Round or oval nodes with a short axis of at least 10 mm (the usual threshold, ACR white paper 2018)."""
    stations = _stations(scene)
    count = int(rng.integers(1, 5))
    marks: list[Mark] = []
    for k in rng.choice(len(stations), size=min(count, len(stations)), replace=False):
        short = int(np.clip(round(np.exp(rng.normal(2.75, 0.28))), 11, 38))
        long = round(short * rng.uniform(1.1, 1.55))
        centre = stations[k] + rng.normal(0, 2.5, 3)
        shape = lump(rng, (long / 2, short / 2, short / 2 * 1.05), 0.05)
        box, occupancy = solid(scene.canvas, centre, 0.7 * long, shape)
        open_ = ~scene.canvas.mask(("trachea", "right_main_bronchus", "left_main_bronchus", "spine"), box)
        occupancy = occupancy * open_
        scene.canvas.paint(box, occupancy, 42.0 if scene.blood.myocardium < 60 else 82.0)
        lung = scene.canvas.mask(scene.lobes, box) & (occupancy > 0.5)
        scene.canvas.labels[box][lung] = scene.canvas.id("mediastinum")
        marks += mark(scene, "lymphadenopathy", box, occupancy, ("mediastinum",), size_mm=(float(long), float(short)))
    return marks
