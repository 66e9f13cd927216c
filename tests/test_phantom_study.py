"""Laws of the phantom: same seed same bits, legal findings, and truth that follows from the picture."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.phantom import PREVALENCE, GridSpec, LesionPrior, PhantomStudy, ScannerPrior, body, generate
from ctscribe.phantom.anatomy import LOBES
from ctscribe.phantom.prior import sample_negatives

SMALL = GridSpec(shape=(42, 80, 80), spacing=(7.5, 4.4, 4.4))
KINDS = tuple(k for k in PREVALENCE if k != "lung_opacity")
QUIET = ScannerPrior(noise=(1.0, 1.5), motion=0.0, streaks=0.0, circle=1.0, thickness=(1.0,), kernels=("medium",))


@cache
def drawn(kind: str | None, seed: int = 3) -> PhantomStudy:
    return generate(seed, SMALL, lesions=LesionPrior(force=() if kind is None else (kind,)), scanner=QUIET)


@cache
def normal() -> PhantomStudy:
    return generate(1, lesions=LesionPrior(force=()))


def region(study: PhantomStudy, *names: str) -> np.ndarray:
    return np.isin(study.regions, [k for k, v in study.region_names.items() if v in names])


def union(study: PhantomStudy) -> np.ndarray:
    out = np.zeros(study.volume.shape, bool)
    for _, piece in study.kind_masks():
        out[piece.slices] |= piece.mask
    return out


def test_equal_seeds_give_equal_bits_and_different_seeds_do_not() -> None:
    first, again, other = generate(5, SMALL), generate(5, SMALL), generate(6, SMALL)
    assert np.array_equal(first.volume.hu, again.volume.hu)
    assert np.array_equal(first.regions, again.regions)
    assert first.findings == again.findings
    assert first.lesions == again.lesions
    assert first.meta == again.meta
    assert not np.array_equal(first.volume.hu, other.volume.hu)


def test_drawing_in_slabs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate(4, SMALL)
    monkeypatch.setattr(body, "_SLAB_VOXELS", 40_000)
    assert np.array_equal(generate(4, SMALL).volume.hu, whole.volume.hu)


def test_forcing_a_lesion_leaves_the_patient_alone() -> None:
    """The same seed is the same person: only the nodule's surroundings differ."""
    with_nodule, without = drawn("lung_nodule"), drawn(None)
    differs = with_nodule.volume.hu != without.volume.hu
    assert 0 < differs.mean() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_legal_and_visible(kind: str) -> None:
    seed = next((s for s in (3, 4, 5) if drawn(kind, s).lesions), None)
    assert seed is not None, f"{kind} was never drawn"
    study, bare = drawn(kind, seed), drawn(None, seed)
    rule = ontology.findings()[kind]
    assert {x.kind for x in study.lesions} == {kind}
    for lesion in study.lesions:
        assert lesion.regions
        assert set(lesion.regions) <= set(rule.regions)
        assert {name for name, _ in lesion.attributes} == set(rule.attributes)
        assert all(value in rule.attributes[name] for name, value in lesion.attributes)
        assert (rule.size_mm is None) == (lesion.size_mm == ())
        if rule.size_mm is not None:
            assert rule.size_mm[0] <= min(lesion.size_mm) <= max(lesion.size_mm) <= rule.size_mm[1]
            assert all(float(v).is_integer() for v in lesion.size_mm)
        assert study.lesion_masks[lesion.label].mask.any()
    change = np.abs(study.volume.hu.astype(np.int32) - bare.volume.hu)
    assert change[union(study)].mean() > 12.0
    assert change[union(study)].max() > 25.0


def test_findings_say_what_was_drawn() -> None:
    study = generate(11, SMALL)
    present = {f.kind: f for f in study.findings if f.status == "present"}
    assert set(present) == {x.kind for x in study.lesions}
    assert len(present) >= 2
    for kind, finding in present.items():
        mine = [x for x in study.lesions if x.kind == kind]
        assert set(finding.regions) == {r for x in mine for r in x.regions}
        assert finding.size_mm == max(x.size_mm for x in mine)
        assert len(finding.evidence) == len(mine)
        assert finding.regions == tuple(r for r in ontology.regions() if r in finding.regions)


def test_absent_findings_never_contradict_the_picture() -> None:
    prior = LesionPrior()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        present = set(prior.sample(rng))
        absent = set(sample_negatives(rng, present))
        implied = {i for k in present for i in ontology.findings()[k].implies}
        assert 3 <= len(absent) <= 6
        assert not absent & (present | implied)
    study = generate(2, SMALL)
    denied = {f.kind for f in study.findings if f.status == "absent"}
    assert denied
    assert not denied & {x.kind for x in study.lesions}


def test_what_cannot_be_seen_is_not_claimed() -> None:
    """Many opacities compete for the same lobes: each one that is claimed changed the picture where it lies."""
    crowd = ("consolidation", "ground_glass_opacity", "atelectasis", "pleural_effusion", "emphysema", "lung_nodule")
    for seed in (3, 6, 9):
        study = generate(seed, SMALL, lesions=LesionPrior(force=crowd), scanner=QUIET)
        bare = generate(seed, SMALL, lesions=LesionPrior(force=()), scanner=QUIET)
        for lesion in study.lesions:
            piece = study.lesion_masks[lesion.label]
            new, old = (s.volume.hu[piece.slices][piece.mask].astype(np.int32) for s in (study, bare))
            assert np.abs(new - old).mean() > 8.0, lesion


