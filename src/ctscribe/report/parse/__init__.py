"""Report text -> findings, in English and Chinese.

Made for two kinds of text: what `render_findings` writes, which reads back to exactly the findings it was written
from, and what people write. No model is involved: names come from the ontology, cues and further patterns from
``reading/``.
"""

from __future__ import annotations

from ctscribe.errors import UsageError
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report.parse.document import findings_of
from ctscribe.report.parse.labels import ct_rate_labels, ct_rate_labels_of
from ctscribe.report.parse.sentence import read_sentence
from ctscribe.report.parse.text import detect_language, normalise, sentences, split_sentences
from ctscribe.report.parse.topics import pieces
from ctscribe.report.words import Finding

__all__ = [
    "ct_rate_labels",
    "ct_rate_labels_of",
    "detect_language",
    "normalise",
    "parse",
    "parse_sentence",
    "sentences",
    "split_sentences",
]


def parse(text: str, language: Language | None = None) -> list[Finding]:
    """Read the findings stated in a report, in the order of the text, each once.

    Args:
        text: one or more sections, headed or not.
        language: ``"en"`` or ``"zh"``; detected from the letters when None.

    Returns:
        Findings with status, regions, sizes and attributes as far as the text says them.

    Raises:
        UsageError: an unknown language.
    """
    chosen = detect_language(text) if language is None else language
    if chosen not in LANGUAGES:
        raise UsageError("language of a report", expected=" | ".join(LANGUAGES), got=str(language))
    return findings_of(pieces(text, chosen), chosen)


def parse_sentence(sentence: str, language: Language) -> tuple[Finding, ...]:
    """Findings that one normalised sentence states on its own (see `sentences`), its heading counted."""
    return tuple(
        dict.fromkeys(
            reading.finding
            for piece in pieces(sentence, language)
            for reading in read_sentence(piece.sentence, language, piece.topic)
            if reading.label is None
        )
    )
