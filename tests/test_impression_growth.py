"""Against an earlier scan: which finding continues which, what counts as growth, and how it is said."""

from __future__ import annotations

import pytest

from ctscribe import impression
from ctscribe.impression import compare, drafts, growth, rules
from ctscribe.impression.context import Context, Details, Prior
from ctscribe.impression.guard import Known
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding
from ctscribe.report.parse import parse


def nodule(*size: float, lobe: str = "right_upper_lobe") -> Finding:
    return Finding("lung_nodule", regions=(lobe,), size_mm=size, attributes=(("density", "solid"),))


def change(now: float, before: float, days: int | None) -> str | None:
    context = Context(prior=Prior((nodule(before),), days))
    return growth.pairs([nodule(now)], context)[0].change


@pytest.mark.parametrize(
    ("now", "before", "days", "expected"),
    [
        (7.5, 6, 180, "stable"),
        (7.6, 6, 180, "growing"),
        (7.6, 6, 365, "growing"),
        (7.6, 6, 730, "slowly_growing"),
        (9.2, 6, 730, "growing"),
        (7.6, 6, None, None),
        (7.5, 6, None, "stable"),
        (4.5, 6, 180, "stable"),
        (4.4, 6, 180, "smaller"),
    ],
)
def test_growth_is_more_than_a_millimetre_and_a_half_within_a_year(
    now: float, before: float, days: int | None, expected: str | None
) -> None:
    assert change(now, before, days) == expected


@pytest.mark.parametrize(("volume", "expected"), [(124, "stable"), (125, "growing"), (75, "smaller")])
def test_a_volume_counts_where_there_is_no_diameter(volume: float, expected: str) -> None:
    prior = Prior((nodule(),), 100, (Details(0, volume_mm3=100),))
    (pair,) = growth.pairs([nodule()], Context(prior=prior, details=(Details(0, volume_mm3=volume),)))
    assert pair.change == expected


def test_doubling_of_the_volume_takes_its_doubling_time() -> None:
    prior = Prior((nodule(6),), 100, (Details(0, volume_mm3=100),))
    (pair,) = growth.pairs([nodule(9)], Context(prior=prior, details=(Details(0, volume_mm3=200),)))
    assert pair.doubling_days == pytest.approx(100)


def test_each_finding_continues_the_nearest_of_its_kind_and_place_once() -> None:
    before = (nodule(4), nodule(9), nodule(9, lobe="left_lower_lobe"), Finding("cavity", regions=("left_lung",)))
    now = [nodule(9, lobe="left_lower_lobe"), nodule(10), nodule(5), nodule(5)]
    found = {pair.now: pair.before for pair in growth.pairs(now, Context(prior=Prior(before, 90)))}
    assert found == {0: 2, 1: 1, 2: 0}


def test_pairs_do_not_depend_on_the_order_of_the_findings() -> None:
    before = (nodule(4), nodule(9))
    now = [nodule(10), nodule(5)]
    forwards = growth.pairs(now, Context(prior=Prior(before, 90)))
    backwards = growth.pairs(now[::-1], Context(prior=Prior(before[::-1], 90)))
    assert [p.larger_by_mm for p in forwards] == [p.larger_by_mm for p in backwards][::-1]


SAID = [
    (
        nodule(9),
        nodule(6),
        "Larger by 3 mm than at the earlier scan 3 months ago.",
        "与3个月前的前次检查相比增大3 mm。",
    ),
    (
        nodule(4),
        nodule(9),
        "Smaller by 5 mm than at the earlier scan 3 months ago.",
        "与3个月前的前次检查相比缩小5 mm。",
    ),
    (nodule(6), nodule(6), "Unchanged since the earlier scan 3 months ago.", "与3个月前的前次检查相比无变化。"),
    (
        nodule(7),
        nodule(6),
        "Unchanged within measurement error since the earlier scan 3 months ago (larger by 1 mm).",
        "与3个月前的前次检查相比无变化，差异在测量误差内（增大1 mm）。",
    ),
    (
        nodule(6),
        nodule(6, lobe="left_lower_lobe"),
        "New since the earlier scan 3 months ago.",
        "与3个月前的前次检查相比为新发。",
    ),
    (
        Finding("consolidation", regions=("left_lower_lobe",)),
        nodule(6),
        "Not described at the earlier scan 3 months ago.",
        "3个月前的前次检查未提及。",
    ),
    (
        Finding("emphysema", regions=("lungs",), attributes=(("severity", "severe"),)),
        Finding("emphysema", regions=("lungs",), attributes=(("severity", "mild"),)),
        "Changed from mild to severe since the earlier scan 3 months ago.",
        "与3个月前的前次检查相比由轻度变为重度。",
    ),
]


@pytest.mark.parametrize(("now", "before", "english", "chinese"), SAID)
def test_a_comparison_is_said(now: Finding, before: Finding, english: str, chinese: str) -> None:
    context = Context(prior=Prior((before,), 91))
    assert compare.statements([now], context, "en")[0].text == english
    assert compare.statements([now], context, "zh")[0].text == chinese


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_denied_now_is_gone_and_silence_is_not(language: str) -> None:
    before = (nodule(6), Finding("cavity", regions=("left_upper_lobe",), size_mm=(20,)))
    context = Context(prior=Prior(before, 30))
    findings = [Finding("cavity", "absent")]
    (told,) = compare.gone(findings, context, language)
    assert told.findings == (0,)
    assert [f.status for f in parse(told.text, language)] == ["absent"]
    written = impression.write(findings, language, context=context)
    assert told in written.statements


def test_without_an_earlier_scan_nothing_is_compared() -> None:
    assert compare.statements([nodule(6)], Context(), "en") == {}
    assert compare.gone([nodule(6)], Context(), "en") == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_model_is_told_what_has_changed(language: Language) -> None:
    """Word for word what the rules say of the earlier scan; nothing about changes without one."""
    now, context = [nodule(9)], Context(prior=Prior((nodule(6),), 100))
    ruled = rules.write(now, language, context=context)
    (said,) = (s.text for s in ruled.statements if s.role == "comparison")
    known = Known(tuple(now), ruled.recommendations, ruled.statements)
    assert f"CHANGES\nfinding 0: {said}\n" in drafts.question(known, language, context).user
    alone = rules.write(now, language)
    known = Known(tuple(now), alone.recommendations, alone.statements)
    assert "CHANGES\n" not in drafts.question(known, language, Context()).user
