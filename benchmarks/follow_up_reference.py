"""The follow-up that guidelines ask for, written a second time as plain code, straight from the publications' tables.

It shares nothing with `ctscribe.impression.guidelines`: no table, no function. Everything must be known here; what the
engine says when a fact is missing is compared with what this says for every value of that fact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ctscribe.report import Finding

Answer = tuple[str, tuple[float, float] | None, tuple[str, ...]]
"""Category, months to the first step, examinations."""

NOTHING: Answer = ("", None, ())
WORK_UP = ("ct", "pet_ct", "tissue")


def whole(mm: float) -> int:
    """Nearest whole number, halves up."""
    return math.floor(mm + 0.5)


def tenth(mm: float) -> float:
    """One decimal, halves up."""
    return math.floor(mm * 10 + 0.5 + 1e-9) / 10


def mean(finding: Finding) -> float:
    """Mean of the axes, in mm."""
    return sum(finding.size_mm) / len(finding.size_mm)


def is_several(nodules: Sequence[Finding]) -> bool:
    """More than one nodule in the study."""
    return len(nodules) > 1 or any(f.value("number") == "multiple" or len(f.regions) > 1 for f in nodules)


def fleischner(density: str, size: int, several: bool, high: bool, core: int) -> Answer:
    """Incidental nodule, mean diameter in whole mm (MacMahon 2017)."""
    if density == "solid":
        if size < 6:
            return ("", (12, 12), ("ct",)) if high else NOTHING
        if several:
            return "", (3, 6), ("ct",)
        return ("", (6, 12), ("ct",)) if size <= 8 else ("", (3, 3), WORK_UP)
    if several:
        return "", (3, 6), ("ct",)
    if size < 6:
        return NOTHING
    if density == "ground_glass":
        return "", (6, 12), ("ct",)
    return ("", (3, 6), ("ct",)) if core < 6 else ("", (3, 6), WORK_UP)


def lung_rads(density: str, size: float, core: float, suspicious: bool) -> Answer:
    """Nodule at a first screening, mean diameter with one decimal (Lung-RADS v2022)."""
    if density == "solid":
        category = "2" if size < 6 else "3" if size < 8 else "4A" if size < 15 else "4B"
    elif density == "ground_glass":
        category = "2" if size < 30 else "3"
    elif size < 6:
        category = "2"
    else:
        category = "3" if core < 6 else "4A" if core < 8 else "4B"
    if suspicious and category != "2":
        category = "4X"
    months: dict[str, tuple[float, float] | None] = {"2": (12, 12), "3": (6, 6), "4A": (3, 3), "4B": None, "4X": None}
    modality = {"2": ("ldct",), "3": ("ldct",), "4A": ("ldct", "pet_ct")}
    return category, months[category], modality.get(category, ("ct", "pet_ct", "tissue", "referral"))


def c_lung_rads(density: str, size: float, core: float) -> Answer:
    """Nodule at a first screening in China (C-Lung-RADS)."""
    if size < 6:
        grade = 1
    elif density == "solid":
        grade = 2 if size < 10 else 3 if size < 18 else 4
    elif density == "ground_glass":
        grade = 2 if size < 20 else 3
    else:
        grade = 2 if core < 6 else 3 if core < 10 else 4
    steps: dict[int, tuple[tuple[float, float] | None, tuple[str, ...]]] = {
        1: ((12, 12), ("ldct",)),
        2: ((6, 6), ("ct",)),
        3: ((3, 3), ("ct", "pet_ct")),
        4: (None, ("ct", "pet_ct", "tissue", "referral")),
    }
    return str(grade), *steps[grade]


def thyroid(long_mm: float, age: int) -> Answer:
    """Ultrasound from 10 mm below the age of 35, from 15 mm later (Hoang 2015)."""
    return ("", None, ("us",)) if long_mm >= (10 if age < 35 else 15) else NOTHING


def node(short_mm: float) -> Answer:
    """Mediastinal node without a known cause (Munden 2018)."""
    return ("", (3, 6), WORK_UP) if short_mm >= 15 else NOTHING


def adrenal(long_mm: float, hu: float) -> Answer:
    """Adrenal mass without a known cancer (Mayo-Smith 2017)."""
    if long_mm < 10 or hu <= 10:
        return NOTHING
    if long_mm < 20:
        return "", (12, 12), ("ct",)
    return ("", None, ("ct",)) if long_mm <= 40 else ("", None, ("referral",))


def aorta(mm: float) -> Answer:
    """Diameter of the thoracic aorta."""
    if mm < 40:
        return NOTHING
    if mm < 50:
        return "", (6, 12), ("ct", "mri")
    return ("", (6, 6), ("ct", "mri", "referral")) if mm < 55 else ("", None, ("referral",))


def interstitial(percent: float, fibrosis: bool, subpleural: bool) -> Answer:
    """Interstitial lung abnormality (Hatabu 2020)."""
    if percent < 5:
        return "none", None, ()
    name = "non-subpleural" if not subpleural else "subpleural fibrotic" if fibrosis else "subpleural non-fibrotic"
    return name, (12, 12) if fibrosis else (12, 24), ("function", "ct")


URGENCY = {"fleischner": [None, (12, 12), (6, 12), (3, 6), (3, 3)], "category": ["1", "2", "3", "4", "4A", "4B", "4X"]}


def expected(findings: Sequence[Finding], known: dict[str, Any]) -> dict[tuple[str, str], Answer]:
    """What each guideline says about a study, by (guideline, kind of finding).

    Args:
        findings: of the study.
        known: ``age``, ``screening``, ``cancer``, ``immunosuppressed``, ``high`` (risk), ``core`` (mean diameter of the
            solid part), ``hu``, ``percent``, ``subpleural``, ``density`` (of a mass).
    """
    present = [f for f in findings if f.status == "present"]
    said: dict[tuple[str, str], Answer] = {}
    nodules = [f for f in present if f.kind == "lung_nodule" and f.size_mm and f.value("density")]
    adult = known["age"] >= 35 and not known["cancer"] and not known["immunosuppressed"]
    if known["screening"]:
        lesions = nodules + [f for f in present if f.kind == "mass"]
        for name, rule in (("lung_rads_2022", _lung_rads_of), ("c_lung_rads_2024", _c_lung_rads_of)):
            graded = [rule(f, known) for f in lesions]
            if graded:
                said[name, "lung"] = max(graded, key=lambda a: URGENCY["category"].index(a[0]))
        if not lesions:
            said["lung_rads_2022", "lung"] = ("1", (12, 12), ("ldct",))
    elif nodules and adult:
        several = is_several(nodules)
        high = known["high"] or any(f.kind in ("emphysema", "honeycombing", "reticulation") for f in present)
        made = [
            fleischner(
                str(f.value("density")),
                whole(mean(f)),
                several,
                high or f.value("margin") == "spiculated",
                whole(known["core"]),
            )
            for f in nodules
        ]
        said["fleischner_2017", "lung"] = max(made, key=lambda a: URGENCY["fleischner"].index(a[1]))
    fibrosis = any(f.kind == "honeycombing" for f in present)
    for f in present:
        if f.kind == "thyroid_nodule" and f.size_mm:
            said["acr_thyroid_2015", f.kind] = thyroid(f.size_mm[0], known["age"])
        if f.kind == "lymphadenopathy" and len(f.size_mm) == 2 and known["in_mediastinum"](f):
            said["acr_mediastinal_2018", f.kind] = node(f.size_mm[1])
        if f.kind == "enlarged_pulmonary_artery" and f.size_mm and f.size_mm[0] > 29:
            said["acr_mediastinal_2018", f.kind] = ("", None, ("echo",))
        if f.kind == "coronary_artery_wall_calcification":
            said["acr_mediastinal_2018", f.kind] = ("", None, ("referral",))
        if f.kind == "adrenal_nodule" and f.size_mm and not known["cancer"]:
            said["acr_adrenal_2017", f.kind] = adrenal(f.size_mm[0], known["hu"])
        if f.kind == "aortic_aneurysm" and f.size_mm:
            said["aorta_2022", f.kind] = aorta(f.size_mm[0])
        if f.kind in ("reticulation", "honeycombing"):
            answer = interstitial(known["percent"], fibrosis, known["subpleural"])
            said["fleischner_ila_2020", "lung"] = answer
    return said


def _lung_rads_of(finding: Finding, known: dict[str, Any]) -> Answer:
    density = str(finding.value("density") or known["density"])
    return lung_rads(density, tenth(mean(finding)), tenth(known["core"]), finding.value("margin") == "spiculated")


def _c_lung_rads_of(finding: Finding, known: dict[str, Any]) -> Answer:
    density = str(finding.value("density") or known["density"])
    return c_lung_rads(density, tenth(mean(finding)), tenth(known["core"]))
