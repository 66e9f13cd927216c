"""Bones, thyroid, liver and adrenals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctscribe.phantom.anatomy import LOBES, BodyPlan
from ctscribe.phantom.canvas import Array, tube_points
from ctscribe.phantom.scene import Mark, Scene, lighten, lump, mark, pick, solid
from ctscribe.phantom.skeleton import RIB_FLAT, bony_tube, rib_hu, rib_radius


def rib_fracture(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A gap with a step between the ends of the bone; blood around a fresh one, callus around an old one."""
    kind = "rib_fracture"
    number = pick(rng, kind, "number", (0.5, 0.5))
    ribs = [(int(name.split()[-1]), line) for name, line in scene.canvas.landmarks.get("ribs", [])]
    ribs = [(k, line) for k, line in ribs if k in range(3, 11)]
    if not ribs or scene.plan is None:
        return []
    canvas = scene.canvas
    count = 1 if number == "single" else int(rng.integers(2, 5))
    marks: list[Mark] = []
    first = int(rng.integers(0, len(ribs)))
    healing = rng.random() < 0.4
    for k in range(count):
        rib, line = ribs[(first + 2 * k) % len(ribs)]
        at = int(rng.uniform(0.25, 0.7) * len(line))
        index = canvas.index(line[at])[0]
        if np.all((index > 1) & (index < np.array(canvas.shape) - 2)):
            marks += _break(scene, rng, line, at, rib_radius(scene.plan, rib), rib_hu(scene.plan), healing)
    for m in marks:
        m.attributes["number"] = number  # corrected by `paint` when fewer found a place
    return marks


def _break(
    scene: Scene, rng: np.random.Generator, line: Array, at: int, radius: float, hu: tuple[float, float], healing: bool
) -> list[Mark]:
    """Take the bone away from just before the break to 35 mm beyond it, and draw it again out of line."""
    canvas = scene.canvas
    centre = line[at]
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    arc -= arc[at]
    tangent = line[min(at + 2, len(line) - 1)] - line[max(at - 2, 0)]
    tangent /= max(float(np.linalg.norm(tangent)), 1e-6)
    outward = centre - 0.5 * (line[0] + line[-1])
    outward -= (outward @ tangent) * tangent
    outward /= max(float(np.linalg.norm(outward)), 1e-6)
    swelling = _spindle(tangent, 17.0, radius + (3.0 if healing else 5.5))
    collar, around = solid(canvas, centre, 18.0, swelling)
    away = (arc > -2.5) & (arc < 35.0)
    points, volume, _ = tube_points(line[away], np.full(int(away.sum()), radius + 2.0), 0.4 * canvas.soft)
    gone, empty, _ = canvas.splat(points, 1.6 * volume)
    empty = np.minimum(empty, 1.0) * ~canvas.mask(LOBES, gone)
    canvas.paint(gone, empty, 48.0)
    canvas.labels[gone][(empty > 0.5) & canvas.mask(("ribs",), gone)] = canvas.id("chest_wall")
    bone = canvas.hu[collar] > 180
    canvas.paint(collar, around * ~bone, 260.0 if healing else 50.0)
    beyond = (arc > 2.0) & (arc < 35.0)
    shift = rng.uniform(5.0, 8.0) * rng.choice([1.0, 1.0, -0.7])
    fade = shift * np.exp(-((arc[beyond] / 22.0) ** 2))
    moved = line[beyond] + fade[:, None] * outward
    if len(moved) > 1:
        bony_tube(canvas, moved, np.full(len(moved), radius), hu, "ribs", RIB_FLAT)
    return mark(scene, "rib_fracture", collar, around, ("ribs",))


def _spindle(axis: Array, half: float, radius: float) -> Callable[..., Array]:
    """Signed distance of an ellipsoid along the unit vector ``axis``; half axes ``half``, ``radius``, ``radius`` mm."""
    a, b, c = axis.tolist()

    def distance(x: Array, y: Array, z: Array) -> Array:
        along = a * x + b * y + c * z
        across = x * x + y * y + z * z - along * along
        return (np.sqrt((along / half) ** 2 + across / radius**2) - 1.0) * radius

    return distance


