"""Sentences that say how sure the model is: likely and possible by calibrated probability, in both languages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import people_fakes as fakes
from ctscribe import ontology
from ctscribe.cli import table
from ctscribe.errors import UsageError
from ctscribe.model import Thresholds
from ctscribe.ontology import LANGUAGES
from ctscribe.pipeline.certainty import level, weighed, worded
from ctscribe.pipeline.reading_back import ReadSentence
from ctscribe.report import Finding, Report, render_findings, render_text
from ctscribe.report.parse import parse
from test_report_law import every_single_finding

CALIBRATED = Thresholds(calibration_error=(0.05, 0.01))
NODULE = Finding("lung_nodule", regions=("right_lower_lobe",), size_mm=(12.0,))
SAID = {
    ("en", "likely"): "Likely 12 mm nodule in the right lower lobe.",
    ("en", "possible"): "Possible 12 mm nodule in the right lower lobe.",
    ("zh", "likely"): "右肺下叶结节可能性大，直径约12 mm。",
    ("zh", "possible"): "右肺下叶可疑结节，直径约12 mm。",
}


@pytest.fixture
def small_chest(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def report_of(chance: float, language: str = "both", certainty: str = "words", **changes: object) -> Report:
    chances = {"lung_nodule": chance, "pleural_effusion": 0.1}
    model = fakes.FakeModel(probability=chances, thresholds=CALIBRATED, **changes)
    return fakes.reporter(model).report("scan", language=language, certainty=certainty).report


@pytest.mark.parametrize("language", LANGUAGES)
def test_whatever_may_be_uncertain_reads_back_as_uncertain(language: str) -> None:
    doubts = [finding for finding in every_single_finding() if finding.status == "uncertain"]
    for index, finding in enumerate(doubts[::3]):  # every kind and most of its places; words and phrasings take turns
        hedged = replace(finding, confidence=("likely", "possible")[index % 2])
        (sentence,) = render_findings([hedged], language, (None, 1, 2)[index // 2 % 3])
        assert parse(sentence.text, language) == [hedged], sentence.text


def test_the_limits_between_the_three_words() -> None:
    assert [level(p) for p in (1.0, 0.9, 0.89, 0.6, 0.59, 0.0)] == [
        *("definite", "definite"), *("likely", "likely"), *("possible", "possible"),
    ]  # fmt: skip


@pytest.mark.usefixtures("small_chest")
@pytest.mark.parametrize(("chance", "word"), [(0.7, "likely"), (0.3, "possible")])
def test_sentences_say_it_and_the_report_keeps_it(chance: float, word: str) -> None:
    report = report_of(chance)
    for language in LANGUAGES:
        first, second = report.text(language).findings
        assert first.text == SAID[language, word]
        assert first.evidence
        assert second.text == render_text([fakes.FINDINGS[1]], language)
    nodule, effusion = report.findings
    assert (nodule.status, nodule.certainty, nodule.confidence) == ("uncertain", chance, word)
    assert (effusion.status, effusion.confidence) == ("absent", None)
    again = Report.from_json(report.to_json())
    assert [f.confidence for f in again.findings] == [word, None]
    note = next(n for n in report.quality if n.code == "confidence")
    assert word.title() in note.message["en"]


@pytest.mark.usefixtures("small_chest")
def test_what_is_definite_is_said_as_before_and_the_default_changes_nothing() -> None:
    sure, plain, doubted = (
        report_of(0.95),
        report_of(0.95, certainty="text"),
        report_of(0.3, certainty="text"),
    )
    assert sure.to_text("en") == plain.to_text("en")
    assert sure.findings[0].confidence == "definite"
    assert plain.findings[0].confidence is None
    assert doubted.findings[0].status == "present"
    assert doubted.text("zh").findings == tuple(replace(s, evidence=s.evidence) for s in plain.text("zh").findings)


@pytest.mark.usefixtures("small_chest")
def test_text_and_detector_still_disagree_when_the_sentence_is_hedged() -> None:
    codes = {note.code for note in report_of(0.3).quality}
    assert "text_without_detection" in codes


def test_a_hedge_of_the_text_is_never_taken_back() -> None:
    doubt = replace(NODULE, status="uncertain", certainty=0.97)
    assert (weighed(doubt).status, weighed(doubt).confidence) == ("uncertain", "likely")
    unmeasured = replace(NODULE, certainty=None)
    assert weighed(unmeasured) == unmeasured


def test_a_sentence_of_two_is_taken_apart_when_one_is_in_doubt() -> None:
    pair = (replace(NODULE, certainty=0.95), Finding("emphysema", regions=("left_upper_lobe",), certainty=0.5))
    (told,) = [worded([ReadSentence("Both.", pair)], code) for code in ("en",)]
    assert [s.findings[0].kind for s in told] == ["lung_nodule", "emphysema"]
    assert told[0].text == "There is a 12 mm nodule in the right lower lobe."
    assert told[1].text == "Possible emphysema in the left upper lobe."
    assert ontology.findings()["emphysema"].id == told[1].findings[0].kind


@pytest.mark.usefixtures("small_chest")
def test_a_model_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(UsageError, match="not calibrated"):
        fakes.reporter().report("scan", certainty="words")
    with pytest.raises(UsageError, match="text or words"):
        fakes.reporter().report("scan", certainty="word")


@pytest.mark.usefixtures("small_chest")
def test_the_command_line_has_the_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    model = fakes.FakeModel(probability={"lung_nodule": 0.7, "pleural_effusion": 0.1}, thresholds=CALIBRATED)
    monkeypatch.setattr("ctscribe.checkpoint.load", lambda *_, **__: model)
    assert table.run(["report", "scan", "--certainty", "words", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["report"]["findings"]
    assert [f["confidence"] for f in findings] == ["likely", None]
    assert table.run(["report", "scan", "--certainty", "maybe"]) == 2
