"""The machine: slice thickness, kernel, noise, motion, streaks, field of view."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ctscribe.phantom.canvas import Array, Canvas, smoothstep

_KERNELS = {"soft": 0.95, "medium": 0.6, "sharp": 0.35}


@dataclass(frozen=True)
class ScannerPrior:
    """Ranges the scanner is drawn from.

    Attributes:
        thickness: slice thicknesses in mm. kernels: names among soft, medium, sharp.
        noise: (low, high) standard deviation in HU of a 1 mm slice through soft tissue of a medium patient.
        rotation_deg: standard deviation of the patient's roll. shift_mm: of the position in x and y (z: twice that).
        motion, streaks, circle: probabilities of breathing or heart motion, of streaks at the shoulders, of a
            round field of view.
    """

    thickness: tuple[float, ...] = (0.7, 1.0, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0)
    kernels: tuple[str, ...] = ("soft", "medium", "medium", "sharp")
    noise: tuple[float, float] = (12.0, 48.0)
    rotation_deg: float = 2.5
    shift_mm: float = 6.0
    motion: float = 0.12
    streaks: float = 0.35
    circle: float = 0.7


@dataclass(frozen=True)
class Scanner:
    """One drawn machine setting; all mm, HU, degrees."""

    thickness: float
    kernel: str
    noise: float
    rotation_deg: float
    shift: tuple[float, float, float]
    motion: float
    streaks: float
    circle: bool

    def meta(self) -> dict[str, object]:
        return {f"scanner_{k}": v for k, v in asdict(self).items()}


def sample_scanner(rng: np.random.Generator, prior: ScannerPrior) -> Scanner:
    """Draw a machine setting."""
    return Scanner(
        thickness=float(rng.choice(prior.thickness)),
        kernel=str(rng.choice(prior.kernels)),
        noise=float(np.exp(rng.uniform(np.log(prior.noise[0]), np.log(prior.noise[1])))),
        rotation_deg=float(rng.normal(0, prior.rotation_deg)),
        shift=(
            float(rng.normal(0, prior.shift_mm)),
            float(rng.normal(0, prior.shift_mm)),
            float(rng.normal(0, 1.6 * prior.shift_mm)),
        ),
        motion=float(rng.uniform(1.5, 5.0)) if rng.random() < prior.motion else 0.0,
        streaks=float(rng.uniform(0.3, 1.0)) if rng.random() < prior.streaks else 0.0,
        circle=bool(rng.random() < prior.circle),
    )


def scan(canvas: Canvas, scanner: Scanner, rng: np.random.Generator, metal: list[tuple[float, float, float]]) -> Array:
    """Canvas -> int16 Hounsfield units (z, y, x), -1024..3071."""
    hu = canvas.hu
    if scanner.motion > 0:
        _move(hu, canvas, scanner.motion, rng)
    hu = _blur(hu, canvas.spacing, scanner)
    if metal:
        _metal(hu, canvas, metal, rng)
    if scanner.streaks > 0:
        _shoulder_streaks(hu, canvas, scanner.streaks, rng)
    hu += noise(canvas.shape, canvas.spacing, scanner, rng)
    if scanner.circle:
        x, y, _ = canvas.coords(canvas.full)
        cx, cy = float(x.mean()), float(y.mean())
        radius = 0.5 * max(np.ptp(x), np.ptp(y)) + canvas.spacing[2]
        outside = np.hypot(x - cx, y - cy)[0] > radius
        hu[:, outside] = -1024.0
    np.clip(hu, -1024.0, 3071.0, out=hu)
    return np.rint(hu).astype(np.int16)


def _blur(hu: Array, spacing: tuple[float, float, float], scanner: Scanner) -> Array:
    """Point spread in plane by kernel and along z by slice thickness; a sharp kernel overshoots at edges."""
    extra = np.sqrt(max(scanner.thickness**2 - spacing[0] ** 2, 0.0)) / 2.355 / spacing[0]
    if extra > 0.25:
        hu = gaussian_filter1d(hu, extra, axis=0, truncate=2.5)
    sigma = _KERNELS[scanner.kernel] / spacing[2]
    if sigma > 0.28:
        hu = gaussian_filter1d(gaussian_filter1d(hu, sigma, axis=1, truncate=2.5), sigma, axis=2, truncate=2.5)
    if scanner.kernel == "sharp":
        width = max(0.8 / spacing[2], 0.4)
        smooth = gaussian_filter1d(gaussian_filter1d(hu, width, axis=1, truncate=2.5), width, axis=2, truncate=2.5)
        hu = hu + 0.45 * (hu - smooth)
    return hu


def noise(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    scanner: Scanner,
    rng: np.random.Generator,
) -> Array:
    """Correlated quantum noise, float32: finer grain and more of it for thin slices and sharp kernels."""
    grain = {"soft": 1.5, "medium": 1.0, "sharp": 0.7}[scanner.kernel]
    level = scanner.noise * {"soft": 0.75, "medium": 1.0, "sharp": 1.6}[scanner.kernel]
    # averaging over thicker slices and bigger pixels lowers it by the root of the volume ratio
    thick = max(scanner.thickness, spacing[0])
    level /= np.sqrt(thick) * max(1.0, spacing[2] / (1.2 * grain))
    white = rng.standard_normal(shape, dtype=np.float32)
    sigma = 0.6 * grain / spacing[2]
    if sigma > 0.3:
        white = gaussian_filter1d(gaussian_filter1d(white, sigma, axis=1, truncate=2.5), sigma, axis=2, truncate=2.5)
        white /= max(float(white[shape[0] // 2].std()), 1e-6)
    along = max(scanner.thickness / spacing[0] / 2.355, 0.0)
    if along > 0.5:
        white = gaussian_filter1d(white, along, axis=0, truncate=2.5)
        white /= max(float(white[:, shape[1] // 2].std()), 1e-6)
    white *= np.float32(level)
    return white


def _move(hu: Array, canvas: Canvas, amount: float, rng: np.random.Generator) -> None:
    """A stretch of slices was taken while something moved: a shifted ghost is mixed in."""
    n = hu.shape[0]
    start = int(rng.integers(0, max(1, n // 2)))
    stop = min(n, start + max(2, int(rng.uniform(25, 80) / canvas.spacing[0])))
    shift = rng.uniform(-1, 1, 2) * amount / canvas.spacing[2]
    part = hu[start:stop]
    ghost = part
    for axis, s in ((1, float(shift[0])), (2, float(shift[1]))):
        whole = int(np.floor(s))
        rest = s - whole
        ghost = (1 - rest) * np.roll(ghost, whole, axis=axis) + rest * np.roll(ghost, whole + 1, axis=axis)
    hu[start:stop] = 0.6 * part + 0.4 * ghost


def _metal(hu: Array, canvas: Canvas, metal: list[tuple[float, float, float]], rng: np.random.Generator) -> None:
    """Bright and dark rays from dense metal, in its slices."""
    for point in metal:
        strength = float(rng.uniform(0.4, 1.0))
        box = canvas.box(np.asarray(point), (400.0, 400.0, 8.0))
        if min(s.stop - s.start for s in box) == 0:
            continue
        x, y, _ = (v - p for v, p in zip(canvas.coords(box), point, strict=True))
        r = np.hypot(x, y) + 4.0
        angle = np.arctan2(y, x)
        rays = np.zeros_like(r)
        for _ in range(6):
            count, phase = int(rng.integers(2, 9)), float(rng.uniform(0, 6.28))
            rays = rays + np.cos(count * angle + phase)
        hu[box] += (strength * 95.0) * rays * np.exp(-r / 40.0) * smoothstep(hu[box], -1010.0, -930.0)


def _shoulder_streaks(hu: Array, canvas: Canvas, strength: float, rng: np.random.Generator) -> None:
    """Photon starvation: horizontal streaks where the shoulders are."""
    z = canvas.axis(0)
    weight = smoothstep(z, 35.0, 80.0)
    top = np.flatnonzero(weight > 0.02)
    if not len(top):
        return
    rows = rng.standard_normal((len(top), hu.shape[1], 1), dtype=np.float32)
    slow = rng.standard_normal((len(top), hu.shape[1], 2), dtype=np.float32)
    x = np.linspace(-1, 1, hu.shape[2], dtype=np.float32)
    lines = rows + slow[..., :1] * x + slow[..., 1:] * x * x
    hu[top] += (15.0 * strength) * weight[top][:, None, None] * lines
