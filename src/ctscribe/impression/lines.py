"""Plain lines instead of JSON: how models in this process are asked for an impression, and how their answer is read.

```
FINDINGS                              ─►  Right upper lobe nodule, solid, 7 mm.
- present: A 7 mm solid nodule ...        [1]
GIVEN SENTENCES                           [2]
[1] Fleischner Society 2017: CT at ...
[2] Consider healed infection, ...
```

A sentence that a guideline or a source fixes word for word is not written again: its number stands for it. That costs
a small model few tokens, and it cannot misspell an interval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctscribe import ontology
from ctscribe.impression import follow_up, rules, terms
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.result import Statement
from ctscribe.impression.wording import prompts
from ctscribe.ontology import Language
from ctscribe.report import Finding, render_text
from ctscribe.report.parse import parse

_GIVEN = ("follow_up", "comparison", "differential", "significance", "question")
_COMMENTS = ("differential", "significance")
_MARK = re.compile(r"\[(\d+)\]")
_LISTED = re.compile(r"^(?:(?:[-*•]|\d+[.)])\s+)?(?:(?:critical, )?(?:present|possible): )?")
"""Marks of a list, and of the prompt's own list."""


@dataclass(frozen=True)
class Asked:
    """What a model is asked: two parts of a prompt, for a chat template or one after the other."""

    system: str
    user: str


def given(known: Known) -> tuple[Statement, ...]:
    """The sentences that a model may repeat by their number, counted from 1."""
    return tuple(s for s in known.ruled if s.role in _GIVEN)


def named(known: Known) -> tuple[int, ...]:
    """Indices of the findings that an impression names, the most urgent first."""
    return tuple(known.findings.index(finding) for finding in rules.order(known.findings))


def question(known: Known, language: Language, problems: Sequence[Problem] = ()) -> Asked:
    """The prompt; like the one for endpoints it holds no free text of a report."""
    words = prompts()["lines"]
    parts = {
        "findings": [f"- {_status(f)}: {restated(f, language)}" for f in known.findings if f.status != "absent"],
        "given": [f"[{number}] {s.text}" for number, s in enumerate(given(known), start=1)],
        "problems": [f"- {p.message}" for p in problems],
    }
    blocks = [
        f"{words['parts'][name]}\n" + ("\n".join(lines) or prompts()["nothing"])
        for name, lines in parts.items()
        if lines or name == "findings"
    ]
    return Asked(words["system"].format(language=prompts()["languages"][language]).strip(), "\n\n".join(blocks))


def read(text: str, known: Known, language: Language) -> tuple[Statement, ...]:
    """An answer as statements: one for each line.

    Raises:
        ValueError: no line at all, or a number that no given sentence has.
    """
    repeated = given(known)
    said = []
    for line in (_LISTED.sub("", line.strip()) for line in text.splitlines()):
        mark = _MARK.fullmatch(line)
        if mark is not None:
            if not 1 <= int(mark[1]) <= len(repeated):
                raise ValueError(f"there is no given sentence {line}")
            said.append(repeated[int(mark[1]) - 1])
        elif line and line not in prompts()["lines"]["parts"].values():
            said.append(statement(line, known, language))
    if not said:
        raise ValueError("an impression without a sentence")
    return tuple(dict.fromkeys(said))


def statement(text: str, known: Known, language: Language) -> Statement:
    """A sentence with the role it plays and the findings it names; one that is given keeps its sources."""
    same = next((s for s in given(known) if s.text == text), None)
    if same is not None:
        return same
    kinds = {f.kind for f in parse(text, language) if f.status != "absent"}
    about = tuple(
        i for i, f in enumerate(known.findings) if f.status != "absent" and kinds & set(ontology.implied(f.kind))
    )
    if follow_up.read(text, language).advice:
        return Statement(text, "follow_up", about)
    if terms.diseases(text, language) and terms.hedged(text, language):
        return Statement(text, "differential", about)
    return Statement(text, "finding", about) if kinds else Statement(text, "significance")


def with_given(said: Sequence[Statement], known: Known) -> tuple[Statement, ...]:
    """The statements of a writer that sees findings only, and below each finding what the rules say about it.

    Follow-up, comparisons and questions depend on what it does not see; comments are added where it wrote none.
    """
    commented = any(s.role in _COMMENTS for s in said)
    left = [s for s in given(known) if s not in said and not (commented and s.role in _COMMENTS)]
    made: list[Statement] = []
    for position, own in enumerate(said):
        made.append(own)
        rest = {i for other in said[position + 1 :] for i in other.findings}
        due = [s for s in left if s.findings and not set(s.findings) & rest and set(s.findings) & set(own.findings)]
        made += due
        left = [s for s in left if s not in due]
    return (*made, *left)


def restated(finding: Finding, language: Language, seed: int | None = None) -> str:
    """One finding as a sentence, without where it was seen."""
    return render_text([replace(finding, evidence=())], language, seed)


def _status(finding: Finding) -> str:
    critical = "critical, " if ontology.findings()[finding.kind].critical else ""
    return critical + ("possible" if finding.status == "uncertain" else finding.status)
