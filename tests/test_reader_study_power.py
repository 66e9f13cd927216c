"""Planned sizes: against simulation, textbook values and published standard errors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ctscribe.errors import UsageError
from ctscribe.evaluation.reader_study.agreement import Cohen
from ctscribe.evaluation.reader_study.compare import mrmc
from ctscribe.evaluation.reader_study.power import TYPICAL_SCORES, Plan, _table_error, half_width, kappa_error


def test_one_reader_is_the_paired_t_test():
    """Cohen 1988: 34 pairs find half a standard deviation with power 0.81, and it is the fewest that reach 0.8."""
    plan = Plan(0.5, 1.0, readers=1, reader_share=0.0, case_share=0.5)
    assert plan.power(34) == pytest.approx(0.808, abs=5e-4)
    assert plan.cases_needed(0.8) == 34
    assert plan.power(34, other_readers=True) is None
    assert plan.cases_needed(0.8, other_readers=True) is None


def simulated(plan: Plan, cases: int, studies: int) -> float:
    """Share of simulated studies in which the analysis of variance finds the difference."""
    rng = np.random.default_rng(5)
    shares = np.sqrt([plan.reader_share, plan.case_share, 1 - plan.reader_share - plan.case_share])
    found = 0
    for _ in range(studies):
        parts = [
            rng.normal(size=(plan.readers, 1)),
            rng.normal(size=(1, cases)),
            rng.normal(size=(plan.readers, cases)),
        ]
        d = plan.difference + plan.sd * sum(share * part for share, part in zip(shares, parts, strict=True))
        result = mrmc(d)
        assert result is not None
        found += result.p < plan.alpha
    return found / studies


def test_power_for_other_readers_is_what_simulation_finds():
    plan = Plan(0.5, 1.0, readers=4, reader_share=0.05, case_share=0.4)
    assert simulated(plan, 40, 1500) == pytest.approx(plan.power(40, other_readers=True), abs=0.035)


def test_the_analysis_of_variance_keeps_its_level():
    plan = Plan(1e-9, 1.0, readers=4, reader_share=0.05, case_share=0.4)
    assert plan.power(40, other_readers=True) == pytest.approx(0.05, abs=1e-4)
    assert simulated(plan, 40, 1500) == pytest.approx(0.05, abs=0.02)


def test_more_cases_cannot_replace_readers():
    plan = Plan(0.5, 1.0, readers=3, reader_share=0.2)
    assert plan.cases_needed(0.8) is not None
    assert plan.cases_needed(0.8, other_readers=True) is None
    more = Plan(0.5, 1.0, readers=12, reader_share=0.2).cases_needed(0.8, other_readers=True)
    assert more is not None


def test_the_fewest_cases_are_the_fewest():
    for difference in (0.2, 0.5, 3.0):
        plan = Plan(difference, 1.0, readers=3)
        needed = plan.cases_needed(0.9)
        assert needed is not None
        assert plan.power(needed) >= 0.9
        assert needed == 2 or plan.power(needed - 1) < 0.9


def test_the_standard_error_of_kappa_is_the_published_one():
    """irrCAC gives 0.05891072 for these two abstractors (100 records)."""
    table = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]]) / 100
    assert _table_error(table, "none") / 10 == pytest.approx(0.05891072, abs=1e-7)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_the_standard_error_of_kappa_is_what_simulation_finds(weights):
    cases, kappa, share = 200, 0.6, np.array(TYPICAL_SCORES)
    table = kappa * np.diag(share) + (1 - kappa) * np.outer(share, share)
    drawn = np.random.default_rng(0).multinomial(cases, table.ravel(), size=4000)
    values = Cohen((1.0, 2.0, 3.0, 4.0, 5.0), weights).value(drawn.astype(float))
    assert values.mean() == pytest.approx(kappa, abs=0.01)
    assert values.std() == pytest.approx(kappa_error(kappa, cases, weights=weights), rel=0.05)


def test_two_categories_equal_the_common_correlation_model():
    """Variance of kappa for a binary trait: Bloch and Kraemer 1989, as Donner and Eliasziw 1992 use it."""
    k, p, n = 0.5, 0.3, 80
    variance = (1 - k) / n * ((1 - k) * (1 - 2 * k) + k * (2 - k) / (2 * p * (1 - p)))
    assert kappa_error(k, n, marginals=(p, 1 - p), weights="none") == pytest.approx(np.sqrt(variance))
    assert half_width(1.0) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Plan(0.0, 1.0, 3),
        lambda: Plan(0.5, 0.0, 3),
        lambda: Plan(0.5, 1.0, 0),
        lambda: Plan(0.5, 1.0, 3, reader_share=-0.1),
        lambda: Plan(0.5, 1.0, 3, reader_share=0.5, case_share=0.5),
        lambda: Plan(0.5, 1.0, 3, alpha=1.0),
        lambda: Plan(0.5, 1.0, 3).power(1),
        lambda: Plan(0.5, 1.0, 3).cases_needed(1.0),
        lambda: kappa_error(1.0, 50),
        lambda: kappa_error(0.5, 50, marginals=(0.5, 0.6)),
        lambda: kappa_error(-0.9, 50, marginals=(0.1, 0.9)),
    ],
)
def test_an_impossible_plan_is_wrong_use(wrong):
    with pytest.raises(UsageError):
        wrong()


def test_the_table_of_the_guide_is_what_comes_out():
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "run-a-reader-study.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    plan = Plan(0.5, 1.0, readers=3)
    for cases, *shown in rows:
        n = int(cases)
        values = [plan.power(n), plan.power(n, other_readers=True)]
        values += [half_width(kappa_error(0.6, n, weights=weights)) for weights in ("none", "quadratic")]
        assert shown == [f"{value:.3f}" for value in values]
