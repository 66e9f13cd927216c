"""Nets in the lung: reticulation, honeycombing and thick septa are the walls of cells of the tissue's pitch."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ctscribe.phantom.canvas import Array, Box, smoothstep
from ctscribe.phantom.scene import (
    SEVERITY,
    Mark,
    Scene,
    choose_site,
    coverage,
    lighten,
    low_high,
    lung_inside,
    mark,
    pick,
)

_LOWER = {"right_lower_lobe": 3.0, "left_lower_lobe": 3.0}


def _basal_rim(scene: Scene, box: Box, width: float) -> Array:
    """Subpleural and basal weight, as in usual interstitial pneumonia."""
    lung = scene.bounds(scene.lobes)
    n = lung[0].stop - lung[0].start
    height = (np.arange(box[0].start, box[0].stop, dtype=np.float32) - lung[0].start) / max(n, 1)
    basal = smoothstep(height, 0.85, 0.25)[:, None, None]
    return smoothstep(scene.depth(box), width, width * 0.55) * (0.25 + 0.75 * basal)


def reticulation(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """A fine irregular net under the pleura: the faces of small cells, with a haze between them."""
    kind = "reticulation"
    severity = pick(rng, kind, "severity")
    step = SEVERITY[severity]
    leaf, regions = choose_site(scene, rng, (0.6, 0.1, 0.15, 0.15), _LOWER)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    rim = _basal_rim(scene, box, 17.0 + 8.0 * step) * inside
    patchy = rim * (0.55 + 0.45 * smoothstep(canvas.noise(rng, box, 28.0), -0.9, 0.5))
    net = _net(scene, rng, box, patchy > 0.08, max(5.0, 2.2 * canvas.soft), (0.45, 0.6, 0.75)[step])
    amount = np.clip(patchy * (0.75 + 0.25 * step), 0, 1)
    lighten(canvas, box, (amount * net).astype(np.float32), 0.0)
    lighten(canvas, box, (0.25 * amount).astype(np.float32), -500.0)
    return mark(scene, kind, box, rim, regions, 0.45, attributes={"severity": severity})


def _net(scene: Scene, rng: np.random.Generator, box: Box, where: Array, pitch: float, half: float) -> Array:
    """Occupancy of the walls between cells about ``pitch`` mm wide (a Voronoi partition); walls are 2 ``half`` thick.

    A wall thinner than a voxel leaves its partial volume.
    """
    canvas = scene.canvas
    out = np.zeros(where.shape, np.float32)
    index = np.argwhere(where)
    if not len(index):
        return out
    world = canvas.world(index + [s.start for s in box])
    low, high = world.min(axis=0) - pitch, world.max(axis=0) + pitch
    seeds = rng.uniform(low, high, (max(8, int(np.prod(high - low) / pitch**3 * 1.3)), 3))
    near, which = cKDTree(seeds).query(world.astype(np.float32), k=2)
    apart = np.linalg.norm(seeds[which[:, 0]] - seeds[which[:, 1]], axis=1)
    distance = (near[:, 1] ** 2 - near[:, 0] ** 2) / (2.0 * apart)  # to the face between the two nearest cells
    edge = canvas.soft
    covered = np.minimum(distance + 0.5 * edge, half) - np.maximum(distance - 0.5 * edge, -half)
    out[tuple(index.T)] = np.clip(covered / edge, 0.0, 1.0)
    return out


def honeycombing(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Rows of thick-walled subpleural cysts."""
    kind = "honeycombing"
    severity = pick(rng, kind, "severity")
    step = SEVERITY[severity]
    leaf, regions = choose_site(scene, rng, (0.65, 0.1, 0.1, 0.15), _LOWER)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    rim = _basal_rim(scene, box, 16.0 + 9.0 * step) * inside
    area = coverage(canvas.noise(rng, box, 30.0) * 0.5 + 2.0 * rim, inside, (0.06, 0.12, 0.22)[step], 0.3)
    walls = _net(scene, rng, box, area > 0.02, max(9.5, 3.0 * canvas.soft), 0.9)
    cyst = smoothstep(walls, 0.8, 0.2)
    lighten(canvas, box, area * 0.95, -60.0)
    canvas.paint(box, (area * cyst).astype(np.float32), -940.0)
    return mark(scene, kind, box, area, regions, 0.4, attributes={"severity": severity})


def interlobular_septal_thickening(scene: Scene, rng: np.random.Generator) -> list[Mark]:
    """Polygons: the faces of a Voronoi partition with the pitch of secondary lobules."""
    kind = "interlobular_septal_thickening"
    severity = pick(rng, kind, "severity")
    step = SEVERITY[severity]
    leaf, regions = choose_site(scene, rng, (0.6, 0.15, 0.15, 0.1), _LOWER)
    box, inside = lung_inside(scene, leaf)
    canvas = scene.canvas
    area = coverage(canvas.noise(rng, box, 45.0) - 1.2 * low_high(scene, box), inside, (0.25, 0.45, 0.75)[step], 0.3)
    lines = _net(scene, rng, box, area > 0.15, max(15.0, 4.2 * canvas.soft), (0.7, 0.95, 1.25)[step])
    lighten(canvas, box, lines * area, 10.0)
    return mark(scene, kind, box, area, regions, 0.4, attributes={"severity": severity})
