"""Trachea and main bronchi: a chain of round air columns, then region growing with a leak check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ctscribe.data.anatomy import grid

LUMEN_HU = -650.0
LUMEN_AREA_MM2 = (40.0, 900.0)
"""Tracheal lumen in cross-section; men's tracheas reach about 25 x 27 mm (Breatnach 1984), and a tracheal
dilatation (Mounier-Kuhn) somewhat more; the lower bound lets children and stenoses pass."""
STEP_MM = 9.0
"""Largest sideways step of the trachea from one slice to the next, plus half the slice spacing."""
ASIDE_MM = 40.0
"""The trachea is rarely pushed farther than this from the spine's midline."""
HIGHER = 0.5
"""Between two chains the higher one is the trachea, unless the lower is longer by half of the distance."""
ASTRAY_MM = 8.5
"""A main bronchus leaves the straight continuation of the trachea by more than this and is thinner; a pushed trachea
may bend as much, but keeps its size."""
SHORTEST_MM = 25.0
SHORTEST_AT_EDGE_MM = 12.0
"""A trachea cut off by the top of the scan may be this short."""
BRONCHI_ML = 14.0
"""Both main bronchi with the first lobar branches hold less than this; more means a leak into lung."""
THRESHOLDS_HU = (-700.0, -800.0, -870.0, -920.0, -950.0)


@dataclass(frozen=True)
class Airways:
    """``carina``: voxel index (z, y, x) of the fork, None when no trachea was found; the masks may be empty."""

    trachea: Bool[np.ndarray, "z y x"]
    right: Bool[np.ndarray, "z y x"]
    left: Bool[np.ndarray, "z y x"]
    carina: tuple[float, float, float] | None
    resolved: bool

    @property
    def all(self) -> Bool[np.ndarray, "z y x"]:
        return self.trachea | self.right | self.left


@dataclass(frozen=True)
class _Spot:
    """One round piece of air in one slice."""

    z: int
    y: float
    x: float
    area: float
    label: int


def find_airways(
    hu: Float[np.ndarray, "z y x"],
    air: Bool[np.ndarray, "z y x"],
    spacing: grid.Spacing,
    midline: float,
) -> Airways:
    """Find the trachea as the best vertical chain of round air spots, then the main bronchi below it."""
    lumen = air & (hu < LUMEN_HU)
    parts, count = ndimage.label(lumen, structure=grid.IN_PLANE)
    spots = _spots(parts, count, spacing, midline)
    chain = _trim(_best_chain(spots, spacing, midline), spots, spacing, air.shape[0])
    empty = np.zeros_like(air)
    if not chain:
        return Airways(empty, empty, empty, None, False)
    trachea = _paint(chain, parts, air)
    bottom = chain[-1]
    carina = (float(bottom.z), bottom.y, bottom.x)
    right, left = _grow_bronchi(hu, air, trachea, carina, spacing)
    resolved = bool(right.any() and left.any())
    if not resolved:
        right, left = _tubes(air.shape, carina, spacing)
        right, left = right & ~trachea, left & ~trachea & ~right
    return Airways(trachea, right, left, carina, resolved)


def _spots(parts: np.ndarray, count: int, spacing: grid.Spacing, midline: float) -> dict[int, list[_Spot]]:
    """Round pieces of tracheal size near the midline, by slice."""
    found: dict[int, list[_Spot]] = {}
    cell = spacing[1] * spacing[2]
    area = np.bincount(parts.ravel(), minlength=count + 1) * cell
    boxes = ndimage.find_objects(parts)
    for label in np.flatnonzero((area >= LUMEN_AREA_MM2[0]) & (area <= LUMEN_AREA_MM2[1])):
        if label == 0:
            continue
        zs, ys, xs = boxes[label - 1]
        high, wide = (ys.stop - ys.start) * spacing[1], (xs.stop - xs.start) * spacing[2]
        y, x = (ys.start + ys.stop - 1) / 2, (xs.start + xs.stop - 1) / 2
        full = area[label] / (high * wide)
        if max(high, wide) / min(high, wide) < 3.0 and full > 0.45 and abs(x - midline) * spacing[2] < ASIDE_MM:
            found.setdefault(zs.start, []).append(_Spot(zs.start, y, x, float(area[label]), int(label)))
    return found


def _best_chain(spots: dict[int, list[_Spot]], spacing: grid.Spacing, midline: float) -> list[_Spot]:
    """Longest chain from top to bottom, one spot a slice (two slices may be missing), small steps preferred."""
    best: dict[int, tuple[float, _Spot | None]] = {}
    top: dict[int, int] = {}
    reach = STEP_MM + spacing[0] / 2
    for z in sorted(spots, reverse=True):
        for spot in spots[z]:
            choices: list[tuple[float, _Spot | None]] = [(0.0, None)]
            for above in (other for up in (1, 2, 3) for other in spots.get(z + up, ())):
                step = np.hypot((above.y - spot.y) * spacing[1], (above.x - spot.x) * spacing[2])
                if step < reach and 0.4 < above.area / spot.area < 2.5:
                    choices.append((best[above.label][0] - 0.5 * step * spacing[0] / STEP_MM, above))
            score, above_spot = max(choices, key=lambda c: c[0])
            best[spot.label] = (score + spacing[0], above_spot)
            top[spot.label] = top[above_spot.label] if above_spot is not None else spot.z
    if not best:
        return []
    by_label = {s.label: s for group in spots.values() for s in group}

    def merit(label: int) -> float:
        spot = by_label[label]
        return best[label][0] + HIGHER * top[label] * spacing[0] - 0.5 * abs(spot.x - midline) * spacing[2]

    last = by_label[max(best, key=merit)]
    chain, current = [last], best[last.label][1]
    while current is not None:
        chain.append(current)
        current = best[current.label][1]
    return chain[::-1]


