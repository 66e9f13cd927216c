"""Segmentation by rules, without weights: the default when no label map is given.

```
HU ─► body ─► inner air ─► airways ─► lungs R/L ─► cavity hull ─► diaphragm ─► mediastinum ─► organs
        │                                │                                          │
        └► spine, ribs, midline ─────────┴► lobes, pleura                           └► unaerated lung, effusion
```

Lungs are found on a working grid of 2 to 3.5 mm and refined on the volume's own grid; everything else is a smooth
shape on a grid of about 5 mm. All of it is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from ctscribe.data.anatomy import cavity as cavity_
from ctscribe.data.anatomy import grid, mediastinum, skeleton
from ctscribe.data.anatomy.airways import Airways, find_airways
from ctscribe.data.anatomy.body import AIR_HU, Body, find_body
from ctscribe.data.anatomy.lobes import split_lobes
from ctscribe.data.anatomy.lungs import Lungs, find_lungs
from ctscribe.data.anatomy.segmentation import Segmentation
from ctscribe.tensors import Volume

SOURCE = "classical 1"
WORKING_MM = 2.5
COARSE_MM = 5.5
PLEURA_MM = 4.0
DIAPHRAGM_MM = 6.0
FLUID_HU = 20.0
"""Unaerated tissue whose smoothed density is below this is taken for fluid (effusions 0 to 20 HU; atelectasis and
consolidation 30 HU and more)."""

LEAVES = (
    "right_upper_lobe", "right_middle_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe",
    "trachea", "right_main_bronchus", "left_main_bronchus", "mediastinum", "heart", "aorta",
    "pulmonary_artery", "oesophagus", "right_pleura", "left_pleura", "diaphragm", "chest_wall", "ribs",
    "spine", "thyroid", "upper_abdomen",
)  # fmt: skip
NAMES = dict(enumerate(LEAVES, start=1))
VALUE = {region: value for value, region in NAMES.items()}
LOBES = VALUE["left_lower_lobe"]
APPROXIMATE = (
    "lobes (planes at the usual place of the fissures), heart, aorta, pulmonary artery, oesophagus, pleura, "
    "diaphragm, thyroid and upper abdomen are approximate places, not boundaries"
)


@dataclass(frozen=True)
class _Working:
    """What is known on the working grid."""

    hu: Float[np.ndarray, "z y x"]
    spacing: grid.Spacing
    body: Body
    airways: Airways
    lungs: Lungs
    spine_line: Float[np.ndarray, "z 2"] | None
    midline: Float[np.ndarray, " z"]


def segment(volume: Volume) -> Segmentation:
    """Name the regions of a chest CT by thresholds, connected parts and anatomical rules.

    Never fails on an image without lungs: the label map is then (almost) empty and the notes say so; whether the
    image is a chest at all is for `ctscribe.data.bodypart.check_chest` to judge.

    Args:
        volume: canonical orientation (LPS+), Hounsfield units, any spacing.
    """
    factors = grid.block_factors(volume.spacing, WORKING_MM)
    work = _work(volume, factors)
    labels = _label(work)
    quality = _quality(work)
    notes = _notes(work, quality)
    if factors != (1, 1, 1):
        labels = _refine(grid.repeat_to(labels, factors, volume.shape), volume, factors)
    return Segmentation(np.ascontiguousarray(labels), dict(NAMES), SOURCE, quality, notes)


def _work(volume: Volume, factors: tuple[int, int, int]) -> _Working:
    """Body, airways and lungs on the working grid."""
    hu = np.clip(grid.block_mean(volume.hu, factors), -1024.0, 3071.0)
    spacing: grid.Spacing = tuple(s * f for s, f in zip(volume.spacing, factors, strict=True))  # type: ignore[assignment]
    body = find_body(hu, spacing)
    line = _spine_line(hu, body, spacing)
    midline = line[:, 1] if line is not None else _centre_line(body.whole)
    airways = find_airways(hu, body.inner_air, spacing, float(np.median(midline)))
    air = body.inner_air & ~grid.dilate(airways.all, max(spacing[1:]), (1e3, spacing[1], spacing[2]))
    lungs = find_lungs(hu, air, spacing, midline)
    return _Working(hu, spacing, body, airways, lungs, line, midline)


def _spine_line(hu: Float[np.ndarray, "z y x"], body: Body, spacing: grid.Spacing) -> Float[np.ndarray, "z 2"] | None:
    """`skeleton.spine_line`, searched on the coarse grid."""
    factors = grid.block_factors(spacing, COARSE_MM)
    coarse: grid.Spacing = tuple(s * f for s, f in zip(spacing, factors, strict=True))  # type: ignore[assignment]
    solid, air = (grid.block_mean(m, factors) > 0.5 for m in (body.solid, body.inner_air))
    line = skeleton.spine_line(grid.block_mean(hu, factors), solid, air, coarse)
    if line is None:
        return None
    fine = np.arange(hu.shape[0])
    centres = (np.arange(line.shape[0]) + 0.5) * factors[0] - 0.5
    columns = [np.interp(fine, centres, (line[:, i] + 0.5) * factors[i + 1] - 0.5) for i in range(2)]
    return np.stack(columns, axis=1)


def _centre_line(whole: Bool[np.ndarray, "z y x"]) -> Float[np.ndarray, " z"]:
    """Middle of the body (of the image where there is none), the same for every slice."""
    held = np.flatnonzero(whole.any(axis=(0, 1)))
    middle = (held[0] + held[-1]) / 2 if held.size else (whole.shape[2] - 1) / 2
    return np.full(whole.shape[0], float(middle))


def _label(work: _Working) -> UInt8[np.ndarray, "z y x"]:
    """Paint all leaves on the working grid."""
    labels = np.zeros(work.hu.shape, dtype=np.uint8)
    if not work.lungs.both.any():
        labels[work.airways.trachea] = VALUE["trachea"]
        return labels
    labels, extra = _coarse_regions(work)
    _paint_wall(labels, work)
    _paint_lungs(labels, work, extra)
    for name, mask in (
        ("right_main_bronchus", work.airways.right),
        ("left_main_bronchus", work.airways.left),
        ("trachea", work.airways.trachea),
    ):
        labels[mask] = VALUE[name]
    return labels


def _coarse_regions(work: _Working) -> tuple[UInt8[np.ndarray, "z y x"], dict[str, np.ndarray]]:
    """Cavity, diaphragm, abdomen, mediastinum with its organs, chest wall; and unaerated lung by side."""
    factors = grid.block_factors(work.spacing, COARSE_MM)
    scale = np.asarray(factors)
    spacing: grid.Spacing = tuple(s * f for s, f in zip(work.spacing, factors, strict=True))  # type: ignore[assignment]

    def down(mask: np.ndarray) -> np.ndarray:
        return grid.block_mean(mask, factors) >= 0.5

    hu, body = grid.block_mean(work.hu, factors), down(work.body.whole)
    right, left = down(work.lungs.right), down(work.lungs.left)
    lungs = right | left
    marks = _landmarks(work, scale, hu.shape)
    midline = marks.spine[:, 1]
    spine = skeleton.spine_mask(hu, marks.spine if work.spine_line is not None else None, spacing, lungs)
    bone = (hu > skeleton.BONE_HU) & body & ~spine
    cavity = cavity_.find_cavity(right, left, bone, body, midline, spacing)
    floor = cavity_.diaphragm_height(lungs, midline, spacing)
    z = np.arange(hu.shape[0])[:, None, None]
    base = int(np.flatnonzero(lungs.any(axis=(1, 2)))[0])
    apex = int(np.flatnonzero(lungs.any(axis=(1, 2)))[-1])
    below = z < floor[None]
    middle = cavity & ~lungs & ~below & ~spine & (z <= apex)
    ahead = np.arange(hu.shape[1])[None, :, None] < marks.spine[:, 0, None, None] + 15.0 / spacing[1]
    middle &= ahead | _lateral_of(marks, hu.shape, spacing, 40.0)
    lateral = middle & ~_mediastinal_zone(marks, hu.shape, spacing)
    middle &= ~lateral
    lateral = grid.open_(lateral & (hu > -300), 6.0, spacing)
    smooth_hu = _mean_within(hu, lateral, [10.0 / s for s in spacing])
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[body & (z >= base) & (z <= apex)] = VALUE["chest_wall"]
    labels[body & ((z < base) | (cavity & below))] = VALUE["upper_abdomen"]
    steps = DIAPHRAGM_MM / spacing[0]
    labels[cavity & below & (z >= floor[None] - steps)] = VALUE["diaphragm"]
    labels[middle] = VALUE["mediastinum"]
    for name, mask in reversed(mediastinum.place_organs(hu, middle, spacing, marks).items()):
        labels[mask] = VALUE[name]
    labels[spine & (z <= apex)] = VALUE["spine"]
    on_left = np.arange(hu.shape[2])[None, None, :] >= midline[:, None, None]
    extra = {}
    for side, here in (("right", ~on_left), ("left", on_left)):
        fluid = lateral & here & (smooth_hu < FLUID_HU)
        labels[fluid] = VALUE[f"{side}_pleura"]
        extra[side] = grid.repeat_to(lateral & here & ~fluid, factors, work.hu.shape)
    thyroid = mediastinum.thyroid_box(body & (hu > -150), down(work.airways.trachea), apex + 1, spacing)
    labels[thyroid] = VALUE["thyroid"]
    return np.ascontiguousarray(grid.repeat_to(labels, factors, work.hu.shape)), extra


def _mean_within(
    hu: Float[np.ndarray, "z y x"], mask: Bool[np.ndarray, "z y x"], sigma: list[float]
) -> Float[np.ndarray, "z y x"]:
    """Gaussian mean that looks at the mask only."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return ndimage.gaussian_filter(hu * mask, sigma) / np.maximum(weight, 1e-6)


