"""Round things in the lung: nodules, masses, granulomas, cavities."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.canvas import Array, Box, tube_points
from ctscribe.phantom.scene import Mark, Scene, lighten, lump, mark, pick, point_in, solid, spill


def _spicules(scene: Scene, rng: np.random.Generator, centre: Array, radius: float) -> None:
    """Fine strands from the surface outwards."""
    for _ in range(int(rng.integers(9, 15))):
        direction = rng.standard_normal(3) * [1, 1, 0.7]
        direction /= np.linalg.norm(direction)
        reach = radius * rng.uniform(1.5, 2.1) + rng.uniform(3, 7)
        t = np.linspace(0.6 * radius, reach, 12)
        points, volume, _ = tube_points(centre + t[:, None] * direction, np.linspace(1.7, 0.7, 12), 0.8)
        box, occupancy, _ = scene.canvas.splat(points, volume)
        lighten(scene.canvas, box, np.minimum(occupancy, 1.0), -30.0)


def _distant(point: Array, others: list[Array], gap: float) -> bool:
    return all(np.linalg.norm(point - o) > gap for o in others)


def lung_nodule(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Diameters follow LUNA16: log-normal, median 7 mm, drawn from 5 to 30 mm."""
    number = pick(rng, "lung_nodule", "number", (0.62, 0.38))
    density = pick(rng, "lung_nodule", "density", (0.62, 0.16, 0.22))
    margin = pick(rng, "lung_nodule", "margin", (0.5, 0.25, 0.25) if density == "solid" else (0.7, 0.15, 0.15))
    count = 1 if number == "single" else int(rng.integers(2, 6))
    marks: list[Mark] = []
    taken: list[Array] = []
    for _ in range(count):
        floor = 5 if margin == "smooth" and density == "solid" else 8
        size = int(np.clip(round(np.exp(rng.normal(2.25, 0.48))), floor, 29))
        lobe = str(rng.choice(scene.lobes))
        for _try in range(6):
            centre = point_in(scene, rng, lobe, (2.0 + 0.3 * size, 1e9))
            if centre is not None and _distant(centre, taken, 25.0):
                taken.append(centre)
                marks += _one_nodule(scene, rng, centre, size, density, margin, lobe)
                break
    for m in marks:
        m.attributes["number"] = number  # corrected by `paint` when fewer found a place
    return marks


def _one_nodule(
    scene: Scene, rng: np.random.Generator, centre: Array, size: int, density: str, margin: str, lobe: str
) -> list[Mark]:
    r = size / 2.0
    short = rng.uniform(0.8, 0.98)
    bumps = {"smooth": 0.02, "lobulated": 0.17, "spiculated": 0.10}[margin]
    shape = lump(rng, (r, r * short, r * short), bumps)
    box, occupancy = solid(scene.canvas, centre, 1.35 * r, shape)
    if density == "solid":
        lighten(scene.canvas, box, occupancy, float(rng.normal(35, 15)))
    else:
        lighten(scene.canvas, box, occupancy, float(rng.normal(-560, 30)))
    if density == "part_solid":
        core = lump(rng, (0.5 * r, 0.45 * r, 0.45 * r), 0.1)
        inner, core_occupancy = solid(scene.canvas, centre, 0.7 * r, core)
        lighten(scene.canvas, inner, core_occupancy, 20.0)
    if margin == "spiculated":
        _spicules(scene, rng, centre, r)
    attributes = {"density": density, "margin": margin}
    return mark(scene, "lung_nodule", box, occupancy, (lobe,), attributes=attributes, size_mm=(float(size),))


