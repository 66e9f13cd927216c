"""Is everything in an impression supported by the findings and the guidelines, and is nothing urgent missing?

```
each sentence ── read by the report parser ── compared with the findings     invented, side, size, certainty, ...
              ├─ disease words ────────────── compared with the known texts  off the vocabulary
              └─ what it asks for ─────────── compared with the guidelines   wrong follow-up
all sentences ── critical findings and definite recommendations named?       missed, missing
```

Nothing here writes: `problems` only finds. What is done about it is decided in `writing.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ctscribe import ontology
from ctscribe.impression import follow_up, terms
from ctscribe.impression.passages import knowledge
from ctscribe.impression.result import Recommendation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import normalise, parse

ProblemKind = Literal[
    "invented_finding",
    "wrong_side",
    "wrong_place",
    "wrong_size",
    "wrong_attribute",
    "wrong_certainty",
    "missed_critical",
    "missing_follow_up",
    "wrong_follow_up",
    "off_vocabulary",
    "unknown_citation",
]
"""Everything the guard can object to."""

ROUNDING_MM = 0.51
"""A size may be rounded to whole millimetres, or to one decimal of a centimetre."""

_MEASURE = re.compile(r"(\d+(?:\.\d+)?)(?:\s*x\s*(\d+(?:\.\d+)?))?(?:\s*x\s*\d+(?:\.\d+)?)?\s*(mm|cm|毫米|厘米|公分)")


_SIDES: dict[str, dict[str, re.Pattern[str]]] = {
    "en": {side: re.compile(rf"\b{side}\b(?! (?:heart|ventric|atri))", re.IGNORECASE) for side in ("left", "right")},
    "zh": {"left": re.compile("左(?!心)"), "right": re.compile("右(?!心)")},
}


@dataclass(frozen=True)
class Problem:
    """One objection.

    Attributes:
        kind: what is wrong.
        message: in plain English, as the writer is told it.
        statement: index of the sentence; None for something that is missing.
        finding: index of the critical finding that is missing, else None.
        recommendation: index of the recommendation that is missing, else None.
    """

    kind: ProblemKind
    message: str
    statement: int | None = None
    finding: int | None = None
    recommendation: int | None = None


@dataclass(frozen=True)
class Known:
    """What an impression may rest on.

    Attributes:
        findings: the structured findings of the study.
        recommendations: what the guidelines say about them.
        ruled: statements of the rule writer; trusted word for word.
        passages: texts of the knowledge base or the site that were given to the writer, by id. Diseases are taken from
            them only in sentences that belong to a finding they were written for; those of a site were found for all.
    """

    findings: tuple[Finding, ...]
    recommendations: tuple[Recommendation, ...] = ()
    ruled: tuple[Statement, ...] = ()
    passages: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Everything that may be cited."""
        cited = {name for statement in self.ruled for name in statement.citations}
        return frozenset({r.citation.id for r in self.recommendations} | cited | {name for name, _ in self.passages})

    def text(self, language: Language) -> str:
        """Texts whose disease words are allowed in every sentence, lower case."""
        parts = [s.text for s in self.ruled]
        for advice in self.recommendations:
            parts += [o.action[language] for o in advice.options] + [advice.rationale[language]]
        return normalise("\n".join(parts)).lower()

    def sources(self, meant: Iterable[int]) -> str:
        """Passages about some of the findings, lower case."""
        kinds = {self.findings[i].kind for i in meant if 0 <= i < len(self.findings)}
        entries = {p.id: p for p in knowledge()}
        parts = [
            text for name, text in self.passages if kinds and (name not in entries or kinds & set(entries[name].kinds))
        ]
        return normalise("\n".join(parts)).lower()

    @property
    def considered(self) -> str:
        """Texts that name which other finding a finding may be, lower case; a site's documents do not."""
        given = {name for name, _ in self.passages}
        parts = [s.text for s in self.ruled if s.role == "differential"]
        parts += [p.differential for p in knowledge() if p.id in given]
        return normalise("\n".join(parts)).lower()


def problems(
    statements: Sequence[Statement], known: Known, language: Language, *, trust: bool = True
) -> tuple[Problem, ...]:
    """Everything that is wrong with an impression; () when nothing is.

    Args:
        statements: its sentences; their indices of findings are hints and may be missing.
        known: what they may rest on.
        language: they are written in.
        trust: sentences that the rule writer wrote word for word are taken as they are; False reads them as well.
    """
    trusted = {s.text for s in known.ruled} if trust else set()
    allowed = known.text(language)
    found: list[Problem] = []
    said: list[tuple[Statement, tuple[Finding, ...]]] = []
    for index, statement in enumerate(statements):
        read = tuple(parse(statement.text, language))
        said.append((statement, read))
        if statement.text in trusted:
            continue
        for problem in (
            *_findings(read, statement, known, language),
            *_measures(statement, read, known),
            *_diseases(statement, read, known, allowed, language),
            *_advice(statement, read, known, language),
            *_citations(statement, known),
        ):
            found.append(replace(problem, statement=index))
    return (*found, *_missed(said, known), *_missing(said, known, language))


