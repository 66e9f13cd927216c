"""What the impression station hands out: statements that can be traced, and the guideline behind every advice.

```
Impression ── statements       what it says, each with the findings it rests on and the references it follows
           └─ recommendations  what each guideline says about a finding: one option, or several and what decides
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from ctscribe.ontology import Language
from ctscribe.report import ImpressionCheck

Role = Literal["critical", "finding", "comparison", "differential", "significance", "follow_up", "question", "normal"]
_BEGIN = ("critical", "finding", "normal", "question")
Words = Mapping[str, str]
"""One text per language (``{"en": ..., "zh": ...}``)."""


@dataclass(frozen=True)
class Citation:
    """A published source.

    Attributes:
        id: short and stable, such as ``"fleischner_2017"``; what statements refer to.
        text: the reference as it is printed.
        doi: digital object identifier, "" when it has none.
    """

    id: str
    text: str
    doi: str = ""


@dataclass(frozen=True)
class Need:
    """A fact that a guideline needs and nobody gave.

    Attributes:
        fact: its name in `Context` or `Details`.
        question: what to find out, per language.
    """

    fact: str
    question: Words


@dataclass(frozen=True)
class Option:
    """One row of a guideline table.

    Attributes:
        rule: id of the row.
        action: what to do, per language.
        category: the guideline's id for it (``"4A"``), "" when it has none.
        category_name: how the category is said, per language; empty texts when it has none.
        modality: examinations or steps it names: ``"ct"``, ``"ldct"``, ``"pet_ct"``, ``"mri"``, ``"us"``,
            ``"tissue"``, ``"referral"``; () when nothing is to be done.
        months: interval of the first step as (earliest, latest), None when there is none.
        condition: when this option applies, per language; empty texts when it is the only one.
        verified: the row was compared with the published table or a faithful copy of it.
    """

    rule: str
    action: Words
    category: str = ""
    category_name: Words = field(default_factory=lambda: {"en": "", "zh": ""})
    modality: tuple[str, ...] = ()
    months: tuple[float, float] | None = None
    condition: Words = field(default_factory=lambda: {"en": "", "zh": ""})
    verified: bool = True


@dataclass(frozen=True)
class Recommendation:
    """What one guideline says about one finding, or about several it judges together.

    Attributes:
        guideline: id of the rule set.
        title: its name, per language.
        findings: indices of the findings it is about.
        options: the rows that can apply; exactly one when everything needed is known.
        needs: the facts that would decide between the options, or whether the guideline applies at all.
        rationale: why: the facts that were used, per language.
        citation: where the table comes from.
        provisos: what must be true for the guideline to apply and is not known, per language.
        signed_off_by: the radiologist who signed the rule set off, "" while nobody did.
        deciding: the needs that decide between the options; the others decide whether the guideline applies.
        about_the_table: without options: True when its table has no row for this, False when it does not apply.
    """

    guideline: str
    title: Words
    findings: tuple[int, ...]
    options: tuple[Option, ...]
    needs: tuple[Need, ...]
    rationale: Words
    citation: Citation
    provisos: Words = field(default_factory=lambda: {"en": "", "zh": ""})
    signed_off_by: str = ""
    deciding: tuple[Need, ...] = ()
    about_the_table: bool = False

    @property
    def definite(self) -> bool:
        """One option and nothing left to ask."""
        return len(self.options) == 1 and not self.needs

    @property
    def category(self) -> str:
        """The category when all options agree on it, else ""."""
        categories = {option.category for option in self.options}
        return categories.pop() if len(categories) == 1 else ""

    @property
    def open_questions(self) -> tuple[Need, ...]:
        """The needs that could change what is to be done; a category alone is no reason to ask."""
        same = len({option.action["en"] for option in self.options}) <= 1
        settled = same and not any(option.condition["en"] for option in self.options[:1] if len(self.options) == 1)
        return tuple(need for need in self.needs if not settled or need not in self.deciding)

    @property
    def verified(self) -> bool:
        """Every row it uses was compared with the published table."""
        return all(option.verified for option in self.options)


@dataclass(frozen=True)
class Statement:
    """One sentence of an impression.

    Attributes:
        text: the sentence with its full stop.
        role: what kind of statement it is. A ``finding`` restates findings word for word and reads back to them;
            the other roles name nothing as present.
        findings: indices of the findings it rests on, () for a sentence about none.
        citations: ids of the references it follows (`Citation.id`, or a passage of the knowledge base).
    """

    text: str
    role: Role
    findings: tuple[int, ...] = ()
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A passage of a site's own documents that speaks of a finding; shown beside the impression, never part of it."""

    id: str
    text: str


