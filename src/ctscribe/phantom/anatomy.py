"""Who is scanned: habitus, phase of contrast and the size of each organ, drawn once from the seed.

Body coordinates are mm in a standard adult: x to the left, y back, z up, origin at the carina's height in the
mid-line. A study scales, turns, shifts and gently warps them into world coordinates, so two people never share a
shape although they share the tables below. The numbers in the tables were set by eye and by ruler on adult CT:
cage 270 x 195 mm, aorta 30/24 mm, pulmonary trunk 26 mm, trachea 17 mm, dome of the right diaphragm 10 cm below
the carina.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import map_coordinates

from ctscribe.phantom.canvas import Array, interpolate, spline_matrix

REGION_NAMES: dict[int, str] = {
    1: "chest_wall",
    2: "right_upper_lobe",
    3: "right_middle_lobe",
    4: "right_lower_lobe",
    5: "left_upper_lobe",
    6: "left_lower_lobe",
    7: "trachea",
    8: "right_main_bronchus",
    9: "left_main_bronchus",
    10: "mediastinum",
    11: "heart",
    12: "pericardium",
    13: "aorta",
    14: "pulmonary_artery",
    15: "oesophagus",
    16: "right_pleura",
    17: "left_pleura",
    18: "diaphragm",
    19: "ribs",
    20: "spine",
    21: "breast",
    22: "thyroid",
    23: "upper_abdomen",
}
LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")

# Rib cage, inner surface: height, half width, half depth, centre of depth (body mm).
_CAGE = np.array(
    [
        (150, 70, 50, 16),
        (120, 82, 55, 16),
        (80, 95, 63, 14),
        (50, 110, 74, 10),
        (20, 122, 84, 5),
        (-30, 131, 93, 0),
        (-90, 136, 97, 0),
        (-150, 135, 96, 0),
        (-200, 130, 92, 0),
        (-260, 124, 88, 0),
    ],
    np.float32,
)[::-1]

_SQUARE = 0.18  # 0 is an ellipse, 1 a rectangle

# Blood by contrast phase: venous return (SVC), right heart and pulmonary artery, left heart and aorta,
# myocardium, liver, spleen, kidney. Typical thoracic protocols; HU.
_PHASES = {
    "none": (42, 42, 42, 44, 58, 50, 33),
    "pulmonary_arterial": (420, 380, 180, 75, 62, 75, 60),
    "arterial": (200, 220, 330, 95, 70, 110, 130),
    "venous": (150, 145, 148, 100, 108, 118, 170),
}


@dataclass(frozen=True)
class Blood:
    """HU of blood and organs in the drawn contrast phase."""

    vein: float
    right: float
    left: float
    myocardium: float
    liver: float
    spleen: float
    kidney: float


@dataclass
class BodyPlan:
    """Everything about the patient that is decided before drawing. All lengths in mm.

    Disease that changes anatomy rather than adding to it is set here: ``heart_scale``, ``aneurysm`` (diameter),
    ``trunk`` (pulmonary trunk diameter), ``pericardial_fluid`` (thickness), ``collapsed`` (lobe), ``wedges``
    (vertebra -> loss of height), ``stenosis`` (airway -> remaining fraction of the radius).
    """

    sex: str
    age: int
    scale: tuple[float, float, float]
    fat: float
    muscle: float
    phase: str
    blood: Blood
    lung_hu: float
    dome: float
    rotation: float
    shift: tuple[float, float, float]
    warp: Array
    bone: float
    heart_scale: float = 1.0
    aneurysm: tuple[str, float] | None = None
    trunk: float = 25.0
    pericardial_fluid: float = 0.0
    collapsed: str | None = None
    wedges: dict[int, float] = field(default_factory=dict)
    stenosis: dict[str, float] = field(default_factory=dict)
    hernia: float = 0.0
    breast: float = 0.0
    fissure_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    _WARP_STEP = 45.0
    _WARP_START = -360.0
    _WARP_COUNT = 17

    def _matrix(self) -> Array:
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])

    def _displacement(self, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
        w = [spline_matrix(line, self._WARP_START, self._WARP_STEP, self._WARP_COUNT) for line in (z, y, x)]
        return tuple(interpolate(self.warp[k], *w) for k in range(3))  # type: ignore[return-value]

    def body_coords(self, z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
        """World axes -> body coordinate arrays (x, y, z), each float32 (z, y, x)."""
        dx, dy, dz = self._displacement(z, y, x)
        c, s = np.float32(np.cos(self.rotation)), np.float32(np.sin(self.rotation))
        px = (x - self.shift[0]).astype(np.float32)[None, None, :]
        py = (y - self.shift[1]).astype(np.float32)[None, :, None]
        pz = (z - self.shift[2]).astype(np.float32)[:, None, None]
        sx, sy, sz = self.scale
        dx += (c * px + s * py) / sx
        dy += (c * py - s * px) / sy
        dz += pz / sz
        return dx, dy, dz

    def to_world(self, body: Array) -> Array:
        """Body points (n, 3) -> world points (n, 3); inverts the warp by fixed-point iteration."""
        body = np.atleast_2d(np.asarray(body, float))
        inverse = np.linalg.inv(self._matrix())
        target = body.copy()
        for _ in range(2):
            world = (target * np.asarray(self.scale)) @ inverse.T + np.asarray(self.shift)
            at = ((world - self._WARP_START) / self._WARP_STEP).T[::-1]
            moved = np.stack(
                [map_coordinates(self.warp[k], at, order=3, mode="constant", prefilter=False) for k in range(3)],
                axis=1,
            )
            target = body - moved
        return (target * np.asarray(self.scale)) @ inverse.T + np.asarray(self.shift)

    @staticmethod
    def cage(z: Array | float) -> tuple[Array, Array, Array]:
        """Half width, half depth and centre of depth of the inner rib cage at body height ``z``."""
        return tuple(np.asarray(np.interp(z, _CAGE[:, 0], _CAGE[:, k]), np.float32) for k in (1, 2, 3))  # type: ignore

    @classmethod
    def spine_y(cls, z: Array | float) -> Array:
        """Depth of the middle of the vertebral bodies at body height ``z``."""
        _, depth, centre = cls.cage(z)
        return np.asarray(centre + depth - 35.0)

    def cage_point(self, theta: Array, z: Array, outward: Array | float = 0.0) -> Array:
        """Body points on the cage; ``theta`` rad from straight back (0) over left (+pi/2) to the front (pi)."""
        a, b, yc = self.cage(z)
        u, v = np.sin(theta), np.cos(theta)
        # x^2 + y^2 - q x^2 y^2 = 1 on a ray of direction (u, v): the same rounded square as `squircle`.
        q = _SQUARE * u * u * v * v
        r2 = 2.0 / (1.0 + np.sqrt(np.maximum(1.0 - 4.0 * q, 0.0)))
        r = np.sqrt(r2)
        y = (b + outward) * r * v
        x = (a + outward) * r * u * taper(y / b)
        return np.stack([x, yc + y, np.broadcast_to(z, u.shape)], axis=-1)


def taper(y: Array) -> Array:
    """Relative width of the cage at relative depth ``y`` (-1 front, 1 back): narrower in front."""
    return 1.0 + 0.09 * np.clip(y, -1.0, 1.0)


def squircle(x: Array, y: Array, half_x: Array, half_y: Array) -> Array:
    """Approximate signed distance (mm) of a rounded rectangle x^2 + y^2 - q x^2 y^2 = 1."""
    # beyond the clip the formula would fold back on itself
    u, v = np.minimum((x / half_x) ** 2, 5.0), np.minimum((y / half_y) ** 2, 5.0)
    return (np.sqrt(np.maximum(u + v - _SQUARE * u * v, 1e-6)) - 1.0) * np.minimum(half_x, half_y)


def sample_plan(rng: np.random.Generator, rotation_deg: float, shift: tuple[float, float, float]) -> BodyPlan:
    """Draw a patient."""
    sex = "F" if rng.random() < 0.48 else "M"
    age = int(np.clip(rng.normal(58, 16), 20, 92))
    size = rng.normal(0.93 if sex == "F" else 1.0, 0.035)
    scale = tuple(float(np.clip(size * rng.normal(1, s), 0.84, 1.08)) for s in (0.03, 0.035, 0.03))
    fat = float(np.clip(rng.gamma(3.0, 5.5) + (4 if sex == "F" else 0), 4, 38))
    phase = str(rng.choice(list(_PHASES), p=[0.55, 0.1, 0.12, 0.23]))
    values = np.asarray(_PHASES[phase], float)
    values[:3] *= rng.normal(1, 0.06)
    values[4] -= 25.0 * (rng.random() < 0.2)  # steatosis
    warp = rng.standard_normal((3, 17, 17, 17)) * np.array([9.0, 8.0, 8.0])[:, None, None, None]
    return BodyPlan(
        sex=sex,
        age=age,
        scale=scale,  # type: ignore[arg-type]
        fat=fat,
        muscle=float(rng.normal(1.0 if sex == "M" else 0.8, 0.12)),
        phase=phase,
        blood=Blood(*values.tolist()),
        lung_hu=float(rng.normal(-862, 18)),
        dome=float(rng.normal(-98, 9)),
        rotation=float(np.deg2rad(rotation_deg)),
        shift=shift,
        warp=warp.astype(np.float32),
        bone=float(np.clip(240 - 2.0 * (age - 30) + rng.normal(0, 25), 70, 300)),
        heart_scale=float(rng.normal(0.95, 0.035)),
        trunk=float(rng.normal(24.5, 1.5)),
        breast=float(np.clip(rng.normal(22, 10) + 0.4 * fat, 8, 48)) if sex == "F" else 0.0,
        fissure_shift=tuple(rng.normal(0, 6, 3).tolist()),
    )
