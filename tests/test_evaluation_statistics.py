"""Permutation tests, corrected p-values, strata and comparisons."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from ctscribe import ontology
from ctscribe.errors import InputRefused, UsageError
from ctscribe.evaluation.compare import compare, shown_p
from ctscribe.evaluation.correction import benjamini_hochberg, holm
from ctscribe.evaluation.facts import facts_of
from ctscribe.evaluation.intervals import all_estimates, estimates, weight_blocks
from ctscribe.evaluation.labels import Labels
from ctscribe.evaluation.permutation import differences
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.run import Settings, evaluated
from ctscribe.evaluation.scorer import Measure, Scorer, ratio
from ctscribe.evaluation.strata import fields_of, grouped, stratum
from ctscribe.evaluation.writer import comparison_html, comparison_latex
from ctscribe.report import Finding

KINDS = list(ontology.ct_rate_labels().values())


class Mean(Scorer):
    """Mean of one number per report: every statistic of it can be worked by hand."""

    name = "mean"
    measures = (Measure("value", "Mean."),)

    def values(self, totals):
        return {"value": ratio(totals[..., 0], totals[..., 1])}


def column(*numbers: float) -> np.ndarray:
    return np.array([(number, 1.0) for number in numbers])


# ------------------------------------------------------------------------------------------ correction


def test_holm_worked_by_hand():
    # sorted 0.01 0.02 0.03 0.04 times 4 3 2 1: 0.04 0.06 0.06 0.04, never falling
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_benjamini_hochberg_equals_scipy():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        p = np.round(rng.random(n) ** 2, 2)
        assert benjamini_hochberg(p.tolist()) == pytest.approx(false_discovery_control(p, method="bh").tolist())


def test_corrections_keep_the_order_and_never_help():
    p = np.random.default_rng(1).random(20).tolist()
    for corrected in (holm(p), benjamini_hochberg(p)):
        assert all(c >= q for c, q in zip(corrected, p, strict=True))
        assert [corrected[i] for i in np.argsort(p)] == sorted(corrected)


# ------------------------------------------------------------------------------------------ permutation


def test_few_patients_give_the_exact_p_of_all_swaps():
    first, second = column(1, 1, 0.4, 0.9), column(0, 0.2, 0.5, 0.3)
    observed = abs(first[:, 0].mean() - second[:, 0].mean())
    reach = 0
    for signs in itertools.product((1, -1), repeat=4):
        gap = (np.array(signs) * (first[:, 0] - second[:, 0])).mean()
        reach += abs(gap) >= observed - 1e-12
    found = differences(Mean(), first, second, list("abcd"), permutations=500, resamples=50)["value"]
    assert found.p == pytest.approx(reach / 16)
    assert found.value == pytest.approx(first[:, 0].mean() - second[:, 0].mean())


def test_the_scans_of_a_patient_change_sides_together():
    first, second = column(*[1.0] * 6), column(*[0.0] * 6)
    by_report = differences(Mean(), first, second, list("abcdef"))["value"]
    by_patient = differences(Mean(), first, second, list("aabbcc"))["value"]
    assert (by_report.p, by_patient.p) == (2 / 64, 2 / 8)


def test_drawn_swaps_agree_with_all_swaps():
    rng = np.random.default_rng(0)
    first, second = column(*rng.random(10)), column(*(rng.random(10) - 0.25))
    exact = differences(Mean(), first, second, list(range(10)), permutations=1024)["value"].p
    drawn = differences(Mean(), first, second, list(range(10)), permutations=1000)["value"].p
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 1000) + 0.002)


def test_a_system_does_not_differ_from_itself_and_the_test_keeps_its_level():
    rng = np.random.default_rng(2)
    same = column(*rng.random(30))
    found = differences(Mean(), same, same, list(range(30)), permutations=200)["value"]
    assert (found.value, found.p, found.low, found.high) == (0.0, 1.0, 0.0, 0.0)
    p = []
    for trial in range(200):
        a, b = column(*rng.random(15)), column(*rng.random(15))
        p.append(differences(Mean(), a, b, list(range(15)), permutations=99, resamples=0, seed=trial)["value"].p)
    assert np.mean(np.array(p) <= 0.2) == pytest.approx(0.2, abs=0.09)


def test_one_patient_cannot_be_tested():
    found = differences(Mean(), column(1, 1), column(0, 0), ["a", "a"])["value"]
    assert (found.value, found.p, found.low) == (1.0, None, None)


def test_smaller_p_values_are_shown_as_a_bound():
    assert [shown_p(p) for p in (None, 0.0004, 0.25)] == ["-", "<0.001", "0.250"]


# ------------------------------------------------------------------------------------------ bootstrap


def test_scorers_share_the_samples_they_would_draw_alone():
    rng = np.random.default_rng(0)
    tallies = {"mean": column(*rng.random(40)), "labels18": rng.integers(0, 2, (40, 54)).astype(float)}
    scorers = [Mean(), Labels("ct_rate")]
    clusters = [i // 2 for i in range(40)]
    together = all_estimates(scorers, tallies, clusters, resamples=60, seed=3)
    for scorer in scorers:
        alone = estimates(scorer, tallies[scorer.name], clusters, resamples=60, seed=3)
        assert together[scorer.name] == alone


def test_bootstrap_blocks_stay_small_and_draw_as_many_as_there_are():
    n = 30_000
    blocks = list(weight_blocks(n, 300, seed=0))
    assert sum(len(block) for block in blocks) == 300
    assert max(block.nbytes for block in blocks) < 40_000_000
    assert all((block.sum(axis=1) == n).all() for block in blocks)


# ------------------------------------------------------------------------------------------ strata


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("age", "045Y", "40 to 59"),
        ("age", 39.9, "under 40"),
        ("age", 80, "80 and over"),
        ("age", "unknown", "not stated"),
        ("thickness_mm", "1.0 mm", "up to 1 mm"),
        ("thickness_mm", 1.25, "over 1 to 2 mm"),
        ("thickness_mm", 8, "over 5 mm"),
        ("sex", "F", "female"),
        ("sex", "male", "male"),
        ("scanner", "Scanner B", "Scanner B"),
    ],
)
def test_values_fall_into_their_stratum(field, value, expected):
    assert stratum(field, value) == expected


def described(n: int, **fields) -> list[Record]:
    return [
        Record(f"s{i}", "The heart is enlarged.", findings=(Finding("cardiomegaly"),), patient=f"p{i}",
               metadata=tuple((k, v(i)) for k, v in fields.items() if v(i) is not None))
        for i in range(n)
    ]  # fmt: skip


def test_strata_cover_every_report_once_and_those_that_say_nothing_come_last():
    records = described(20, scanner=lambda i: None if i == 0 else "A" if i % 3 else "B")
    groups = grouped(facts_of([Pair(r, r) for r in records]), "scanner")
    assert list(groups) == ["A", "B", "not stated"]
    assert sorted(np.concatenate(list(groups.values()))) == list(range(20))


def test_a_field_with_many_values_keeps_the_largest_and_pools_the_rest():
    records = described(40, site=lambda i: f"site {i if i > 9 else 0}")
    groups = grouped(facts_of([Pair(r, r) for r in records]), "site")
    assert next(iter(groups)) == "site 0"
    assert "others" in groups
    assert len(groups) == 13


def test_a_stratum_scores_what_its_reports_alone_score():
    references = described(12, sex=lambda i: "FM"[i % 2])
    ours = [Record(r.id, r.text, findings=r.findings if i % 2 else ()) for i, r in enumerate(references)]
    card = evaluated(ours, references, "x", Settings(resamples=20, baselines=False)).card
    rows = {row["stratum"]: row for row in card.strata}
    assert rows["male"]["labels18.micro_f1"] == 1.0
    assert rows["female"]["labels18.micro_f1"] == 0.0
    assert (rows["male"]["reports"], rows["male"]["patients"]) == (6, 6)
    assert rows["male"]["labels18.micro_f1 low"] == 1.0


def test_a_field_nobody_states_is_refused_only_when_it_is_asked_for():
    facts = facts_of([Pair(r, r) for r in described(3)])
    assert fields_of(facts) == []
    with pytest.raises(InputRefused, match="kernel"):
        fields_of(facts, ["kernel"])


# ------------------------------------------------------------------------------------------ comparison


def systems(n: int = 40):
    rng = np.random.default_rng(0)
    truth = rng.random((n, 18)) < 0.25
    made = []
    for share in (0.02, 0.35):
        called = truth ^ (rng.random(truth.shape) < share)
        made.append([
            Record(f"s{i}", "words", findings=tuple(Finding(KINDS[c]) for c in np.flatnonzero(row)))
            for i, row in enumerate(called)
        ])  # fmt: skip
    references = [
        Record(f"s{i}", "words", findings=tuple(Finding(KINDS[c]) for c in np.flatnonzero(row)), patient=f"p{i // 2}")
        for i, row in enumerate(truth)
    ]
    settings = Settings(scorers=[Labels("ct_rate")], resamples=100, baselines=False)
    return [evaluated(m, references, f"system {k}", settings) for m, k in zip(made, "AB", strict=True)]


@pytest.fixture(scope="module")
def both():
    return systems()


def test_the_better_system_is_named_with_interval_and_corrected_p(both):
    row = compare(*both, swaps=999)["labels18.micro_f1"]
    assert row["difference"] == pytest.approx(row["first"] - row["second"])
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert row["p"] == pytest.approx(1 / 1000)
    assert row["p"] <= row["p_bh"] <= row["p_holm"] == pytest.approx(6 / 1000)
    assert row["better"] == "system A"
    turned = compare(both[1], both[0], swaps=999)["labels18.micro_f1"]
    assert turned["better"] == "system A"
    assert turned["difference"] == pytest.approx(-row["difference"])


def test_a_comparison_has_its_page_table_and_json(both):
    found = compare(*both, swaps=99)
    page = comparison_html(found)
    assert "<svg" in page
    assert "system A better" in page
    assert "http" not in page
    assert comparison_latex(found).count(r"\\") == 1 + len(found.rows)
    assert json.loads(found.to_json())["rows"][0]["measure"] == "labels18.macro_f1"
    assert all(row["measure"] in found.to_text() for row in found.rows)
    with pytest.raises(UsageError, match="labels18"):
        found["bleu"]


def test_different_studies_or_metrics_cannot_be_compared(both):
    fewer = systems(38)
    with pytest.raises(InputRefused, match="different studies"):
        compare(both[0], fewer[1])
    other = Settings(scorers=[Labels("ontology")], resamples=0, baselines=False)
    records = [Record(name, "words") for name in both[0].facts.ids]
    with pytest.raises(InputRefused, match="nothing to compare"):
        compare(both[0], evaluated(records, records, "x", other))
