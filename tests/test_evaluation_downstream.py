"""Nodules, diseases, ranking, calibration and FROC: equal to scikit-learn, or worked by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ctscribe import ontology
from ctscribe.errors import ConfigError
from ctscribe.evaluation import downstream, evaluate
from ctscribe.evaluation.calibration import BINS, Calibration
from ctscribe.evaluation.detection import RATES, cpm, detections, froc, judged, sensitivities
from ctscribe.evaluation.disease import Diseases, _rule, diseases
from ctscribe.evaluation.facts import facts_of, ranked_names
from ctscribe.evaluation.nodules import Nodules, matches
from ctscribe.evaluation.ranking import Ranked, auprc, auroc
from ctscribe.evaluation.record import Box, Pair, Record
from ctscribe.report import Finding


def nodule(region: str | None = None, mm: float | None = None, kind: str = "lung_nodule") -> Finding:
    return Finding(kind, regions=(region,) if region else (), size_mm=(mm,) if mm else ())


def pair(candidate: list[Finding], reference: list[Finding]) -> Pair:
    return Pair(Record("s", "words", findings=tuple(candidate)), Record("s", "words", findings=tuple(reference)))


# ------------------------------------------------------------------------------------------ nodules


@pytest.mark.parametrize(
    ("candidate", "reference", "plain", "detailed"),
    [
        (nodule("right_upper_lobe", 8), nodule("right_upper_lobe", 8), 1, 1),
        (nodule("right_upper_lobe", 8), nodule("left_upper_lobe", 8), 0, 0),
        (nodule("right_upper_lobe", 8), nodule("right_lower_lobe", 8), 0, 0),
        (nodule("rul_apical_segment", 8), nodule("right_upper_lobe", 8), 1, 1),
        (nodule("right_lung", 8), nodule("right_upper_lobe", 8), 1, 0),  # silent about the lobe
        (nodule("left_lung", 8), nodule("right_upper_lobe", 8), 0, 0),
        (nodule(None, 8), nodule("right_upper_lobe", 8), 1, 0),
        (nodule("right_upper_lobe"), nodule("right_upper_lobe", 8), 1, 0),  # silent about the size
        (nodule("right_upper_lobe", 10), nodule("right_upper_lobe", 8), 0, 0),  # tolerance is 1.6 mm
        (nodule("right_upper_lobe", 9.5), nodule("right_upper_lobe", 8), 1, 1),
        (nodule("right_upper_lobe", 8), nodule("right_upper_lobe"), 1, 1),
        (nodule("right_upper_lobe", 31, "mass"), nodule("right_upper_lobe", 29), 1, 1),
    ],
)
def test_two_nodules_match_when_nothing_they_say_disagrees(candidate, reference, plain, detailed):
    one = pair([candidate], [reference])
    assert len(matches(one)) == plain
    assert len(matches(one, strict=True)) == detailed


def test_nodules_are_matched_one_to_one_and_for_the_most_matches():
    # Greedily the vague nodule could take the only partner of the precise one.
    reference = [nodule("right_upper_lobe", 8), nodule("right_lower_lobe", 8)]
    candidate = [nodule("right_lung", 8), nodule("right_upper_lobe", 8)]
    assert sorted(matches(pair(candidate, reference))) == [(0, 1), (1, 0)]
    assert len(matches(pair([nodule(None)] * 3, [nodule(None)]))) == 1


def test_nodule_scores_worked_by_hand():
    reference = [nodule("right_upper_lobe", 8), nodule("left_lower_lobe", 5)]
    candidate = [nodule("right_upper_lobe"), nodule("lingula", 12), nodule("right_lower_lobe", 4)]
    scorer = Nodules()
    values = scorer.values(scorer.tally([pair(candidate, reference)]).sum(axis=0))
    assert values["precision"] == pytest.approx(1 / 3)
    assert values["recall"] == pytest.approx(1 / 2)
    assert values["f1"] == pytest.approx(2 / 5)
    assert values["detailed_f1"] == 0.0
    empty = scorer.values(scorer.tally([pair([], [])]).sum(axis=0))
    assert all(np.isnan(value) for value in empty.values())


# ------------------------------------------------------------------------------------------ boxes


def ball(x: float, mm: float = 10.0, score: float | None = None) -> Box:
    return Box((x, 0.0, 0.0), mm, score)


def test_a_detection_hits_within_the_radius_and_only_the_surest_counts():
    found = [ball(4.9, score=0.5), ball(0.0, score=0.9), ball(5.0, score=0.8), ball(40, score=0.3)]
    assert sorted(judged(found, [ball(0.0)])) == [(0.3, False), (0.8, False), (0.9, True)]
    assert judged([], [ball(0.0)]) == []
    assert judged([ball(0.0, score=0.7)], [ball(1.0), ball(-1.0)]) == [(0.7, True), (0.7, True)]


def test_froc_and_cpm_worked_by_hand():
    # Two scans, three nodules. From the top: hit 0.9, false 0.8, hit 0.7, false 0.6; one nodule is never found.
    scans = [
        ([ball(0, score=0.9), ball(50, score=0.8)], [ball(0)]),
        ([ball(0, score=0.7), ball(60, score=0.6)], [ball(0), ball(30)]),
    ]
    found = detections(scans)
    rates, sensitivity = froc(found)
    np.testing.assert_allclose(rates, [0, 0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(sensitivities(found), [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert cpm(found) == pytest.approx((2 / 3 * 5 + 1 / 3 * 2) / 7)


def test_a_weight_of_two_is_a_scan_that_is_there_twice():
    rng = np.random.default_rng(0)
    scans = [
        ([ball(float(x), score=float(s)) for x, s in rng.random((6, 2)) * [60, 1]], [ball(10), ball(30)])
        for _ in range(5)
    ]
    weights = np.array([2.0, 0.0, 1.0, 1.0, 3.0])
    copies = [scan for scan, times in zip(scans, weights.astype(int), strict=True) for _ in range(times)]
    assert cpm(detections(scans), weights) == pytest.approx(cpm(detections(copies)))


def test_equal_scores_share_a_threshold_and_nothing_found_scores_zero():
    scans = [([ball(0, score=0.5), ball(50, score=0.5)], [ball(0)])]
    np.testing.assert_allclose(froc(detections(scans))[1], [0, 1])
    assert cpm(detections([([], [ball(0)])])) == 0.0
    assert np.isnan(cpm(detections([([ball(0, score=1.0)], [])])))
    assert len(RATES) == 7


# ------------------------------------------------------------------------------------------ ranking


@pytest.mark.parametrize("digits", [1, 12])
def test_areas_equal_scikit_learn_with_ties_and_weights(digits):
    rng = np.random.default_rng(digits)
    truth = rng.random(200) < 0.3
    score = np.round(np.clip(0.3 * truth + rng.random(200), 0, 1.3), digits)
    ranked = Ranked.of(score, truth, np.arange(200))
    weights = np.stack([np.ones(200), rng.integers(0, 4, 200).astype(float)])
    for area, reference in ((auroc, roc_auc_score), (auprc, average_precision_score)):
        expected = [reference(truth, score, sample_weight=w) for w in weights]
        np.testing.assert_allclose(area(ranked, weights), expected, atol=1e-12)


def test_areas_need_both_classes_and_leave_out_what_has_no_score():
    one = np.ones((1, 3))
    assert np.isnan(auroc(Ranked.of(np.array([0.1, 0.2, 0.3]), np.ones(3, bool), np.arange(3)), one))
    assert np.isnan(auprc(Ranked.of(np.full(3, np.nan), np.ones(3, bool), np.arange(3)), one))
    some = Ranked.of(np.array([0.9, np.nan, 0.1]), np.array([True, True, False]), np.arange(3))
    assert (auroc(some, one)[0], some.support) == (1.0, 1)


def probable(n: int, seed: int = 0) -> list[Pair]:
    """Pairs with probabilities that know something."""
    rng = np.random.default_rng(seed)
    kinds = list(ontology.findings())
    pairs = []
    for i in range(n):
        said = [kind for kind in kinds if rng.random() < 0.3]
        given = {kind: float(np.clip(0.3 + 0.4 * (kind in said) + rng.normal(0, 0.2), 0, 1)) for kind in kinds}
        reference = Record(f"s{i}", "words", findings=tuple(map(Finding, said)), patient=f"p{i // 2}")
        pairs.append(Pair(Record(f"s{i}", "words", probabilities=tuple(given.items())), reference))
    return pairs


def test_the_scorecards_ranking_is_the_mean_over_labels_and_its_interval_holds_it():
    pairs = probable(60)
    card = evaluate([p.candidate for p in pairs], [p.reference for p in pairs], resamples=50, baselines=False)
    facts = facts_of(pairs)
    columns = [ranked_names().index(kind) for kind in ontology.ct_rate_labels().values()]
    expected = np.mean([roc_auc_score(facts.truth[:, c], facts.probabilities[:, c]) for c in columns])
    found = card["ranking.auroc"].estimate
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
    assert {row["label"] for row in card.tables["ranking"]} == set(ranked_names())
    assert card["calibration.brier"].estimate.value is not None


def test_without_probabilities_and_boxes_the_scorecard_does_not_speak_of_them():
    plain = [Record(f"s{i}", "The heart is enlarged.", findings=(Finding("cardiomegaly"),)) for i in range(3)]
    card = evaluate(plain, plain, resamples=0)
    scorers = {result.scorer for result in card.results}
    assert not scorers & {"ranking", "calibration", "froc"}
    assert {"nodules", "disease"} <= scorers


def test_boxes_reach_the_scorecard():
    record = [Record(f"s{i}", "words", boxes=(ball(0),)) for i in range(4)]
    found = [Record(f"s{i}", "words", boxes=(ball(0, score=0.9),) if i else None) for i in range(4)]
    card = evaluate(found, record, resamples=20)
    assert card.value("froc.cpm") == 1.0
    assert "boxes are given for 3 of 4 scans" in " ".join(card.notes)
    assert card.curves["froc"][0] == (0.0, 0.0)


def test_every_measure_this_room_may_add_is_named():
    pairs = probable(30)
    boxed = [Record(p.reference.id, "words", findings=p.reference.findings, boxes=(ball(0),)) for p in pairs[1:]]
    boxed.append(Record("s0", "words", findings=(Finding("ground_glass_opacity", regions=("lungs",)),), boxes=()))
    ours = [Record(p.candidate.id, "words", probabilities=p.candidate.probabilities, boxes=()) for p in pairs]
    card = evaluate(ours, boxed, resamples=0)
    assert {r.name for r in card.results} >= set(downstream.measure_names())


# ------------------------------------------------------------------------------------------ calibration


def test_calibration_equals_the_brier_score_and_a_direct_ece():
    pairs = probable(40, seed=3)
    scorer = Calibration()
    totals = scorer.tally(pairs).sum(axis=0)
    decisions = [(p, kind in pair.reference.implied) for pair in pairs for kind, p in pair.candidate.probabilities]
    p, y = np.array([d[0] for d in decisions]), np.array([d[1] for d in decisions])
    values = scorer.values(totals)
    assert values["brier"] == pytest.approx(brier_score_loss(y, p))
    edges = np.linspace(0, 1, BINS + 1)
    gaps = 0.0
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = (p > low) & (p <= high) if i else (p <= high)
        gaps += abs(y[inside].sum() - p[inside].sum())
    assert values["ece"] == pytest.approx(gaps / len(p))
    assert sum(row["decisions"] for row in scorer.table(totals)) == len(p)


def test_a_system_that_is_right_as_often_as_it_says_is_calibrated():
    truth = Record("a", "words", findings=(Finding("mass"),))
    silent = Record("a", "words")
    half = Record("a", "words", probabilities=(("mass", 0.5),))
    sure = Record("a", "words", probabilities=(("mass", 1.0),))
    scorer = Calibration()
    assert scorer.values(scorer.tally([Pair(half, truth), Pair(half, silent)]).sum(axis=0))["ece"] == 0.0
    assert scorer.values(scorer.tally([Pair(sure, truth), Pair(sure, silent)]).sum(axis=0))["ece"] == 0.5
    assert np.isnan(scorer.values(scorer.tally([Pair(silent, truth)]).sum(axis=0))["ece"])


# ------------------------------------------------------------------------------------------ diseases


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([Finding("consolidation", regions=("left_lower_lobe",))], {"pneumonia"}),
        ([Finding("tree_in_bud", "uncertain")], {"pneumonia"}),
        ([Finding("consolidation", "absent")], set()),
        ([Finding("ground_glass_opacity", regions=("left_lower_lobe", "right_lower_lobe"))], {"covid_like"}),
        ([Finding("ground_glass_opacity", regions=("left_lower_lobe",))], set()),
        ([Finding("ground_glass_opacity", regions=("lungs",)), Finding("pleural_effusion")], set()),
        ([Finding("lung_nodule", size_mm=(14.0,))], set()),
        ([Finding("lung_nodule", size_mm=(15.0,))], {"tumour"}),
        ([Finding("lung_nodule")], set()),
        ([Finding("mass")], {"tumour"}),
    ],
)
def test_diseases_follow_their_rules(findings, expected):
    record = Record("a", "words", findings=tuple(findings))
    assert {name for name, rule in diseases().items() if rule.holds(record)} == expected


def test_disease_f1_worked_by_hand():
    ill, well = Record("a", "words", findings=(Finding("mass"),)), Record("a", "words")
    pairs = [Pair(ill, ill), Pair(ill, well), Pair(well, ill), Pair(well, well)]
    scorer = Diseases()
    values = scorer.values(scorer.tally(pairs).sum(axis=0))
    assert values["f1_tumour"] == pytest.approx(2 / 4)
    assert np.isnan(values["f1_pneumonia"])


def test_a_disease_has_the_score_of_its_rule_unless_it_is_given():
    probabilities = {"ground_glass_opacity": 0.8, "cavity": 0.1, "tree_in_bud": 0.3, "pleural_effusion": 0.4}
    assert diseases()["covid_like"].score(probabilities) == pytest.approx(0.6)
    assert diseases()["covid_like"].score({"ground_glass_opacity": 0.8}) is None
    given = Record("a", "words", probabilities=(("pneumonia", 0.25), ("consolidation", 0.9), ("tree_in_bud", 0.9)))
    row = dict(zip(ranked_names(), facts_of([Pair(given, given)]).probabilities[0], strict=True))
    assert row["pneumonia"] == 0.25


def test_a_rule_about_an_unknown_finding_is_refused():
    with pytest.raises(ConfigError, match="dragon"):
        _rule("x", {"says": "x", "source": "x", "any": ["dragon"]})
    assert all(rule.source for rule in diseases().values())