def _landmarks(work: _Working, scale: np.ndarray, shape: tuple[int, ...]) -> mediastinum.Landmarks:
    """Spine and carina in coarse voxels; a carina that was not seen is put where it usually lies."""
    rows = np.clip(np.rint((np.arange(shape[0]) + 0.5) * scale[0] - 0.5).astype(int), 0, work.hu.shape[0] - 1)
    held = np.argwhere(work.lungs.both)
    if work.spine_line is None:
        back = held[:, 1].max()
        spine = np.stack([np.full(shape[0], back, dtype=float), work.midline[rows]], 1)
    else:
        spine = work.spine_line[rows]
    spine = (spine + 0.5) / scale[1:] - 0.5
    if work.airways.carina is not None:
        cz, cy, cx = ((c + 0.5) / f - 0.5 for c, f in zip(work.airways.carina, scale, strict=True))
        carina = (float(cz), float(cy), float(cx))
        return mediastinum.Landmarks(spine, carina, True)
    low, high = held[:, 0].min(), held[:, 0].max()
    z = ((low + 0.6 * (high - low)) + 0.5) / scale[0] - 0.5
    row = int(np.clip(round(z), 0, shape[0] - 1))
    ahead = 35.0 / (work.spacing[1] * scale[1])
    return mediastinum.Landmarks(spine, (float(z), float(spine[row, 0] - ahead), float(spine[row, 1])), False)


