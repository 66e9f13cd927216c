"""A writer's text under guard: asked again, then cut, then replaced by the rules; every step is on record.

```
rules write ─ writer proposes ─ guard ──ok──────────────────────────────► Impression
                    ▲             │ objections named
                    └── again ────┤
                                  ├ sentences dropped, missing ones put in by rule ─ guard ─ok─►
                                  └ rule-written impression, with the reason ──────────────────►
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctscribe.errors import EndpointError
from ctscribe.impression import rules
from ctscribe.impression.context import Context
from ctscribe.impression.guard import Known, Problem, problems
from ctscribe.impression.guidelines import RuleSet
from ctscribe.impression.result import Impression, Statement
from ctscribe.impression.retrieval import Library, shipped
from ctscribe.impression.writers import Writer, prompts
from ctscribe.ontology import Language
from ctscribe.report import Finding

AGAIN = 1
"""How often a writer is asked to correct its text."""

_YOURS = ("no_endpoint", "unauthorised", "offline")
"""Faults of the set-up: told to the user instead of being covered by the rules."""


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
    """An impression by any writer.

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
    if writer is None:
        return ruled
    passages = (library or shipped()).about(findings, language)
    sources = tuple((passage.id, passage.text) for passage in passages)
    known = Known(tuple(findings), ruled.recommendations, ruled.statements, sources)
    remarks: list[str] = []
    try:
        made = _proposed(writer, known, language, context or Context(), again, remarks)
    except EndpointError as error:
        if error.code in _YOURS:
            raise
        return _fallen_back(ruled, f"{error.what} ({error.code})", remarks)
    made = _repaired(made, known, language, remarks)
    spoken = any(s.role == "finding" and s not in ruled.statements for s in made)
    named = any(f.status != "absent" for f in findings)
    if problems(made, known, language) or (named and not spoken):
        return _fallen_back(ruled, prompts()["remarks"]["unusable"][language], remarks)
    made = (*ruled.critical, *(s for s in made if s not in ruled.critical))
    cited = {name for s in made for name in s.citations}
    return replace(
        ruled,
        statements=made,
        note=prompts()["note"][language].format(name=writer.name),
        method=writer.name,
        citations=(
            *(c for c in _all_citations(ruled) if c.id in cited),
            *(p.citation for p in passages if p.id in cited),
        ),
        remarks=tuple(remarks),
    )


def _proposed(
    writer: Writer, known: Known, language: Language, context: Context, again: int, remarks: list[str]
) -> tuple[Statement, ...]:
    """What the writer proposes, after its corrections."""
    made = writer.draft(known, language, context)
    for _ in range(again):
        found = problems(made, known, language)
        if not found:
            break
        made = writer.draft(known, language, context, found)
        remarks.append(_remark("repaired", language, found))
    return made


def _repaired(
    made: tuple[Statement, ...], known: Known, language: Language, remarks: list[str]
) -> tuple[Statement, ...]:
    """Without the sentences the guard objects to, and with rule-written ones for what is missing."""
    found = problems(made, known, language)
    wrong = {p.statement for p in found if p.statement is not None}
    kept = tuple(s for i, s in enumerate(made) if i not in wrong)
    if wrong:
        remarks.append(_remark("dropped", language, [p for p in found if p.statement is not None], len(wrong)))
    missing = [p for p in problems(kept, known, language) if p.statement is None] if found else []
    if missing:
        remarks.append(_remark("added", language, missing))
    return (*kept, *dict.fromkeys(s for p in missing for s in _ruled_for(p, known, language)))


def _ruled_for(problem: Problem, known: Known, language: Language) -> list[Statement]:
    if problem.finding is not None:
        return [s for s in known.ruled if s.role == "finding" and problem.finding in s.findings]
    if problem.recommendation is None:
        return []
    advice = known.recommendations[problem.recommendation]
    own = [s for s in known.ruled if s.role == "follow_up" and advice.citation.id in s.citations]
    return [s for s in own if advice.title[language] in s.text and s.findings == advice.findings]


def _remark(name: str, language: Language, found: Sequence[Problem], n: int | None = None) -> str:
    what = "; ".join(dict.fromkeys(f"{p.kind}: {p.message}" for p in found))
    return prompts()["remarks"][name][language].format(n=len(found) if n is None else n, what=what)


def _fallen_back(ruled: Impression, why: str, remarks: Sequence[str]) -> Impression:
    said = prompts()["remarks"]["fallen_back"][ruled.language].format(why=why)
    return replace(ruled, remarks=(*remarks, said))


def _all_citations(ruled: Impression) -> list:
    return list(dict.fromkeys([*ruled.citations, *(r.citation for r in ruled.recommendations)]))
