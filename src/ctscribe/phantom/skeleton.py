"""Bones: spine, ribs with cartilage, sternum, scapulae, clavicles, humeral heads. Drawn as point clouds and fields."""

from __future__ import annotations

import numpy as np

from ctscribe.phantom.anatomy import REGION_NAMES, BodyPlan
from ctscribe.phantom.canvas import Array, Canvas, resample_line, smoothstep, tube_points

_ID = {name: key for key, name in REGION_NAMES.items()}
VERTEBRAE = tuple(f"T{k}" for k in range(1, 13)) + ("L1", "L2")
# Heights (body mm) of the middle of T1..L2: 20 mm pitch at the top to 30 mm at the bottom.
VERTEBRA_Z = (104 - np.concatenate([[0], np.cumsum(np.linspace(19.5, 29.0, 13))])).tolist()


def _cortical(rho: Array, shell: float, core: float) -> Array:
    return core + (shell - core) * smoothstep(rho, 0.62, 0.8)


def _tube(
    canvas: Canvas, plan: BodyPlan, body: Array, radius: Array | float, shell: float, core: float, label: str,
    flat: float = 1.0,
) -> Array:  # fmt: skip
    """Draw a bony tube along body points; returns its sampled centre line in world mm."""
    radii = np.broadcast_to(np.asarray(radius, float), (len(body),))
    line, r = resample_line(plan.to_world(body), radii, max(1.0, 0.6 * canvas.soft))
    bony_tube(canvas, line, r, (shell, core), label, flat)
    return line


def bony_tube(
    canvas: Canvas, line: Array, radii: Array, hu: tuple[float, float], label: str, flat: float = 1.0
) -> None:
    """Draw a shell of the first of ``hu`` around a core of the second along a sampled line (n, 3) in world mm."""
    grain = (0.55 if float(radii.max()) < 10.0 else 0.9) * canvas.soft
    points, volume, rho = tube_points(line, radii, max(0.8, grain), flat)
    canvas.draw(points, volume * 1.05, _cortical(rho, *hu), _ID[label])


