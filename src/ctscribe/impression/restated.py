"""What a sentence says about findings, compared with what the study reports: kind, side, place, size, certainty."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ctscribe import ontology
from ctscribe.impression import terms
from ctscribe.impression.known import Known, Problem, ProblemKind
from ctscribe.impression.result import Recommendation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import normalise

ROUNDING_MM = 0.51
"""A size may be rounded to whole millimetres, or to one decimal of a centimetre."""

_MEASURE = re.compile(r"(\d+(?:\.\d+)?)(?:\s*x\s*(\d+(?:\.\d+)?))?(?:\s*x\s*\d+(?:\.\d+)?)?\s*(mm|cm|毫米|厘米|公分)")


_SIDES: dict[str, dict[str, re.Pattern[str]]] = {
    "en": {side: re.compile(rf"\b{side}\b(?! (?:heart|ventric|atri))", re.IGNORECASE) for side in ("left", "right")},
    "zh": {"left": re.compile("左(?!心)"), "right": re.compile("右(?!心)")},
}


def findings(read: Sequence[Finding], statement: Statement, known: Known, language: Language) -> Iterable[Problem]:
    """What a sentence says of findings that the study reports otherwise, or not at all."""
    for said in read:
        if said.status == "absent":
            yield from _denial(said, known.findings)
            continue
        same = [f for f in known.findings if f.status != "absent" and said.kind in ontology.implied(f.kind)]
        if same:
            yield from min((tuple(_compared(said, f, same, statement, language)) for f in same), key=len)
        elif not _considered(said, statement, known, language):
            yield Problem("invented_finding", f"the findings do not report: {named(said)}")
    yield from _side_words(read, statement, known, language)
    if terms.says_normal(statement.text, language) and any(f.status == "present" for f in known.findings):
        yield Problem("wrong_certainty", "the study is called normal although findings are present")


def _side_words(read: Sequence[Finding], statement: Statement, known: Known, language: Language) -> Iterable[Problem]:
    """A side that belongs to no place the parser knows ("left middle lobe") must still be one of the findings'."""
    kinds = {f.kind for f in read if f.status != "absent"}
    meant = [f for f in known.findings if kinds & set(ontology.implied(f.kind))]
    parsed = {side for f in read for side in _sides(f.regions)}
    sides = {side for f in meant for side in _sides(f.regions)}
    words = {side for side, pattern in _SIDES[language].items() if pattern.search(statement.text)}
    for side in sorted(words - parsed - sides) if meant else ():
        yield Problem("wrong_side", f"{side} is not the side of: {named(meant[0])}")


def _considered(said: Finding, statement: Statement, known: Known, language: Language) -> bool:
    """A possibility that the known differentials name too ("may be a granuloma")."""
    names = ontology.findings()[said.kind].names[language]
    possible = said.status == "uncertain" or terms.hedged(statement.text, language)
    return statement.role == "differential" and possible and any(name.lower() in known.considered for name in names)


def _denial(said: Finding, findings: Sequence[Finding]) -> Iterable[Problem]:
    for finding in findings:
        if finding.status == "absent" or said.kind not in ontology.implied(finding.kind):
            continue
        here = not said.regions or any(covers(r, finding.regions) for r in said.regions)
        if here and set(said.attributes) <= set(finding.attributes):
            yield Problem("wrong_certainty", f"denied although the findings report it: {named(finding)}")
            return
    if not any(f.status == "absent" and f.kind in ontology.implied(said.kind) for f in findings):
        yield Problem("invented_finding", f"the findings do not deny: {named(said)}")


