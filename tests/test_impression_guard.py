"""The guard: what it objects to, what it leaves alone, and the benchmark's adversary on a few studies."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from ctscribe.impression import Context, Statement, follow_up, write
from ctscribe.impression.guard import Known, problems
from ctscribe.report import Finding

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NODULE = Finding("lung_nodule", "present", ("right_upper_lobe",), (9, 7), (("density", "solid"), ("number", "single")))
DOUBT = Finding("consolidation", "uncertain", ("left_lower_lobe",))
FINDINGS = (NODULE, DOUBT, Finding("pneumothorax", "absent"))
RULED = write(
    FINDINGS, "en", context=Context(age=61, smoker=True, cancer=False, immunosuppressed=False, screening=False)
)
KNOWN = Known(FINDINGS, RULED.recommendations, RULED.statements)
NAMED = "9 x 7 mm solid nodule in the right upper lobe."
ADVICE = "CT of the chest in 6-12 months, then in 18-24 months."


def kinds(*texts: str, role: str = "finding") -> list[str]:
    statements = [Statement(text, role) for text in texts]  # type: ignore[arg-type]
    return [p.kind for p in problems(statements, KNOWN, "en")]


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("9 x 7 mm solid nodule in the left upper lobe.", "wrong_side"),
        ("9 x 7 mm solid nodule in the left middle lobe.", "wrong_side"),
        ("9 x 7 mm solid nodule in the right lower lobe.", "wrong_place"),
        ("19 mm solid nodule in the right upper lobe.", "wrong_size"),
        ("Possible 9 mm solid nodule in the right upper lobe.", "wrong_certainty"),
        ("Spiculated solid nodule in the right upper lobe.", "wrong_attribute"),
        ("Consolidation in the left lower lobe.", "wrong_certainty"),
        ("No lung nodule.", "wrong_certainty"),
        ("Normal chest CT.", "wrong_certainty"),
        ("Small right pleural effusion.", "invented_finding"),
        ("No pleural effusion.", "invented_finding"),
        ("Right upper lobe nodule with achalasia.", "off_vocabulary"),
        ("Nodule in the right upper lobe, biopsy is recommended in 5 months.", "wrong_follow_up"),
        ("No follow-up of the nodule is needed.", "wrong_follow_up"),
    ],
)
def test_what_the_findings_do_not_say_is_objected_to(text: str, objection: str) -> None:
    assert objection in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        NAMED,
        "There is a 0.9 cm nodule in the right upper lobe.",
        "Solid right lung nodule, mean diameter 8 mm.",
        "Possible consolidation in the left lower lobe.",
        "No pneumothorax.",
        "Nodule: repeat CT after six to twelve months.",
    ],
)
def test_what_they_say_in_other_words_is_left_alone(text: str) -> None:
    assert kinds(NAMED, ADVICE, text) == []


def test_what_is_missing_is_named() -> None:
    assert kinds(ADVICE) == ["missed_critical"]
    assert kinds(NAMED) == ["missing_follow_up"]


def test_a_disease_is_considered_never_stated() -> None:
    assert kinds(NAMED, ADVICE, "This may be metastasis.", role="differential") == []
    assert kinds(NAMED, ADVICE, "This is metastasis.", role="differential") == ["wrong_certainty"]


def test_a_source_that_does_not_exist_is_noticed() -> None:
    cited = Statement(NAMED, "finding", (0,), ("kb:nothing:en",))
    assert "unknown_citation" in [p.kind for p in problems([cited], KNOWN, "en")]


@pytest.mark.parametrize(
    ("text", "language", "months"),
    [
        ("CT in half a year", "en", {(6, 6)}),
        ("annual low-dose CT", "en", {(12, 12)}),
        ("repeat CT in 3–6 months", "en", {(3, 6)}),
        ("unchanged since the CT 12 months ago", "en", set()),
        ("建议半年后复查CT", "zh", {(6, 6)}),
        ("3至6个月后复查", "zh", {(3, 6)}),
        ("一年后复查CT", "zh", {(12, 12)}),
    ],
)
def test_intervals_are_read_in_many_wordings(text: str, language: str, months: set) -> None:
    assert follow_up.read(text, language).months == months  # type: ignore[arg-type]


def test_the_adversary_is_caught_and_the_faithful_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("guard_benchmark", BENCHMARKS / "guard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    caught, asked, wrong = module.measure(12, seed=0)
    assert sum(caught[k] for k in module.adversary.KINDS) >= 0.98 * sum(asked[k] for k in module.adversary.KINDS), wrong
    assert caught["faithful"] == 0, wrong
