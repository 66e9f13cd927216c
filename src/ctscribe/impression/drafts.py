"""What a language model behind an endpoint is asked, and how its JSON is read: the prompt, its schema, a draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ctscribe import ontology
from ctscribe.impression.client import Question
from ctscribe.impression.context import Context
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.result import Statement
from ctscribe.impression.wording import prompts
from ctscribe.ontology import Language
from ctscribe.report import render_text
from ctscribe.report.codec import from_plain, schema_of

_PATIENT = ("sex", "smoker", "family_history", "exposure", "cancer", "immunosuppressed", "screening")
OLDEST = 89
"""Ages above this one identify people and are sent as "90 or older"."""


@dataclass(frozen=True)
class Sentence:
    """One sentence as a writer proposes it."""

    text: str
    role: Literal["finding", "differential", "significance", "follow_up", "question", "comparison", "normal"]
    findings: tuple[int, ...]
    citations: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """An impression as a writer proposes it; its JSON schema is what a model is asked for."""

    statements: tuple[Sentence, ...]


def schema() -> dict[str, Any]:
    """JSON schema of a `Draft`, strict: every key required, none besides."""
    definitions: dict[str, Any] = {}
    schema_of(Draft, definitions)
    return {**definitions.pop("Draft"), "$defs": definitions}


def statements_of(data: Any, findings: int) -> tuple[Statement, ...]:
    """A decoded answer as statements; numbers of findings that do not exist are left out.

    Raises:
        UnreadableInput: not of the schema.
        ValueError: no sentence at all.
    """
    draft = from_plain(Draft, data, "answer")
    kept = [s for s in draft.statements if s.text.strip()]
    if not kept:
        raise ValueError("an impression without a sentence")
    return tuple(
        Statement(s.text.strip(), s.role, tuple(i for i in s.findings if 0 <= i < findings), s.citations) for s in kept
    )


def question(known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()) -> Question:
    """The prompt: structured findings, guideline and source texts and a few facts.

    It holds no free text of a report, so no name, number or date of a patient can be in it.
    """
    words = prompts()
    parts: dict[str, list[str]] = {name: [] for name in words["parts"]}
    for index, finding in enumerate(known.findings):
        if finding.status != "absent":
            mark = "critical, " if ontology.findings()[finding.kind].critical else ""
            text = render_text([replace(finding, evidence=())], language)
            parts["findings"].append(f"{index} ({mark}{finding.status}): {text}")
    for statement in known.ruled:
        if statement.role == "follow_up":
            about = ", ".join(map(str, statement.findings)) or "-"
            parts["follow_up"].append(f"[{', '.join(statement.citations)}] finding {about}: {statement.text}")
        elif statement.role == "comparison":
            parts["changes"].append(f"finding {', '.join(map(str, statement.findings)) or '-'}: {statement.text}")
        elif statement.role in ("differential", "significance"):
            parts["sources"].append(f"finding {', '.join(map(str, statement.findings))}: {statement.text}")
    parts["sources"] += [f"[{name}] {text}" for name, text in known.passages]
    parts["patient"] = _patient(context)
    parts["problems"] = [f"- {p.message}" for p in problems]
    blocks = [
        f"{words['parts'][name]}\n" + ("\n".join(lines) or words["nothing"])
        for name, lines in parts.items()
        if lines or name not in ("changes", "problems")
    ]
    return Question(words["system"].format(language=words["languages"][language]), "\n\n".join(blocks), schema())


def _patient(context: Context) -> list[str]:
    facts = []
    if context.age is not None:
        facts.append(f"age: {context.age}" if context.age <= OLDEST else f"age: {OLDEST + 1} or older")
    facts += [f"{name}: {value}" for name in _PATIENT if (value := getattr(context, name)) is not None]
    return facts
