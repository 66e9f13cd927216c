"""Disease of the airways: bronchiectasis, wall thickening, stenosis."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.canvas import Array, resample_line, tube_points
from ctscribe.phantom.scene import Mark, Scene, choose_site, hilum, mark, pick, point_in
from ctscribe.phantom.trees import branch_points


def bronchiectasis(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Airways wider than their artery, reaching far out: tubes, beads or clustered cysts, each with a wall."""
    kind = "bronchiectasis"
    pattern = pick(rng, kind, "pattern", (0.5, 0.2, 0.3))
    prefer = {"right_lower_lobe": 2.0, "left_lower_lobe": 2.0, "right_middle_lobe": 1.5}
    leaf, regions = choose_site(scene, rng, (0.25, 0.15, 0.4, 0.2), prefer)
    canvas = scene.canvas
    walls: list[tuple[Array, Array]] = []
    lumens: list[tuple[Array, Array]] = []
    for region in leaf:
        root = hilum(scene, region)
        for _ in range(int(rng.integers(4, 7)) if len(leaf) < 4 else 3):
            tip = point_in(scene, rng, region, (10.0, 34.0))
            if tip is None:
                continue
            line, radius = _path(root, tip, rng, pattern)
            points, volume, _ = tube_points(line, radius + rng.uniform(1.5, 2.2), 0.5 * canvas.soft)
            walls.append((points, volume))
            points, volume, _ = tube_points(line, radius, 0.45 * canvas.soft)
            lumens.append((points, volume))
    return _draw(scene, kind, leaf, regions, walls, lumens, {"pattern": pattern})


def _path(root: Array, tip: Array, rng: np.random.Generator, pattern: str) -> tuple[Array, Array]:
    start = root + (tip - root) * rng.uniform(0.25, 0.4)
    middle = 0.5 * (start + tip) + rng.normal(0, 5.0, 3)
    line, _ = resample_line(np.array([start, middle, tip]), np.ones(3), 1.1)
    t = np.linspace(0, 1, len(line))
    if pattern == "cylindrical":
        radius = np.full(len(line), rng.uniform(3.0, 4.5))
    elif pattern == "varicose":
        radius = rng.uniform(3.2, 4.4) * (1.0 + 0.45 * np.sin(2 * np.pi * t * len(line) / 14.0))
    else:
        line = line[t > 0.45]
        t = np.linspace(0, 1, len(line))
        radius = 1.5 + rng.uniform(5.0, 8.5) * np.abs(np.sin(np.pi * (t * len(line) / 15.0 + 0.2)))
    return line, radius


def _draw(
    scene: Scene, kind: str, leaf: tuple[str, ...], regions: tuple[str, ...], walls: list[tuple[Array, Array]],
    lumens: list[tuple[Array, Array]], attributes: dict[str, str],
) -> list[Mark]:  # fmt: skip
    """Walls, then lumens, inside the leaf regions only."""
    if not walls:
        return []
    canvas = scene.canvas
    outer = np.concatenate([p for p, _ in walls])
    box, wall, _ = canvas.splat(outer, np.concatenate([v for _, v in walls]) * 1.05)
    inside = canvas.mask(leaf, box)
    wall = np.minimum(wall, 1.0) * inside
    canvas.paint(box, wall, 0.0)
    inner_box, lumen, _ = canvas.splat(
        np.concatenate([p for p, _ in lumens]), np.concatenate([v for _, v in lumens]) * 1.05
    )
    canvas.paint(inner_box, np.minimum(lumen, 1.0) * canvas.mask(leaf, inner_box), -985.0)
    return mark(scene, kind, box, wall, regions, 0.3, attributes=attributes)


def peribronchial_thickening(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Cuffs of 1.5 to 4 mm around the central and segmental bronchi."""
    kind = "peribronchial_thickening"
    severity = pick(rng, kind, "severity")
    extra = {"mild": 1.9, "moderate": 2.8, "severe": 4.0}[severity]
    leaf, regions = choose_site(scene, rng, (0.65, 0.15, 0.15, 0.05))
    branches = [b for b in scene.trees.get("airway", []) if b.lobe in leaf and b.level <= 4 and b.radius[0] > 0.7]
    canvas = scene.canvas
    walls, lumens = [], []
    if branches:
        walls.append(branch_points(branches, 0.6 * canvas.soft, extra))
        lumens.append(branch_points(branches, 0.6 * canvas.soft, 0.25))
    else:
        for region in leaf:
            root = hilum(scene, region)
            for _ in range(6):
                tip = point_in(scene, rng, region, (18.0, 50.0))
                if tip is not None:
                    line, _ = resample_line(np.array([root, 0.5 * (root + tip), tip]), np.ones(3), 1.2)
                    radius = np.linspace(2.4, 1.2, len(line))
                    points, volume, _ = tube_points(line, radius + extra, 0.5 * canvas.soft)
                    walls.append((points, volume))
                    points, volume, _ = tube_points(line, radius, 0.5 * canvas.soft)
                    lumens.append((points, volume))
    return _draw(scene, kind, leaf, regions, walls, lumens, {"severity": severity})


def airway_stenosis(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the airway; here only found again."""
    marks: list[Mark] = []
    canvas = scene.canvas
    for name in scene.plan.stenosis if scene.plan is not None else {}:
        line = np.asarray(canvas.landmarks[name])
        centre = line[int(0.55 * (len(line) - 1))]
        span = np.ptp(line, axis=0) * 0.18 + 9.0
        box = canvas.box(centre, span)
        x, y, z = (v - c for v, c in zip(canvas.coords(box), centre.tolist(), strict=True))
        ball = np.sqrt((x / span[0]) ** 2 + (y / span[1]) ** 2 + (z / span[2]) ** 2) < 1.0
        marks += mark(scene, "airway_stenosis", box, ball.astype(np.float32), (name,),
                      attributes=dict(scene.chosen["airway_stenosis"]))  # fmt: skip
    return marks
