"""The report document: JSON round trip, schema, plain text, and refusals."""

from __future__ import annotations

import json

import pytest

from ctscribe import ontology
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.report import (
    Evidence,
    Finding,
    Provenance,
    QualityNote,
    Report,
    ReportText,
    Sentence,
    render_findings,
)
from ctscribe.report.schema import report_schema


@pytest.fixture
def report():
    evidence = Evidence(
        "right_upper_lobe", ((-10.0, 2.5, 30.0), (4.0, 9.0, 41.0)), slices=(31, 38), weight=0.75, source="slot"
    )
    findings = (
        Finding(
            "lung_nodule", "present", ("right_upper_lobe",), (8.0,), (("density", "solid"),), 0.91, evidence=(evidence,)
        ),
        Finding("pleural_effusion", "absent"),
    )
    texts = {
        language: ReportText(
            technique=(Sentence("CT."),),
            findings=tuple(render_findings(findings, language)),
            impression=(Sentence("8 mm nodule.", (0,)), Sentence("Follow-up.")),
        )
        for language in ontology.LANGUAGES
    }
    return Report(
        findings,
        texts,
        (QualityNote("thick_slices", {"en": "Thick slices.", "zh": "层厚较大。"}, "info"),),
        Provenance("demo", "ab" * 32, "0.1.0", ("c0ffee",), "2025-01-01T00:00:00+00:00", "rules"),
        {"en": "SYNTHETIC", "zh": "合成"},
    )


def test_json_round_trip_keeps_everything(report):
    text = report.to_json()
    again = Report.from_json(text)
    assert again == report
    assert again.to_json() == text  # also what equality of findings ignores: certainty and evidence
    assert again.findings[0].evidence == report.findings[0].evidence


def test_json_is_canonical(report):
    data = json.loads(report.to_json())
    assert report.to_json() == json.dumps(data, sort_keys=True, ensure_ascii=False, indent=2) + "\n"
    assert data["findings"][0]["attributes"] == {"density": "solid"}


def test_the_schema_describes_what_is_written(report):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(report_schema())
    validator.check_schema(report_schema())
    validator.validate(json.loads(report.to_json()))
    broken = json.loads(report.to_json())
    broken["findings"][0]["kind"] = "happiness"
    assert not validator.is_valid(broken)
    broken = json.loads(report.to_json())
    broken["extra"] = 1
    assert not validator.is_valid(broken)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.pop("schema_version"), "schema_version"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d["findings"][0].update(status="maybe"), "report.findings[0].status"),
        (lambda d: d["findings"][0].update(size_mm="8"), "report.findings[0].size_mm"),
        (lambda d: d["texts"]["en"].update(findings=[{"findings": []}]), "text"),
        (lambda d: d["provenance"].update(series=[3]), "report.provenance.series[0]"),
    ],
)
def test_a_wrong_report_is_refused_and_the_place_named(report, change, place):
    data = json.loads(report.to_json())
    change(data)
    with pytest.raises(UnreadableInput) as caught:
        Report.from_json(json.dumps(data))
    assert place in str(caught.value)


def test_what_is_not_json_is_refused():
    for text in ("", "{", "[]", "null"):
        with pytest.raises(UnreadableInput):
            Report.from_json(text)


def test_plain_text_has_its_sections_in_order_and_the_watermark_at_both_ends(report):
    lines = report.to_text("en").splitlines()
    assert lines[0] == lines[-1] == "SYNTHETIC"
    positions = [lines.index(h) for h in ("TECHNIQUE", "FINDINGS", "IMPRESSION", "IMAGE QUALITY AND LIMITATIONS")]
    assert positions == sorted(positions)
    assert "COMPARISON" not in lines
    assert "1. 8 mm nodule." in lines
    assert "影像所见" in report.to_text("zh")
    assert "层厚较大。" in report.to_text("zh")
    assert report.languages == ("en", "zh")
    assert report.section("findings", "zh") == "".join(s.text for s in report.text("zh").findings)


def test_a_language_the_report_lacks_is_refused(report):
    only_english = Report(report.findings, {"en": report.text("en")})
    with pytest.raises(UsageError, match="text of a report"):
        only_english.to_text("zh")


def test_a_sentence_cannot_point_at_a_finding_that_is_not_there():
    with pytest.raises(UsageError, match="does not have"):
        Report((), {"en": ReportText(findings=(Sentence("A nodule.", (0,)),))})


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kind": "happiness"}, "happiness"),
        ({"kind": "mass", "regions": ("moon",)}, "moon"),
        ({"kind": "mass", "attributes": (("margin", "purple"),)}, "purple"),
        ({"kind": "mass", "attributes": (("severity", "mild"),)}, "severity"),
        ({"kind": "mass", "status": "absent", "size_mm": (3.0,)}, "size"),
        ({"kind": "mass", "size_mm": (3.0, 2.0, 1.0)}, "size"),
    ],
)
def test_a_finding_the_ontology_does_not_know_is_refused(arguments, what):
    with pytest.raises(UsageError, match=what):
        Finding(**arguments)
