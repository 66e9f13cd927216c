"""Is everything in an impression supported by the findings and the guidelines, and is nothing urgent missing?

```
each sentence ── read by the report parser ── compared with the findings     invented, side, size, certainty, ...
              ├─ changes, numbers, looks ──── compared with both             wrong comparison, attribute, place
              ├─ disease words ────────────── compared with the known texts  off the vocabulary
              └─ what it asks for ─────────── compared with the guidelines   wrong follow-up
all sentences ── critical findings and definite recommendations named?       missed, missing
```

Nothing here writes: `problems` only finds. What is done about it is decided in `writing.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ctscribe import ontology
from ctscribe.impression import claims, follow_up, restated, terms
from ctscribe.impression.known import Known, Problem, ProblemKind, meant, tied
from ctscribe.impression.result import Recommendation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import parse

__all__ = ["Known", "Problem", "ProblemKind", "problems"]


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
            *restated.findings(read, statement, known, language),
            *restated.measures(statement, read, known),
            *claims.problems(statement, read, known, allowed, language),
            *_diseases(statement, read, known, allowed, language),
            *_advice(statement, read, known, language),
            *_citations(statement, known),
            *_strange(statement, read, known, allowed, language),
        ):
            found.append(replace(problem, statement=index))
    return (*found, *_missed(said, known), *_missing(said, known, language))


# ------------------------------------------------------------------------------------- words and sources
def _diseases(
    statement: Statement, read: Sequence[Finding], known: Known, allowed: str, language: Language
) -> Iterable[Problem]:
    named = terms.diseases(statement.text, language)
    if named:
        allowed += "\n" + known.sources(tied(statement, read, known))
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


def _strange(
    statement: Statement, read: Sequence[Finding], known: Known, allowed: str, language: Language
) -> Iterable[Problem]:
    """A sentence that names nothing the guard can check must be made of the words that were given."""
    text = statement.text
    checked = read or terms.diseases(text, language) or follow_up.read(text, language).advice
    given = "\n".join((allowed, *(passage.lower() for _, passage in known.passages)))
    spoken = terms.says_normal(text, language) or terms.about_the_study(text, language)
    if not checked and not spoken and not follow_up.made_of(text, given, language):
        yield Problem("off_vocabulary", "says nothing about the findings or what follows from them")


# ------------------------------------------------------------------------------------------- follow-up
def _advice(statement: Statement, read: Sequence[Finding], known: Known, language: Language) -> Iterable[Problem]:
    asked = follow_up.read(statement.text, language)
    if not asked.advice or statement.role == "comparison":
        return
    advice = _about(statement, read, known)
    about = meant(statement, read, known)
    allowed = [follow_up.of_option(o, language) for r in advice for o in r.options]
    allowed += [follow_up.read(s.text, language) for s in known.ruled if about & set(s.findings) or not s.findings]
    if asked.nothing and not any(a.nothing for a in allowed):
        yield Problem("wrong_follow_up", "no guideline here says that nothing needs to be done")
    for low, high in sorted(asked.months - {m for a in allowed for m in a.months}):
        yield Problem("wrong_follow_up", f"no guideline here asks for an interval of {_span(low, high)}")
    for name in sorted(asked.modality - {m for a in allowed for m in a.modality}):
        yield Problem("wrong_follow_up", f"no guideline here asks for {name.replace('_', ' ')}")


def _about(statement: Statement, read: Sequence[Finding], known: Known) -> list[Recommendation]:
    about = meant(statement, read, known)
    return [r for r in known.recommendations if not r.findings or about & set(r.findings)]


def _span(low: float, high: float) -> str:
    return f"{low:g} months" if low == high else f"{low:g} to {high:g} months"


def _missed(said: Sequence[tuple[Statement, tuple[Finding, ...]]], known: Known) -> Iterable[Problem]:
    stated = [f for _, read in said for f in read if f.status != "absent"]
    for index, finding in enumerate(known.findings):
        if finding.status == "absent" or not ontology.findings()[finding.kind].critical:
            continue
        if not any(_names(f, finding) for f in stated):
            yield Problem("missed_critical", f"must not be left out: {restated.named(finding)}", finding=index)


def _names(said: Finding, finding: Finding) -> bool:
    """Whether a statement speaks of a finding (a stronger kind speaks of the weaker one it implies)."""
    if finding.kind not in ontology.implied(said.kind):
        return False
    return not said.regions or not finding.regions or any(restated.covers(r, finding.regions) for r in said.regions)


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
            if not advice.findings or meant(statement, read, known) & set(advice.findings)
        ]
        for option in advice.options:
            if option.modality and not any(follow_up.asks_for(text, option, language) for text in about):
                message = f"what {advice.title['en']} asks for is missing: {option.action['en']}"
                yield Problem("missing_follow_up", message, recommendation=index)
                break
