"""What the guard may object to, and what an impression may rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ctscribe import ontology
from ctscribe.impression.passages import knowledge
from ctscribe.impression.result import Recommendation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import normalise

ProblemKind = Literal[
    "invented_finding",
    "wrong_side",
    "wrong_place",
    "wrong_size",
    "wrong_attribute",
    "wrong_certainty",
    "wrong_comparison",
    "missed_critical",
    "missing_follow_up",
    "wrong_follow_up",
    "off_vocabulary",
    "unknown_citation",
]
"""Everything the guard can object to."""


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


def meant(statement: Statement, read: Sequence[Finding], known: Known) -> set[int]:
    """Indices of the findings a statement is about: those it is tied to, else all."""
    return tied(statement, read, known) or set(range(len(known.findings)))


def tied(statement: Statement, read: Sequence[Finding], known: Known) -> set[int]:
    """Indices of the findings a statement names, else those its writer tied it to."""
    kinds = {said.kind for said in read if said.status != "absent"}
    named = {i for i, f in enumerate(known.findings) if kinds & set(ontology.implied(f.kind))}
    return named or set(statement.findings)
