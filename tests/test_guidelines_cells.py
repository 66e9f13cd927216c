"""Every cell of every guideline table, from cases written out from the publications, not from the tables.

A case names what is known and what the guideline says then: category, examinations, months to the first of them.
`test_every_row_is_reached` makes sure that no row of a table escapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from ctscribe.impression.context import Context, Details, Prior
from ctscribe.impression.guidelines import recommend, shipped
from ctscribe.impression.result import Recommendation
from ctscribe.report import Finding

ADULT = {"age": 60, "screening": False, "cancer": False, "immunosuppressed": False}
LOW, HIGH = ADULT | {"risk": "low"}, ADULT | {"risk": "high"}
SCREENED = {"screening": True}
RUL, LLL = ("right_upper_lobe",), ("left_lower_lobe",)

NONE: tuple[str, ...] = ()
CT, LDCT, WORK_UP = ("ct",), ("ldct",), ("ct", "pet_ct", "tissue")


@dataclass
class Case:
    """One cell: what is known, and what the guideline says."""

    guideline: str
    findings: list[Finding]
    months: tuple[float, float] | None
    modality: tuple[str, ...]
    category: str = ""
    says: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    prior: Prior | None = None

    def answer(self) -> Recommendation:
        details = (Details(0, **self.details),) if self.details else ()
        context = Context(**self.context, details=details, prior=self.prior)
        (made,) = recommend(self.findings, context, [shipped()[self.guideline]])
        return made

    def __str__(self) -> str:
        shown = [(f.kind, f.size_mm, f.value("density"), f.value("number")) for f in self.findings]
        return f"{self.guideline} {shown} {self.context} {self.details} {self.prior is not None}"


def nodule(density: str, *size: float, several: bool = False, **more: str) -> Finding:
    values = {"density": density, **({"number": "multiple"} if several else {}), **more}
    return Finding("lung_nodule", regions=RUL, size_mm=size, attributes=tuple(values.items()))


def fleischner() -> Iterator[Case]:
    """MacMahon 2017, table 1: mean diameter in whole mm."""

    def one(density: str, size: float, context: dict, months: Any, modality: Any, says: str, **more: Any) -> Case:
        several = bool(more.pop("several", False))
        found = [nodule(density, size, several=several)]
        return Case("fleischner_2017", found, months, modality, "", says, context, more)

    # solid, single: < 6, 6 to 8, > 8
    for size in (3, 5, 5.4):
        yield one("solid", size, LOW, None, NONE, "no routine follow-up")
        yield one("solid", size, HIGH, (12, 12), CT, "optional CT at 12 months")
    for size in (5.5, 6, 7, 8, 8.4):
        yield one("solid", size, LOW, (6, 12), CT, "then consider CT at 18 to 24 months")
        yield one("solid", size, HIGH, (6, 12), CT, "then CT at 18 to 24 months")
    for size in (8.5, 9, 20):
        for context in (LOW, HIGH, ADULT):
            yield one("solid", size, context, (3, 3), WORK_UP, "consider CT at 3 months, PET/CT or tissue sampling")
    # solid, several: < 6; 6 to 8 and > 8 alike
    yield one("solid", 5, LOW, None, NONE, "no routine follow-up", several=True)
    yield one("solid", 5, HIGH, (12, 12), CT, "optional CT at 12 months", several=True)
    for size in (6, 8, 9, 15):
        yield one("solid", size, LOW, (3, 6), CT, "then consider CT at 18 to 24 months", several=True)
        yield one("solid", size, HIGH, (3, 6), CT, "then CT at 18 to 24 months", several=True)
    # subsolid: risk does not matter
    for context in (LOW, HIGH, ADULT):
        yield one("ground_glass", 5, context, None, NONE, "no routine follow-up")
        yield one(
            "ground_glass", 5, context, (24, 24), CT, "CT at 2 and 4 years can be considered", suspicious_look=True
        )
        yield one("ground_glass", 6, context, (6, 12), CT, "then CT every 2 years until 5 years")
        yield one("part_solid", 5, context, None, NONE, "no routine follow-up")
        yield one("part_solid", 6, context, (3, 6), CT, "CT every year for 5 years", solid_part_mm=5.4)
        yield one("part_solid", 9, context, (3, 6), WORK_UP, "highly suspicious", solid_part_mm=5.5)
        for density in ("ground_glass", "part_solid"):
            yield one(density, 5, context, (3, 6), CT, "consider CT at 2 and 4 years", several=True)
            yield one(density, 6, context, (3, 6), CT, "as the most suspicious one requires", several=True)
    # benign by look; growth is outside the table
    yield one("solid", 9, HIGH, None, NONE, "no routine follow-up", perifissural=True)
    yield one("solid", 9, HIGH, None, NONE, "no routine follow-up", benign_pattern=True)
    yield one("solid", 7, LOW, None, ("pet_ct", "tissue", "ct"), "it has grown", change="growing")


def lung_rads() -> Iterator[Case]:
    """Lung-RADS v2022: mean diameter with one decimal."""
    work_up = ("ct", "pet_ct", "tissue", "referral")
    steps: dict[str, tuple[Any, Any]] = {
        "0": ((1, 3), LDCT),
        "1": ((12, 12), LDCT),
        "2": ((12, 12), LDCT),
        "3": ((6, 6), LDCT),
        "4A": ((3, 3), ("ldct", "pet_ct")),
        "4B": (None, work_up),
        "4X": (None, work_up),
    }

    def one(category: str, density: str, *size: float, prior: Prior | None = None, **details: Any) -> Case:
        found = [nodule(density, *size)] if density else []
        return Case("lung_rads_2022", found, *steps[category], category, "", SCREENED, details, prior)

    # solid at baseline, new, growing
    for category, sizes in {"2": (3, 5.9), "3": (6, 7.9), "4A": (8, 14.9), "4B": (15, 30)}.items():
        for size in sizes:
            yield one(category, "solid", size)
    for category, sizes in {"2": (3, 3.9), "3": (4, 5.9), "4A": (6, 7.9), "4B": (8, 20)}.items():
        for size in sizes:
            yield one(category, "solid", size, change="new")
    yield one("4A", "solid", 7.9, change="growing")
    yield one("4B", "solid", 8, change="growing")
    yield one("4B", "solid", 7, change="slowly_growing")
    yield one("4B", "part_solid", 7, change="slowly_growing", solid_part_mm=2)
    # part-solid: total diameter, then the solid part
    yield one("2", "part_solid", 5.9)
    yield one("3", "part_solid", 5.9, change="new", solid_part_mm=2)
    yield one("3", "part_solid", 6, solid_part_mm=5.9)
    yield one("4A", "part_solid", 9, solid_part_mm=6)
    yield one("4A", "part_solid", 9, solid_part_mm=7.9)
    yield one("4B", "part_solid", 9, solid_part_mm=8)
    yield one("4A", "part_solid", 9, change="new", solid_part_mm=3.9)
    yield one("4B", "part_solid", 9, change="new", solid_part_mm=4)
    for change in ("growing", "stable"):
        yield one("4A", "part_solid", 9, change=change, solid_part_change="growing", solid_part_mm=3.9)
        yield one("4B", "part_solid", 9, change=change, solid_part_change="new", solid_part_mm=4)
    yield one("3", "part_solid", 9, change="growing", solid_part_change="stable", solid_part_mm=3)
    yield one("2", "part_solid", 5, change="growing", solid_part_change="stable", solid_part_mm=2)
    # ground-glass
    for change in ("baseline", "new", "growing", "stable", "slowly_growing", "smaller"):
        known = {} if change == "baseline" else {"change": change}
        yield one("2", "ground_glass", 29.9, **known)
    for category, changes in {
        "3": ("baseline", "new", "growing"),
        "2": ("stable", "slowly_growing", "smaller"),
    }.items():
        for change in changes:
            known = {} if change == "baseline" else {"change": change}
            yield one(category, "ground_glass", 30, **known)
    # benign by look
    yield one("1", "solid", 20, benign_pattern=True)
    yield one("2", "solid", 9.9, perifissural=True)
    yield one("2", "solid", 9.9, perifissural=True, change="new")
    yield one("4A", "solid", 10, perifissural=True)
    yield one("2", "solid", 20, proven_benign=True)
    # airway nodules
    for change in ("baseline", "new", "stable", "smaller"):
        known = {} if change == "baseline" else {"change": change}
        yield one("2", "solid", 5, airway="subsegmental", **known)
    yield one("4A", "solid", 5, airway="subsegmental", change="growing")
    yield one("4A", "solid", 5, airway="proximal")
    yield one("4A", "solid", 5, airway="proximal", change="new")
    yield one("4B", "solid", 5, airway="proximal", change="stable")
    yield one("4B", "solid", 5, airway="proximal", change="growing")
    # atypical cysts
    yield one("3", "solid", 12, cyst="thick", cyst_change="cystic_part_growing")
    yield one("4A", "solid", 12, cyst="thick")
    yield one("4A", "solid", 12, cyst="multilocular")
    yield one("4A", "solid", 12, cyst="multilocular", change="stable", earlier_category="1")
    yield one("4A", "solid", 12, cyst="thin", cyst_change="became_multilocular")
    yield one("4B", "solid", 12, cyst="thick", cyst_change="wall_growing")
    yield one("4B", "solid", 12, cyst="multilocular", cyst_change="growing")
    yield one("4B", "solid", 12, cyst="multilocular", cyst_change="more_loculated")
    thin = [nodule("solid", 12)]
    yield Case("lung_rads_2022", thin, None, NONE, "", "not classified", SCREENED, {"cyst": "thin"})
    # stepped management
    days = {"early": Prior((nodule("solid", 7),), 61), "three": Prior((nodule("solid", 7),), 92)}
    half_year = Prior((nodule("solid", 7),), 183)
    yield one("2", "solid", 7, earlier_category="3", prior=half_year)
    yield one("3", "solid", 7, earlier_category="3", prior=days["three"])
    yield one("3", "solid", 7, earlier_category="4A", prior=days["three"])
    yield one("4A", "solid", 7, earlier_category="4A", prior=days["early"])
    yield one("4B", "solid", 7, earlier_category="4B", prior=half_year)
    yield one("2", "solid", 7, earlier_category="2", prior=half_year)
    yield one("2", "solid", 7, earlier_category="4A", change="resolved")
    # suspicious features
    yield one("4X", "solid", 7, suspicious=True)
    yield one("4X", "solid", 20, suspicious=True)
    yield one("2", "solid", 5, suspicious=True)
    spiculated = [nodule("solid", 9, margin="spiculated")]
    yield Case("lung_rads_2022", spiculated, *steps["4X"], "4X", "", SCREENED)
    # the examination as a whole
    yield one("1", "")
    yield Case("lung_rads_2022", [nodule("solid", 9)], None, NONE, "0", "", SCREENED | {"prior_pending": True})
    yield Case("lung_rads_2022", [nodule("solid", 9)], None, LDCT, "0", "", SCREENED | {"incomplete": True})
    yield Case("lung_rads_2022", [nodule("solid", 9)], *steps["0"], "0", "", SCREENED | {"infection": True})
    # the modifier for what is not lung cancer
    with_aneurysm = [nodule("solid", 7), Finding("aortic_aneurysm", size_mm=(50,))]
    yield Case("lung_rads_2022", with_aneurysm, *steps["3"], "3S", "", SCREENED)


def c_lung_rads() -> Iterator[Case]:
    """C-Lung-RADS, table 1."""
    now = ("ct", "pet_ct", "tissue", "referral")
    steps: dict[str, tuple[Any, Any]] = {
        "0": ((12, 12), LDCT),
        "1": ((12, 12), LDCT),
        "2": ((6, 6), CT),
        "3": ((3, 3), ("ct", "pet_ct")),
        "4": (None, now),
    }

    def one(category: str, density: str, size: float, context: dict | None = None, **details: Any) -> Case:
        known = SCREENED | (context or {})
        return Case("c_lung_rads_2024", [nodule(density, size)], *steps[category], category, "", known, details)

    for category, sizes in {"1": (5.9,), "2": (6, 9.9), "3": (10, 17.9), "4": (18, 25)}.items():
        for size in sizes:
            yield one(category, "solid", size)
    for category, sizes in {"1": (5.9,), "2": (6, 19.9), "3": (20, 29)}.items():
        for size in sizes:
            yield one(category, "ground_glass", size)
    yield one("1", "part_solid", 5.9)
    for category, parts in {"2": (5.9,), "3": (6, 9.9), "4": (10, 12)}.items():
        for part in parts:
            yield one(category, "part_solid", 15, solid_part_mm=part)
    yield one("0", "solid", 9, calcified=True)
    yield one("4", "solid", 7, {"model_probability": 0.5})
    yield one("2", "solid", 7, {"model_probability": 0.49})
    yield one("1", "solid", 5, {"model_probability": 0.9})
    yield Case("c_lung_rads_2024", [], *steps["0"], "0", "", SCREENED)


def others() -> Iterator[Case]:
    """Thyroid, mediastinum, adrenal gland, aorta, interstitial abnormality, emphysema."""

    def one(guideline: str, found: Finding, months: Any, modality: Any, category: str = "", **more: Any) -> Case:
        context = more.pop("context", {})
        return Case(guideline, [found], months, modality, category, more.pop("says", ""), context, more)

    def thyroid(size: float, age: int | None, modality: Any, **more: Any) -> Case:
        found = Finding("thyroid_nodule", size_mm=(size,))
        return one("acr_thyroid_2015", found, None, modality, context={"age": age}, **more)

    yield thyroid(9, 20, NONE)
    yield thyroid(10, 34, ("us",))
    yield thyroid(14, 35, NONE)
    yield thyroid(15, 35, ("us",))
    yield thyroid(15, None, ("us",))
    yield thyroid(9, None, NONE)
    yield thyroid(5, 60, ("us",), suspicious_look=True)

    def node(*size: float, place: str = "subcarinal") -> Finding:
        return Finding("lymphadenopathy", regions=(place,), size_mm=size)

    nodes = "acr_mediastinal_2018"
    yield one(nodes, node(14), None, NONE)
    yield one(nodes, node(20, 14), None, NONE)
    yield one(nodes, node(20, 15), (3, 6), WORK_UP)
    yield one(nodes, node(20, 15), None, NONE, says="the cause that is known", explained=True)
    yield one(nodes, node(12, 10), (3, 6), WORK_UP, suspicious_look=True)
    yield one(nodes, Finding("enlarged_pulmonary_artery", size_mm=(30,)), None, ("echo",))
    yield one(nodes, Finding("coronary_artery_wall_calcification"), None, ("referral",))

    def adrenal(size: float, months: Any, modality: Any, **more: Any) -> Case:
        found = Finding("adrenal_nodule", size_mm=(size,))
        return one("acr_adrenal_2017", found, months, modality, context={"cancer": False}, **more)

    yield adrenal(9, None, NONE)
    yield adrenal(30, None, NONE, attenuation_hu=10)
    yield adrenal(50, None, NONE, macroscopic_fat=True)
    yield adrenal(10, (12, 12), CT, attenuation_hu=11)
    yield adrenal(19, (12, 12), CT, attenuation_hu=30)
    yield adrenal(20, None, CT, attenuation_hu=30)
    yield adrenal(40, None, CT, attenuation_hu=30)
    yield adrenal(41, None, ("referral",), attenuation_hu=30)

    def aorta(size: float, months: Any, modality: Any, **more: Any) -> Case:
        return one("aorta_2022", Finding("aortic_aneurysm", size_mm=(size,)), months, modality, **more)

    yield aorta(39, None, NONE)
    yield aorta(40, (6, 12), ("ct", "mri"))
    yield aorta(49, (6, 12), ("ct", "mri"))
    yield aorta(50, (6, 6), ("ct", "mri", "referral"))
    yield aorta(54, (6, 6), ("ct", "mri", "referral"))
    yield aorta(55, None, ("referral",))
    yield aorta(45, None, ("referral",), change="growing")

    def interstitial(months: Any, category: str, kind: str = "reticulation", **details: Any) -> Case:
        modality = ("function", "ct") if months else NONE
        return one("fleischner_ila_2020", Finding(kind), months, modality, category, **details)

    yield interstitial(None, "none", extent_percent=4)
    yield interstitial((12, 12), "subpleural fibrotic", extent_percent=5, fibrosis_signs=True, subpleural=True)
    yield interstitial((12, 12), "subpleural fibrotic", "honeycombing", extent_percent=5, subpleural=True)
    yield interstitial((12, 12), "non-subpleural", extent_percent=5, fibrosis_signs=True, subpleural=False)
    yield interstitial((12, 24), "subpleural non-fibrotic", extent_percent=5, fibrosis_signs=False, subpleural=True)
    yield interstitial((12, 24), "non-subpleural", extent_percent=5, fibrosis_signs=False, subpleural=False)

    def emphysema(category: str, pattern: str, severity: str = "") -> Case:
        values = (("pattern", pattern), *((("severity", severity),) if severity else ()))
        found = Finding("emphysema", regions=("lungs",), attributes=values)
        return one("fleischner_emphysema_2015", found, None, ("function",), category)

    yield emphysema("centrilobular mild", "centrilobular", "mild")
    yield emphysema("centrilobular moderate", "centrilobular", "moderate")
    yield emphysema("centrilobular confluent or advanced destructive", "centrilobular", "severe")
    yield emphysema("paraseptal mild", "paraseptal", "mild")
    yield emphysema("paraseptal substantial", "paraseptal", "moderate")
    yield emphysema("paraseptal substantial", "paraseptal", "severe")
    yield emphysema("bullous", "bullous")


CASES = [*fleischner(), *lung_rads(), *c_lung_rads(), *others()]


@cache
def answered(index: int) -> Recommendation:
    """What the engine says about one case."""
    return CASES[index].answer()


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: str(CASES[index]))
def test_cell(index: int) -> None:
    case, made = CASES[index], answered(index)
    assert made.definite
    (option,) = made.options
    assert (option.category, option.months, option.modality) == (case.category, case.months, case.modality)
    assert case.says in option.action["en"]


def test_every_row_is_reached() -> None:
    reached = {(case.guideline, option.rule) for i, case in enumerate(CASES) for option in answered(i).options}
    rows = {(rule_set.id, row.id) for rule_set in shipped().values() for row in rule_set.all_rows}
    assert rows - reached == set()