# ------------------------------------------------------------------------------------------ findings
def _findings(read: Sequence[Finding], statement: Statement, known: Known, language: Language) -> Iterable[Problem]:
    for said in read:
        if said.status == "absent":
            yield from _denial(said, known.findings)
            continue
        same = [f for f in known.findings if f.status != "absent" and said.kind in ontology.implied(f.kind)]
        if same:
            yield from min((tuple(_compared(said, f, same)) for f in same), key=len)
        elif not _considered(said, statement, known, language):
            yield Problem("invented_finding", f"the findings do not report: {_named(said)}")
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
        yield Problem("wrong_side", f"{side} is not the side of: {_named(meant[0])}")


def _considered(said: Finding, statement: Statement, known: Known, language: Language) -> bool:
    """A possibility that the known differentials name too ("may be a granuloma")."""
    names = ontology.findings()[said.kind].names[language]
    possible = said.status == "uncertain" or terms.hedged(statement.text, language)
    return statement.role == "differential" and possible and any(name.lower() in known.considered for name in names)


def _denial(said: Finding, findings: Sequence[Finding]) -> Iterable[Problem]:
    for finding in findings:
        if finding.status == "absent" or said.kind not in ontology.implied(finding.kind):
            continue
        here = not said.regions or any(_covers(r, finding.regions) for r in said.regions)
        if here and set(said.attributes) <= set(finding.attributes):
            yield Problem("wrong_certainty", f"denied although the findings report it: {_named(finding)}")
            return
    if not any(f.status == "absent" and f.kind in ontology.implied(said.kind) for f in findings):
        yield Problem("invented_finding", f"the findings do not deny: {_named(said)}")


def _compared(said: Finding, finding: Finding, same: Sequence[Finding]) -> Iterable[Problem]:
    """How a statement differs from the finding it may mean; `same` are all findings of its kind."""
    yield from _place(said, finding, same)
    if said.status != finding.status:
        words = {"present": "certain", "uncertain": "only possible"}
        message = f"stated as {words[said.status]}, reported as {words[finding.status]}: {_named(finding)}"
        yield Problem("wrong_certainty", message)
    if said.size_mm and not _size_fits(said.size_mm, finding.size_mm):
        sizes = " x ".join(f"{mm:g}" for mm in said.size_mm)
        yield Problem("wrong_size", f"{sizes} mm is not the reported size: {_named(finding)}")
    if said.kind == finding.kind and (wrong := set(said.attributes) - set(finding.attributes)):
        named = ", ".join(f"{name} {value}" for name, value in sorted(wrong))
        if not (dict(wrong).get("number") == "multiple" and len(same) > 1):
            yield Problem("wrong_attribute", f"{named} is not reported: {_named(finding)}")


def _place(said: Finding, finding: Finding, same: Sequence[Finding]) -> Iterable[Problem]:
    """Every place said must hold the finding meant, or for several places another of its kind."""
    others = [f for f in same if len(said.regions) > 1 or f is finding]
    for region in said.regions:
        if region == "lungs" and not {"left", "right"} <= {s for f in same for s in _sides(f.regions)}:
            if "lungs" not in finding.regions:
                yield Problem("wrong_side", f"both lungs are named, not so in: {_named(finding)}")
                return
        elif not any(_covers(region, f.regions) for f in others):
            side = ontology.regions()[region].side
            opposite = side is not None and side not in {s for f in others for s in _sides(f.regions)}
            kind: ProblemKind = "wrong_side" if opposite and finding.regions else "wrong_place"
            place = ontology.regions()[region].names["en"][0]
            yield Problem(kind, f"the {place} is not where it lies: {_named(finding)}")
            return
    if len(said.regions) > 1 and not any(_covers(r, finding.regions) for r in said.regions):
        yield Problem("wrong_place", f"elsewhere: {_named(finding)}")


def _covers(region: str, places: Sequence[str]) -> bool:
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


def _measures(statement: Statement, read: Sequence[Finding], known: Known) -> Iterable[Problem]:
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


def _named(finding: Finding) -> str:
    """A finding in English, for messages."""
    from ctscribe.report import render_text

    return render_text([replace(finding, evidence=())], "en").rstrip(".")


