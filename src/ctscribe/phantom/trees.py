"""Tubes: great vessels, oesophagus, thyroid, the airway and the branching vessels of the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctscribe.phantom.anatomy import LOBES, REGION_NAMES, BodyPlan
from ctscribe.phantom.canvas import Array, Canvas, resample_line, tube_points

_ID = {name: key for key, name in REGION_NAMES.items()}

# Airway skeleton in body mm: (x, y, z). The carina is the origin's height.
AIRWAY = {
    "trachea": ([(1, 2, 150), (1, 8, 110), (0, 14, 60), (0, 18, 20), (0, 19, 0)], [8.6, 8.6, 8.6, 8.8, 9.0]),
    "right_main_bronchus": ([(0, 19, 2), (-12, 20, -9), (-25, 20, -17)], [8.0, 7.6, 7.0]),
    "left_main_bronchus": ([(0, 19, 2), (16, 21, -12), (42, 23, -27)], [7.6, 6.6, 6.0]),
}
_LOBAR = {
    "right_upper_lobe": [(-22, 20, -15), (-36, 18, -10), (-46, 14, -2)],
    "right_middle_lobe": [(-25, 20, -17), (-33, 14, -34), (-46, -4, -46)],
    "right_lower_lobe": [(-25, 20, -17), (-34, 22, -36), (-44, 32, -58)],
    "left_upper_lobe": [(42, 23, -27), (50, 16, -22), (56, 4, -16)],
    "left_lower_lobe": [(42, 23, -27), (46, 28, -42), (52, 36, -62)],
}


@dataclass(frozen=True)
class Branch:
    """One segment of a tree, world mm. ``level`` counts bifurcations from the lobar trunk."""

    start: Array
    stop: Array
    radius: tuple[float, float]
    level: int
    lobe: str


def great_vessels(plan: BodyPlan) -> dict[str, tuple[Array, Array]]:
    """Centre lines (body mm) and radii (mm) of the large vessels."""
    grow = {"ascending": 1.0, "descending": 1.0}
    root = 15.0 + 0.04 * (plan.age - 50)
    if plan.aneurysm is not None:
        where, diameter = plan.aneurysm
        grow[where] = diameter / 2.0 / (root if where == "ascending" else root - 3.2)
    asc, des = grow["ascending"], grow["descending"]
    arch_lift = 6.0 * (asc - 1.0) + 3.0 * (des - 1.0)
    aorta = [
        (6, -14, -52, 0.92), (-8, -26, -30, asc), (-16, -30, -6, asc), (-12, -24, 14, 0.5 + 0.5 * asc),
        (-1, -8, 26 + arch_lift, 0.95), (16, 10, 27 + arch_lift, 0.88), (25, 30, 16, 0.82),
        (26, 37, -10, 0.79 * des), (24, 38, -50, 0.79 * des), (19, 34, -100, 0.77), (10, 27, -145, 0.72),
        (3, 23, -200, 0.68), (2, 21, -250, 0.65),
    ]  # fmt: skip
    push = np.array([[0, 0, 0, 0]] * len(aorta), float)
    push[1:4, 0] -= 8.0 * (asc - 1.0)
    push[7:9, 0] += 9.0 * (des - 1.0)
    push[7:9, 1] -= 8.0 * (des - 1.0)
    line = np.array(aorta, float) + push
    t = plan.trunk / 2.0
    trunk = [(16, -44, -46), (19, -38, -28), (22, -24, -12)]
    return {
        "aorta": (line[:, :3], line[:, 3] * root),
        "trunk": (np.array(trunk + [(26, -10, -6)], float), np.array([t * 0.95, t, t, t * 0.92])),
        "right_pa": (np.array([(22, -20, -10), (4, -4, -13), (-20, 4, -15), (-42, 8, -22)], float),
                     np.array([t * 0.85, t * 0.78, t * 0.75, t * 0.62])),
        "left_pa": (np.array([(24, -16, -8), (36, 4, -6), (48, 18, -16), (52, 26, -36)], float),
                    np.array([t * 0.85, t * 0.78, t * 0.66, t * 0.55])),
        "svc": (np.array([(-27, -18, 44), (-28, -18, 10), (-29, -14, -24), (-32, -8, -50)], float), np.full(4, 8.5)),
        "left_innominate": (np.array([(42, -26, 66), (20, -40, 44), (-8, -38, 40), (-27, -20, 38)], float),
                            np.full(4, 6.0)),
        "right_innominate": (np.array([(-27, -18, 42), (-36, -16, 66), (-46, -10, 100)], float), np.full(3, 6.5)),
        "left_jugular": (np.array([(42, -26, 66), (34, -6, 100), (32, -4, 150)], float), np.full(3, 6.0)),
        "right_jugular": (np.array([(-36, -16, 66), (-32, -6, 100), (-31, -4, 150)], float), np.full(3, 6.0)),
        "innominate_artery": (np.array([(-6, -16, 22), (-14, -8, 50), (-24, 2, 72), (-25, 2, 150)], float),
                              np.array([6.5, 6.0, 4.0, 3.6])),
        "left_carotid": (np.array([(6, -4, 26), (16, 2, 60), (24, 4, 100), (25, 2, 150)], float), np.full(4, 3.8)),
        "left_subclavian": (np.array([(18, 14, 27), (26, 16, 62), (48, 8, 92), (90, 2, 96)], float), np.full(4, 4.6)),
        "right_subclavian": (np.array([(-24, 2, 70), (-46, 4, 92), (-90, 0, 96)], float), np.full(3, 4.6)),
        "ivc": (np.array([(-24, 0, -96), (-24, 10, -130), (-20, 18, -250)], float), np.full(3, 11.0)),
        "azygos": (np.array([(-4, 34, -200), (-9, 36, -40), (-13, 34, 4), (-28, 4, 10)], float), np.full(4, 3.6)),
        "vein_ru": (np.array([(-16, 8, -42), (-34, -4, -34), (-50, -10, -22)], float), np.array([7.5, 5.5, 4.0])),
        "vein_rl": (np.array([(-14, 10, -50), (-34, 14, -58), (-52, 24, -72)], float), np.array([7.5, 6.0, 4.5])),
        "vein_lu": (np.array([(20, 4, -40), (40, -4, -32), (54, -14, -18)], float), np.array([7.5, 5.5, 4.0])),
        "vein_ll": (np.array([(18, 12, -48), (40, 24, -58), (54, 32, -72)], float), np.array([7.5, 6.0, 4.5])),
    }  # fmt: skip


_VENOUS = ("svc", "left_innominate", "right_innominate", "left_jugular", "right_jugular", "azygos")


def _fill(canvas: Canvas, line: Array, radii: Array, hu: Array | float, label: str | None) -> Array:
    grain = (0.75 if float(np.max(radii)) > 2.0 * canvas.soft else 0.5) * canvas.soft
    along = 0.45 * canvas.soft if float(np.max(radii)) > 14.0 else grain  # a wide one is stretched where it bends
    line, radii = resample_line(line, radii, max(0.8, along))
    points, volume, _ = tube_points(line, radii, max(0.7, grain))
    canvas.draw(points, volume * 1.06, hu, None if label is None else _ID[label])
    return line


def draw_great_vessels(canvas: Canvas, plan: BodyPlan) -> None:
    """Vessels with a cuff of fat, so that one beside the lung still has a wall."""
    vessels = great_vessels(plan)
    world = {name: (plan.to_world(line), radii) for name, (line, radii) in vessels.items()}
    for name in ("aorta", "trunk", "left_pa", "right_pa"):
        line, radii = world[name]
        lung = canvas.mask(LOBES)
        fine, r = resample_line(line, radii + 3.0, 0.75 * canvas.soft)
        points, volume, _ = tube_points(fine, r, 0.8 * canvas.soft)
        box, occupancy, _ = canvas.splat(points, volume * 1.06)
        occupancy = np.minimum(occupancy, 1.0) * lung[box]
        canvas.paint(box, occupancy, -70.0)
        canvas.labels[box][occupancy > 0.5] = _ID["mediastinum"]
    for name, (line, radii) in world.items():
        blood = plan.blood
        if name in _VENOUS:
            hu, label = blood.vein, "mediastinum"
        elif name == "ivc":
            hu, label = 0.5 * (blood.vein + blood.right) if plan.phase == "venous" else 60.0, "upper_abdomen"
        elif name in ("trunk", "right_pa", "left_pa"):
            hu, label = blood.right, "pulmonary_artery"
        elif name.startswith("vein"):
            hu, label = blood.left, "mediastinum"
        else:
            hu, label = blood.left, "aorta" if name == "aorta" else "mediastinum"
        if name in ("trunk", "aorta"):
            line = line.copy()
        canvas.landmarks[name] = (_fill(canvas, line, radii, hu, label), float(np.max(radii)))


def draw_tubes(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> None:
    """Oesophagus, thyroid, adrenals and small normal nodes."""
    gullet = np.array([(4, 22, 150), (5, 25, 100), (4, 29, 40), (5, 31, 0), (9, 29, -50), (15, 22, -100)], float)
    tail = np.array([(20, 14, plan.dome - 28), (34, 0, plan.dome - 38)])
    line = plan.to_world(np.vstack([gullet, tail]))
    radii = np.full(len(line), 6.5)
    canvas.landmarks["oesophagus"] = _fill(canvas, line, radii, 42.0, "oesophagus")
    if rng.random() < 0.6:
        k = int(rng.integers(1, 4))
        _fill(canvas, line[k : k + 2] - [0, 1.5, 0], np.full(2, 2.0), -700.0, None)
    lobes = []
    for side in (-1, 1):
        body = np.array([(side * 15, 2, 82), (side * 19, 1, 97), (side * 16, 3, 114)], float)
        hu = 105.0 if plan.phase == "none" else 160.0
        lobes.append(_fill(canvas, plan.to_world(body), np.array([6.5, 9.5, 6.5]), hu, "thyroid"))
        for leg in ((0, 0), (side * 9, 8)):
            root = np.array([side * 29.0 + 2.0, 30.0, plan.dome - 60.0])
            end = root + np.array([side * 3.0 + leg[0], 14.0 - leg[1] * 0.4, -14.0])
            _fill(canvas, plan.to_world(np.array([root, end])), np.full(2, 2.6), 32.0, None)
        canvas.landmarks[f"adrenal_{'right' if side < 0 else 'left'}"] = plan.to_world(
            np.array([[side * 33.0, 36.0, plan.dome - 68.0]])
        )[0]
    canvas.landmarks["thyroid"] = lobes


def draw_airway(canvas: Canvas, plan: BodyPlan) -> None:
    """Trachea to lobar bronchi: wall, then lumen; a stenosis narrows the lumen where it is planned."""
    parts = {name: (np.array(p, float), np.array(r, float)) for name, (p, r) in AIRWAY.items()}
    parts |= {f"lobar_{lobe}": (np.array(p, float), np.array([5.2, 4.6, 3.8])) for lobe, p in _LOBAR.items()}
    if plan.sex == "F":
        parts = {k: (p, 0.9 * r) for k, (p, r) in parts.items()}
    drawn = []
    for name, (body, radii) in parts.items():
        line, r = resample_line(plan.to_world(body), radii, max(0.7, 0.45 * canvas.soft))
        if name in plan.stenosis:
            along = np.linspace(0, 1, len(line))
            r = r * (1.0 - (1.0 - plan.stenosis[name]) * np.exp(-(((along - 0.55) / 0.16) ** 2)))
        drawn.append((name, line, r))
        canvas.landmarks[name] = line
    for _, line, r in drawn:
        points, volume, _ = tube_points(line, r + 1.6, max(0.7, 0.5 * canvas.soft))
        canvas.draw(points, volume * 1.06, 25.0)
    for name, line, r in drawn:
        points, volume, _ = tube_points(line, r, max(0.6, 0.45 * canvas.soft))
        label = None if name.startswith("lobar") else _ID[name]
        box, occupancy = canvas.draw(points, volume * 1.08, -995.0)
        if label is not None:
            canvas.labels[box][occupancy > 0.35] = label


def grow(
    start: Array, targets: Array, radius: float, rng: np.random.Generator, lobe: str, level: int = 0
) -> list[Branch]:
    """Split the targets in two, walk towards each half, repeat: a tree that fills its lobe."""
    if len(targets) == 1:
        return [Branch(start, targets[0], (radius, 0.75 * radius), level, lobe)]
    centre = targets.mean(axis=0)
    reach = 0.42 if level < 3 else 0.5
    stop = start + (centre - start) * reach + rng.normal(0, 2.0, 3)
    spread = targets - centre
    axis = spread[np.argmax((spread**2).sum(axis=1))]
    order = np.argsort(spread @ axis)
    cut = len(order) // 2 + (rng.integers(-1, 2) if len(order) > 5 else 0)
    # Murray: the cubes of the radii add up.
    share = cut / len(order)
    left, right = radius * share ** (1 / 3), radius * (1 - share) ** (1 / 3)
    branches = [Branch(start, stop, (radius, 0.9 * radius), level, lobe)]
    branches += grow(stop, targets[order[:cut]], left, rng, lobe, level + 1)
    return branches + grow(stop, targets[order[cut:]], right, rng, lobe, level + 1)


def _targets(canvas: Canvas, lobe: str, count: int, rng: np.random.Generator) -> Array | None:
    """Points spread through a lobe, away from its surface."""
    flat = np.flatnonzero(canvas.labels == _ID[lobe])
    if len(flat) < 50:
        return None
    index = np.stack(np.unravel_index(rng.choice(flat, size=3 * count), canvas.shape), axis=1)
    points = canvas.world(index + rng.random(index.shape) - 0.5)
    if canvas.costal_depth is not None:
        depth = canvas.costal_depth[tuple(index.T)]
        points = points[depth > 4.0]
    return points[:count] if len(points) >= 8 else None


def lung_trees(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> dict[str, list[Branch]]:
    """Arteries, veins and bronchi of the five lobes, in world mm; not yet drawn.

    ``airway`` holds the bronchi that show in aerated lung, ``bronchus`` also the next two generations: they show as
    air bronchograms once the lung around them is airless.
    """
    trees: dict[str, list[Branch]] = {"artery": [], "vein": [], "airway": [], "bronchus": []}
    finer = float(np.clip(3.4 / canvas.soft, 0.8, 2.2)) ** 2  # thinner vessels where the grid can show them
    for lobe in LOBES:
        count = int({"right_middle_lobe": 60}.get(lobe, 120) * finer)
        roots = {
            "artery": plan.to_world(np.array(_LOBAR[lobe][2]) + [4 if "left" in lobe else -4, 5, 4])[0],
            "vein": plan.to_world(np.array(_LOBAR[lobe][2]) + [0, -12, -6])[0],
        }
        for kind, root in roots.items():
            targets = _targets(canvas, lobe, count, rng)
            if targets is not None:
                trees[kind] += grow(root, targets, 4.4 if kind == "artery" else 4.0, rng, lobe)
        offset = np.array([-3.5 if "left" in lobe else 3.5, 0.0, 2.5])
        bronchi = [
            Branch(b.start + offset, b.stop + offset, (0.62 * b.radius[0], 0.62 * b.radius[1]), b.level, lobe)
            for b in trees["artery"]
            if b.lobe == lobe and b.level <= 6
        ]
        trees["bronchus"] += bronchi
        trees["airway"] += [b for b in bronchi if b.level <= 4]
    return trees


def branch_points(branches: list[Branch], grain: float, extra: float = 0.0) -> tuple[Array, Array]:
    """Points and volumes (mm3) filling straight tapering segments, all at once; ``extra`` mm is added to the radius."""
    start, stop = np.array([b.start for b in branches]), np.array([b.stop for b in branches])
    radius = np.array([b.radius for b in branches]) + extra
    length = np.linalg.norm(stop - start, axis=1)
    count = np.maximum(2, np.ceil(length / grain)).astype(int)
    which = np.repeat(np.arange(len(branches)), count)
    t = (np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[which]
    r = radius[which, 0] * (1 - t) + radius[which, 1] * t
    direction = (stop - start)[which]
    # a gentle bow instead of a straight stick
    bow = np.cross(direction, np.roll(direction, 1, axis=1))
    bow *= (0.22 * length[which] / np.maximum(np.linalg.norm(bow, axis=1), 1e-6))[:, None]
    centre = start[which] + direction * t[:, None] + bow * (t * (1 - t))[:, None]
    unit = direction / np.maximum(length[which], 1e-6)[:, None]
    a = np.cross(unit, np.roll(unit, 1, axis=1) + 1e-3)
    a /= np.maximum(np.linalg.norm(a, axis=1), 1e-6)[:, None]
    b = np.cross(unit, a)
    # a disc of seven points is enough for lung vessels: the largest is three voxels wide
    angle = np.arange(7) * 2.399963
    rho = np.sqrt((np.arange(7) + 0.5) / 7)
    points = centre[:, None] + (r[:, None] * rho)[..., None] * (
        np.cos(angle)[:, None] * a[:, None] + np.sin(angle)[:, None] * b[:, None]
    )
    volume = np.repeat(np.pi * r**2 * length[which] / count[which] / 7.0, 7)
    return points.reshape(-1, 3), volume


def draw_lung_trees(canvas: Canvas, plan: BodyPlan, trees: dict[str, list[Branch]]) -> None:
    """Bronchial walls, then vessels, then lumens; only inside the lungs and the hila, labels stay."""
    grain = max(0.7, 0.6 * canvas.soft)
    for kind, hu in (("airway", -60.0), ("artery", plan.blood.right), ("vein", plan.blood.left)):
        if trees[kind]:
            points, volume = branch_points(trees[kind], grain, 0.9 if kind == "airway" else 0.0)
            canvas.draw(points, volume, min(hu, 250.0))
    wide = [b for b in trees["airway"] if b.radius[0] > 0.6]
    if wide:
        points, volume = branch_points(wide, grain)
        canvas.draw(points, volume, -980.0)
