"""Is this a chest, and how much of one? Judged from the image itself, whatever the tags say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctscribe.data.anatomy import Segmentation
from ctscribe.data.study import Note
from ctscribe.errors import WrongBodyPart
from ctscribe.tensors import Volume

#: All limits below are conservative choices of this project, set with room on both sides between the real scans that
#: must pass (whole, half, cropped and coarse chests) and the objects that must not; they come from no guideline.
TISSUE_HU = -350.0
BONE_HU = 150.0
LEAST_TISSUE_ML = 150.0
LEAST_LUNG_ML = 40.0
#: Lung that is cut off by the first or last slice and no taller than this is the edge of an abdomen or neck scan.
EDGE_HEIGHT_MM = 95.0
LEAST_HEIGHT_MM = 50.0
#: Correlation of neighbouring voxels: above 0.9 in every CT, 0 in white noise.
LEAST_CORRELATION = 0.5
#: Less bone than this share of the tissue is no trunk (a real chest has 3 to 10 %).
LEAST_BONE_SHARE = 0.004
#: A head has more bone for its size than any other part.
HEAD_BONE_SHARE = 0.12
#: Gas in a hollow object is -1000 HU throughout; lung, even emphysematous, is not.
LUNG_HU = (-965.0, -250.0)
LEAST_LUNG_SPREAD_HU = 25.0
CUT_CM2 = 5.0


@dataclass(frozen=True)
class _Facts:
    """What is measured: millilitres, millimetres, square centimetres, HU, shares."""

    spread: float
    correlation: float
    tissue_ml: float
    tissue_spread: float
    bone_share: float
    right_ml: float
    left_ml: float
    lung_height: float
    lung_median: float
    lung_spread: float
    first_cm2: float
    last_cm2: float
    side_cm2: float
    tissue_at_side: float

    @property
    def lung_ml(self) -> float:
        return self.right_ml + self.left_ml


def check_chest(volume: Volume, segmentation: Segmentation) -> list[Note]:
    """Refuse what is not a chest; say what is missing of one that is.

    Raises:
        WrongBodyPart: with a code: ``empty_image``, ``noise``, ``uniform_object``, ``not_an_axial_volume``,
            ``head``, ``abdomen``, ``neck``, ``no_lungs``, ``phantom``.

    Returns:
        Notes on coverage; none for a whole chest.
    """
    if min(volume.shape) < 8:
        raise _refused(
            "not_an_axial_volume", f"only {min(volume.shape)} voxels along one axis: a projection, not a volume"
        )
    facts = _measure(volume, segmentation)
    _refuse_objects(facts)
    _refuse_other_parts(facts)
    return _coverage(facts)


def _refused(code: str, got: str) -> WrongBodyPart:
    return WrongBodyPart(
        "this is not a chest CT",
        code=code,
        expected="computed tomography of a chest: aerated lung between ribs and spine",
        got=got,
        hint="`ctscribe inspect PATH` lists every series in the folder; choose another one with --series",
    )


def _measure(volume: Volume, segmentation: Segmentation) -> _Facts:
    """Take the numbers on a grid of about 3 mm (every n-th voxel)."""
    step = tuple(max(1, int(3.0 / s)) for s in volume.spacing)
    pick = tuple(slice(None, None, n) for n in step)
    hu = volume.hu[pick].astype(np.float32)
    size = [s * n for s, n in zip(volume.spacing, step, strict=True)]
    ml = float(np.prod(size)) / 1000
    right, left = segmentation.mask("right_lung")[pick], segmentation.mask("left_lung")[pick]
    lungs, tissue = right | left, hu > TISSUE_HU
    inside = hu[lungs]
    held = np.flatnonzero(lungs.any(axis=(1, 2)))
    sides = [lungs[:, 0], lungs[:, -1], lungs[:, :, 0], lungs[:, :, -1]]
    widths = [size[2], size[2], size[1], size[1]]
    cross = size[1] * size[2] / 100
    return _Facts(
        spread=float(hu.std()),
        correlation=_neighbour_correlation(volume),
        tissue_ml=float(tissue.sum()) * ml,
        tissue_spread=float(hu[tissue].std()) if tissue.any() else 0.0,
        bone_share=float((hu > BONE_HU).sum() / max(int(tissue.sum()), 1)),
        right_ml=float(right.sum()) * ml,
        left_ml=float(left.sum()) * ml,
        lung_height=float(held[-1] - held[0] + 1) * size[0] if held.size else 0.0,
        lung_median=float(np.median(inside)) if inside.size else 0.0,
        lung_spread=float(inside.std()) if inside.size else 0.0,
        first_cm2=float(lungs[0].sum()) * cross,
        last_cm2=float(lungs[-1].sum()) * cross,
        side_cm2=sum(float(s.sum()) * size[0] * w / 100 for s, w in zip(sides, widths, strict=True)),
        tissue_at_side=max(float(t.mean()) for t in (tissue[:, :, 0], tissue[:, :, -1])),
    )


def _neighbour_correlation(volume: Volume) -> float:
    """Correlation of voxels with their neighbour in x, over at most 32 slices at full resolution."""
    hu = volume.hu[:: max(1, volume.shape[0] // 32)].astype(np.float32)
    a, b = hu[..., :-1].ravel(), hu[..., 1:].ravel()
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 1.0


def _refuse_objects(facts: _Facts) -> None:
    """Images of no person at all."""
    if facts.spread < 1.0:
        raise _refused("empty_image", "every voxel has the same value")
    if facts.correlation < LEAST_CORRELATION:
        raise _refused("noise", f"neighbouring voxels are unrelated (correlation {facts.correlation:.2f})")
    if facts.tissue_ml < LEAST_TISSUE_ML:
        raise _refused("empty_image", f"only {facts.tissue_ml:.0f} ml of tissue, the rest is air")
    if facts.tissue_spread < 35.0 and facts.bone_share < LEAST_BONE_SHARE:
        raise _refused("uniform_object", "one material of even density, as a water phantom has")


def _refuse_other_parts(facts: _Facts) -> None:
    """Persons (or likenesses), but not a chest."""
    small = f"{facts.lung_ml:.0f} ml of aerated lung over {facts.lung_height:.0f} mm"
    edge = facts.lung_height < EDGE_HEIGHT_MM
    if facts.lung_ml >= LEAST_LUNG_ML and edge and facts.last_cm2 > CUT_CM2:
        raise _refused("abdomen", f"{small} at the top of the scan only, as in an abdominal scan")
    if facts.lung_ml >= LEAST_LUNG_ML and edge and facts.first_cm2 > CUT_CM2:
        raise _refused("neck", f"{small} at the bottom of the scan only, as in a neck scan")
    if facts.lung_ml < LEAST_LUNG_ML or facts.lung_height < LEAST_HEIGHT_MM:
        if facts.bone_share > HEAD_BONE_SHARE:
            raise _refused("head", f"{small}, and {100 * facts.bone_share:.0f} % of the tissue is bone, as in a head")
        raise _refused("no_lungs", small)
    if not LUNG_HU[0] < facts.lung_median < LUNG_HU[1]:
        raise _refused("no_lungs", f"cavities of {facts.lung_median:.0f} HU, which is not lung")
    if facts.bone_share < LEAST_BONE_SHARE or facts.lung_spread < LEAST_LUNG_SPREAD_HU:
        raise _refused("phantom", "cavities without ribs and spine, or without vessels: a test object")


def _coverage(facts: _Facts) -> list[Note]:
    """What of the chest is outside the image."""
    notes = []

    def warn(code: str, message: str) -> None:
        notes.append(Note(code, "warning", message))

    if facts.last_cm2 > CUT_CM2:
        warn("apex_cut_off", "the lung apices are not in the scan")
    if facts.first_cm2 > CUT_CM2:
        warn("base_cut_off", "the lung bases are not in the scan")
    if facts.side_cm2 > CUT_CM2:
        warn("lung_cut_off_at_side", "part of the lung lies outside the field of view")
    smaller, larger = sorted((facts.right_ml, facts.left_ml))
    if smaller < 0.05 * larger:
        side = "left" if facts.left_ml < facts.right_ml else "right"
        warn("one_lung_only", f"no aerated {side} lung: outside the field of view, or without air")
    elif smaller < 0.5 * larger:
        warn("lungs_unequal", f"right lung {facts.right_ml:.0f} ml, left lung {facts.left_ml:.0f} ml")
    if facts.tissue_at_side > 0.5:
        warn("chest_wall_cut_off", "part of the chest wall lies outside the field of view")
    return notes