def mass(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A solid lesion of more than 30 mm."""
    size = int(np.clip(round(np.exp(rng.normal(3.85, 0.3))), 31, 100))
    short = round(size * rng.uniform(0.68, 0.95))
    margin = pick(rng, "mass", "margin", (0.25, 0.4, 0.35))
    lobe = str(rng.choice(scene.lobes))
    centre = point_in(scene, rng, lobe, (0.22 * size, 1e9))
    if centre is None:
        return []
    bumps = {"smooth": 0.03, "lobulated": 0.16, "spiculated": 0.10}[margin]
    radii = (size / 2.0, short / 2.0, 0.5 * (size + short) / 2.0)
    box, occupancy = solid(scene.canvas, centre, 0.66 * size, lump(rng, radii, bumps))
    texture = scene.canvas.noise(rng, box, 14.0)
    occupancy = occupancy * _lung_soft(scene, box)
    enhance = 25.0 if scene.blood.myocardium > 80 else 0.0
    lighten(scene.canvas, box, occupancy, 38.0 + enhance + 8.0 * texture)
    spill(scene, box, occupancy, 35.0)
    if margin == "spiculated":
        for _ in range(2):
            _spicules(scene, rng, centre, size / 2.0)
    return mark(
        scene,
        "mass",
        box,
        occupancy,
        (lobe,),
        attributes={"margin": margin},
        size_mm=(float(size), float(short)),
    )


def _lung_soft(scene: Scene, box: Box) -> Array:
    """1 in the lungs and the pleura around them, 0 elsewhere."""
    return scene.canvas.mask((*scene.lobes, "right_pleura", "left_pleura"), box).astype(np.float32)


def calcified_granuloma(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A small dense round lesion."""
    number = pick(rng, "calcified_granuloma", "number", (0.65, 0.35))
    marks: list[Mark] = []
    for _ in range(1 if number == "single" else int(rng.integers(2, 5))):
        size = int(np.clip(round(rng.normal(7.5, 2.2)), 5, 14))
        lobe = str(rng.choice(scene.lobes))
        centre = point_in(scene, rng, lobe, (6.0, 1e9))
        if centre is None:
            continue
        box, occupancy = solid(scene.canvas, centre, 0.7 * size, lump(rng, (size / 2,) * 3, 0.05))
        lighten(scene.canvas, box, occupancy, float(rng.uniform(650, 1100)))
        marks += mark(scene, "calcified_granuloma", box, occupancy, (lobe,), size_mm=(float(size),))
    for m in marks:
        m.attributes["number"] = number  # corrected by `paint` when fewer found a place
    return marks


def cavity(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A shell with air in it, sometimes with a fluid level."""
    wall = pick(rng, "cavity", "wall")
    size = int(np.clip(round(np.exp(rng.normal(3.55, 0.35))), 18, 90))
    prefer = [2.0 if "upper" in lobe else 1.0 for lobe in scene.lobes]
    lobe = str(rng.choice(scene.lobes, p=np.array(prefer) / np.sum(prefer)))
    centre = point_in(scene, rng, lobe, (0.3 * size, 1e9))
    if centre is None:
        return []
    thick = rng.uniform(2.2, 3.2) if wall == "thin" else np.clip(rng.uniform(0.16, 0.26) * size, 5.0, 14.0)
    shape = lump(rng, (size / 2, size * 0.46, size * 0.47), 0.05 if wall == "thin" else 0.09)
    canvas = scene.canvas
    box, occupancy = solid(canvas, centre, 0.66 * size, shape)
    hole_box, hole = solid(canvas, centre, 0.66 * size, lambda x, y, z: shape(x, y, z) + thick)
    lung = _lung_soft(scene, box)
    lighten(canvas, box, occupancy * lung, 35.0)
    canvas.paint(hole_box, hole * lung, -985.0)
    if wall == "thick" and rng.random() < 0.4:
        y = canvas.axis(1, hole_box)[None, :, None] - centre[1]
        fluid = hole * lung * np.clip(0.5 + (y - 0.14 * size) / canvas.spacing[1], 0, 1)
        canvas.paint(hole_box, fluid.astype(np.float32), 15.0)
    return mark(scene, "cavity", box, occupancy * lung, (lobe,), attributes={"wall": wall}, size_mm=(float(size),))