# ------------------------------------------------------------------------------------- words and sources
def _diseases(
    statement: Statement, read: Sequence[Finding], known: Known, allowed: str, language: Language
) -> Iterable[Problem]:
    named = terms.diseases(statement.text, language)
    if named:
        allowed += "\n" + known.sources(_tied(statement, read, known))
    for term in named:
        if not terms.supported(term, allowed, language):
            yield Problem("off_vocabulary", f"no finding and no given text supports {term!r}")
    if named and statement.role not in ("follow_up", "question") and not terms.hedged(statement.text, language):
        listed = ", ".join(named)
        if all(terms.supported(term, allowed, language) for term in named):
            yield Problem("wrong_certainty", f"stated as a fact, can only be considered: {listed}")


def _citations(statement: Statement, known: Known) -> Iterable[Problem]:
    for name in statement.citations:
        if name not in known.ids:
            yield Problem("unknown_citation", f"no source has the id {name!r}")


# ------------------------------------------------------------------------------------------- follow-up
def _advice(statement: Statement, read: Sequence[Finding], known: Known, language: Language) -> Iterable[Problem]:
    asked = follow_up.read(statement.text, language)
    if not asked.advice or statement.role == "comparison":
        return
    advice = _about(statement, read, known)
    meant = _meant(statement, read, known)
    allowed = [follow_up.of_option(o, language) for r in advice for o in r.options]
    allowed += [follow_up.read(s.text, language) for s in known.ruled if meant & set(s.findings) or not s.findings]
    if asked.nothing and not any(a.nothing for a in allowed):
        yield Problem("wrong_follow_up", "no guideline here says that nothing needs to be done")
    for low, high in sorted(asked.months - {m for a in allowed for m in a.months}):
        yield Problem("wrong_follow_up", f"no guideline here asks for an interval of {_span(low, high)}")
    for name in sorted(asked.modality - {m for a in allowed for m in a.modality}):
        yield Problem("wrong_follow_up", f"no guideline here asks for {name.replace('_', ' ')}")


def _meant(statement: Statement, read: Sequence[Finding], known: Known) -> set[int]:
    """Indices of the findings a statement is about: those it is tied to, else all."""
    return _tied(statement, read, known) or set(range(len(known.findings)))


def _tied(statement: Statement, read: Sequence[Finding], known: Known) -> set[int]:
    """Indices of the findings a statement names, else those its writer tied it to."""
    kinds = {said.kind for said in read if said.status != "absent"}
    named = {i for i, f in enumerate(known.findings) if kinds & set(ontology.implied(f.kind))}
    return named or set(statement.findings)


def _about(statement: Statement, read: Sequence[Finding], known: Known) -> list[Recommendation]:
    meant = _meant(statement, read, known)
    return [r for r in known.recommendations if not r.findings or meant & set(r.findings)]


def _span(low: float, high: float) -> str:
    return f"{low:g} months" if low == high else f"{low:g} to {high:g} months"


def _missed(said: Sequence[tuple[Statement, tuple[Finding, ...]]], known: Known) -> Iterable[Problem]:
    stated = [f for _, read in said for f in read if f.status != "absent"]
    for index, finding in enumerate(known.findings):
        if finding.status == "absent" or not ontology.findings()[finding.kind].critical:
            continue
        if not any(_names(f, finding) for f in stated):
            yield Problem("missed_critical", f"must not be left out: {_named(finding)}", finding=index)


def _names(said: Finding, finding: Finding) -> bool:
    """Whether a statement speaks of a finding (a stronger kind speaks of the weaker one it implies)."""
    if finding.kind not in ontology.implied(said.kind):
        return False
    return not said.regions or not finding.regions or any(_covers(r, finding.regions) for r in said.regions)


def _missing(
    said: Sequence[tuple[Statement, tuple[Finding, ...]]], known: Known, language: Language
) -> Iterable[Problem]:
    texts = {statement.text for statement, _ in said}
    for index, advice in enumerate(known.recommendations):
        ruled = [s.text for s in known.ruled if s.role == "follow_up" and s.citations == (advice.citation.id,)]
        ruled = [text for text in ruled if advice.title[language] in text]
        if texts & set(ruled):
            continue
        if not all(o.modality for o in advice.options) and advice.definite:
            continue
        about = [
            statement.text
            for statement, read in said
            if not advice.findings or _meant(statement, read, known) & set(advice.findings)
        ]
        for option in advice.options:
            if option.modality and not any(follow_up.asks_for(text, option, language) for text in about):
                message = f"what {advice.title['en']} asks for is missing: {option.action['en']}"
                yield Problem("missing_follow_up", message, recommendation=index)
                break