def test_boxes_and_dense_masks_agree() -> None:
    study = generate(11, SMALL)
    dense = study.dense_kinds()
    order = list(ontology.findings())
    assert dense.shape == (len(order), *SMALL.shape)
    for lesion in study.lesions:
        piece = study.lesion_masks[lesion.label]
        assert piece.box_index == lesion.box_index
        assert dense[order.index(lesion.kind)][piece.slices][piece.mask].all()
        for axis in range(3):  # the box is tight
            line = piece.mask.any(axis=tuple(k for k in range(3) if k != axis))
            assert line[0]
            assert line[-1]
        (low, high) = (np.array(c) for c in lesion.box_index)
        index = study.volume.affine.to_index(np.array(lesion.centre_world))
        assert (index >= low - 0.5).all()
        assert (index <= high - 0.5).all()
    assert set(np.flatnonzero(dense.any(axis=(1, 2, 3)))) == {order.index(x.kind) for x in study.lesions}


def test_prior_is_as_common_as_it_says() -> None:
    prior = LesionPrior()
    rng = np.random.default_rng(0)
    draws = [prior.sample(rng) for _ in range(3000)]
    counts = np.array([len(d) for d in draws])
    assert 0.06 < (counts == 0).mean() < 0.14
    assert counts.max() <= 7
    assert 3.0 < counts.mean() < 4.5
    for kind in KINDS:
        rate = np.mean([kind in d for d in draws])
        assert 0.04 < rate < 0.28, kind


def test_a_thorax_looks_like_one() -> None:
    study = normal()
    hu = study.volume.hu
    z, y, x = np.indices(hu.shape)
    litres = region(study, *LOBES).sum() * np.prod(study.volume.spacing) / 1e6
    assert 2.0 < litres < 8.0
    for lobe in LOBES:
        assert region(study, lobe).sum() * np.prod(study.volume.spacing) > 1e5, lobe
    assert -890 < hu[region(study, *LOBES)].mean() < -740
    right, left = region(study, *LOBES[:3]), region(study, *LOBES[3:])
    middle = x[region(study, "spine")].mean()
    assert x[right].mean() < middle < x[left].mean()  # canonical: x grows to the patient's left
    assert x[region(study, "heart")].mean() > middle
    assert y[region(study, "spine")].mean() > y[region(study, "heart")].mean()
    assert (
        z[region(study, "upper_abdomen")].mean() < z[region(study, "heart")].mean() < z[region(study, "trachea")].mean()
    )
    upper, lower = region(study, "right_upper_lobe"), region(study, "right_lower_lobe")
    assert z[upper].mean() > z[lower].mean()
    assert np.median(hu[region(study, "trachea")]) < -900
    assert 30 < np.median(hu[region(study, "aorta")]) < 450
    assert np.percentile(hu[region(study, "spine")], 95) > 300
    assert (hu[:, 0] < -900).mean() > 0.6  # air in front of the patient
    assert set(ontology.regions()) >= set(study.region_names.values())


@pytest.mark.parametrize("severity", ["normal", "severe"])
def test_cardiomegaly_shows_in_the_cardiothoracic_ratio(severity: str) -> None:
    kind = None if severity == "normal" else "cardiomegaly"
    seeds = range(3, 7) if kind else range(3, 5)
    ratios = []
    for seed in seeds:
        study = drawn(kind, seed)
        if kind and dict(study.lesions[0].attributes)["severity"] == "mild":
            continue
        wide = lambda mask: np.ptp(np.flatnonzero(mask.any(axis=(0, 1)))) + 1
        ratios.append(wide(region(study, "heart", "pericardium")) / wide(region(study, *LOBES)))
    assert ratios
    assert all(r > 0.5 for r in ratios) if kind else all(r < 0.5 for r in ratios), ratios


def test_aortic_aneurysm_is_as_wide_as_it_says() -> None:
    for seed in (3, 5):
        study = drawn("aortic_aneurysm", seed)
        (lesion,) = study.lesions
        piece = study.lesion_masks[lesion.label]
        area = piece.mask.sum(axis=(1, 2)) * study.volume.spacing[1] * study.volume.spacing[2]
        diameter = 2 * np.sqrt(np.median(area) / np.pi)
        assert diameter == pytest.approx(lesion.size_mm[0], rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "negative"),
        ({"seed": 1, "grid": GridSpec((64, 64, 64), (1.0, 1.0, 1.0))}, "too small"),
    ],
)
def test_wrong_use_is_said_so(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        generate(**arguments)


def test_unknown_kind_in_the_prior_is_named() -> None:
    with pytest.raises(UsageError, match="broken_heart"):
        LesionPrior(force=("broken_heart",))


def test_a_crowded_prior_draws_more_of_everything_that_is_drawn_at_all() -> None:
    def mean_kinds(prior: LesionPrior) -> float:
        rng = np.random.default_rng(0)
        return float(np.mean([len(prior.sample(rng)) for _ in range(400)]))

    plain, crowded = LesionPrior(), LesionPrior.crowded(2.0)
    assert LesionPrior.crowded(1.0) == plain
    assert all((crowded.prevalence[k] > p) == (p > 0) for k, p in plain.prevalence.items())
    assert 1.6 < mean_kinds(crowded) / mean_kinds(plain) < 2.2