def draw_skeleton(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> None:
    """All bones; leaves ``ribs`` (lines), ``vertebrae`` (world centres and half heights) in the landmarks."""
    _ribs(canvas, plan, rng)
    _shoulders(canvas, plan)
    _sternum(canvas, plan)
    _spine(canvas, plan, rng)


RIB_FLAT = 0.55  # a rib is this much thinner than it is high


def rib_radius(plan: BodyPlan, number: int) -> float:
    """Half the height of a rib, mm."""
    return (6.0 if number > 1 else 5.0) * (0.95 if plan.sex == "M" else 0.85)


def rib_hu(plan: BodyPlan) -> tuple[float, float]:
    """Hounsfield units of a rib's shell and of its marrow."""
    return 780.0 + plan.bone, 1.1 * plan.bone


def _ribs(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> None:
    lines: list[tuple[str, Array]] = []
    for number in range(1, 12):
        z0 = VERTEBRA_Z[number - 1] + 6.0
        drop = 22.0 if number == 1 else min(38.0 + 8.0 * number, 92.0)
        end = np.deg2rad({1: 165, 2: 155, 3: 152}.get(number, max(152 - 4.5 * (number - 3), 100)))
        for side in (-1, 1):
            theta = np.linspace(0.16, end, 14)
            # slants forwards and down: little behind, most at the flank
            z = z0 - drop * smoothstep(theta, 0.1, end * 1.02)
            body = plan.cage_point(side * theta, z, 5.5 if number > 1 else 3.0)
            body[0] = (side * 20.0, plan.spine_y(z0) + 6.0, z0)
            shell, core = rib_hu(plan)
            line = _tube(canvas, plan, body, rib_radius(plan, number), shell, core, "ribs", RIB_FLAT)
            lines.append((f"{'right' if side < 0 else 'left'} rib {number}", line))
            if 1 <= number <= 7:
                _cartilage(canvas, plan, body[-1], side, number)
    canvas.landmarks["ribs"] = lines


def _cartilage(canvas: Canvas, plan: BodyPlan, start: Array, side: int, number: int) -> None:
    z_end = 46.0 - 17.5 * (number - 1)
    _, depth, centre = plan.cage(z_end)
    stop = np.array([side * 15.0, float(centre - depth) - 5.0, z_end])
    middle = 0.5 * (start + stop) + np.array([side * 6.0, -4.0, -6.0])
    line, r = resample_line(plan.to_world(np.array([start, middle, stop])), np.full(3, 5.0), 0.6 * canvas.soft)
    points, volume, rho = tube_points(line, r, max(0.8, 0.6 * canvas.soft), 0.75)
    calcified = 90.0 + 2.0 * max(plan.age - 40, 0)
    canvas.draw(points, volume, np.where(rho > 0.8, 90.0 + calcified, 90.0), _ID["chest_wall"])


def _sheet(
    canvas: Canvas, plan: BodyPlan, corners: Array, thickness: float, shell: float, core: float, label: str
) -> None:
    """A bent plate: bilinear patch of body points (rows, columns, 3) with thickness."""
    rows, columns, _ = corners.shape
    u = np.linspace(0, rows - 1, max(8, int(220 / canvas.soft)))
    v = np.linspace(0, columns - 1, max(6, int(110 / canvas.soft)))
    i, j = np.minimum(u.astype(int), rows - 2), np.minimum(v.astype(int), columns - 2)
    fu, fv = (u - i)[:, None, None], (v - j)[None, :, None]
    patch = (
        corners[i][:, j] * (1 - fu) * (1 - fv) + corners[i + 1][:, j] * fu * (1 - fv)
        + corners[i][:, j + 1] * (1 - fu) * fv + corners[i + 1][:, j + 1] * fu * fv
    )  # fmt: skip
    du, dv = np.gradient(patch, axis=0), np.gradient(patch, axis=1)
    normal = np.cross(du, dv)
    area = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal /= np.maximum(area, 1e-6)
    layers = np.linspace(-0.5, 0.5, max(3, int(np.ceil(2 * thickness / canvas.soft))))
    points = np.concatenate([(patch + normal * thickness * k).reshape(-1, 3) for k in layers])
    volume = np.tile(area.reshape(-1) * thickness / len(layers), len(layers)) * float(np.prod(plan.scale))
    value = np.repeat(np.where(np.abs(layers) > 0.3, shell, core), patch.shape[0] * patch.shape[1])
    canvas.draw(plan.to_world(points), volume, value, _ID[label])


def _sternum(canvas: Canvas, plan: BodyPlan) -> None:
    z = np.array([56.0, 40.0, 18.0, -20.0, -62.0, -78.0])
    width = np.array([24.0, 24.0, 15.0, 17.0, 18.0, 5.0])
    _, depth, centre = plan.cage(z)
    y = centre - depth - 8.0
    x = np.linspace(-1, 1, 5)
    corners = np.stack([width[:, None] * x, np.repeat(y[:, None], 5, 1), np.repeat(z[:, None], 5, 1)], axis=-1)
    _sheet(canvas, plan, corners, 10.0, 480.0 + 0.6 * plan.bone, plan.bone * 0.8, "chest_wall")
    canvas.landmarks["sternum"] = plan.to_world(np.stack([np.zeros(6), y, z], axis=-1))


def _shoulders(canvas: Canvas, plan: BodyPlan) -> None:
    for side in (-1, 1):
        height = np.array([92.0, 70.0, 40.0, 5.0, -18.0])
        inner, outer = np.array([0.62, 0.6, 0.62, 0.72, 0.9]), np.array([1.5, 1.4, 1.2, 1.05, 1.0])
        rows = [
            plan.cage_point(side * np.linspace(a, b, 4), np.full(4, z), 21.0 + 6.0 * float(smoothstep(z, 0.0, 90.0)))
            for a, b, z in zip(inner, outer, height, strict=True)
        ]
        _sheet(canvas, plan, np.stack(rows), 4.5, 600.0 + plan.bone, 320.0, "chest_wall")
        glenoid = rows[0][-1] + np.array([side * 10.0, -6.0, 8.0])
        spine = np.array([rows[1][0] + [0, 9, 0], rows[1][2] + [0, 16, 8], glenoid + [side * 6, 6, 14]])
        _tube(canvas, plan, spine, 5.0, 750.0, 350.0, "chest_wall", 0.7)
        head = np.array([glenoid + [side * 14, -6, 4], glenoid + [side * 30, -8, 10]])
        _tube(canvas, plan, head, 21.0, 750.0, plan.bone, "chest_wall")
        _, depth, centre = plan.cage(54.0)
        start = np.array([side * 20.0, float(centre - depth) - 8.0, 60.0])
        middle = np.array([side * 70.0, float(centre - depth) + 2.0, 84.0])
        bend = np.array([side * 118.0, 8.0, 104.0])
        _tube(canvas, plan, np.array([start, middle, bend]), 6.0, 900.0, 300.0, "chest_wall", 0.8)


def _spine(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> None:
    centres = []
    for number, z in enumerate(VERTEBRA_Z):
        y = float(plan.spine_y(z))
        pitch = VERTEBRA_Z[number] - VERTEBRA_Z[number + 1] if number + 1 < len(VERTEBRA_Z) else 29.0
        width = 14.0 + 0.6 * number
        middle = plan.to_world(np.array([[0.0, y, z]]))[0]
        half = 0.5 * (pitch - 4.5) * plan.scale[2]
        # posterior elements
        s = 1.0 if number < 9 else 0.6
        spinous = np.array([[0, y + 34, z - 6], [0, y + 44, z - 12 * s], [0, y + 58, z - 24 * s]])
        _tube(canvas, plan, spinous, np.array([5.0, 4.0, 4.5]), 620.0, plan.bone, "spine", 0.7)
        for side in (-1, 1):
            arch = np.array([[side * 13, y + 12, z + 3], [side * 15, y + 24, z], [0, y + 35, z - 5]])
            _tube(canvas, plan, arch, 5.0, 620.0, plan.bone, "spine")
            process = np.array([[side * 15, y + 22, z + 1], [side * 33, y + 32, z + 5]])
            _tube(canvas, plan, process, 4.5, 560.0, plan.bone, "spine")
        _vertebra(canvas, plan, rng, middle, (width, 0.82 * width + 1.0, half), plan.wedges.get(number, 0.0))
        centres.append((VERTEBRAE[number], middle, half, width))
    canvas.landmarks["vertebrae"] = centres


def _vertebra(
    canvas: Canvas, plan: BodyPlan, rng: np.random.Generator, middle: Array, axes: tuple[float, float, float],
    wedge: float,
) -> None:  # fmt: skip
    """One body with its disc: waisted ellipse, dense shell and end plates; ``wedge`` is the loss of height in front."""
    wx, wy, half = axes
    box = canvas.box(middle, (wx + 8, wy + 24, half + 6))
    if min(s.stop - s.start for s in box) == 0:
        return
    x, y, z = (v - m for v, m in zip(canvas.coords(box), middle.tolist(), strict=True))
    front = np.clip(0.62 - 0.5 * y / wy, 0.12, 1.0)  # 1 in front, little behind
    top = half * (1.0 - 2.0 * wedge * front)
    bulge = 1.0 + 0.08 * (z / half) ** 2 + 0.10 * wedge
    ring = (np.sqrt((x / wx) ** 2 + (y / wy) ** 2) / bulge - 1.0) * wy
    disc = np.maximum(ring, np.abs(z) - half - 5.0)
    canvas.paint(box, canvas.occupancy(disc), 85.0)
    plates = np.maximum(z - top, -half * (1 - 0.25 * wedge) - z)
    inside = np.maximum(ring, plates)
    core = plan.bone * (1.0 + 1.6 * wedge)
    value = core + 420.0 * np.exp(-((np.minimum(-ring, -plates) / 2.2) ** 2)) * (inside < 2.0)
    canvas.paint(box, canvas.occupancy(inside), value)
    label = canvas.labels[box]
    label[np.maximum(ring, np.abs(z) - half - 3.0) < 0] = _ID["spine"]
    canal = np.hypot(x / 9.5, (y - wy - 8.5) / 8.0) - 1.0
    canal = np.maximum(canal * 8.5, np.abs(z) - half - 3.0)
    canvas.paint(box, canvas.occupancy(canal), 18.0)
    label[canal < 0] = _ID["spine"]
