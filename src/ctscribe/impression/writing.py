"""A writer's text under guard: asked again, then cut, then replaced by the rules; every step is on record.

```
rules write ─ writer proposes ─ guard ──ok──────────────────────────────► Impression
                    ▲             │ objections named
                    └── again ────┤
                                  ├ sentences dropped, missing ones put in by rule ─ guard ─ok─►
                                  └ rule-written impression, with the reason ──────────────────►
```

The rule writer's own text is read by the guard too, sentence by sentence; nothing stands behind it, so what is objected
to is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctscribe.errors import EndpointError
from ctscribe.impression import rules
from ctscribe.impression.context import Context
from ctscribe.impression.guard import Known, Problem, problems
from ctscribe.impression.guidelines import RuleSet
from ctscribe.impression.passages import Passage
from ctscribe.impression.result import Impression, Source, Statement, as_cited
from ctscribe.impression.retrieval import Library, shipped
from ctscribe.impression.writers import Writer, prompts
from ctscribe.ontology import Language
from ctscribe.report import Finding, ImpressionCheck, Objection
from ctscribe.report.checked import Answer, Verdict

AGAIN = 1
"""How often a writer is asked to correct its text."""

_YOURS = ("no_endpoint", "unauthorised", "offline")
"""Faults of the set-up: told to the user instead of being covered by the rules."""
_ANSWERS: dict[str, Answer] = {
    "repaired": "written_again",
    "dropped": "dropped",
    "added": "added",
    "fallen_back": "replaced",
    "objected": "kept",
}


class _Record:
    """What was objected to on the way, and what was done about it."""

    def __init__(self, writer: str, language: Language) -> None:
        self.writer, self.language = writer, language
        self.objections: list[Objection] = []
        self.remarks: list[str] = []

    def add(self, step: str, found: Sequence[Problem], made: Sequence[Statement], n: int | None = None) -> None:
        """One step and the objections that led to it."""
        what = "; ".join(dict.fromkeys(f"{p.kind}: {p.message}" for p in found))
        self.say(step, n=len(found) if n is None else n, what=what)
        self.keep(step, found, made)

    def keep(self, step: str, found: Sequence[Problem], made: Sequence[Statement]) -> None:
        """Objections without a remark of their own."""
        for p in found:
            sentence = "" if p.statement is None else made[p.statement].text
            self.objections.append(Objection(p.kind, p.message, _ANSWERS[step], sentence))

    def say(self, step: str, **words: object) -> None:
        """A remark in the impression's language."""
        self.remarks.append(prompts()["remarks"][step][self.language].format(**words))

    def closed(self, verdict: Verdict, written_by: str) -> ImpressionCheck:
        """The record as it is kept."""
        return ImpressionCheck(self.writer, written_by, verdict, tuple(self.objections), tuple(self.remarks))

    @property
    def verdict(self) -> Verdict:
        """Of a text that stands, rewritten or cut as it may be."""
        answers = {objection.answer for objection in self.objections}
        return "cut" if answers & {"dropped", "added"} else "corrected" if answers else "passed"


