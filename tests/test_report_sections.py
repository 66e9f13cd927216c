"""Free report text -> sections, and reports <-> manifest rows."""

from __future__ import annotations

import json

import pytest

from ctscribe.data.reports import read_report, report_of_row, row_of_report, split_report
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.report import Finding


def test_english_headings_on_their_own_line_or_running():
    sections = split_report(
        "CT CHEST\nCLINICAL HISTORY: Cough.\nTECHNIQUE: No contrast.\nCOMPARISON: None.\n"
        "FINDINGS:\nLUNGS: A 5 mm nodule.\nHEART: Normal. IMPRESSION: Nodule.\n"
    )
    assert sections.technique == "No contrast."
    assert sections.comparison == "None."
    assert sections.findings == "LUNGS: A 5 mm nodule.\nHEART: Normal."
    assert sections.impression == "Nodule."
    assert sections.other == "CT CHEST\nCough."


@pytest.mark.parametrize(
    "text",
    [
        "检查方法:平扫。\n影像所见:双肺见结节。\n诊断意见:双肺结节。",
        "【检查方法】平扫。\n【影像所见】\n双肺见结节。\n【诊断意见】双肺结节。",
        "检查方法:平扫。影像所见:双肺见结节。诊断意见:双肺结节。",
    ],
)
def test_chinese_headings(text):
    sections = split_report(text)
    assert (sections.technique, sections.findings, sections.impression) == ("平扫。", "双肺见结节。", "双肺结节。")


def test_quote_marks_separate_findings_from_impression():
    sections = split_report('The heart is enlarged. No nodule. " Cardiomegaly " No nodule')
    assert sections.findings == "The heart is enlarged. No nodule."
    assert sections.impression == "Cardiomegaly. No nodule."


def test_text_without_any_mark_is_findings():
    assert split_report("The heart is enlarged.").findings == "The heart is enlarged."
    assert split_report("").findings == ""


def test_findings_behind_a_comparison_without_a_heading_of_their_own():
    sections = split_report("Comparison: CT of the previous year. The heart is enlarged.")
    assert (sections.comparison, sections.findings) == ("CT of the previous year.", "The heart is enlarged.")


def test_a_report_is_read_with_what_each_sentence_states():
    report = read_report("FINDINGS: Small right pleural effusion. Normal ribs.\nIMPRESSION: Right pleural effusion.")
    text = report.text("en")
    assert [s.findings for s in text.findings] == [(0,), ()]
    assert [s.text for s in text.findings] == ["Small right pleural effusion.", "Normal ribs."]
    assert report.findings[0].attributes == (("severity", "small"),)
    assert report.findings[text.impression[0].findings[0]].kind == "pleural_effusion"


@pytest.mark.parametrize(
    "text", ["FINDINGS: The heart is enlarged. IMPRESSION: Cardiomegaly.", "影像所见:右肺上叶见结节。诊断意见:结节。"]
)
def test_a_row_gives_the_report_back(text):
    report = read_report(text)
    row = row_of_report(report)
    assert report_of_row(row) == report
    assert row_of_report(report_of_row(row)) == row


def test_structured_findings_of_a_row_win_over_its_text():
    row = {"findings": "The heart is enlarged.", "structured": json.dumps([{"kind": "mass"}, {"kind": "cardiomegaly"}])}
    report = report_of_row(row)
    assert report.findings == (Finding("mass"), Finding("cardiomegaly"))
    assert report.text("en").findings[0].findings == (1,)


@pytest.mark.parametrize(
    ("row", "error", "named"),
    [
        ({"language": "fr"}, UsageError, "language"),
        ({"structured": "{"}, UsageError, "structured"),
        ({"structured": '[{"kind": 3}]'}, UnreadableInput, "kind"),
        ({"structured": '{"kind": "mass"}'}, UnreadableInput, "list"),
    ],
)
def test_a_bad_row_is_refused(row, error, named):
    with pytest.raises(error) as caught:
        report_of_row(row)
    assert named in str(caught.value)