def _mediastinal_zone(
    marks: mediastinum.Landmarks, shape: tuple[int, ...], spacing: grid.Spacing
) -> Bool[np.ndarray, "z y x"]:
    """How far sideways from the midline the mediastinum may reach: heart low and to the left, narrow on top."""
    z = (np.arange(shape[0]) - marks.carina[0]) * spacing[0]
    right = np.interp(z, [-60, -20, 10, 60], [68, 60, 45, 40])
    left = np.interp(z, [-60, -20, 10, 60], [105, 80, 55, 42])
    x = (np.arange(shape[2])[None, :] - marks.spine[:, 1, None]) * spacing[2]
    inside = (x > -right[:, None]) & (x < left[:, None])
    return np.broadcast_to(inside[:, None, :], shape)


def _lateral_of(
    marks: mediastinum.Landmarks, shape: tuple[int, ...], spacing: grid.Spacing, distance_mm: float
) -> Bool[np.ndarray, "z 1 x"]:
    """Farther than ``distance_mm`` sideways from the spine."""
    x = (np.arange(shape[2])[None, :] - marks.spine[:, 1, None]) * spacing[2]
    return (np.abs(x) > distance_mm)[:, None, :]


def _paint_wall(labels: UInt8[np.ndarray, "z y x"], work: _Working) -> None:
    """Ribs and pleura, where the coarse map says chest wall or abdomen."""
    lungs = work.lungs
    wall = labels == VALUE["chest_wall"]
    near = grid.dilate(lungs.both, 16.0, (1e3, *work.spacing[1:]))
    labels[wall & near & (work.hu > skeleton.BONE_HU)] = VALUE["ribs"]
    soft = (labels == VALUE["chest_wall"]) | ((labels == 0) & work.body.whole)
    for side, mask in (("right", lungs.right), ("left", lungs.left)):
        band = grid.dilate(mask, max(PLEURA_MM, *work.spacing[1:]), (1e3, *work.spacing[1:])) & ~mask
        labels[band & soft] = VALUE[f"{side}_pleura"]