@dataclass(frozen=True)
class Line:
    """Statements that are read together: a finding restated and everything said about it."""

    statements: tuple[Statement, ...]
    language: Language

    @property
    def text(self) -> str:
        """The statements as running text."""
        return ("" if self.language == "zh" else " ").join(statement.text for statement in self.statements)

    @property
    def findings(self) -> tuple[int, ...]:
        """Indices of every finding that a statement of the line rests on."""
        return tuple(sorted({index for statement in self.statements for index in statement.findings}))

    @property
    def citations(self) -> tuple[str, ...]:
        """Ids of every reference that a statement of the line follows."""
        return tuple(dict.fromkeys(name for statement in self.statements for name in statement.citations))


@dataclass(frozen=True)
class Impression:
    """What matters in a study, the most urgent first.

    Attributes:
        statements: in the order in which they are read; those of one finding stand together.
        language: of the statements.
        note: how the impression came about; belongs beside the text wherever it is shown.
        method: name of the writer, such as ``"rules"``.
        recommendations: what the guidelines say, also where a writer words it differently.
        citations: every reference that the statements name, in that order.
        remarks: what happened on the way (a sentence dropped by the guard, a fall back), in plain words.
        check: the guard's record; None for a rule-written text that has not been put before it.
        sources: passages of the site's own documents on the findings, given to the writer or to be read beside.
    """

    statements: tuple[Statement, ...]
    language: Language
    note: str
    method: str
    recommendations: tuple[Recommendation, ...] = ()
    citations: tuple[Citation, ...] = ()
    remarks: tuple[str, ...] = ()
    check: ImpressionCheck | None = None
    sources: tuple[Source, ...] = ()

    @property
    def text(self) -> str:
        """Numbered lines without the note: statements about the same findings share a line."""
        lines = [line.text for line in self.lines]
        if len(lines) == 1:
            return lines[0]
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))

    @property
    def lines(self) -> tuple[Line, ...]:
        """Statements by line: a restated finding begins one and what is said about it follows."""
        grouped: list[list[Statement]] = []
        for statement in self.statements:
            about = {index for other in grouped[-1] for index in other.findings} if grouped else set()
            if statement.role in _BEGIN or not about & set(statement.findings):
                grouped.append([])
            grouped[-1].append(statement)
        return tuple(Line(tuple(group), self.language) for group in grouped)

    @property
    def guard_note(self) -> tuple[str, ...]:
        """What the guard made of it and what happened on the way, in sentences; () when it was not asked."""
        if self.check is None:
            return ()
        return (verdicts()[self.check.verdict][self.language], *self.check.remarks)

    @property
    def critical(self) -> tuple[Statement, ...]:
        """Results that somebody must be told at once."""
        return tuple(s for s in self.statements if s.role == "critical")


def as_cited(statements: Sequence[Statement], known: Iterable[Citation]) -> tuple[Citation, ...]:
    """The references that statements name, in the order in which they are first named."""
    by_id = {citation.id: citation for citation in known}
    named = dict.fromkeys(name for statement in statements for name in statement.citations)
    return tuple(by_id[name] for name in named if name in by_id)


@cache
def verdicts() -> Mapping[str, Words]:
    """How each verdict of the guard is told."""
    return yaml.safe_load((files(__package__) / "verdicts.yaml").read_text(encoding="utf-8"))
