"""Phantoms that the scan alone cannot explain: an earlier scan, a history or a laboratory value decides.

```
 follow_up(seed, "larger")    the same chest twice, with a ball in one lobe that has grown, shrunk, come or gone
 ambiguous(seed)              one and the same dense ball: with fever and a high CRP a consolidation, with weight loss
                              and a high CEA a mass
```

The chest is a `generate`d one without lesions; the balls are drawn here, so that their sizes are chosen, and outlined
like any lesion. On a coarse grid a nodule is a voxel or two among vessels: there, follow up a mass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ctscribe.beside import CHANGE_MM, Change
from ctscribe.errors import UsageError
from ctscribe.phantom.canvas import DEMO_GRID, GridSpec
from ctscribe.phantom.prior import LesionPrior
from ctscribe.phantom.scene import Lesion
from ctscribe.phantom.study import LesionMask, PhantomStudy, generate
from ctscribe.report import Finding
from ctscribe.tensors import Volume

LOBES = ("right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe")
DENSE_HU = 40.0
BALL_MM = 50.0
FOLLOWED_MM: dict[str, tuple[float, float, float]] = {
    "lung_nodule": (10.0, 28.0, 3 * CHANGE_MM),
    "mass": (30.0, 90.0, 10 * CHANGE_MM),
}
"""What may be followed up: smallest and largest diameter, and the least change, so that it is one beyond doubt."""

HISTORIES = {
    "consolidation": ("Fever and productive cough for four days.", "发热、咳嗽、咳痰4天。"),
    "mass": ("Weight loss and haemoptysis, heavy smoker.", "消瘦、咯血，长期大量吸烟。"),
}
LABS = {"consolidation": (("crp", 160.0), ("cea", 2.0)), "mass": (("crp", 4.0), ("cea", 45.0))}


@dataclass(frozen=True)
class FollowUp:
    """Two scans of one synthetic chest, `days` apart, and what became of its nodule."""

    before: PhantomStudy
    now: PhantomStudy
    days: int
    change: Change


@dataclass(frozen=True)
class Ambiguous:
    """A scan that fits two findings, and what tells them apart."""

    study: PhantomStudy
    kind: str
    history: str
    labs: tuple[tuple[str, float], ...]


def follow_up(seed: int, change: Change, grid: GridSpec = DEMO_GRID, kind: str = "lung_nodule") -> FollowUp:
    """A nodule or a mass (see `FOLLOWED_MM`) in two scans; equal arguments give equal bits."""
    if kind not in FOLLOWED_MM:
        raise UsageError(f"a {kind} cannot be followed up", expected=" or ".join(FOLLOWED_MM))
    smallest, largest, least = FOLLOWED_MM[kind]
    rng = np.random.default_rng([seed, 31])
    small = float(rng.uniform(smallest, largest - least))
    large = float(rng.uniform(small + least, largest))
    sizes = {
        "new": (0.0, large),
        "larger": (small, large),
        "stable": (large, large),
        "smaller": (large, small),
        "resolved": (large, 0.0),
    }[change]
    chest = _chest(seed, grid)
    lobe, centre = _place(chest, rng)
    before, now = (_with_ball(chest, kind, lobe, centre, mm) for mm in sizes)
    return FollowUp(before, now, int(rng.integers(30, 720)), change)


def ambiguous(seed: int, grid: GridSpec = DEMO_GRID) -> Ambiguous:
    """Even seeds are consolidations, odd ones masses; seeds 2 n and 2 n + 1 are the same voxels."""
    kind = ("consolidation", "mass")[seed % 2]
    rng = np.random.default_rng([seed // 2, 32])
    chest = _chest(seed // 2, grid)
    lobe, centre = _place(chest, rng)
    return Ambiguous(
        _with_ball(chest, kind, lobe, centre, BALL_MM),
        kind,
        HISTORIES[kind][int(rng.integers(2))],
        LABS[kind],
    )


def _chest(seed: int, grid: GridSpec) -> PhantomStudy:
    return generate(seed, grid, lesions=LesionPrior(force=()))


def _place(chest: PhantomStudy, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A lobe and a voxel inside it, as deep as any tenth of its voxels."""
    from scipy import ndimage

    lobe = LOBES[int(rng.integers(len(LOBES)))]
    label = next((value for value, name in chest.region_names.items() if name == lobe), None)
    inside = chest.regions == label
    if label is None or not inside.any():
        raise UsageError(f"the grid is too coarse to hold a {lobe}", hint="use a finer grid")
    depth = ndimage.distance_transform_edt(inside, sampling=chest.volume.spacing)
    deep = np.argwhere(depth >= np.quantile(depth[inside], 0.9))
    return lobe, deep[int(rng.integers(len(deep)))]


def _with_ball(chest: PhantomStudy, kind: str, lobe: str, centre: np.ndarray, mm: float) -> PhantomStudy:
    """The chest with a dense ball; unchanged for a diameter of 0."""
    if not mm:
        return chest
    axes = [np.arange(n) for n in chest.volume.shape]
    offset = [(a - c) * s for a, c, s in zip(axes, centre, chest.volume.spacing, strict=True)]
    distance = np.sqrt(offset[0][:, None, None] ** 2 + offset[1][:, None] ** 2 + offset[2] ** 2)
    step = min(chest.volume.spacing)
    share = np.clip((mm / 2 - distance) / step + 0.5, 0, 1)
    hu = chest.volume.hu * (1 - share) + DENSE_HU * share
    lesion, mask = _outline(chest, kind, lobe, centre, mm, share)
    finding = Finding(kind, "present", (lobe,), lesion.size_mm)
    kept = tuple(f for f in chest.findings if f.kind != kind)
    return replace(
        chest,
        volume=Volume(np.rint(hu).astype(np.int16), chest.volume.affine),
        lesion_masks={lesion.label: mask},
        lesions=(lesion,),
        findings=(finding, *kept),
    )


def _outline(
    chest: PhantomStudy, kind: str, lobe: str, centre: np.ndarray, mm: float, share: np.ndarray
) -> tuple[Lesion, LesionMask]:
    """The ball as a lesion: the voxels it fills by half and more; the one in its middle always is."""
    voxels = np.argwhere(share >= 0.5)
    low, high = voxels.min(0), voxels.max(0) + 1
    inside = share[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] >= 0.5
    z, y, x = (int(n) for n in low)
    box = (z, y, x), (z + inside.shape[0], y + inside.shape[1], x + inside.shape[2])
    x_mm, y_mm, z_mm = chest.volume.affine.to_world(centre)
    place = float(x_mm), float(y_mm), float(z_mm)
    return Lesion(kind, 1, (lobe,), (float(round(mm)),), (), place, box), LesionMask(box, inside)
