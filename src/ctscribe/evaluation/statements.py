"""A report sentence by sentence: what each one states, and whether it stands in the findings or the impression."""

from __future__ import annotations

from dataclasses import dataclass

from ctscribe.ontology import Language
from ctscribe.report import Finding


@dataclass(frozen=True)
class Statement:
    """One sentence.

    Attributes:
        sentence: as the parser reads it: normalised, in lower case, without its heading and full stop.
        section: ``"findings"`` or ``"impression"``; everything is findings in a report without headings.
        findings: what it states, () when the parser finds nothing in it.
        qualified: those of them that are denials which leave some ("no new nodule").
    """

    sentence: str
    section: str
    findings: tuple[Finding, ...]
    qualified: tuple[Finding, ...] = ()


def statements(text: str, language: Language) -> tuple[Statement, ...]:
    """All sentences of a report in order."""
    from ctscribe.report.parse.sentence import read_sentence
    from ctscribe.report.parse.topics import pieces

    found = []
    for piece in pieces(text, language):
        readings = [r for r in read_sentence(piece.sentence, language, piece.topic) if r.label is None]
        qualified = tuple(reading.finding for reading in readings if reading.qualified)
        said = tuple(reading.finding for reading in readings)
        found.append(Statement(piece.sentence, piece.section, said, qualified))
    return tuple(found)
