"""Soft parts drawn as fields: body wall, lungs with lobes, mediastinum, heart, diaphragm, upper abdomen, table."""

from __future__ import annotations

from copy import copy

import numpy as np

from ctscribe.phantom.anatomy import REGION_NAMES, BodyPlan, squircle, taper
from ctscribe.phantom.canvas import Array, Box, Canvas, smoothstep

_ID = {name: key for key, name in REGION_NAMES.items()}
_SLAB_VOXELS = 1_200_000
HEART_CENTRE = (20.0, -26.0, -66.0)
_HEART_AXIS = (
    np.array([0.74, -0.42, -0.53]) / np.linalg.norm([0.74, -0.42, -0.53])
).tolist()  # python floats keep float32
# Chambers: offset from the heart's centre, semi-axes (body mm), which blood they hold.
_CHAMBERS = (
    ((20, 2, -8), (31, 23, 27), "left"),
    ((-4, -27, -6), (36, 14, 27), "right"),
    ((-6, 27, 20), (27, 17, 20), "left"),
    ((-35, -2, 2), (18, 24, 27), "right"),
)


def draw_organs(canvas: Canvas, plan: BodyPlan, seed: tuple[int, ...]) -> Array:
    """All soft parts, a slab of slices at a time so that the working set stays in the cache on native grids.

    Returns mm of depth below the inner chest wall, float32 (z, y, x).
    """
    depth = np.empty(canvas.shape, np.float32)
    slices = max(1, int(_SLAB_VOXELS / (canvas.shape[1] * canvas.shape[2])))
    collapsed = []
    for start in range(0, canvas.shape[0], slices):
        slab = Organs(plan, canvas, seed, slice(start, min(start + slices, canvas.shape[0])))
        depth[slab.box[0]] = slab.draw()
        collapsed.append(slab.collapsed)
    if plan.collapsed is not None:
        canvas.landmarks["collapse"] = np.concatenate([part for part in collapsed if part is not None])
        canvas.landmarks["collapsed_lobe"] = plan.collapsed
    draw_table(canvas, plan)
    return depth