def write_with(
    writer: Writer | None,
    findings: Sequence[Finding],
    language: Language,
    *,
    context: Context | None = None,
    rule_sets: Sequence[RuleSet] | None = None,
    text: str = "",
    library: Library | None = None,
    again: int = AGAIN,
) -> Impression:
    """An impression by any writer, with the guard's record (`Impression.check`).

    Args:
        writer: proposes the text; None is the rule writer.
        findings: structured findings.
        language: of the impression.
        context: what is known beside the findings.
        rule_sets: guidelines to follow; None takes those that ship.
        text: the findings section as written; searched for critical words here, never sent.
        library: passages the writer may use and cite; None takes the shipped ones.
        again: how often the writer is asked to correct its text.

    Raises:
        EndpointError: no endpoint was chosen, its key is wrong, or an offline client has no answer.
    """
    ruled = rules.write(findings, language, context=context, rule_sets=rule_sets, text=text)
    own = () if library is None else library.of_the_site(findings, language)
    ruled = replace(ruled, sources=tuple(Source(p.id, p.text) for p in own))
    known = Known(tuple(findings), ruled.recommendations, ruled.statements)
    record = _Record(rules.METHOD if writer is None else writer.name, language)
    if writer is None:
        return _by_rule(ruled, known, record)
    advised = {r.guideline for r in ruled.recommendations if r.options}
    passages = (library or shipped()).about(findings, language, guidelines=advised)
    known = replace(known, passages=tuple((p.id, p.text) for p in passages))
    try:
        made = _proposed(writer, known, language, context or Context(), again, record)
    except EndpointError as error:
        if error.code in _YOURS:
            raise
        record.say("fallen_back", why=f"{error.what} ({error.code})")
        return _by_rule(ruled, known, record, replaced=True)
    proposed = made
    made = _repaired(made, known, language, record)
    spoken = any(s.role == "finding" and s in proposed for s in made)
    named = any(f.status != "absent" for f in findings)
    left = problems(made, known, language)
    if left or (named and not spoken):
        record.keep("fallen_back", left, made)
        record.say("fallen_back", why=prompts()["remarks"]["unusable"][language])
        return _by_rule(ruled, known, record, replaced=True)
    return _by_writer(made, ruled, writer.name, passages, record)


def _by_writer(
    made: tuple[Statement, ...], ruled: Impression, name: str, passages: Sequence[Passage], record: _Record
) -> Impression:
    """The writer's text below the rules' critical results."""
    made = (*ruled.critical, *(s for s in made if s not in ruled.critical))
    every = [*ruled.citations, *(r.citation for r in ruled.recommendations), *(p.citation for p in passages)]
    return replace(
        ruled,
        statements=made,
        note=prompts()["note"][ruled.language].format(name=name),
        method=name,
        citations=as_cited(made, every),
        remarks=tuple(record.remarks),
        check=record.closed(record.verdict, name),
    )


def _by_rule(ruled: Impression, known: Known, record: _Record, *, replaced: bool = False) -> Impression:
    """The rules' text, read by the guard as if a stranger had written it; objections to it are marked, not covered."""
    left = problems(ruled.statements, known, ruled.language, trust=False)
    if left:
        record.add("objected", left, ruled.statements)
    verdict: Verdict = "objected" if left else "replaced" if replaced else "passed"
    return replace(ruled, remarks=tuple(record.remarks), check=record.closed(verdict, rules.METHOD))


def _proposed(
    writer: Writer, known: Known, language: Language, context: Context, again: int, record: _Record
) -> tuple[Statement, ...]:
    """What the writer proposes, after its corrections."""
    made = writer.draft(known, language, context)
    for _ in range(again):
        found = problems(made, known, language)
        if not found:
            break
        before, made = made, writer.draft(known, language, context, found)
        record.add("repaired", found, before)
    return made


def _repaired(made: tuple[Statement, ...], known: Known, language: Language, record: _Record) -> tuple[Statement, ...]:
    """Without the sentences the guard objects to, and with rule-written ones for what is missing."""
    found = problems(made, known, language)
    wrong = {p.statement for p in found if p.statement is not None}
    kept = tuple(s for i, s in enumerate(made) if i not in wrong)
    if wrong:
        record.add("dropped", [p for p in found if p.statement is not None], made, len(wrong))
    missing = [p for p in problems(kept, known, language) if p.statement is None] if found else []
    if missing:
        record.add("added", missing, kept)
    return (*kept, *dict.fromkeys(s for p in missing for s in _ruled_for(p, known, language)))


def _ruled_for(problem: Problem, known: Known, language: Language) -> list[Statement]:
    if problem.finding is not None:
        return [s for s in known.ruled if s.role == "finding" and problem.finding in s.findings]
    if problem.recommendation is None:
        return []
    advice = known.recommendations[problem.recommendation]
    own = [s for s in known.ruled if s.role == "follow_up" and advice.citation.id in s.citations]
    return [s for s in own if advice.title[language] in s.text and s.findings == advice.findings]
