"""The guard: what it objects to, what it leaves alone, and the benchmark's adversary on a few studies."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ctscribe.impression import Context, Prior, Statement, follow_up, write
from ctscribe.impression.guard import Known, problems
from ctscribe.impression.retrieval import shipped
from ctscribe.impression.writing import write_with
from ctscribe.report import Finding, sample_findings

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
        ("Start antibiotics for the consolidation.", "wrong_follow_up"),
        ("Two nodules in the right upper lobe.", "wrong_attribute"),
        ("Necrotic nodule in the right upper lobe.", "off_vocabulary"),
        ("The nodule in the right upper lobe is benign.", "off_vocabulary"),
        ("The nodule in the right upper lobe has grown.", "wrong_comparison"),
        ("Unchanged nodule in the right upper lobe.", "wrong_comparison"),
        ("The lungs are clear.", "wrong_certainty"),
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
        "Nodule: CT after six to twelve months to see if it has grown.",
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


def test_a_change_may_be_told_where_a_comparison_tells_it() -> None:
    before = Prior((replace(NODULE, size_mm=(6.0, 4.0)),), days=190)
    ruled = write([NODULE], "en", context=Context(prior=before))
    known = Known((NODULE,), ruled.recommendations, ruled.statements)
    texts = {"The nodule has grown.": [], "The nodule is unchanged.": ["wrong_comparison"]}
    for text, expected in texts.items():
        found = problems([*ruled.statements, Statement(text, "comparison", (0,))], known, "en")
        assert [p.kind for p in found] == expected


def test_a_short_axis_is_compared_with_the_short_axis() -> None:
    nodes = Finding("lymphadenopathy", "present", ("mediastinum",), (18, 14))
    for text, expected in (
        ("Enlarged mediastinal lymph node, short axis 14 mm.", []),
        ("Enlarged mediastinal lymph node, short axis 18 mm.", ["wrong_size"]),
        ("Enlarged mediastinal lymph node, 14 mm.", ["wrong_size"]),
        ("Enlarged axillary lymph node.", ["wrong_place"]),
    ):
        assert [p.kind for p in problems([Statement(text, "finding")], Known((nodes,)), "en")] == expected, text


def test_a_disease_of_a_passage_belongs_to_its_finding() -> None:
    """The passage on an effusion names embolism; that says nothing about a nodule."""
    findings = (Finding("pleural_effusion", "present", ("left_pleura",)), Finding("hepatic_cyst"))
    given = tuple((p.id, p.text) for p in shipped().about(findings, "en"))
    known = Known(findings, passages=given)
    for tied, expected in (((0,), []), ((1,), ["off_vocabulary"]), ((), ["off_vocabulary"])):
        said = Statement("Consider embolism.", "differential", tied)
        assert [p.kind for p in problems([said], known, "en")] == expected


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_the_rules_write_about_earlier_scans_passes_when_it_is_read(language: str) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        now, before = tuple(sample_findings(rng)), tuple(sample_findings(rng))
        same = tuple(replace(f, size_mm=tuple(round(mm * 1.3) for mm in f.size_mm)) for f in now if f.size_mm)
        context = Context(age=61, smoker=True, prior=Prior((*before, *same), days=200))
        check = write_with(None, now, language, context=context).check  # type: ignore[arg-type]
        assert check is not None
        assert check.objections == ()


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


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_sentences_in_free_wording_are_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    benchmark("guard", monkeypatch)
    benchmark("guard_sentences", monkeypatch).main()
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith("objected to")]
    assert told == [
        "seen: 0 of 39 faithful sentences objected to",
        "seen: 58 of 58 wrong sentences objected to",
        "unseen: 1 of 27 faithful sentences objected to",
        "unseen: 42 of 42 wrong sentences objected to",
    ]


def test_the_adversary_is_caught_and_the_faithful_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("guard", monkeypatch)
    caught, asked, wrong = module.measure(8, seed=0, whole=True)
    assert caught["through"] == 0
    assert sum(caught[k] for k in module.adversary.KINDS) >= 0.98 * sum(asked[k] for k in module.adversary.KINDS), wrong
    assert caught["faithful"] == 0, wrong


def test_a_sentence_about_something_else_is_objected_to() -> None:
    for text in ("I plan to launch a smartwatch with a health tracker.", "Here is the impression of the report:"):
        assert "off_vocabulary" in kinds(text, role="significance")
    assert "off_vocabulary" not in kinds("Clinical correlation is recommended.", role="significance")