def _compared(
    said: Finding, finding: Finding, same: Sequence[Finding], statement: Statement, language: Language
) -> Iterable[Problem]:
    """How a statement differs from the finding it may mean; `same` are all findings of its kind."""
    yield from _place(said, finding, same)
    # "The nodule may be malignant" doubts the diagnosis, not the nodule.
    doubted = statement.role == "differential" and said.status == "uncertain"
    if said.status != finding.status and not doubted:
        words = {"present": "certain", "uncertain": "only possible"}
        message = f"stated as {words[said.status]}, reported as {words[finding.status]}: {named(finding)}"
        yield Problem("wrong_certainty", message)
    short = len(finding.size_mm) > 1 and terms.names_short_axis(statement.text, language)
    if said.size_mm and not _size_fits(said.size_mm, finding.size_mm[short:]):
        sizes = " x ".join(f"{mm:g}" for mm in said.size_mm)
        yield Problem("wrong_size", f"{sizes} mm is not the reported size: {named(finding)}")
    if said.kind == finding.kind and (wrong := set(said.attributes) - set(finding.attributes)):
        values = ", ".join(f"{name} {value}" for name, value in sorted(wrong))
        if not (dict(wrong).get("number") == "multiple" and len(same) > 1):
            yield Problem("wrong_attribute", f"{values} is not reported: {named(finding)}")


def _place(said: Finding, finding: Finding, same: Sequence[Finding]) -> Iterable[Problem]:
    """Every place said must hold the finding meant, or for several places another of its kind."""
    others = [f for f in same if len(said.regions) > 1 or f is finding]
    for region in said.regions:
        if region == "lungs" and not {"left", "right"} <= {s for f in same for s in _sides(f.regions)}:
            if "lungs" not in finding.regions:
                yield Problem("wrong_side", f"both lungs are named, not so in: {named(finding)}")
                return
        elif not any(covers(region, f.regions) for f in others):
            side = ontology.regions()[region].side
            opposite = side is not None and side not in {s for f in others for s in _sides(f.regions)}
            kind: ProblemKind = "wrong_side" if opposite and finding.regions else "wrong_place"
            place = ontology.regions()[region].names["en"][0]
            yield Problem(kind, f"the {place} is not where it lies: {named(finding)}")
            return
    if len(said.regions) > 1 and not any(covers(r, finding.regions) for r in said.regions):
        yield Problem("wrong_place", f"elsewhere: {named(finding)}")


def covers(region: str, places: Sequence[str]) -> bool:
    """Whether something that lies in one of `places` lies in the region."""
    return any(region in ontology.ancestors(place) for place in places)


def _sides(regions: Iterable[str]) -> set[str]:
    sides = {ontology.regions()[r].side for r in regions}
    both = {"left", "right"} if "lungs" in regions else set()
    return {s for s in sides if s is not None} | both


def _size_fits(said: Sequence[float], reported: Sequence[float]) -> bool:
    """Axes in order, or the mean diameter as guidelines use it."""
    if len(said) == 1 and len(reported) == 2 and abs(said[0] - sum(reported) / 2) <= ROUNDING_MM:
        return True
    return len(said) <= len(reported) and all(abs(a - b) <= ROUNDING_MM for a, b in zip(said, reported, strict=False))


def measures(statement: Statement, read: Sequence[Finding], known: Known) -> Iterable[Problem]:
    """Sizes that the parser gave to no finding must still be sizes of one, or numbers of a guideline."""
    attached = [mm for f in read for mm in f.size_mm]
    reported = [mm for f in known.findings for mm in f.size_mm]
    reported += [sum(f.size_mm) / 2 for f in known.findings if len(f.size_mm) == 2]
    guided = {mm for r in known.recommendations for t in _texts(r) for mm in _lengths(t)}
    guided |= {mm for s in known.ruled for mm in _lengths(s.text)}
    for mm in _lengths(statement.text):
        if not any(abs(mm - other) <= ROUNDING_MM for other in (*attached, *reported, *guided)):
            yield Problem("wrong_size", f"{mm:g} mm is not a reported size")


def _lengths(text: str) -> list[float]:
    found = []
    for match in _MEASURE.finditer(normalise(text).lower()):
        unit = 1.0 if match[3] in ("mm", "毫米") else 10.0
        found += [float(number) * unit for number in match.groups()[:2] if number]
    return found


def _texts(advice: Recommendation) -> list[str]:
    texts = [text for o in advice.options for words in (o.action, o.condition) for text in words.values()]
    return [*texts, *advice.rationale.values(), *advice.provisos.values()]


def named(finding: Finding) -> str:
    """A finding in English, for messages."""
    from ctscribe.report import render_text

    return render_text([replace(finding, evidence=())], "en").rstrip(".")
