"""A report sentence by sentence: what each one states, and whether it stands in the findings or the impression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ctscribe.ontology import Language
from ctscribe.report import Finding

Section = Literal["findings", "impression"]

# Where the impression begins: a heading in front of a colon or on a line of its own.
_IMPRESSION: Mapping[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"(?:^|\n|(?<=[.\s]))(?:IMPRESSION|Impression|CONCLUSION|Conclusion|OPINION|Opinion)[Ss]?\s*(?::|\n)"
    ),
    "zh": re.compile(r"(?:影像)?诊断(?:意见|印象|提示)?】?\s*[::\n]|(?:印象|结论|意见)】?\s*[::\n]"),
}


@dataclass(frozen=True)
class Statement:
    """One sentence.

    Attributes:
        sentence: as the parser reads it: normalised, in lower case, without its full stop.
        section: where it stands; everything is findings in a report without a headed impression.
        findings: what it states, () when the parser finds nothing in it.
    """

    sentence: str
    section: Section
    findings: tuple[Finding, ...]


@lru_cache(maxsize=4096)
def statements(text: str, language: Language) -> tuple[Statement, ...]:
    """All sentences of a report in order; the last few thousand reports are kept, for several metrics ask."""
    from ctscribe.report.parse import parse_sentence, sentences

    mark = _IMPRESSION[language].search(text)
    cut = mark.start() if mark else len(text)
    halves: tuple[tuple[Section, str], ...] = (("findings", text[:cut]), ("impression", text[cut:]))
    return tuple(
        Statement(sentence, section, parse_sentence(sentence, language))
        for section, half in halves
        for sentence in sentences(half, language)
    )
