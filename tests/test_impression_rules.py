"""An impression by rule restates what matters, in order, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ctscribe import impression, ontology
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding, sample_findings
from ctscribe.report.parse import parse

NODULE = Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(12.0,))
SMALL = Finding("lung_nodule", regions=("left_lower_lobe",), size_mm=(4.0,))
GLASS = Finding("ground_glass_opacity", regions=("left_lung",))
OPACITY = Finding("lung_opacity", regions=("left_lung",))
PNEUMOTHORAX = Finding("pneumothorax", regions=("left_pleura",))
GRANULOMA = Finding("calcified_granuloma", regions=("left_upper_lobe",))
NO_EFFUSION = Finding("pleural_effusion", "absent")


def test_order_is_by_urgency_then_size_and_leaves_out_what_is_absent() -> None:
    assert impression.order([GRANULOMA, SMALL, NO_EFFUSION, NODULE, PNEUMOTHORAX]) == [
        PNEUMOTHORAX,
        NODULE,
        SMALL,
        GRANULOMA,
    ]


def test_order_does_not_depend_on_the_order_of_the_findings() -> None:
    findings = [GRANULOMA, SMALL, NODULE, PNEUMOTHORAX, GLASS]
    assert impression.order(findings) == impression.order(findings[::-1])


def test_what_is_implied_is_said_once() -> None:
    assert impression.order([OPACITY, GLASS]) == [GLASS]


def test_a_doubt_does_not_stand_in_for_a_certainty() -> None:
    doubt = Finding("ground_glass_opacity", "uncertain", regions=("left_lung",))
    assert impression.order([OPACITY, doubt]) == [OPACITY, doubt]


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_to_name_is_said(language: str) -> None:
    written = impression.write([NO_EFFUSION], language)
    assert [statement.role for statement in written.statements] == ["normal"]
    assert written.lines[0].findings == ()
    assert written.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_says_that_a_rule_wrote_it(language: str) -> None:
    written = impression.write([NODULE], language)
    assert written.method == "rules"
    assert ("rule" if language == "en" else "规则") in written.note


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_restated_finding_reads_back_to_it(language: str) -> None:
    findings = [NODULE, PNEUMOTHORAX, GRANULOMA]
    for statement in impression.write(findings, language).statements:
        if statement.role == "finding":
            assert parse(statement.text, language) == [findings[i] for i in statement.findings]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_impression_names_nothing_that_the_findings_do_not(language: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        findings = sample_findings(rng, mean_present=5.0)
        written = impression.write(findings, language)
        assert set(parse(written.text, language)) <= set(findings)


def test_every_finding_kind_has_a_place_in_the_order() -> None:
    from ctscribe.impression import rules

    assert set(rules._order()) == set(ontology.findings())
