"""Spread-out lung disease: opacities, bands, holes, mosaics. Its nets are drawn by `lung_nets`."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ctscribe.phantom.canvas import Array, Box, smoothstep
from ctscribe.phantom.scene import (
    SEVERITY,
    Mark,
    Scene,
    choose_site,
    coverage,
    hilum,
    lighten,
    low_high,
    lump,
    lung_inside,
    mark,
    pick,
    point_in,
    solid,
    spill,
)
from ctscribe.phantom.trees import branch_points


def _blobs(
    scene: Scene, rng: np.random.Generator, leaf: tuple[str, ...], box: Box, count: int, size: tuple[float, float],
    depth: tuple[float, float] = (3.0, 1e9), bumps: float = 0.22,
) -> Array:  # fmt: skip
    """Occupancy of several irregular blobs inside leaf regions."""
    out = np.zeros(tuple(s.stop - s.start for s in box), np.float32)
    canvas = scene.canvas
    for k in range(count):
        centre = point_in(scene, rng, leaf[k % len(leaf)], depth)
        if centre is None:
            continue
        r = float(rng.uniform(*size))
        radii = (r, r * rng.uniform(0.6, 0.95), r * rng.uniform(0.7, 1.0))
        part, occupancy = solid(canvas, centre, 1.4 * r, lump(rng, radii, bumps))
        target, source = _overlap(box, part)
        out[target] = np.maximum(out[target], occupancy[source])
    return out


def ground_glass_opacity(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Hazy lung through which vessels stay visible."""
    kind = "ground_glass_opacity"
    distribution = pick(rng, kind, "distribution", (0.25, 0.3, 0.15, 0.3))
    weights = {
        "focal": (0.0, 0.0, 1.0, 0.0), "patchy": (0.5, 0.15, 0.2, 0.15),
        "diffuse": (0.75, 0.25, 0.0, 0.0), "peripheral": (0.6, 0.1, 0.2, 0.1),
    }[distribution]  # fmt: skip
    leaf, regions = choose_site(scene, rng, weights)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    if distribution == "focal":
        occupancy = _blobs(scene, rng, leaf, box, 1, (14.0, 28.0), (10.0, 1e9), 0.3) * inside
    elif distribution == "patchy":
        occupancy = coverage(canvas.noise(rng, box, 24.0), inside, rng.uniform(0.15, 0.35), 0.35)
    elif distribution == "diffuse":
        occupancy = inside * np.clip(0.75 + 0.18 * canvas.noise(rng, box, 35.0), 0.35, 1.0)
    else:
        rim = smoothstep(scene.depth(box), 30.0, 8.0)
        occupancy = coverage(canvas.noise(rng, box, 26.0) + 2.2 * rim, inside, rng.uniform(0.15, 0.3), 0.4) * rim
    level = rng.normal(-560, 35)
    texture = canvas.noise(rng, box, 6.0)
    lighten(canvas, box, occupancy.astype(np.float32) * 0.92, float(level) + 25.0 * texture)
    return mark(scene, kind, box, occupancy, regions, 0.4, attributes={"distribution": distribution})


