"""The impression that rules write, without any language model: the default wherever ctscribe runs alone.

```
findings ─┬─ critical results, on top
          ├─ drop what is absent ─ drop what a named finding implies ─ order ─ for each one:
          │      restate it ─ compare it ─ what to consider ─ why it matters ─ what the guidelines ask for
          └─ what has to be found out before the guidelines can decide
```

Every statement carries the findings it rests on and the references it follows. Sentences about findings are rendered
from them, so they cannot contradict them; all others name nothing as present.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.impression import compare, critical, passages
from ctscribe.impression.context import Context
from ctscribe.impression.details import with_details
from ctscribe.impression.guidelines import RuleSet, load, recommend
from ctscribe.impression.guidelines.words import sentence
from ctscribe.impression.result import Citation, Impression, Recommendation, Statement, as_cited
from ctscribe.ontology import Language
from ctscribe.report import Finding, render_text

METHOD = "rules"


def write(
    findings: Sequence[Finding],
    language: Language,
    seed: int | None = None,
    *,
    context: Context | None = None,
    rule_sets: Sequence[RuleSet] | None = None,
    text: str = "",
) -> Impression:
    """Impression from structured findings.

    Args:
        findings: what the findings section says; absent ones are allowed and left out.
        language: of the impression.
        seed: None for the canonical phrasing of the findings, a number for another one.
        context: what is known beside the findings; None when nothing is.
        rule_sets: guidelines to follow; None takes the ones that ship.
        text: the findings section as written, searched for critical words and details; "" when there is none.
    """
    known = with_details(context or Context(), findings, text)
    recommendations = recommend(findings, known, load() if rule_sets is None else rule_sets)
    results = critical.find(findings, known, text)
    statements = [critical.statement(result, language) for result in results]
    statements += _Lines(findings, known, recommendations, language, seed).all()
    return Impression(
        statements=tuple(statements),
        language=language,
        note=note(language, signed=all(r.signed_off_by for r in recommendations) if recommendations else None),
        method=METHOD,
        recommendations=recommendations,
        citations=as_cited(statements, _citations(recommendations, language)),
    )


def note(language: Language, *, signed: bool | None = False) -> str:
    """What an impression written by rule says about itself.

    Args:
        signed: a radiologist has signed off every guideline table it follows; None where it follows none.
    """
    kind = {None: "written_by_rule_alone", False: "written_by_rule", True: "written_by_signed_rule"}[signed]
    return _notes()[kind][language]


def order(findings: Sequence[Finding]) -> list[Finding]:
    """The findings an impression names: present before uncertain, then by tier, then by size, largest first."""
    named = [f for f in findings if f.status != "absent"]
    kept: list[Finding] = []
    for finding in named:
        if finding not in kept and not any(_implies(other, finding) for other in named):
            kept.append(finding)
    return sorted(kept, key=_rank)


class _Lines:
    """The lines of one impression; a comment or an advice that several findings share is given once."""

    def __init__(
        self,
        findings: Sequence[Finding],
        context: Context,
        recommendations: Sequence[Recommendation],
        language: Language,
        seed: int | None,
    ) -> None:
        self.findings, self.context, self.language, self.seed = list(findings), context, language, seed
        self.recommendations = recommendations
        self.untold = list(recommendations)
        self.compared = compare.statements(findings, context, language)
        self.commented: set[str] = set()

    def all(self) -> list[Statement]:
        """Everything below the critical results."""
        chosen = [self.findings.index(finding) for finding in order(self.findings)]
        told = [statement for index in chosen for statement in self._about(index)]
        if not chosen:
            told.append(Statement(_notes()["nothing_to_name"][self.language], "normal"))
        told += compare.gone(self.findings, self.context, self.language)
        told += [self._advice(r) for r in self.untold if not r.findings]
        return [*told, *self._questions(chosen)]

    def _about(self, index: int) -> list[Statement]:
        finding = self.findings[index]
        told = [Statement(render_text([finding], self.language, self.seed), "finding", (index,))]
        if index in self.compared:
            told.append(self.compared[index])
        told += self._comments(index)
        for recommendation in [r for r in self.untold if index in r.findings]:
            self.untold.remove(recommendation)
            told.append(self._advice(recommendation))
        return told

    def _comments(self, index: int) -> list[Statement]:
        finding = self.findings[index]
        narrow = (f"{finding.kind} {name}.{value}" for name, value in finding.attributes)
        key = next((key for key in (*narrow, finding.kind) if key in _significance()), None)
        if key is None or key in self.commented:
            return []
        self.commented.add(key)
        entry, frames, source = _significance()[key], _notes(), passages.meaning(finding.kind, self.language).id
        told = []
        if "differential" in entry:
            text = frames["differential"][self.language].format(what=entry["differential"][self.language])
            told.append(Statement(text, "differential", (index,), (source,)))
        if "significance" in entry:
            text = frames["significance"][self.language].format(what=entry["significance"][self.language])
            told.append(Statement(text, "significance", (index,), (source,)))
        return told

    def _advice(self, recommendation: Recommendation) -> Statement:
        text = sentence(recommendation, self.language)
        return Statement(text, "follow_up", recommendation.findings, (recommendation.citation.id,))

    def _questions(self, chosen: Sequence[int]) -> list[Statement]:
        """One statement with every fact that would settle an advice, in the order in which they were missed."""
        told = [r for r in self.recommendations if not r.findings or set(r.findings) & set(chosen)]
        needs = {need.fact: need.question[self.language] for r in told for need in r.open_questions}
        if not needs:
            return []
        comma = ", " if self.language == "en" else "、"
        text = _notes()["questions"][self.language].format(facts=comma.join(dict.fromkeys(needs.values())))
        asking = [r for r in told if r.open_questions]
        indices = tuple(sorted({i for r in asking for i in r.findings}))
        return [Statement(text, "question", indices, tuple(dict.fromkeys(r.citation.id for r in asking)))]


def _citations(recommendations: Sequence[Recommendation], language: Language) -> list[Citation]:
    """Every reference that may be named."""
    known = (p.citation for p in passages.knowledge() if p.language == language)
    return [critical.citation(), *(r.citation for r in recommendations), *known]


def _implies(stronger: Finding, weaker: Finding) -> bool:
    """True when saying the first says the second too; a doubt never stands in for a certainty."""
    covers = stronger.status == "present" or weaker.status == "uncertain"
    return covers and weaker.kind in ontology.findings()[stronger.kind].implies


def _rank(finding: Finding) -> tuple[bool, bool, int, float]:
    """Sort key; critical kinds come first whatever their certainty."""
    is_critical = ontology.findings()[finding.kind].critical
    place = _order().get(finding.kind, len(_order()))
    return not is_critical, finding.status == "uncertain", place, -max(finding.size_mm, default=0.0)


@cache
def _order() -> Mapping[str, int]:
    tiers = _read("priority.yaml")
    return {kind: place for place, kind in enumerate(kind for tier in tiers.values() for kind in tier)}


@cache
def _notes() -> Mapping[str, Mapping[str, str]]:
    return _read("notes.yaml")


@cache
def _significance() -> Mapping[str, Any]:
    return _read("significance.yaml")


def _read(name: str) -> Any:
    return yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))
