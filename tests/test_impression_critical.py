"""Critical results: found in findings, signs and words, never in what a text denies."""

from __future__ import annotations

import pytest

import people_fakes as fakes
from ctscribe import impression
from ctscribe.explain import render_html
from ctscribe.impression import critical
from ctscribe.impression.context import Context, Details
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding

PNEUMOTHORAX = Finding("pneumothorax", regions=("left_pleura",))
LARGE = Finding("pneumothorax", regions=("left_pleura",), attributes=(("severity", "large"),))


def ids(text: str, *findings: Finding, certain: bool = True) -> list[str]:
    return [r.id for r in critical.find(findings, text=text) if r.certain == certain]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a type A dissection with an intimal flap.", "aortic_dissection"),
        ("Aortic dissection from the root to the arch.", "aortic_dissection"),
        ("主动脉弓部夹层形成。", "aortic_dissection"),
        ("Contained rupture of the descending aorta.", "aortic_rupture"),
        ("胸主动脉瘤破裂。", "aortic_rupture"),
        ("Saddle embolus at the bifurcation.", "large_pulmonary_embolus"),
        ("肺动脉主干骑跨血栓。", "large_pulmonary_embolus"),
        ("Filling defect in a segmental pulmonary artery.", "pulmonary_embolus"),
        ("右下肺动脉充盈缺损。", "pulmonary_embolus"),
        ("Signs of cardiac tamponade.", "tamponade"),
    ],
)
def test_words_without_a_finding_kind_are_read(text: str, expected: str) -> None:
    assert ids(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "No aortic dissection.",
        "No evidence of pulmonary embolism or aortic dissection.",
        "Pulmonary embolism is excluded.",
        "The examination is negative for pulmonary embolus.",
        "History of aortic dissection.",
        "未见主动脉夹层。",
        "未见肺栓塞征象。",
        "排除主动脉夹层。",
        "Mild dissection of words.",
        "",
    ],
)
def test_what_is_denied_or_past_is_no_result(text: str) -> None:
    assert critical.find([], text=text) == ()


@pytest.mark.parametrize(
    "text", ["Possible aortic dissection.", "Aortic dissection cannot be excluded.", "主动脉夹层可能。"]
)
def test_what_is_doubted_is_a_possible_result(text: str) -> None:
    assert ids(text, certain=False) == ["aortic_dissection"]
    (result,) = critical.find([], text=text)
    assert critical.statement(result, "en").text.startswith("Possible critical result")


def test_tension_needs_the_pneumothorax_and_a_sign() -> None:
    shifted = "The mediastinum is shifted to the right."
    assert ids(shifted) == []
    assert ids(shifted, PNEUMOTHORAX) == ["tension_pneumothorax"]
    assert ids("", PNEUMOTHORAX) == []
    context = Context(details=(Details(0, signs=("mediastinal_shift",)),))
    assert [r.id for r in critical.find([PNEUMOTHORAX], context)] == ["tension_pneumothorax"]


def test_a_large_pneumothorax_is_told_and_the_more_urgent_result_covers_it() -> None:
    assert ids("", LARGE) == ["large_pneumothorax"]
    assert ids("There is mediastinal shift.", LARGE) == ["tension_pneumothorax"]


def test_a_finding_in_doubt_makes_the_result_possible() -> None:
    doubt = Finding("pneumothorax", "uncertain", ("left_pleura",), attributes=(("severity", "large"),))
    assert ids("", doubt, certain=False) == ["large_pneumothorax"]
    assert critical.find([Finding("pneumothorax", "absent")], text="No mediastinal shift.") == ()


def test_minutes_come_before_hours() -> None:
    found = critical.find([LARGE], text="Aortic dissection. Filling defect in a pulmonary artery.")
    assert [r.within for r in found] == ["minutes", "hours", "hours"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_critical_results_stand_on_top_of_the_impression(language: str) -> None:
    nodule = Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(9,))
    written = impression.write([nodule, LARGE], language, text="Aortic dissection.")
    assert [s.role for s in written.statements[:2]] == ["critical", "critical"]
    assert written.statements[1].findings == (1,)
    assert len(written.critical) == 2
    assert written.lines[0].findings == ()
    assert "acr_actionable" in [c.id for c in written.citations]


def test_critical_results_stand_on_top_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch)
    result = fakes.reporter(fakes.FakeModel(text="There is a large left pneumothorax.")).report("scan")
    (critical_sentence,) = result.report.text("en").critical
    assert critical_sentence.evidence
    text = result.report.to_text("en")
    assert text.index("!! Critical result, to be told within hours") < text.index("TECHNIQUE")
    assert "Critical result" not in result.report.section("impression")
    page = render_html(result)
    assert page.index('role="alert"') < page.index("<h1>")
    quiet = fakes.reporter().report("scan")
    assert quiet.report.text("en").critical == ()
    assert 'role="alert"' not in render_html(quiet)
