"""Laws of the guideline engine: what size, silence, doubt and company do to an answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from ctscribe.impression.context import Context, Details, Prior
from ctscribe.impression.guidelines import load, recommend, shipped
from ctscribe.impression.guidelines.words import sentence
from ctscribe.impression.measure import half_up, mean_mm
from ctscribe.impression.result import Recommendation
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding
from ctscribe.report.parse import parse
from test_guidelines_cells import ADULT, CASES, HIGH, LOW, SCREENED, Case, nodule


def ask(guideline: str, findings: list[Finding], context: Context) -> Recommendation:
    (made,) = recommend(findings, context, [shipped()[guideline]])
    return made


# ------------------------------------------------------------------------------------------ measuring
@pytest.mark.parametrize(
    ("value", "step", "rounded"),
    [
        (5.4, 1, 5),
        (5.5, 1, 6),
        (6.5, 1, 7),
        (8.4, 1, 8),
        (8.5, 1, 9),
        (5.45, 0.1, 5.5),
        (5.94, 0.1, 5.9),
        (0.05, 0.1, 0.1),
    ],
)
def test_halves_are_rounded_up(value: float, step: float, rounded: float) -> None:
    assert half_up(value, step) == rounded


def test_a_size_is_the_mean_of_both_axes() -> None:
    assert mean_mm(nodule("solid", 10, 7)) == 9
    assert mean_mm(nodule("solid", 10, 7), 0.1) == 8.5
    assert mean_mm(nodule("solid")) is None


@pytest.mark.parametrize(("volume", "months"), [(99, None), (100, (6, 12)), (250, (6, 12)), (251, (3, 3))])
def test_a_volume_decides_only_where_there_is_no_diameter(volume: float, months: tuple | None) -> None:
    context = Context(**LOW, details=(Details(0, volume_mm3=volume),))
    assert ask("fleischner_2017", [nodule("solid")], context).options[0].months == months
    assert ask("fleischner_2017", [nodule("solid", 20)], context).options[0].months == (3, 3)


INTENSITY = {None: 0, (24, 24): 1, (12, 12): 1, (6, 12): 2, (6, 6): 3, (3, 6): 3, (3, 3): 4}
CATEGORY = {"1": 1, "2": 2, "3": 3, "4A": 4, "4B": 5, "4": 5}


@pytest.mark.parametrize("density", ["solid", "ground_glass", "part_solid"])
@pytest.mark.parametrize("several", [False, True])
def test_fleischner_asks_for_no_less_when_a_nodule_is_larger(density: str, several: bool) -> None:
    context = Context(**HIGH, details=(Details(0, solid_part_mm=4),))
    sizes = [3, 5, 5.4, 5.5, 6, 7, 8, 8.4, 8.5, 9, 15, 29]
    made = [ask("fleischner_2017", [nodule(density, s, several=several)], context) for s in sizes]
    asked = [INTENSITY[m.options[0].months] for m in made]
    assert asked == sorted(asked)
    assert len(set(asked)) > 1 or several


@pytest.mark.parametrize("guideline", ["lung_rads_2022", "c_lung_rads_2024"])
@pytest.mark.parametrize("density", ["solid", "ground_glass"])
@pytest.mark.parametrize("change", ["baseline", "new", "growing"])
def test_a_screening_category_never_falls_with_size(guideline: str, density: str, change: str) -> None:
    known = () if change == "baseline" else (Details(0, change=change),)
    context = Context(screening=True, details=known)
    sizes = [limit + step for limit in (4, 6, 8, 10, 15, 18, 20, 30) for step in (-0.1, 0, 0.1)]
    found = [CATEGORY[ask(guideline, [nodule(density, s)], context).category] for s in sizes]
    assert found == sorted(found)


# ------------------------------------------------------------------------------------------ silence
FORGETTABLE = {
    "solid_part_mm",
    "attenuation_hu",
    "extent_percent",
    "subpleural",
    "solid_part_change",
    "earlier_category",
}


def forgotten(case: Case) -> list[Case]:
    """The case with one fact less, once for each fact that a table has to ask for."""
    less = [replace(case, context={k: v for k, v in case.context.items() if k != gone}) for gone in case.context]
    less += [
        replace(case, details={k: v for k, v in case.details.items() if k != gone})
        for gone in case.details
        if gone in FORGETTABLE
    ]
    for index, finding in enumerate(case.findings):
        bare = [replace(finding, size_mm=())] if finding.size_mm else []
        bare += [
            replace(finding, attributes=tuple(pair for pair in finding.attributes if pair != gone))
            for gone in finding.attributes
            if gone[0] in ("density", "pattern", "severity")
        ]
        less += [replace(case, findings=[*case.findings[:index], b, *case.findings[index + 1 :]]) for b in bare]
    return less


# A fact whose silence means no takes its row with it; screening tables keep quiet outside screening.
SILENCE_MEANS_NO = {"suspicious_look", "model_probability", "prior_pending", "incomplete", "infection"}


@cache
def with_one_fact_less() -> list[tuple[Case, Case, Recommendation | None]]:
    """Every sixth case with each fact forgotten in turn, and what the engine then says."""
    answers = []
    for case in CASES[::6]:
        for less in forgotten(case):
            details = (Details(0, **less.details),) if less.details else ()
            context = Context(**less.context, details=details, prior=less.prior)
            made = recommend(less.findings, context, [shipped()[case.guideline]])
            answers.append((case, less, made[0] if made else None))
    return answers


def test_forgetting_a_fact_widens_the_answer_and_never_changes_it() -> None:
    checked = 0
    for case, less, made in with_one_fact_less():
        if SILENCE_MEANS_NO & {*case.details, *case.context}:
            continue
        if made is None:
            assert "screening" in case.context.keys() - less.context.keys()
            continue
        (true,) = case.answer().options
        assert (true.action, true.category) in [(o.action, o.category) for o in made.options], (str(less), made)
        assert made.definite or made.needs
        checked += 1
    assert checked > 80


def test_unknown_risk_gives_both_arms_and_asks() -> None:
    made = ask("fleischner_2017", [nodule("solid", 5)], Context(**ADULT))
    assert [o.condition["en"] for o in made.options] == ["at low risk", "at high risk"]
    assert [need.fact for need in made.needs] == ["risk"]


@pytest.mark.parametrize("factor", ["smoker", "family_history", "exposure", "emphysema", "fibrosis"])
def test_one_factor_makes_the_risk_high(factor: str) -> None:
    made = ask("fleischner_2017", [nodule("solid", 5)], Context(**ADULT, **{factor: True}))
    assert made.options[0].months == (12, 12)


def test_risk_is_low_only_when_every_factor_was_denied() -> None:
    some = Context(**ADULT, smoker=False, family_history=False)
    assert len(ask("fleischner_2017", [nodule("solid", 5)], some).options) == 2
    made = ask("fleischner_2017", [nodule("solid", 5)], replace(some, exposure=False))
    assert made.definite
    assert made.options[0].months is None


@pytest.mark.parametrize("seen", [Finding("emphysema"), Finding("honeycombing")])
def test_a_risk_factor_seen_on_the_scan_counts(seen: Finding) -> None:
    denied = Context(**ADULT, smoker=False, family_history=False, exposure=False)
    assert ask("fleischner_2017", [nodule("solid", 5), seen], denied).options[0].months == (12, 12)


def test_what_is_not_known_about_the_scope_is_a_proviso_and_a_question() -> None:
    made = ask("fleischner_2017", [nodule("solid", 9)], Context())
    assert [need.fact for need in made.needs] == ["screening", "age", "cancer", "immunosuppressed"]
    assert "aged 35 years or more" in made.provisos["en"]
    assert "35岁" in made.provisos["zh"]


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"age": 34}, "younger than 35"),
        ({"cancer": True}, "a cancer is known"),
        ({"immunosuppressed": True}, "suppressed"),
    ],
)
def test_outside_its_scope_a_guideline_says_why(known: dict, why: str) -> None:
    made = ask("fleischner_2017", [nodule("solid", 9)], Context(**ADULT | known))
    assert made.options == ()
    assert why in sentence(made, "en")
    assert "不适用" in sentence(made, "zh")


@pytest.mark.parametrize("screening", [None, False])
@pytest.mark.parametrize("guideline", ["lung_rads_2022", "c_lung_rads_2024"])
def test_a_diagnostic_scan_never_gets_a_screening_category(screening: bool | None, guideline: str) -> None:
    context = Context(screening=screening)
    assert recommend([nodule("solid", 9)], context, [shipped()[guideline]]) == ()
    assert recommend([], context, [shipped()[guideline]]) == ()


def test_fleischner_keeps_quiet_in_screening() -> None:
    assert recommend([nodule("solid", 9)], Context(**SCREENED), [shipped()["fleischner_2017"]]) == ()


def test_a_table_without_a_row_says_so() -> None:
    details = (Details(0, airway="proximal", change="smaller", earlier_category="4A"),)
    context = Context(screening=True, details=details, prior=Prior((nodule("solid", 9),), 100))
    made = ask("lung_rads_2022", [nodule("solid", 9)], context)
    assert made.options == ()
    assert "no row" in sentence(made, "en")


def test_a_set_may_keep_quiet_about_what_is_not_its_subject() -> None:
    axillary = Finding("lymphadenopathy", regions=("left_axilla",), size_mm=(20, 18))
    assert recommend([axillary], Context(), [shipped()["acr_mediastinal_2018"]]) == ()


def test_one_open_row_is_no_answer() -> None:
    made = ask("acr_mediastinal_2018", [Finding("enlarged_pulmonary_artery")], Context())
    assert not made.definite
    assert made.options[0].condition["en"] == "above 29 mm"


# ------------------------------------------------------------------------------------------ company
def test_of_several_nodules_the_most_suspicious_decides_not_the_largest() -> None:
    findings = [nodule("solid", 5), nodule("part_solid", 7), nodule("ground_glass", 12)]
    made = ask("fleischner_2017", findings, Context(**LOW))
    assert made.findings == (0, 1, 2)
    assert "as the most suspicious one requires" in made.options[0].action["en"]
    context = Context(screening=True, details=(Details(1, solid_part_mm=7),))
    assert ask("lung_rads_2022", findings, context).category == "4A"


def test_the_order_of_findings_does_not_matter() -> None:
    findings = [nodule("solid", 5), nodule("ground_glass", 12), Finding("emphysema"), nodule("solid", 9)]
    a, b = (ask("fleischner_2017", f, Context(**ADULT)) for f in (findings, findings[::-1]))
    assert a.options == b.options


def test_a_surely_worse_nodule_makes_the_doubts_about_another_irrelevant() -> None:
    made = ask("lung_rads_2022", [nodule("part_solid", 6), nodule("solid", 20)], Context(screening=True))
    assert made.definite
    assert made.category == "4B"


def test_a_perifissural_nodule_that_grows_is_not_waved_through() -> None:
    context = Context(**LOW, details=(Details(0, perifissural=True, change="growing"),))
    assert ask("fleischner_2017", [nodule("solid", 7)], context).options[0].rule == "growing"


def test_a_finding_in_doubt_makes_the_advice_conditional() -> None:
    made = ask("aorta_2022", [Finding("aortic_aneurysm", "uncertain", size_mm=(45,))], Context())
    assert "the finding is confirmed" in made.provisos["en"]


def test_what_is_absent_gets_no_advice() -> None:
    assert recommend([Finding("lung_nodule", "absent")], Context(**ADULT), load()) == ()


# ------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_advice_reads_as_a_finding(language: str) -> None:
    told = [case.answer() for case in CASES[::7]] + [made for _, _, made in with_one_fact_less() if made]
    sentences = {sentence(made, language) for made in told}
    assert len(sentences) > 40
    assert [text for text in sentences if parse(text, language)] == []


def test_what_was_not_compared_with_the_publication_is_marked_in_every_sentence() -> None:
    for case in CASES[::4]:
        made = case.answer()
        assert ("has not been compared" in sentence(made, "en")) == (not made.verified)
        assert ("尚未与原文核对" in sentence(made, "zh")) == (not made.verified)
    unread = {"acr_adrenal_2017", "aorta_2022"}
    assert not any(case.answer().verified for case in CASES[::4] if case.guideline in unread)
