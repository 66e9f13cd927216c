"""From a path to a report: what a report holds, what it admits, and that it comes out the same again."""

from __future__ import annotations

import json

import pytest

import people_fakes as fakes
from ctscribe.errors import UsageError
from ctscribe.ontology import LANGUAGES
from ctscribe.pipeline import STEPS
from ctscribe.report import SECTION_NAMES, Finding, Report, split_sentences
from ctscribe.report.schema import report_schema


@pytest.fixture(autouse=True)
def small_chest(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)


def codes(report: Report) -> set[str]:
    return {note.code for note in report.quality}


@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_a_report_has_every_section_in_the_languages_asked_for(language: str) -> None:
    report = fakes.reporter().report("scan", language=language).report
    assert report.languages == (LANGUAGES if language == "both" else (language,))
    for code in report.languages:
        assert all(report.text(code).section(name) for name in SECTION_NAMES)
        assert fakes.WATERMARK[code] in report.to_text(code)


def test_findings_are_read_back_from_the_text_with_the_detectors_certainty() -> None:
    report = fakes.reporter().report("scan").report
    assert report.findings == fakes.FINDINGS
    assert [f.certainty for f in report.findings] == [0.9, 0.1]


def test_two_languages_that_agree_share_their_findings() -> None:
    report = fakes.reporter().report("scan", language="both").report
    assert report.findings == fakes.FINDINGS
    assert "languages_differ" not in codes(report)


def test_every_sentence_about_a_finding_points_into_the_scan() -> None:
    report = fakes.reporter().report("scan", language="both").report
    for code in LANGUAGES:
        for sentence in (*report.text(code).findings, *report.text(code).impression):
            assert sentence.findings
            assert sentence.evidence
            assert all(e.slices and 1 <= e.slices[0] <= e.slices[1] <= fakes.SHAPE[0] for e in sentence.evidence)


def test_the_nodule_is_traced_to_its_slice() -> None:
    result = fakes.reporter().report("scan")
    evidence = result.report.findings[0].evidence[0]
    truth = result.study.source.locate(fakes.LESION_WORLD).slice_number
    assert evidence.source == "detector"
    assert evidence.slices[0] <= truth <= evidence.slices[1]
    assert evidence.slices[1] - evidence.slices[0] < 12


def test_the_impression_says_that_a_rule_wrote_it() -> None:
    report = fakes.reporter().report("scan", language="both").report
    assert report.provenance.impression_by == "rules"
    assert "impression_by_rule" in codes(report)
    assert "规则" in report.to_text("zh")
    assert "rule" in report.to_text("en")


@pytest.mark.parametrize(
    ("probability", "code"),
    [
        ({"lung_nodule": 0.2}, "text_without_detection"),
        ({"lung_nodule": 0.9, "pneumothorax": 0.8}, "detection_without_text"),
        ({"lung_nodule": 0.9, "pleural_effusion": 0.8}, "detection_without_text"),
    ],
)
def test_a_disagreement_between_text_and_detector_is_told(probability: dict[str, float], code: str) -> None:
    agreed = fakes.reporter().report("scan").report
    assert not {"text_without_detection", "detection_without_text"} & codes(agreed)
    report = fakes.reporter(fakes.FakeModel(probability=probability)).report("scan").report
    assert code in codes(report)


def test_disagreements_of_one_sort_are_one_line() -> None:
    chances = {"lung_nodule": 0.9, "pneumothorax": 0.8, "emphysema": 0.8}
    report = fakes.reporter(fakes.FakeModel(probability=chances)).report("scan", language="both").report
    (line,) = [n.message["en"] for n in report.quality if n.code == "detection_without_text"]
    assert line == "Above the detector's threshold, not stated in the text: emphysema, pneumothorax."


def test_what_the_model_cannot_find_is_told() -> None:
    chances = {"lung_nodule": 0.9, "rib_fracture": 0.6}
    report = fakes.reporter(fakes.FakeModel(probability=chances, never=("rib_fracture",))).report("scan").report
    (line,) = [n.message["en"] for n in report.quality if n.code == "never_stated"]
    assert "rib fracture" in line
    assert "never_stated" not in codes(fakes.reporter().report("scan").report)


def test_what_a_stated_finding_implies_is_no_disagreement() -> None:
    stated = (Finding("consolidation", regions=("left_lower_lobe",)),)
    model = fakes.FakeModel(findings=stated, probability={"consolidation": 0.9, "lung_opacity": 0.9})
    assert "detection_without_text" not in codes(fakes.reporter(model).report("scan").report)


def test_a_sentence_the_vocabulary_does_not_know_is_kept_and_told() -> None:
    report = fakes.reporter(fakes.FakeModel(text="The weather was fine. No pleural effusion.")).report("scan").report
    first, second = report.text("en").findings
    assert (first.text, first.findings, first.evidence) == ("The weather was fine.", (), ())
    assert second.findings
    assert "unread_sentence" in codes(report)


def test_an_empty_text_is_a_report_without_findings() -> None:
    report = fakes.reporter(fakes.FakeModel(text=" ", probability={})).report("scan").report
    assert report.findings == ()
    assert report.text("en").findings == ()
    assert report.section("impression")


def test_the_same_scan_gives_the_same_bytes() -> None:
    first = fakes.reporter().report("scan", language="both").report
    assert first.to_json() == fakes.reporter().report("scan", language="both").report.to_json()


def test_the_json_fits_its_schema_and_reads_back() -> None:
    import jsonschema

    report = fakes.reporter().report("scan", language="both", created="2026-01-01T00:00:00+00:00").report
    jsonschema.validate(json.loads(report.to_json()), report_schema())
    assert Report.from_json(report.to_json()) == report


def test_no_identifier_is_in_a_report_unless_asked_for() -> None:
    assert "1.2.3." not in fakes.reporter().report("scan").report.to_json()
    assert "1.2.3." in fakes.reporter(identifiers=True).report("scan").report.to_json()


def test_steps_are_told_in_order_and_timed() -> None:
    told: list[str] = []
    result = fakes.reporter().report("scan", on_step=told.append)
    assert tuple(told) == STEPS == tuple(result.seconds)


def test_an_unknown_language_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="fr"):
        fakes.reporter().report("scan", language="fr")


def test_sentences_keep_every_character_but_the_space_between_them() -> None:
    english = "A 5.2 mm nodule in the RUL. No effusion! Is it? 3 nodules."
    assert split_sentences(english, "en") == ["A 5.2 mm nodule in the RUL.", "No effusion!", "Is it?", "3 nodules."]
    chinese = "右肺上叶见5.2 mm结节。未见积液！双肺清晰"
    assert split_sentences(chinese, "zh") == ["右肺上叶见5.2 mm结节。", "未见积液！", "双肺清晰"]
    assert "".join(split_sentences(chinese, "zh")) == chinese