def consolidation(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Airless lung with air bronchograms: blobs, a segment, a lobe."""
    kind = "consolidation"
    distribution = pick(rng, kind, "distribution", (0.25, 0.3, 0.25, 0.2))
    weights = {
        "focal": (0, 0, 1, 0), "patchy": (0.4, 0.15, 0.25, 0.2), "segmental": (0, 0, 0.85, 0.15), "lobar": (0, 0, 1, 0)
    }[distribution]  # fmt: skip
    prefer = {"right_lower_lobe": 2.0, "left_lower_lobe": 2.0}
    leaf, regions = choose_site(scene, rng, weights, prefer)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    if distribution == "focal":
        occupancy = _blobs(scene, rng, leaf, box, 1, (14.0, 25.0), (8.0, 1e9), 0.24) * inside
    elif distribution == "patchy":
        count = max(2, 2 * len(leaf))
        occupancy = _blobs(scene, rng, leaf, box, count, (10.0, 21.0), (3.0, 45.0), 0.26) * inside
    elif distribution == "segmental":
        occupancy = np.zeros(inside.shape, np.float32)
        for region in leaf:
            occupancy = np.maximum(occupancy, _wedge(scene, rng, region, box, rng.uniform(0.35, 0.5)) * inside)
    else:
        ragged = canvas.noise(rng, box, 25.0)
        occupancy = inside * np.clip(0.95 + 0.08 * ragged, 0.5, 1.0)
    texture = canvas.noise(rng, box, 9.0)
    occupancy = _ragged(scene, rng, box, occupancy, inside)
    before = canvas.hu[box].copy()
    lighten(canvas, box, occupancy, 30.0 + 12.0 * texture)
    spill(scene, box, occupancy, 20.0)
    _bronchograms(scene, leaf, box, occupancy, before, inside)
    return mark(scene, kind, box, occupancy, regions, 0.4, attributes={"distribution": distribution})


def _ragged(scene: Scene, rng: np.random.Generator, box: Box, occupancy: Array, inside: Array) -> Array:
    """Ill-defined edges: acini fill one by one, so that the border is fluffy; the pleura stays a sharp border."""
    sigma = [4.5 / s for s in scene.canvas.spacing]
    hazy = gaussian_filter(occupancy, sigma) / np.maximum(gaussian_filter(inside.astype(np.float32), sigma), 0.05)
    acini = scene.canvas.noise(rng, box, max(5.0, 1.7 * scene.canvas.soft))
    return smoothstep(hazy + 0.17 * acini, 0.2, 0.8) * inside * (hazy > 0.03)


def _bronchograms(
    scene: Scene, leaf: tuple[str, ...], box: Box, occupancy: Array, before: Array, inside: Array
) -> None:
    """Air stays in the bronchi of airless lung: black branching tubes out to the small ones."""
    canvas = scene.canvas
    branches = [b for b in scene.trees.get("bronchus", []) if b.lobe in leaf]
    if branches:
        points, volume = branch_points(branches, 0.5 * canvas.soft, 0.6)
        part, air, _ = canvas.splat(points, volume)
        total = np.zeros(inside.shape, np.float32)
        _add(total, box, (part, np.minimum(air, 1.0)))
        canvas.paint(box, total * smoothstep(occupancy, 0.3, 0.7), -900.0)
        return
    # a real scan: its own lumens, darker than its lung (an aerated lung may itself be near -950)
    lung = float(np.median(before[inside][::7]))
    dark = (before < lung - 65.0) & (canvas.hu[box] > -600.0) & inside
    bronchi = smoothstep(-before, 45.0 - lung, 100.0 - lung) * dark
    canvas.paint(box, (bronchi * 0.85).astype(np.float32), -880.0)


def _wedge(scene: Scene, rng: np.random.Generator, region: str, box: Box, angle: float) -> Array:
    """A cone from the hilum to the pleura: one bronchopulmonary segment, roughly."""
    canvas = scene.canvas
    target = point_in(scene, rng, region, (4.0, 25.0))
    if target is None:
        target = point_in(scene, rng, region)
    if target is None:
        return np.zeros(tuple(s.stop - s.start for s in box), np.float32)
    root = hilum(scene, region)
    x, y, z = (v - c for v, c in zip(canvas.coords(box), root.tolist(), strict=True))
    axis = target - root
    length = float(np.linalg.norm(axis))
    a, b, c = (axis / length).tolist()
    along = a * x + b * y + c * z
    across = np.sqrt(np.maximum(x * x + y * y + z * z - along * along, 0.0))
    wobble = 1.0 + 0.12 * canvas.noise(rng, box, 22.0)
    return canvas.occupancy(np.maximum(across - np.tan(angle) * along * wobble, 0.30 * length - along)) * (along > 0)


def atelectasis(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Plates, a wedge towards the pleura, or a collapsed lobe (drawn with the lungs)."""
    kind = "atelectasis"
    canvas = scene.canvas
    if "collapse" in canvas.landmarks:
        lobe = str(canvas.landmarks["collapsed_lobe"])
        occupancy = np.asarray(canvas.landmarks["collapse"], np.float32)
        return mark(scene, kind, canvas.full, occupancy, (lobe,), attributes={"shape": "lobar"})
    shape = str(rng.choice(["linear", "subsegmental"], p=[0.6, 0.4]))
    prefer = {"right_lower_lobe": 3.0, "left_lower_lobe": 3.0, "right_middle_lobe": 1.5}
    lobes = scene.lobes
    p = np.array([prefer.get(r, 0.7) for r in lobes])
    count = 1 if rng.random() < 0.6 or len(lobes) < 2 else 2
    chosen = rng.choice(list(lobes), size=count, replace=False, p=p / p.sum()).tolist()
    leaf = tuple(r for r in lobes if r in chosen)
    box, inside = lung_inside(scene, leaf)
    occupancy = np.zeros(inside.shape, np.float32)
    for region in leaf:
        for _ in range(int(rng.integers(1, 4)) if shape == "linear" else 1):
            occupancy = np.maximum(occupancy, _plate(scene, rng, region, box, shape))
    occupancy *= inside
    lighten(canvas, box, occupancy, 20.0)
    return mark(scene, kind, box, occupancy, leaf, attributes={"shape": shape})


def _plate(scene: Scene, rng: np.random.Generator, region: str, box: Box, shape: str) -> Array:
    """A nearly horizontal plate that reaches the pleura; thicker towards it when subsegmental."""
    canvas = scene.canvas
    centre = point_in(scene, rng, region, (8.0, 35.0))
    if centre is None:
        return np.zeros(tuple(s.stop - s.start for s in box), np.float32)
    x, y, z = (v - c for v, c in zip(canvas.coords(box), centre.tolist(), strict=True))
    tilt = rng.normal(0, 0.35, 2).tolist()
    height = z - tilt[0] * x - tilt[1] * y
    reach = np.sqrt((x / rng.uniform(22, 36)) ** 2 + (y / rng.uniform(18, 30)) ** 2 + (z / 45.0) ** 2)
    depth = scene.depth(box)
    if shape == "linear":
        half = 2.0 + rng.uniform(0, 0.8)
    else:
        half = 5.5 + 5.0 * np.exp(-np.clip(depth, 0, None) / 14.0)
    wave = 2.0 * canvas.noise(rng, box, 30.0)
    return canvas.occupancy(np.maximum((np.abs(height + wave) - half) * 0.9, (reach - 1.0) * 20.0))


def pulmonary_fibrotic_sequela(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Curved strands from the pleura inwards with a small scar and local traction, mostly apical."""
    kind = "pulmonary_fibrotic_sequela"
    prefer = {"right_upper_lobe": 3.0, "left_upper_lobe": 3.0}
    leaf, regions = choose_site(scene, rng, (0.12, 0.08, 0.55, 0.25), prefer)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    total = np.zeros(inside.shape, np.float32)
    for region in leaf:
        for _ in range(int(rng.integers(2, 4)) if len(leaf) < 3 else 1):
            start = point_in(scene, rng, region, (1.0, 9.0))
            if start is None:
                continue
            root = hilum(scene, region)
            toward = (root - start) / max(float(np.linalg.norm(root - start)), 1e-6)
            for _band in range(int(rng.integers(2, 5))):
                points, volume = _band_points(start + rng.normal(0, 4.0, 3), toward, rng, 0.45 * canvas.soft)
                _add(total, box, canvas.splat(points, volume)[:2])
            part, occupancy = solid(canvas, start, 13.0, lump(rng, (9.0, 6.0, 5.0), 0.45))
            _add(total, box, (part, occupancy))
    total = np.minimum(total, 1.0) * inside
    lighten(canvas, box, total, 25.0)
    pulled = np.clip(gaussian_filter(total, [6.0 / s for s in canvas.spacing]) * 2.5, 0, 1) * (1 - total) * inside
    canvas.paint(
        box, pulled * smoothstep(canvas.hu[box], -500.0, -700.0), -930.0
    )  # the lung beside a scar is stretched
    return mark(scene, kind, box, total, regions, 0.25)


def _band_points(start: Array, toward: Array, rng: np.random.Generator, grain: float) -> tuple[Array, Array]:
    """A wavy ribbon from the pleura towards the hilum, 12 to 20 mm wide, tapering: points and mm3 carried by each."""
    length, wide, thick = rng.uniform(30, 55), rng.uniform(12, 20), rng.uniform(2.2, 3.2)
    heading = toward + rng.normal(0, 0.3, 3)
    heading /= np.linalg.norm(heading)
    across = np.cross(heading, rng.standard_normal(3))
    across /= np.linalg.norm(across)
    normal = np.cross(heading, across)
    grain = min(grain, 1.2)
    t, u, v = np.meshgrid(
        np.linspace(-0.1, 1, int(length / grain)), np.linspace(-0.5, 0.5, int(wide / grain)), (-0.25, 0.25),
        indexing="ij",
    )  # fmt: skip
    bow = rng.normal(0, 5.0) * np.sin(3.1 * t) + rng.normal(0, 2.5) * np.cos(5.0 * u + 4.0 * t)
    taper = 1.0 - 0.55 * np.clip(t, 0, 1)
    offset = t[..., None] * length * heading + (u * taper * wide)[..., None] * across
    points = start + offset + (bow + v * thick)[..., None] * normal
    volume = 1.1 * length * wide * thick * taper / t.size
    return points.reshape(-1, 3), volume.reshape(-1)


def _overlap(box: Box, part: Box) -> tuple[Box, Box]:
    """Where two boxes meet, as slices into the first and into the second; empty where they do not."""
    cut = [(max(p.start, b.start), min(p.stop, b.stop)) for p, b in zip(part, box, strict=True)]
    if any(high <= low for low, high in cut):
        return (slice(0, 0),) * 3, (slice(0, 0),) * 3
    first, second = (
        [slice(low - s.start, high - s.start) for (low, high), s in zip(cut, of, strict=True)] for of in (box, part)
    )
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])


def _add(total: Array, box: Box, piece: tuple[Box, Array]) -> None:
    """Add a piece's occupancy where its box meets ``box``."""
    part, value = piece
    target, source = _overlap(box, part)
    total[target] += value[source]


def emphysema(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Holes without walls (centrilobular), rows under the pleura (paraseptal), or large bullae."""
    kind = "emphysema"
    pattern = pick(rng, kind, "pattern", (0.5, 0.25, 0.25))
    severity = pick(rng, kind, "severity")
    step = SEVERITY[severity]
    prefer = {"right_upper_lobe": 3.0, "left_upper_lobe": 3.0}
    leaf, regions = choose_site(scene, rng, (0.5, 0.1, 0.2, 0.2), prefer)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    grain = max(7.5, 2.3 * canvas.soft)
    high = low_high(scene, box)
    if pattern == "centrilobular":
        share = (0.10, 0.22, 0.42)[step]
        holes = coverage(canvas.noise(rng, box, grain) + 1.1 * high, inside, share, 0.25)
    elif pattern == "paraseptal":
        depth = scene.depth(box)
        band = smoothstep(depth, 20.0 + 5 * step, 12.0 + 5 * step)
        where = inside & (band > 0.5)
        holes = coverage(canvas.noise(rng, box, 11.0) + 0.5 * high, where, (0.3, 0.48, 0.66)[step], 0.2) * band
        walls = np.exp(-(((holes - 0.5) / 0.25) ** 2)) * band * inside
        lighten(canvas, box, (0.22 * walls).astype(np.float32), -200.0)
    else:
        count, size = ((2, (11.0, 17.0)), (3, (15.0, 26.0)), (5, (20.0, 36.0)))[step]
        count = max(count, len(leaf))
        holes = _blobs(scene, rng, leaf, box, count, size, (2.0, 32.0), 0.06) * inside
        wall = np.clip(1.0 - np.abs(2.0 * holes - 1.0), 0, 1) * inside
        canvas.paint(box, (holes > 0.05) * holes, -985.0)
        lighten(canvas, box, (0.5 * wall * (holes < 0.7)).astype(np.float32), -150.0)
    view = canvas.hu[box]
    dark = float(rng.normal(-968, 8))
    vessel_safe = 1.0 if pattern == "bullous" else smoothstep(view, -250.0, -550.0)
    canvas.paint(box, (holes * vessel_safe * 0.95).astype(np.float32), dark)
    background = inside * smoothstep(view, -300.0, -600.0) * 12.0 * step
    view -= background
    return mark(scene, kind, box, holes, regions, 0.4, attributes={"pattern": pattern, "severity": severity})


def mosaic_attenuation_pattern(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Sharply bordered geographic patches, darker ones with thinner vessels."""
    kind = "mosaic_attenuation_pattern"
    severity = pick(rng, kind, "severity")
    step = SEVERITY[severity]
    leaf, regions = choose_site(scene, rng, (0.75, 0.1, 0.1, 0.05))
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    patches = coverage(canvas.noise(rng, box, 26.0), inside, rng.uniform(0.42, 0.55), 0.12)
    view = canvas.hu[box]
    parenchyma = inside * smoothstep(view, -350.0, -600.0)
    contrast = (75.0, 115.0, 160.0)[step]
    view += parenchyma * (patches * contrast * 0.75 - (1.0 - patches) * contrast * 0.4)
    return mark(scene, kind, box, patches, regions, 0.5, attributes={"severity": severity})


def tree_in_bud(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Clusters of dots on short branching stalks, a centimetre from the pleura."""
    kind = "tree_in_bud"
    leaf, regions = choose_site(scene, rng, (0.2, 0.15, 0.45, 0.2))
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    points, volume = [], []
    for region in leaf:
        for _ in range(int(rng.integers(3, 6)) if len(leaf) < 4 else 2):
            centre = point_in(scene, rng, region, (6.0, 32.0))
            if centre is None:
                continue
            for _twig in range(int(rng.integers(6, 11))):
                tip = centre + rng.normal(0, 9.0, 3)
                t = np.linspace(0, 1, 14)[:, None]
                points.append(centre + (tip - centre) * t)
                volume.append(np.full(14, np.pi * 0.9**2 * np.linalg.norm(tip - centre) / 14))
                radius = rng.uniform(1.7, 2.7)
                bud = rng.standard_normal((24, 3))
                bud *= (radius * rng.random((24, 1)) ** (1 / 3)) / np.linalg.norm(bud, axis=1, keepdims=True)
                points.append(tip + bud)
                volume.append(np.full(24, 4.19 * radius**3 / 24))
    if not points:
        return []
    total = np.zeros(inside.shape, np.float32)
    _add(total, box, canvas.splat(np.concatenate(points), np.concatenate(volume))[:2])
    total = np.minimum(total, 1.0) * inside
    lighten(canvas, box, total, 25.0)
    return mark(scene, kind, box, total, regions, 0.2)