def _paint_lungs(labels: UInt8[np.ndarray, "z y x"], work: _Working, extra: dict[str, np.ndarray]) -> None:
    """Lobes, over the aerated lung and the unaerated tissue given to it."""
    whole = not _cut_off(work)
    carina = work.airways.carina
    held = np.flatnonzero(work.lungs.both.any(axis=(1, 2)))
    hilum = carina[0] if carina is not None else float(held[0] + 0.6 * (held[-1] - held[0]))
    names = {"right": ("upper", "middle", "lower"), "left": ("upper", "", "lower")}
    for side, mask in (("right", work.lungs.right), ("left", work.lungs.left)):
        lung = mask | (extra[side] & ~work.lungs.both)
        lobes = split_lobes(lung, side, work.spacing, whole, hilum)
        for value, name in enumerate(names[side], start=1):
            if name:
                labels[lobes == value] = VALUE[f"{side}_{name}_lobe"]


def _cut_off(work: _Working) -> bool:
    """True when so much lung lies beyond the first or last slice that shares of its volume mean nothing."""
    area = work.lungs.both.sum(axis=(1, 2))
    return bool(max(area[0], area[-1]) > 0.3 * area.max())


def _refine(
    labels: UInt8[np.ndarray, "z y x"], volume: Volume, factors: tuple[int, int, int]
) -> UInt8[np.ndarray, "z y x"]:
    """Draw the surface of the lungs again on the volume's own grid.

    Within one working voxel of the surface the voxel's own density decides; further in and out the working grid does.
    """
    reach: grid.Spacing = tuple(1.0 / f for f in factors)  # type: ignore[assignment]
    lung = (labels >= 1) & (labels <= LOBES)
    box = grid.bounding_box(lung, list(factors))
    if box is None:
        return labels
    out = np.ascontiguousarray(labels)
    part, lung, hu = out[box], lung[box], volume.hu[box]
    soft = hu > AIR_HU
    rim_in = lung & ~grid.erode(lung, 1.0, reach) & soft
    rim_out = grid.dilate(lung, 1.0, reach) & ~lung & ~soft & (part > LOBES)
    rim_out &= ~np.isin(part, [VALUE["trachea"], VALUE["right_main_bronchus"], VALUE["left_main_bronchus"]])
    grown = ndimage.grey_dilation(np.where(lung, part, 0), size=[2 * f + 1 for f in factors])
    right = lung & (part <= VALUE["right_lower_lobe"])
    part[rim_in] = np.where(right, VALUE["right_pleura"], VALUE["left_pleura"])[rim_in]
    part[rim_out] = grown[rim_out]
    return out


def _quality(work: _Working) -> dict[str, float]:
    """Numbers to judge the segmentation by."""
    voxel = float(np.prod(work.spacing)) / 1000
    right, left = (float(m.sum()) * voxel for m in (work.lungs.right, work.lungs.left))
    both = work.lungs.both
    cell = work.spacing[1] * work.spacing[2] / 100
    numbers = {
        "right_lung_ml": right,
        "left_lung_ml": left,
        "left_to_right_ratio": left / right if right else float("inf") if left else 0.0,
        "body_ml": float(work.body.whole.sum()) * voxel,
        "aerated_share": float(work.lungs.air.sum()) / max(float(both.sum()), 1.0),
        "lung_hu_median": float(np.median(work.hu[both][::7])) if both.any() else 0.0,
        "trachea_ml": float(work.airways.trachea.sum()) * voxel,
        "lung_height_mm": float(both.any(axis=(1, 2)).sum()) * work.spacing[0],
        "lung_in_first_slice_cm2": float(both[0].sum()) * cell,
        "lung_in_last_slice_cm2": float(both[-1].sum()) * cell,
    }
    numbers.update({f"body_touches_{side}": share for side, share in work.body.touches.items()})
    return numbers


def _notes(work: _Working, quality: dict[str, float]) -> tuple[str, ...]:
    """What a reader of the masks should know."""
    notes = [APPROXIMATE]
    if quality["right_lung_ml"] + quality["left_lung_ml"] == 0:
        return ("no lung was found",)
    if work.airways.carina is None:
        notes.append("the trachea was not found; landmarks near the carina are estimated")
    elif not work.airways.resolved:
        notes.append("the main bronchi could not be followed and are drawn by geometry")
    if work.spine_line is None:
        notes.append("no spine was found; the midline is the middle of the body")
    return tuple(notes)