def _trim(chain: list[_Spot], spots: dict[int, list[_Spot]], spacing: grid.Spacing, top: int) -> list[_Spot]:
    """Cut the chain where it turns into one main bronchus.

    That is where it leaves the line of the trachea and is thinner, where it stays at half its size (a stenosis widens
    again), or where it forks: the legs of a fork lie beside its stem, while gas in the oesophagus or the tip of a lung
    does not move the stem.
    """
    shortest = SHORTEST_MM if chain and chain[0].z < top - 1 else SHORTEST_AT_EDGE_MM
    if not chain or (chain[0].z - chain[-1].z + 1) * spacing[0] < shortest:
        return []
    for i in range(3, len(chain)):
        recent = chain[max(0, i - max(3, round(20 / spacing[0]))) : i]
        x = float(np.median([s.x for s in recent]))
        area = float(np.median([s.area for s in recent]))
        aside = abs(chain[i].x - x) * spacing[2]
        forked = aside > ASTRAY_MM / 2 and all(_beside(s, spots[s.z], spacing) for s in chain[i : i + 2])
        astray = aside > ASTRAY_MM and chain[i].area < 0.75 * area
        if forked or astray or all(s.area < 0.5 * area for s in chain[i:]):
            return chain[:i]
    return chain


def _beside(spot: _Spot, others: list[_Spot], spacing: grid.Spacing) -> bool:
    """True when another lumen of similar size lies beside this one, as left and right main bronchus do."""
    for other in others:
        dx, dy = abs(other.x - spot.x) * spacing[2], abs(other.y - spot.y) * spacing[1]
        if 12.0 < dx < 42.0 and dy < 18.0 and 0.4 < other.area / spot.area < 2.5:
            return True
    return False


def _paint(chain: list[_Spot], parts: np.ndarray, air: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """The spots with one voxel more of air around them (the partial volume at the wall)."""
    out = np.zeros_like(air)
    for spot in chain:
        lumen = parts[spot.z] == spot.label
        out[spot.z] = ndimage.binary_dilation(lumen) & air[spot.z]
    return out


def _grow_bronchi(
    hu: Float[np.ndarray, "z y x"],
    air: Bool[np.ndarray, "z y x"],
    trachea: Bool[np.ndarray, "z y x"],
    carina: tuple[float, float, float],
    spacing: grid.Spacing,
) -> tuple[Bool[np.ndarray, "z y x"], Bool[np.ndarray, "z y x"]]:
    """Grow from the last tracheal slice into a box below it; the loosest threshold that does not leak wins."""
    right, left = np.zeros_like(air), np.zeros_like(air)
    reach = ((-50, 4), (-25, 35), (-60, 60))
    box = tuple(
        slice(max(0, round(c + lo / s)), min(n, round(c + hi / s) + 1))
        for c, (lo, hi), s, n in zip(carina, reach, spacing, air.shape, strict=True)
    )
    voxel_ml = float(np.prod(spacing)) / 1000
    seed = trachea[box]
    for threshold in THRESHOLDS_HU:
        candidate = (air[box] & (hu[box] < threshold)) | seed
        parts, _ = ndimage.label(candidate)
        grown = np.isin(parts, np.unique(parts[seed])) & ~seed
        below = np.flatnonzero(grown.any(axis=(1, 2)))
        if not 0.3 < grown.sum() * voxel_ml < BRONCHI_ML or below.size < 2:
            continue
        grown = ndimage.binary_dilation(grown) & air[box] & ~seed
        x = (np.arange(grown.shape[2]) + box[2].start)[None, None, :]
        right[box], left[box] = grown & (x < carina[2]), grown & (x >= carina[2])
        return right, left
    return right, left


def _tubes(
    shape: tuple[int, ...], carina: tuple[float, float, float], spacing: grid.Spacing
) -> tuple[Bool[np.ndarray, "z y x"], Bool[np.ndarray, "z y x"]]:
    """Main bronchi by geometry alone: right 25 mm long and steep, left 45 mm and flatter (Gray's Anatomy)."""
    ends = ((-20.0, 6.0, -18.0), (-28.0, 10.0, 38.0))
    tubes = []
    for end in ends:
        tube = np.zeros(shape, dtype=bool)
        for t in np.linspace(0, 1, 30):
            index = [round(c + t * e / s) for c, e, s in zip(carina, end, spacing, strict=True)]
            if all(0 <= i < n for i, n in zip(index, shape, strict=True)):
                tube[tuple(index)] = True
        tubes.append(grid.dilate(tube, 6.0, spacing))
    return tubes[0], tubes[1]