class Organs:
    """Draws every soft part on some slices, back to front."""

    def __init__(self, plan: BodyPlan, canvas: Canvas, seed: tuple[int, ...], slices: slice) -> None:
        self.plan, self.canvas, self.seed = plan, canvas, seed
        self.box: Box = (slices, *canvas.full[1:])
        self.x, self.y, self.z = plan.body_coords(*(canvas.axis(k, self.box) for k in range(3)))
        line = (canvas.axis(0, self.box) - plan.shift[2]) / plan.scale[2]
        self.zl = line[:, None, None]
        self.at: Box = canvas.full  # where this box lies in the one it was cut from
        self.collapsed: Array | None = None

    def draw(self) -> Array:
        """Everything, back to front. Returns mm of depth below the inner chest wall, (z, y, x) float32."""
        p = self.plan
        a, b, yc = (v[:, None, None] for v in p.cage(self.zl[:, 0, 0]))
        y = self.y - yc
        a = a * taper(y / b)
        cage = squircle(self.x, y, a, b)
        self._wall(cage, a, b, y)
        inner = self._part((-164.0, -124.0, -500.0), (164.0, 124.0, 500.0))
        inner._inside(cage[inner.at])
        if inner.collapsed is not None:
            self.collapsed = np.zeros(cage.shape, bool)
            self.collapsed[inner.at] = inner.collapsed
        return -cage * float(np.mean(p.scale[:2]))

    def _noise(self, scale: float, key: int) -> Array:
        """Noise over the current box; the same ``key`` gives the same pattern in every slab."""
        return self.canvas.noise(np.random.default_rng([*self.seed, key]), self.box, scale, anchored=True)

    def _part(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Organs:
        """The same organs on the box around a range of body coordinates (x, y, z), with room for the warp."""
        p, c = self.plan, self.canvas
        corners = np.array([[a, b, z] for a in (low[0], high[0]) for b in (low[1], high[1]) for z in (low[2], high[2])])
        world = p.to_world(corners)
        middle, half = 0.5 * (world.min(axis=0) + world.max(axis=0)), 0.5 * np.ptp(world, axis=0) + 9.0
        part = copy(self)
        part.box = c.box(middle, half)
        at = part.at = _relative(part.box, self.box)
        part.box = _absolute(at, self.box)
        part.x, part.y, part.z = self.x[at], self.y[at], self.z[at]
        part.zl = self.zl[at[0]]
        return part

    def _fill(self, distance: Array, hu: Array | float, label: str | None) -> None:
        c = self.canvas
        c.paint(self.box, c.occupancy(distance), hu)
        if label is not None:
            c.labels[self.box][distance < 0] = _ID[label]

    def _wall(self, cage: Array, a: Array, b: Array, y: Array) -> None:
        """Skin, fat, muscle, breast."""
        p, c, x, z = self.plan, self.canvas, self.x, self.zl
        fat = p.fat
        # Behind there is muscle beside the spine, so the back stands further from the cage than the front.
        top = smoothstep(z, 45.0, 105.0)
        half_x = a + 24.0 * p.muscle + 0.8 * fat + 52.0 * top
        half_y = b + 21.0 * p.muscle + 0.55 * fat - 2.0 * top
        skin = squircle(x, y - 6.0 - 2.0 * top, half_x, half_y)
        if p.sex == "F":
            skin = np.minimum(skin, self._breast(b, y))
        texture = self._noise(28.0, 1)
        self._fill(skin, -105.0 + 5.0 * texture, "chest_wall")
        c.paint(self.box, c.occupancy(np.abs(skin + 1.2) - 1.2), 5.0)
        if p.sex == "F":
            self._gland(b, y, skin)
        thick = self._muscle_thickness(y) + 2.5 * texture
        muscle = np.maximum(cage - thick, skin + 2.5 + 0.25 * fat)
        self._fill(muscle, 52.0 + 6.0 * texture, None)
        # A fat plane between the ribs' muscles and the outer ones.
        plane = np.maximum(np.abs(cage - 13.0 - 2.5 * texture) - 1.3, muscle + 5.0)
        c.paint(self.box, 0.75 * c.occupancy(plane), -90.0)

    def _breast(self, b: Array, y: Array) -> Array:
        s = self.plan.breast
        dx = (np.abs(self.x) - 82.0) / (60.0 + 0.3 * s)
        dy = (y + b - 2.0) / (30.0 + 0.75 * s)
        dz = (self.zl + 40.0) / (62.0 + 0.4 * s)
        return (np.sqrt(dx * dx + dy * dy + dz * dz) - 1.0) * (24.0 + 0.5 * s)

    def _gland(self, b: Array, y: Array, skin: Array) -> None:
        s, c = self.plan.breast, self.canvas
        dx = (np.abs(self.x) - 84.0) / (40.0 + 0.25 * s)
        dy = (y + b + 20.0 + 0.22 * s) / (8.0 + 0.4 * s)
        dz = (self.zl + 44.0) / (42.0 + 0.3 * s)
        r = dx * dx + dy * dy + dz * dz
        strands = self._noise(9.0, 2)
        inside = np.maximum(np.sqrt(r) - 1.0, -(y + b + 12.0) * -0.02)
        dense = smoothstep(strands - 0.02 * (self.plan.age - 50), -0.3, 0.9) * c.occupancy(inside * 14.0)
        c.paint(self.box, dense * (skin < -3.0), 25.0)
        breast = (skin < 0) & (y + b + 22.0 < 0) & (np.abs(self.x) > 12) & (np.abs(self.zl + 38.0) < 55.0 + 0.3 * s)
        c.labels[self.box][breast] = _ID["breast"]

    def _muscle_thickness(self, y: Array) -> Array:
        x, z, m = np.abs(self.x), self.zl, self.plan.muscle
        front, back = smoothstep(y, -5.0, -45.0), smoothstep(y, 20.0, 60.0)
        pectoral = 17.0 * front * np.exp(-(((x - 62.0) / 48.0) ** 2)) * np.exp(-(((z - 18.0) / 42.0) ** 2))
        erector = 24.0 * back * np.exp(-(((x - 26.0) / 24.0) ** 2))
        lateral = 15.0 * smoothstep(x, 60.0, 105.0) * smoothstep(y, -40.0, 25.0) * smoothstep(z, -130.0, -20.0)
        shoulder = 34.0 * smoothstep(z, 40.0, 95.0) * smoothstep(x, 40.0, 100.0)
        neck = 12.0 * smoothstep(z, 80.0, 120.0)
        return m * (13.0 + pectoral + erector + lateral + shoulder + neck)

    # ---- inside the cage -------------------------------------------------------------------------------------

    def _inside(self, cage: Array) -> None:
        p, c, x, y, z = self.plan, self.canvas, self.x, self.y, self.z
        texture = self._noise(14.0, 3)
        soft_top = 95.0 * smoothstep(z, 62.0, 100.0)  # thoracic inlet: more muscle than fat
        self._fill(cage, -92.0 + soft_top + 10.0 * texture, "mediastinum")
        below = self._diaphragm() - z
        abdomen = np.maximum(cage + 1.0, -below * 0.9)
        heart = self._heart_distance()[0]
        spine_y = p.spine_y(self.zl)
        spine = np.hypot(x, (y - spine_y) * 0.9) - 21.0
        side = self._mediastinal_width(y)
        middle = np.minimum(np.minimum(np.abs(x) - side, heart - 3.0 - p.pericardial_fluid), spine)
        middle = np.minimum(middle, np.abs(x) - (9.0 + 13.0 * smoothstep(y - spine_y, -8.0, 12.0)))
        apex = 92.0 - 62.0 * ((np.abs(x) - 50.0) / 50.0) ** 2 - 50.0 * ((y - 14.0) / 55.0) ** 2
        lung = np.maximum(np.maximum(cage + 1.0, -middle), np.maximum((z - apex) * 0.55, below * 0.8 + 2.5))
        bottom = self._part((-150, -120, -300), (150, 120, p.dome + 12.0))
        bottom._abdomen(abdomen[bottom.at], below[bottom.at], spine[bottom.at])
        self._lungs(lung)
        r = 62.0 * p.heart_scale + p.pericardial_fluid + 8.0
        x0, y0, z0 = self._heart_centre()
        chest = self._part((x0 - r, y0 - r, z0 - r), (x0 + r, y0 + r, z0 + r))
        chest._heart(below[chest.at])
        rim = (lung > 0) & (lung < 3.4) & (cage > -2.4) & (cage < 3.4) & (below < 4.0)
        c.labels[self.box][rim & (x < 0)] = _ID["right_pleura"]
        c.labels[self.box][rim & (x >= 0)] = _ID["left_pleura"]

    def _mediastinal_width(self, y: Array) -> Array:
        """Half width of the central band: thin behind the sternum, wider around the vessels."""
        z = self.zl
        wide = (
            24.0 + 4.0 * smoothstep(z, 0.0, 30.0) - 5.0 * smoothstep(z, 45.0, 80.0) - 9.0 * smoothstep(z, -40.0, -90.0)
        )
        return 4.0 + wide * smoothstep(y, -78.0, -48.0)

    def _diaphragm(self) -> Array:
        p, x, y = self.plan, self.x, self.y
        front = np.where(y < -5.0, 0.55, 1.0)
        bow = ((y + 5.0) / 78.0) ** 2 * front
        right = p.dome - 62.0 * ((x + 62.0) / 74.0) ** 2 - 62.0 * bow
        left = p.dome - 13.0 - 62.0 * ((x - 68.0) / 68.0) ** 2 - 62.0 * bow
        centre = p.dome - 14.0 - 30.0 * ((x - 8.0) / 52.0) ** 2 - 40.0 * np.clip((y + 20.0) / 50.0, 0, None) ** 2
        return np.maximum(np.maximum(right, left), centre)

    def _lungs(self, lung: Array) -> None:
        p, c, x, y, z = self.plan, self.canvas, self.x, self.y, self.z
        texture = self._noise(22.0, 4)
        fine = self._noise(4.5, 5)
        gravity = 32.0 * (y + 10.0) / 90.0
        self._fill(lung, p.lung_hu + gravity + 11.0 * texture + fine * (15.0 + 8.0 * fine), None)
        inside = lung < 0
        right, f = x < 0, p.fissure_shift
        bend = 8.0 * texture * 0.3
        oblique_r = z - (-28.0 + f[0] + 1.05 * y + 0.0016 * (x + 70.0) ** 2 + bend)
        oblique_l = z - (-18.0 + f[1] + 1.10 * y + 0.0016 * (x - 70.0) ** 2 + bend)
        horizontal = z - (-34.0 + f[2] - 0.12 * (np.abs(x) - 40.0) - 0.001 * (y + 40.0) ** 2 + bend)
        if p.collapsed is not None:
            oblique_r, oblique_l, horizontal = self._collapse(oblique_r, oblique_l, horizontal, texture, lung)
        upper_r = (oblique_r > 0) & (horizontal > 0)
        labels = np.where(
            right,
            np.where(oblique_r <= 0, _ID["right_lower_lobe"], np.where(upper_r, _ID["right_upper_lobe"], 3)),
            np.where(oblique_l <= 0, _ID["left_lower_lobe"], _ID["left_upper_lobe"]),
        ).astype(np.uint8)
        c.labels[self.box][inside] = labels[inside]
        line = np.where(right, np.abs(oblique_r), np.abs(oblique_l)) * 0.69
        minor = np.where(right & (oblique_r > 0), np.abs(horizontal), 99.0)
        width = 0.75 * c.soft
        # 0.7 mm of tissue, spread over the voxel it falls in
        line = np.exp(-((np.minimum(line, minor) / width) ** 2)) * min(1.0, 0.7 / (1.77 * width))
        c.paint(self.box, line * c.occupancy(lung + 1.0), -250.0)

    def _collapse(
        self, right: Array, left: Array, horizontal: Array, texture: Array, lung: Array
    ) -> tuple[Array, Array, Array]:
        """Lobar atelectasis: the fissure moves, the small lobe is airless."""
        p, c, x = self.plan, self.canvas, self.x
        if p.collapsed == "right_lower_lobe":
            right = right + 48.0 + 0.55 * np.clip(-x - 35.0, 0, None)
            airless = np.where(x < 0, right, 99.0)
        elif p.collapsed == "left_lower_lobe":
            left = left + 48.0 + 0.55 * np.clip(x - 35.0, 0, None)
            airless = np.where(x >= 0, left, 99.0)
        elif p.collapsed == "right_middle_lobe":
            horizontal = horizontal + 30.0
            airless = np.where(x < 0, np.maximum(-right, horizontal), 99.0)
        elif p.collapsed == "right_upper_lobe":
            horizontal = horizontal - 52.0 - 0.25 * np.clip(-x - 40.0, 0, None)
            airless = np.where(x < 0, np.maximum(-right, -horizontal), 99.0)
        else:
            left = left - 40.0
            airless = np.where(x >= 0, -left, 99.0)
        distance = np.maximum(airless * 0.7, lung - c.soft)
        c.paint(self.box, c.occupancy(distance), 32.0 + 12.0 * texture)
        self.collapsed = (airless < 0) & (lung < 0)
        return right, left, horizontal

    def _heart_centre(self) -> tuple[float, float, float]:
        """A bigger heart moves to the left and rests on the diaphragm."""
        p = self.plan
        x, y, z = HEART_CENTRE
        grown = 4.0 * (p.heart_scale - 1.0)
        return x + 9.0 * grown, y, max(z - 2.0 * grown, p.dome + 38.0 * min(p.heart_scale, 1.2) - 6.0)

    def _heart_distance(self) -> tuple[Array, tuple[Array, Array, Array]]:
        s = self.plan.heart_scale
        centre = self._heart_centre()
        x, y, z = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        along = x * _HEART_AXIS[0] + y * _HEART_AXIS[1] + z * _HEART_AXIS[2]
        r2 = x * x + y * y + z * z
        wide = 47.0 * s - 0.12 * along
        value = np.sqrt((along / (64.0 * s)) ** 2 + (r2 - along * along) / wide**2) - 1.0
        return value * 46.0 * s, (x / s, y / s, z / s)

    def _heart(self, below: Array) -> None:
        p = self.plan
        if not below.size:
            return
        heart, (x, y, z) = self._heart_distance()
        texture = self._noise(16.0, 6)
        above = below * 0.8 + 1.0
        sac = np.maximum(heart - 1.5 - p.pericardial_fluid, above)
        self._fill(sac, 14.0 if p.pericardial_fluid > 0 else 25.0, "pericardium")
        self._fill(np.maximum(heart, above), -85.0, "heart")
        # fat in the grooves varies; the muscle starts below it
        fat = 2.0 + 0.08 * p.fat + 2.5 * texture + 5.0 * np.exp(-(((x + 14.0) / 9.0) ** 2)) * (y < 0)
        muscle = np.maximum(heart + np.clip(fat, 0.5, 14.0), above + 1.5)
        self._fill(muscle, p.blood.myocardium, None)
        for offset, axes, side in _CHAMBERS:
            dx, dy, dz = ((v - o) / s for v, o, s in zip((x, y, z), offset, axes, strict=True))
            chamber = (np.sqrt(dx * dx + dy * dy + dz * dz) - 1.0) * min(axes)
            self._fill(np.maximum(chamber, muscle + 2.5), getattr(p.blood, side), None)

    # ---- below the diaphragm ----------------------------------------------------------------------------------

    def _abdomen(self, abdomen: Array, below: Array, spine: Array) -> None:
        p, c, x, y = self.plan, self.canvas, self.x, self.y
        if not abdomen.size:
            return
        texture = self._noise(18.0, 7)
        self._fill(abdomen, -100.0 + 6.0 * texture, "upper_abdomen")
        c.paint(self.box, c.occupancy(np.maximum(abdomen, below - 3.5)), 48.0)
        c.labels[self.box][(abdomen < 0) & (below < 3.5)] = _ID["diaphragm"]
        inner = np.maximum(abdomen + 3.0, 3.5 - below)
        edge = 2.0 + 48.0 * smoothstep(y, 5.0, -30.0) + 6.0 * texture
        liver = np.maximum(np.maximum(inner, (x - edge) * 0.8), 14.0 - spine)
        self._fill(liver, p.blood.liver + 3.0 * texture, None)
        r = np.random.default_rng([*self.seed, 90]).normal(1.0, 0.12, 8).clip(0.75, 1.3).tolist()
        self._blob(abdomen, below, (94, 42, p.dome - 48), (31 * r[0], 42 * r[1], 46 * r[2]), p.blood.spleen)
        self._stomach(abdomen, below, r)
        for cx, cz in ((63, p.dome - 116), (-66, p.dome - 128)):
            self._blob(abdomen, below, (cx, 52, cz), (26, 24, 50), p.blood.kidney)

    def _stomach(self, abdomen: Array, below: Array, r: list[float]) -> None:
        """Wall, fluid or food, and gas that lies in front because the patient is on the back."""
        p, c = self.plan, self.canvas
        centre, axes = (56, -22, p.dome - 44), (40 * r[3], 44 * r[4], 42 * r[5])
        part, stomach = self._blob(abdomen, below, centre, axes, 38.0)
        c.paint(part.box, c.occupancy(stomach + 4.0), 30.0 * r[6] - 6.0)
        ripple = 4.0 * part._noise(18.0, 8)
        gas = np.maximum(stomach + 4.0, part.y + 28.0 + 130.0 * (r[7] - 1.0) + ripple)
        c.paint(part.box, c.occupancy(gas), -960.0)

    def _blob(
        self, abdomen: Array, below: Array, centre: tuple[float, ...], axes: tuple[float, ...], hu: float
    ) -> tuple[Organs, Array]:
        """An ellipsoid under the diaphragm, cut off by it and by the ribs."""
        part = self._part(
            tuple(m - a for m, a in zip(centre, axes, strict=True)),  # type: ignore[arg-type]
            tuple(m + a for m, a in zip(centre, axes, strict=True)),  # type: ignore[arg-type]
        )
        abdomen, below = abdomen[part.at], below[part.at]
        dx, dy, dz = ((v - o) / s for v, o, s in zip((part.x, part.y, part.z), centre, axes, strict=True))
        shape = (np.sqrt(dx * dx + dy * dy + dz * dz) - 1.0) * min(axes)
        distance = np.maximum(np.maximum(shape, abdomen + 3.0), 3.5 - below)
        part._fill(distance, hu, None)
        return part, distance


def _relative(inner: Box, outer: Box) -> Box:
    """``inner`` cut to ``outer`` and counted from its corner."""
    z, y, x = (
        slice(min(max(a.start, b.start), b.stop) - b.start, max(min(a.stop, b.stop), b.start) - b.start)
        for a, b in zip(inner, outer, strict=True)
    )
    return z, y, x


def _absolute(inner: Box, outer: Box) -> Box:
    z, y, x = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(inner, outer, strict=True))
    return z, y, x


def draw_table(canvas: Canvas, plan: BodyPlan) -> None:
    """A curved couch under the back: two thin shells over foam."""
    x, y, _ = canvas.coords(canvas.full)
    _, depth, centre = plan.cage(-40.0)
    back = (float(depth + centre) + 27.0 * plan.muscle + 0.55 * plan.fat + 9.0) * plan.scale[1] + plan.shift[1]
    arc = y - back - 12.0 + (x - plan.shift[0]) ** 2 / 900.0
    empty = canvas.labels == 0
    shell = canvas.occupancy(np.abs(arc) - 1.2) + canvas.occupancy(np.abs(arc - 34.0) - 1.2)
    foam = canvas.occupancy(np.maximum(-arc, arc - 34.0))
    value = np.broadcast_to(-1000.0 + 60.0 * foam + 700.0 * np.minimum(shell, 1.0), canvas.shape)
    canvas.hu[empty] = np.maximum(canvas.hu, value)[empty]
