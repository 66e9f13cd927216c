"""Whole reports in free text, in both languages: every finding with status, place and size, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ctscribe import ontology
from ctscribe.report import Finding
from ctscribe.report.parse import parse
from ctscribe.report.parse.spelling import corrected

CASES = [
    pytest.param(case, language, id=f"{language}: {case['name']}")
    for language, file in (
        ("en", "us"),
        ("en", "us_templates"),
        ("en", "us_dictated"),
        ("en", "us_unseen"),
        ("en", "us_round1"),
        ("en", "us_round2"),
        ("en", "us_round3"),
        ("en", "us_round4"),
        ("en", "us_round5"),
        ("en", "us_round6"),
        ("zh", "zh"),
    )
    for case in yaml.safe_load((Path(__file__).parent / "reports" / f"{file}.yaml").read_text(encoding="utf-8"))
]


def said(finding: Finding, kinds_only: list[str]) -> str:
    """``+kind regions size`` as the tables write it."""
    mark = {"present": "+", "absent": "-", "uncertain": "?"}[finding.status]
    if finding.kind in kinds_only:
        return mark + finding.kind
    only = ontology.findings()[finding.kind].only_place
    regions = "" if finding.regions == (only,) else ",".join(sorted(finding.regions))
    size = "x".join(f"{axis:g}" for axis in finding.size_mm)
    return " ".join(part for part in (mark + finding.kind, regions, size) if part)


def stated(line: str, kinds_only: list[str]) -> str:
    """A line of the tables without what is not compared: the order of places, those that go without saying."""
    kind, *rest = line.split()
    if kind[1:] in kinds_only:
        return kind
    only = ontology.findings()[kind[1:]].only_place
    return " ".join([kind, *(",".join(sorted(part.split(","))) for part in rest if part != only)])


@pytest.mark.parametrize(("case", "language"), CASES)
def test_a_report_states_these_findings_and_no_other(case: dict[str, Any], language: Any) -> None:
    found = {said(finding, case.get("kinds_only", [])) for finding in parse(case["text"], language)}
    assert found == {stated(line, case.get("kinds_only", [])) for line in case["states"]}


def test_there_are_enough_of_them() -> None:
    languages = [param.values[1] for param in CASES]
    assert languages.count("en") >= 145
    assert languages.count("zh") >= 10


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("atelectais", "atelectasis"),
        ("emphysama", "emphysema"),
        ("bronchiectesis", "bronchiectasis"),
        ("perciardial efusion", "pericardial effusion"),
        ("lymphadenopahty", "lymphadenopathy"),
    ],
)
def test_slips_of_the_pen_are_put_right(wrong: str, right: str) -> None:
    assert corrected(wrong) == right


@pytest.mark.parametrize("word", ["interlobar", "engorgement", "pleura", "infusion", "segmental", "granulomatous"])
def test_words_that_are_only_near_are_left_alone(word: str) -> None:
    assert corrected(word) == word


def test_what_is_repeated_is_one_finding() -> None:
    text = "FINDINGS: A 6 mm nodule in the right upper lobe. IMPRESSION: Right upper lobe nodule."
    assert parse(text) == parse("A 6 mm nodule in the right upper lobe.")
    other = "FINDINGS: A 6 mm nodule in the right upper lobe. IMPRESSION: A 9 mm nodule in the left lower lobe."
    assert len(parse(other)) == 2


def test_no_new_nodule_denies_nodules_only_where_none_is_stated() -> None:
    assert [f.status for f in parse("No new nodule.")] == ["absent"]
    assert [f.status for f in parse("A 4 mm nodule is unchanged. No new nodule.")] == ["present"]
