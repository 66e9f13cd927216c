"""How an impression came about: who wrote it, what the guard objected to, what was done, and what it cites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "corrected", "cut", "replaced", "objected"]
"""What the guard made of an impression:

- ``passed``: no objection.
- ``corrected``: the writer was told its errors and wrote again; nothing is left to object to.
- ``cut``: sentences were dropped, or what was missing was put in by rule.
- ``replaced``: the rule-written impression stands instead.
- ``objected``: objections are left to the rule-written impression, which stands; a reader must look.
"""

Answer = Literal["written_again", "dropped", "added", "replaced", "kept"]
"""What was done about an objection; ``added`` put in by rule what was missing."""


@dataclass(frozen=True)
class Reference:
    """A source that sentences of an impression name.

    Attributes:
        id: what `Sentence.citations` holds.
        text: as it is printed.
        doi: digital object identifier, "" when it has none.
    """

    id: str
    text: str
    doi: str = ""


@dataclass(frozen=True)
class Objection:
    """One thing that the guard objected to.

    Attributes:
        kind: what is wrong, such as ``invented_finding``.
        message: in plain English.
        answer: what was done about it.
        sentence: the sentence as the writer had it; "" for something that was missing.
    """

    kind: str
    message: str
    answer: Answer
    sentence: str = ""


@dataclass(frozen=True)
class ImpressionCheck:
    """The guard's record of one impression.

    Attributes:
        writer: who was asked: ``"rules"`` or the name of a language model.
        written_by: who wrote what stands there.
        verdict: in one word.
        objections: to every proposal of the writer, in order.
        remarks: what happened on the way, in plain words of the impression's language.
    """

    writer: str
    written_by: str
    verdict: Verdict
    objections: tuple[Objection, ...] = ()
    remarks: tuple[str, ...] = ()
