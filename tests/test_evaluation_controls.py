"""Diversity, the shuffled control and bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.evaluation.diversity import collapse_index, distinct_share, diversity, mean_distance
from ctscribe.evaluation.intervals import estimates, resampled_totals, sums_by_cluster
from ctscribe.evaluation.labels import Labels, confusion, present_matrix, vocabulary
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.shuffle import chance_confusion, other_study, shuffled_control
from ctscribe.report import Finding

KINDS = list(ontology.ct_rate_labels().values())


def texts(*words: str) -> list[Record]:
    return [Record(id=str(i), text=text) for i, text in enumerate(words)]


def random_pairs(rng: np.random.Generator, n: int, wrong: float) -> list[Pair]:
    """Pairs whose candidates disagree with the reference in a share `wrong` of the labels."""
    truth = rng.random((n, 18)) < 0.2
    called = truth ^ (rng.random((n, 18)) < wrong)
    sides = []
    for matrix in (called, truth):
        rows = (tuple(Finding(KINDS[c]) for c in np.flatnonzero(row)) for row in matrix)
        sides.append([Record(id=str(i), text="words", findings=f) for i, f in enumerate(rows)])
    return [Pair(c, r) for c, r in zip(*sides, strict=True)]


# ---------------------------------------------------------------------------- diversity


def test_diversity_worked_by_hand():
    system = texts("a b c", "a b c", "a b d", "x y")
    assert distinct_share(system) == 3 / 4
    # bigram sets {ab,bc} {ab,bc} {ab,bd} {xy}: distances 0, 2/3, 1, 2/3, 1, 1
    assert mean_distance(system) == pytest.approx((0 + 2 / 3 + 1 + 2 / 3 + 1 + 1) / 6)
    assert diversity(system, mean_distance(system)).most_common == 2 / 4


def test_collapse_is_one_for_one_text_and_zero_for_the_references_themselves():
    references = texts("a b c", "d e f", "a b f")
    assert collapse_index(texts("a b", "a b", "a b"), references) == 1.0
    assert collapse_index(references, references) == 0.0
    assert collapse_index(references, texts("a b", "a b")) is None
    assert mean_distance(texts("only one")) is None


def test_sampled_distance_is_close_to_the_full_one():
    rng = np.random.default_rng(0)
    many = texts(*(" ".join(rng.choice(list("abcdef"), 8)) for _ in range(150)))
    few = np.mean([mean_distance(many[i : i + 50]) for i in (0, 50, 100)])
    assert mean_distance(many) == pytest.approx(few, abs=0.02)


# ---------------------------------------------------------------------------- shuffle


@pytest.mark.parametrize("seed", range(20))
def test_nobody_meets_their_own_patient(seed):
    rng = np.random.default_rng(seed)
    patients = [("p", int(i)) for i in rng.integers(0, 8, 30)] + [("q", i) for i in range(10)]
    partner = other_study(patients, rng)
    assert sorted(partner) == list(range(40))
    assert all(patients[i] != patients[j] for i, j in enumerate(partner))


def test_there_is_no_other_patient_when_one_has_most_studies():
    assert other_study(["a", "a", "b"], np.random.default_rng(0)) is None
    assert other_study(["a"], np.random.default_rng(0)) is None
    assert other_study(["a", "a", "b", "b"], np.random.default_rng(0)) is not None


def test_a_system_that_reads_the_scan_beats_its_shuffle_and_one_that_guesses_does_not():
    rng = np.random.default_rng(2)
    good = shuffled_control(Labels("ct_rate"), random_pairs(rng, 60, 0.05))["micro_f1"]
    assert good.p == pytest.approx(1 / 21)
    guess = shuffled_control(Labels("ct_rate"), random_pairs(rng, 60, 0.5))["micro_f1"]
    assert guess.p > 0.05
    template = [
        Pair(Record("x", "words", findings=(Finding("emphysema"),)), p.reference) for p in random_pairs(rng, 30, 0)
    ]
    control = shuffled_control(Labels("ct_rate"), template)["micro_f1"]
    assert (control.p, control.spread) == (1.0, pytest.approx(0.0))


def test_shuffled_mean_agrees_with_the_level_of_chance():
    pairs = random_pairs(np.random.default_rng(5), 200, 0.1)
    names = vocabulary("ct_rate")
    truth, called = (present_matrix([getattr(p, side) for p in pairs], names) for side in ("reference", "candidate"))
    hits, invented, missed = (c.sum() for c in chance_confusion(truth, called))
    expected = 2 * hits / (2 * hits + invented + missed)
    control = shuffled_control(Labels("ct_rate"), pairs, permutations=40)["micro_f1"]
    assert control.shuffled == pytest.approx(expected, abs=3 * control.spread / np.sqrt(40) + 0.003)


def test_chance_keeps_the_margins():
    rng = np.random.default_rng(6)
    truth, called = rng.random((50, 4)) < 0.3, rng.random((50, 4)) < 0.4
    tp, fp, fn, _ = (cells.sum(0) for cells in confusion(truth, called))
    hits, invented, missed = chance_confusion(truth, called)
    np.testing.assert_allclose(hits + invented, tp + fp)
    np.testing.assert_allclose(hits + missed, tp + fn)


# ---------------------------------------------------------------------------- intervals


def test_intervals_are_reproducible_and_hold_the_value():
    pairs = random_pairs(np.random.default_rng(0), 60, 0.1)
    scorer = Labels("ct_rate")
    tally, clusters = scorer.tally(pairs), [p.reference.cluster for p in pairs]
    first, second = (estimates(scorer, tally, clusters, resamples=300, seed=4) for _ in range(2))
    assert first == second
    assert first != estimates(scorer, tally, clusters, resamples=300, seed=5)
    micro = first["micro_f1"]
    assert micro.low < micro.value < micro.high


def test_copies_of_a_patient_widen_the_interval_only_when_patients_are_ignored_it_shrinks():
    pairs = random_pairs(np.random.default_rng(1), 30, 0.2) * 4
    scorer = Labels("ct_rate")
    tally = scorer.tally(pairs)

    def width(clusters: list[int]) -> float:
        e = estimates(scorer, tally, clusters, resamples=800)["micro_f1"]
        return e.high - e.low

    by_patient, by_report = width([i % 30 for i in range(120)]), width(list(range(120)))
    assert by_patient == pytest.approx(2 * by_report, rel=0.2)  # four copies: half the width, wrongly


def test_bootstrap_totals_have_the_right_mean_and_variance():
    rng = np.random.default_rng(3)
    rows = rng.random((50, 2))
    totals = resampled_totals(rows, 4000, seed=0)
    np.testing.assert_allclose(totals.mean(0), rows.sum(0), rtol=0.01)
    np.testing.assert_allclose(totals.var(0), 50 * rows.var(0), rtol=0.1)


def test_sums_by_cluster_worked_by_hand():
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 5.0]])
    np.testing.assert_array_equal(sums_by_cluster(rows, ["b", "a", "b"]), [[5.0, 5.0], [2.0, 1.0]])


def test_one_patient_gives_a_value_without_an_interval():
    pairs = random_pairs(np.random.default_rng(0), 5, 0.1)
    scorer = Labels("ct_rate")
    alone = estimates(scorer, scorer.tally(pairs), ["p"] * 5)["micro_f1"]
    assert alone.value is not None
    assert alone.low is None
    assert alone.high is None


def test_a_measure_that_is_often_undefined_has_no_interval():
    mass = Record("0", "words", findings=(Finding("mass"),))
    silent = Record("1", "words")
    pairs = [Pair(mass, mass), *[Pair(silent, silent)] * 3]
    scorer = Labels("ontology")
    e = estimates(scorer, scorer.tally(pairs), list(range(4)), resamples=200)["macro_f1"]
    assert (e.value, e.low) == (1.0, None)