def vertebral_fracture(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Drawn with the spine; here only found again."""
    marks: list[Mark] = []
    canvas = scene.canvas
    for number in scene.plan.wedges if scene.plan is not None else {}:
        _, centre, half, width = canvas.landmarks["vertebrae"][number]
        box = canvas.box(centre, (width + 2, width, half + 2))
        inside = canvas.mask(("spine",), box).astype(np.float32)
        marks += mark(scene, "vertebral_fracture", box, inside, ("spine",),
                      attributes=dict(scene.chosen["vertebral_fracture"]))  # fmt: skip
    return marks


def bone_lesion(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A lytic or sclerotic focus in a vertebral body or a rib."""
    kind = "bone_lesion"
    density = pick(rng, kind, "density")
    canvas = scene.canvas
    if rng.random() < 0.65 and "vertebrae" in canvas.landmarks:
        wedges = scene.plan.wedges if scene.plan is not None else {}
        inside = [v for k, v in enumerate(canvas.landmarks["vertebrae"])
                  if 0.06 < canvas.index(v[1])[0, 0] / canvas.shape[0] < 0.94 and k not in wedges]  # fmt: skip
        if not inside:
            return []
        _, centre, _, width = inside[int(rng.integers(0, len(inside)))]
        size = int(rng.integers(12, 25))
        centre = centre + np.array(
            [rng.uniform(-0.35, 0.35) * width, rng.uniform(-0.3, 0.3) * width, rng.uniform(-2, 2)]
        )
        region = "spine"
    elif "ribs" in canvas.landmarks:
        lines = [line for name, line in canvas.landmarks["ribs"] if int(name.split()[-1]) in range(3, 10)]
        line = lines[int(rng.integers(0, len(lines)))]
        centre = line[int(rng.uniform(0.3, 0.8) * len(line))]
        size = int(rng.integers(14, 34))
        region = "ribs"
    else:
        return []
    shape = lump(rng, (size / 2, size * 0.42, size * 0.45), 0.12)
    box, occupancy = solid(canvas, centre, 0.75 * size, shape)
    if region == "ribs":
        occupancy = occupancy * ~canvas.mask(("heart", "aorta", "upper_abdomen"), box)
        canvas.paint(box, occupancy, 55.0 if density == "lytic" else 900.0)
    elif density == "lytic":
        canvas.paint(box, occupancy * canvas.mask(("spine",), box), 40.0)
    else:
        lighten(canvas, box, occupancy * canvas.mask(("spine",), box), 950.0)
    return mark(scene, kind, box, occupancy, (region,), attributes={"density": density}, size_mm=(float(size),))


def thyroid_nodule(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A dark nodule with a bright rim that makes its lobe bulge."""
    lobes = scene.canvas.landmarks.get("thyroid")
    if not lobes:
        return []
    line = lobes[int(rng.integers(0, 2))]
    inside = [p for p in line if 2 < scene.canvas.index(p)[0, 0] < scene.canvas.shape[0] - 3]
    if not inside:
        return []
    size = int(np.clip(round(np.exp(rng.normal(3.15, 0.28))), 12, 45))
    outward = np.array([np.sign(line[0][0] - np.mean([v[0][0] for v in lobes])) * (0.25 * size), -0.1 * size, 0])
    centre = np.asarray(inside[len(inside) // 2]) + outward
    box, occupancy = solid(scene.canvas, centre, 0.7 * size, lump(rng, (size / 2, size * 0.43, size * 0.46), 0.05))
    occupancy = occupancy * ~scene.canvas.mask(("trachea", "spine"), box)
    scene.canvas.paint(box, occupancy, float(rng.choice([8.0, 30.0])))
    rim = np.clip(1 - np.abs(2 * occupancy - 1), 0, 1)
    lighten(scene.canvas, box, 0.8 * rim, float(rng.choice([115.0, 350.0])))
    scene.canvas.labels[box][(occupancy > 0.5)] = scene.canvas.id("thyroid")
    return mark(scene, "thyroid_nodule", box, occupancy, ("thyroid",), size_mm=(float(size),))


def hepatic_cyst(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A round lake of water density in the right liver."""
    if scene.plan is None:
        return []
    canvas = scene.canvas
    size = int(np.clip(round(np.exp(rng.normal(3.2, 0.45))), 12, 80))
    centre = _liver_point(scene, scene.plan, rng, size)
    if centre is None:
        return []
    box, occupancy = solid(canvas, centre, 0.6 * size, lump(rng, (size / 2,) * 3, 0.02))
    occupancy = occupancy * (canvas.mask(("upper_abdomen",), box))
    canvas.paint(box, occupancy, float(rng.normal(5, 4)))
    return mark(scene, "hepatic_cyst", box, occupancy, ("upper_abdomen",), size_mm=(float(size),))


def _liver_point(scene: Scene, plan: BodyPlan, rng: np.random.Generator, size: int) -> Array | None:
    """A point well inside the right liver that is in the picture."""
    low = scene.canvas.origin[2] + 0.35 * size
    for _ in range(12):
        body = np.array(
            [
                [
                    rng.uniform(-100, -15),
                    rng.uniform(-55, 50),
                    plan.dome - rng.uniform(0.55 * size + 9, 88),
                ]
            ]
        )
        world = plan.to_world(body)[0]
        hu = scene.canvas.index(world)[0]
        at = tuple(np.clip(np.rint(hu).astype(int), 0, np.array(scene.canvas.shape) - 1))
        near = abs(scene.canvas.hu[at] - scene.blood.liver) < 20
        if world[2] > low and near and scene.canvas.names.get(int(scene.canvas.labels[at])) == "upper_abdomen":
            return world
    return None


def adrenal_nodule(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """An oval nodule above a kidney; half of them of fat-rich density, as adenomas are."""
    side = "left" if rng.random() < 0.6 else "right"
    centre = scene.canvas.landmarks.get(f"adrenal_{side}")
    if centre is None or scene.canvas.index(centre)[0, 0] < 1.5:
        return []
    size = int(np.clip(round(np.exp(rng.normal(3.15, 0.28))), 14, 48))
    box, occupancy = solid(
        scene.canvas, np.asarray(centre), 0.65 * size, lump(rng, (size / 2, size * 0.44, size * 0.46), 0.05)
    )
    # a plane of fat sets it apart from liver, kidney and crus
    pocket, halo = solid(scene.canvas, np.asarray(centre), 0.65 * size + 5.0, lump(rng, (size / 2 + 4.5,) * 3, 0.03))
    keep = ~scene.canvas.mask(("spine", "aorta", *scene.lobes), pocket)
    scene.canvas.paint(pocket, halo * keep, -98.0)
    keep = ~scene.canvas.mask(("spine", "aorta", *scene.lobes), box)
    occupancy = occupancy * keep
    scene.canvas.paint(box, occupancy, float(rng.choice([6.0, 34.0])))
    return mark(scene, "adrenal_nodule", box, occupancy, ("upper_abdomen",), size_mm=(float(size),))
