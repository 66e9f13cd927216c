"""An earlier scan, a history and laboratory values on their way from the command line to the comparison section."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import people_fakes as fakes
from ctscribe import impression, ontology
from ctscribe.beside import CHANGES
from ctscribe.cli.report import _labs
from ctscribe.errors import UsageError
from ctscribe.impression.context import Context, Prior
from ctscribe.ontology import Language
from ctscribe.pipeline import comparing, framing
from ctscribe.pipeline.reporter import Reporter
from ctscribe.report import Finding
from ctscribe.report.parse import parse

TOLD = {"lung_nodule": ("larger", 0.9), "mass": ("larger", 0.6), "pleural_effusion": ("resolved", 0.8)}


def test_the_comparison_says_what_became_of_the_findings_in_both_languages() -> None:
    english = [s.text for s in framing.comparison("en", TOLD, 90)]
    assert english == [
        "Earlier scan, 90 days before.",
        "Larger than before: lung nodule, lung mass.",
        "No longer seen: pleural effusion.",
    ]
    chinese = "".join(s.text for s in framing.comparison("zh", TOLD))
    assert "较前增大" in chinese
    assert "较前消失" in chinese
    assert [s.text for s in framing.comparison("en")] == ["None available."]
    assert len(framing.comparison("en", {}, None)) == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"history": "Fever."}, "history"),
        ({"labs": {"crp": 80}}, "labs"),
        ({"prior": "earlier"}, "prior"),
        ({"prior_days": 3.0}, "days between"),
        ({"labs": {"ferritin": 80}}, "ferritin"),
    ],
)
def test_the_bundled_model_refuses_what_it_does_not_read(given: dict[str, object], named: str) -> None:
    reporter = Reporter()
    arguments = {"prior": None, "prior_days": None, "history": "", "labs": None} | given
    with pytest.raises(UsageError, match=named):
        reporter._beside(reporter.model, fakes.study()[0], Path("scan"), *arguments.values())


def test_a_file_of_labs_is_a_table(tmp_path: Path) -> None:
    good, bad = tmp_path / "labs.json", tmp_path / "bad.yaml"
    good.write_text('{"crp": 80}', encoding="utf-8")
    bad.write_text("- crp", encoding="utf-8")
    assert _labs(None) is None
    assert _labs(good) == {"crp": 80}
    for path in (bad, tmp_path / "nowhere.json"):
        with pytest.raises(UsageError, match="--labs"):
            _labs(path)


# ------------------------------------------------------------------------- words for what has changed
BEFORE = (
    Finding("lung_nodule", "present", ("right_upper_lobe",), (8.0,)),
    Finding("mass", "present", ("left_lower_lobe",), (40.0,)),
    Finding("pleural_effusion", "present"),
)
NOW = (
    Finding("lung_nodule", "present", ("right_upper_lobe",), (13.0,)),
    Finding("mass", "present", ("left_lower_lobe",), (36.0,)),
    Finding("pleural_effusion", "absent"),
    Finding("emphysema", "present", ("right_upper_lobe",)),
)
SAID = {
    "lung_nodule": ("larger", 0.9),
    "mass": ("larger", 0.6),
    "emphysema": ("new", 0.9),
    "pleural_effusion": ("resolved", 0.8),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_comparison_section_can_be_read_back(language: Language) -> None:
    kinds = list(ontology.findings())
    changes = {kind: (CHANGES[place % len(CHANGES)], 1.0) for place, kind in enumerate(kinds)}
    grown = {kind: place + 2.0 for place, (kind, (change, _)) in enumerate(changes.items())
             if change in ("larger", "smaller") and place % 3}  # fmt: skip
    text = " ".join(s.text for s in framing.comparison(language, changes, 90, grown))
    read = comparing.read_comparison(text, language)
    assert read == {kind: (change, grown.get(kind)) for kind, (change, _) in changes.items()}
    assert comparing.read_comparison(framing.comparison(language)[0].text, language) == {}


def test_millimetres_are_told_only_where_both_sizes_bear_the_model_out() -> None:
    assert comparing.larger_by(SAID, BEFORE, NOW) == {"lung_nodule": 5.0}
    english = framing.comparison("en", SAID, 90, {"lung_nodule": 5.0})
    assert "Larger than before: lung nodule (by 5 mm), lung mass." in [s.text for s in english]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            ("Larger by 5 mm than at the earlier scan", "New since the earlier scan", "gone since the earlier scan"),
        ),
        ("zh", ("增大5 mm", "为新发", "已消失")),
    ],
)
def test_the_impression_compares_as_the_comparison_section_does(language: Language, words: tuple[str, ...]) -> None:
    context = comparing.with_earlier(None, SAID, BEFORE, NOW, 90)
    text = " ".join(s.text for s in impression.write(NOW, language, context=context).statements)
    for word in words:
        assert word in text
    # The model says larger, the sizes say smaller: the impression says neither.
    assert not {"Smaller", "缩小"} & {w for w in ("Smaller", "缩小") if w in text}
    told = impression.write(NOW, language, context=context).statements
    compared = " ".join(s.text for s in told if s.role == "comparison")
    assert all(finding.status == "absent" for finding in parse(compared, language))


def test_what_people_say_of_the_earlier_scan_is_kept() -> None:
    given = Context(prior=Prior(BEFORE, 30))
    assert comparing.with_earlier(given, SAID, (), NOW, 90) is given
    assert comparing.with_earlier(None, None, (), NOW, None) is None
    steady = comparing.with_earlier(None, {"lung_nodule": ("stable", 0.9)}, BEFORE, NOW, None)
    assert steady is not None
    assert steady.prior is not None
    assert steady.prior.findings == (replace(BEFORE[0], size_mm=()),)
