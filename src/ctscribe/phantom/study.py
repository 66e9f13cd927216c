"""One synthetic study: anatomy, lesions, scanner, and the truth about all of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.phantom.anatomy import LOBES, REGION_NAMES, Blood, BodyPlan, sample_plan
from ctscribe.phantom.body import draw_organs
from ctscribe.phantom.canvas import DEMO_GRID, Array, Box, Canvas, GridSpec
from ctscribe.phantom.lesions import INSERTABLE, paint, plan_disease
from ctscribe.phantom.prior import LesionPrior, sample_negatives
from ctscribe.phantom.scanner import Scanner, ScannerPrior, sample_scanner, scan
from ctscribe.phantom.scene import BoxIndex, Lesion, Mark, Scene
from ctscribe.phantom.skeleton import draw_skeleton
from ctscribe.phantom.trees import draw_airway, draw_great_vessels, draw_lung_trees, draw_tubes, lung_trees
from ctscribe.report import Evidence, Finding
from ctscribe.tensors import Affine, Volume


@dataclass(frozen=True)
class LesionMask:
    """Voxels of one lesion: a boolean array over a half-open box; lesions may overlap."""

    box_index: BoxIndex
    mask: Array

    @property
    def slices(self) -> Box:
        (z0, y0, x0), (z1, y1, x1) = self.box_index
        return slice(z0, z1), slice(y0, y1), slice(x0, x1)


@dataclass(frozen=True)
class PhantomStudy:
    """A volume whose truth is known. Synthetic, or (from `insert`) a real CT with synthetic lesions.

    Attributes:
        volume: int16 Hounsfield units, canonical orientation.
        regions: uint8 label map (z, y, x), see `region_names`.
        region_names: label value -> ontology region id.
        lesions: what was drawn; `lesion_masks` has the voxels by ``Lesion.label``.
        findings: present ones (one per kind) and pertinent negatives (``status="absent"``).
        meta: age, sex, scanner settings, contrast phase, seed.
    """

    volume: Volume
    regions: Array
    region_names: dict[int, str]
    lesion_masks: dict[int, LesionMask]
    lesions: tuple[Lesion, ...]
    findings: tuple[Finding, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def dense_kinds(self) -> Array:
        """uint8 (F, z, y, x): voxels of every finding kind, in the order of ``ontology.findings()``."""
        order = list(ontology.findings())
        out = np.zeros((len(order), *self.volume.shape), np.uint8)
        for lesion in self.lesions:
            piece = self.lesion_masks[lesion.label]
            view = out[order.index(lesion.kind)][piece.slices]
            view |= piece.mask.astype(np.uint8)
        return out

    def kind_masks(self) -> list[tuple[str, LesionMask]]:
        """The same, sparse: (kind, mask over a box) for every lesion."""
        return [(lesion.kind, self.lesion_masks[lesion.label]) for lesion in self.lesions]

    def report(self, language: ontology.Language = "en", seed: int = 0) -> Any:
        """Sentences of the reference report in ``language``, rendered from `findings`."""
        from ctscribe.report.render import render_findings

        return render_findings(self.findings, language, seed)


def _streams(seed: int, kinds: tuple[str, ...]) -> dict[str, np.random.Generator]:
    """Independent random streams, so that one stage never disturbs another."""
    order = list(ontology.findings())
    return {k: np.random.default_rng([seed, 100 + order.index(k)]) for k in kinds}


def generate(
    seed: int,
    grid: GridSpec = DEMO_GRID,
    *,
    lesions: LesionPrior | None = None,
    scanner: ScannerPrior | None = None,
) -> PhantomStudy:
    """Draw one synthetic study; equal arguments give equal bits.

    Args:
        seed: any non-negative integer.
        grid: voxel grid; 320 x 352 x 352 mm hold a whole chest.
        lesions: what may be drawn. scanner: how it is scanned.

    Raises:
        UsageError: the seed is negative or the grid is too small to hold a chest.
    """
    _check(seed, grid)
    kinds = (lesions or LesionPrior()).sample(np.random.default_rng([seed, 1]))
    machine = sample_scanner(np.random.default_rng([seed, 2]), scanner or ScannerPrior())
    plan = sample_plan(np.random.default_rng([seed, 3]), machine.rotation_deg, machine.shift)
    chosen = plan_disease(kinds, plan, np.random.default_rng([seed, 4]))
    canvas = _blank(grid)
    trees = _anatomy(canvas, plan, seed)
    scene = Scene(canvas, plan, trees, plan.blood, chosen=chosen)
    marks = paint(kinds, scene, _streams(seed, kinds))
    hu = scan(canvas, machine, np.random.default_rng([seed, 6]), scene.metal)
    study = _finish(canvas, hu, marks, np.random.default_rng([seed, 7]))
    meta = {
        "seed": seed, "sex": plan.sex, "age": plan.age, "contrast_phase": plan.phase, "synthetic": True,
        "subcutaneous_fat_mm": round(plan.fat, 1), **machine.meta(),
    }  # fmt: skip
    return replace(study, meta=meta)


def _check(seed: int, grid: GridSpec) -> None:
    if seed < 0:
        raise UsageError("the phantom seed is negative", expected="0 or more", got=str(seed))
    if min(grid.shape) < 8 or min(grid.extent_mm) < 150.0:
        raise UsageError(
            "the phantom grid is too small to hold a chest",
            expected="at least 8 voxels and 150 mm along each axis",
            got=f"shape {grid.shape}, spacing {grid.spacing} mm",
            hint="DEMO_GRID is 64 x 128 x 128 voxels of 5 x 2.75 x 2.75 mm",
        )


def _blank(grid: GridSpec) -> Canvas:
    """Air, with the body's origin (carina) 40 mm above the middle of the grid."""
    z, y, x = (-0.5 * (n - 1) * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    return Canvas(
        hu=np.full(grid.shape, -1000.0, np.float32),
        labels=np.zeros(grid.shape, np.uint8),
        spacing=grid.spacing,
        origin=(x, y, z - 40.0),
        names=dict(REGION_NAMES),
    )


def _anatomy(canvas: Canvas, plan: BodyPlan, seed: int) -> dict[str, list]:
    rng = np.random.default_rng([seed, 5])
    canvas.costal_depth = draw_organs(canvas, plan, (seed, 8))
    draw_great_vessels(canvas, plan)
    draw_tubes(canvas, plan, rng)
    trees = lung_trees(canvas, plan, rng)
    draw_lung_trees(canvas, plan, trees)
    draw_airway(canvas, plan)
    draw_skeleton(canvas, plan, rng)
    return trees


def insert(
    volume: Volume, regions: Array, names: dict[int, str], seed: int, *, lesions: LesionPrior | None = None
) -> PhantomStudy:
    """Put synthetic lesions into a real CT (semi-synthetic).

    Args:
        volume: Hounsfield units in canonical orientation.
        regions: integer label map (z, y, x); ``names`` gives ontology region ids, lobes or at least both lungs.
        seed: any non-negative integer. lesions: what may be drawn; only `INSERTABLE` kinds are.

    Returns:
        A study whose findings are those that were put in, and only they: what the CT itself shows is not known.

    Raises:
        UsageError: labels do not fit the volume, are not canonical, or hold no lung.
    """
    canvas = _real_canvas(volume, regions, names)
    prior = lesions or LesionPrior()
    kinds = tuple(k for k in prior.sample(np.random.default_rng([seed, 1])) if k in INSERTABLE)
    scene = Scene(canvas, None, {}, Blood(*([45.0] * 7)))
    lobes = any(r in LOBES for r in scene.lobes)
    table = ontology.findings()
    kinds = tuple(k for k in kinds if lobes or not set(table[k].regions) <= set(LOBES))
    before = canvas.hu.copy()
    marks = paint(kinds, scene, _streams(seed, kinds))
    canvas.hu += _matching_noise(before, canvas, np.random.default_rng([seed, 6]))
    hu = np.rint(np.clip(canvas.hu, -32768, 32767)).astype(np.int16)
    study = _finish(canvas, hu, marks, np.random.default_rng([seed, 7]), volume.affine, negatives=False)
    return replace(study, meta={"seed": seed, "semi_synthetic": True})


def _real_canvas(volume: Volume, regions: Array, names: dict[int, str]) -> Canvas:
    if regions.shape != volume.shape:
        raise UsageError("regions and volume differ in shape", expected=str(volume.shape), got=str(regions.shape))
    if not volume.affine.is_canonical:
        raise UsageError("lesions are inserted into canonical volumes only", expected="LPS+ axes without rotation",
                         hint="resample or reorient the volume first")  # fmt: skip
    known = ontology.regions()
    wrong = sorted(set(names.values()) - set(known))
    if wrong:
        raise UsageError(f"unknown region names: {', '.join(wrong)}", expected="ids of ctscribe.ontology.regions()")
    lungs = [k for k, v in names.items() if v in LOBES or v in ("right_lung", "left_lung")]
    mask = np.isin(regions, lungs)
    if not mask.any():
        raise UsageError("the label map holds no lung", expected="lobes, or right_lung and left_lung")
    names = dict(names)
    for name in ("right_pleura", "left_pleura"):
        if name not in names.values():
            names[max(names) + 1] = name
    depth = distance_transform_edt(mask, sampling=volume.spacing).astype(np.float32)
    return Canvas(
        hu=np.array(volume.hu, np.float32), labels=np.array(regions, np.uint8), spacing=volume.spacing,
        origin=volume.affine.origin, names=names, costal_depth=depth,
    )  # fmt: skip


def _matching_noise(before: Array, canvas: Canvas, rng: np.random.Generator) -> Array:
    """Drawn voxels get the scan's own noise level, so that smoothness does not give them away."""
    fine = before - gaussian_filter1d(gaussian_filter1d(before, 1.0, axis=1), 1.0, axis=2)
    soft = (before > 0) & (before < 90)
    level = 1.4826 * float(np.median(np.abs(fine[soft]))) if soft.any() else 8.0
    changed = np.abs(canvas.hu - before) > 40.0
    white = gaussian_filter1d(gaussian_filter1d(rng.standard_normal(before.shape, dtype=np.float32), 0.6, 1), 0.6, 2)
    return changed * white * np.float32(level / max(float(white.std()), 1e-6))


# ---- truth ------------------------------------------------------------------------------------------------------


def _finish(
    canvas: Canvas, hu: Array, marks: list[Mark], rng: np.random.Generator, affine: Affine | None = None,
    negatives: bool = True,
) -> PhantomStudy:  # fmt: skip
    affine = affine or Affine.from_spacing(canvas.spacing, canvas.origin)
    lesions, masks = [], {}
    for label, m in enumerate(marks, start=1):
        lesion, piece = _lesion(m, label, affine)
        lesions.append(lesion)
        masks[label] = piece
    present = {lesion.kind for lesion in lesions}
    findings = [
        _finding(kind, [x for x in lesions if x.kind == kind], affine)
        for kind in ontology.findings()
        if kind in present
    ]
    if negatives:
        findings += [Finding(kind, "absent") for kind in sample_negatives(rng, present)]
    return PhantomStudy(
        volume=Volume(hu, affine), regions=canvas.labels, region_names=dict(canvas.names), lesion_masks=masks,
        lesions=tuple(lesions), findings=tuple(findings),
    )  # fmt: skip


def _lesion(m: Mark, label: int, affine: Affine) -> tuple[Lesion, LesionMask]:
    """Shrink the box to the mask."""
    start, cut = [], []
    for axis in range(3):
        line = np.flatnonzero(m.mask.any(axis=tuple(k for k in range(3) if k != axis)))
        cut.append(slice(int(line[0]), int(line[-1]) + 1))
        start.append(m.box[axis].start + int(line[0]))
    mask = np.ascontiguousarray(m.mask[tuple(cut)])
    stop = tuple(a + n for a, n in zip(start, mask.shape, strict=True))
    box = (tuple(start), stop)
    centre = affine.to_world(np.argwhere(mask).mean(axis=0) + start)
    lesion = Lesion(
        m.kind, label, _ordered(m.regions), m.size_mm, tuple(sorted(m.attributes.items())),
        tuple(float(v) for v in centre), box,  # type: ignore[arg-type]
    )  # fmt: skip
    return lesion, LesionMask(box, mask)


def _ordered(regions: Any) -> tuple[str, ...]:
    return tuple(r for r in ontology.regions() if r in set(regions))


def _finding(kind: str, lesions: list[Lesion], affine: Affine) -> Finding:
    """All lesions of a kind in one statement; the largest gives the size."""
    regions: set[str] = set().union(*(x.regions for x in lesions))
    largest = max(lesions, key=lambda x: x.size_mm[:1])
    evidence = tuple(
        Evidence(
            region=x.regions[0],
            box_world=_corners(x.box_index, affine),
            slices=(x.box_index[0][0] + 1, x.box_index[1][0]),
            source="truth",
        )
        for x in lesions
    )
    return Finding(kind, "present", _ordered(regions), largest.size_mm, largest.attributes, None, evidence)


def _corners(box: BoxIndex, affine: Affine) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    corners = affine.to_world(np.array([np.array(box[0]) - 0.5, np.array(box[1]) - 0.5]))
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return tuple(low), tuple(high)


__all__ = ["LesionMask", "PhantomStudy", "Scanner", "generate", "insert"]
