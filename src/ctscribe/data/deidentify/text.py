"""Taking out of a report what identifies somebody, in English and Chinese, without touching what it measures.

Rules, not a model (``text_rules.yaml``): they need no download, say what they do, and leave every number that has a
unit alone. They know cues (a name after "Patient:" or "Dr"), formats (dates, phone and record numbers) and the
identifiers that the caller already knows of this very patient. They cannot know that an uncued word is a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import yaml

from ctscribe.ontology import Language
from ctscribe.report.document import split_sentences

SHORTEST = 3
"""Letters that a known identifier must have; shorter ones stand in every text."""
_PLACEHOLDER = re.compile(r"\[(?:name|place|id|date|phone|address)\]")
_TAKEN = "Xtakenx"
"""Stands for a placeholder while sentences are parted."""


@dataclass(frozen=True)
class Scrubbed:
    """A text without identifiers.

    Attributes:
        text: with ``[name]``, ``[place]``, ``[id]``, ``[date]``, ``[phone]`` or ``[address]`` in their place.
        found: how many of each; never what they were.
    """

    text: str
    found: Counter[str] = field(default_factory=Counter)

    @property
    def removed(self) -> int:
        """Passages taken out."""
        return self.found.total()


def scrub(text: str, identifiers: Iterable[str] = ()) -> Scrubbed:
    """Replace what identifies somebody.

    Args:
        text: a report or a part of it, English or Chinese.
        identifiers: what is known of the patient (name, number, accession number); taken out wherever it stands.
    """
    found: Counter[str] = Counter()
    for pattern, put in (*_known(identifiers), *_rules()):

        def replaced(match: re.Match[str], put: str = put) -> str:
            found[put] += 1
            return f"{match.groupdict().get('keep') or ''}[{put}]"

        text = pattern.sub(replaced, text)
    return Scrubbed(text, found)


def without_placeholders(text: str, language: Language) -> str:
    """The sentences from which nothing was taken: a writer must not learn to write ``[name]``."""
    if not _PLACEHOLDER.search(text):
        return text
    # A bracket begins no sentence, a word does.
    pieces = split_sentences(_PLACEHOLDER.sub(_TAKEN, text), language)
    kept = [piece for piece in pieces if _TAKEN not in piece]
    return ("" if language == "zh" else " ").join(kept)


def _known(identifiers: Iterable[str]) -> list[tuple[re.Pattern[str], str]]:
    """Each identifier as it is, and a DICOM name also by its parts ("Doe^Jane" is "Jane Doe" in a report)."""
    parts = {part.strip() for one in identifiers for part in (one, *re.split(r"[\^=]", one), " ".join(reversed(
        [p for p in re.split(r"[\^=]", one) if p])))}  # fmt: skip
    words = sorted((p for p in parts if _worth(p)), key=len, reverse=True)
    return [(re.compile(_bounded(word), re.IGNORECASE), "id") for word in words]


def _worth(part: str) -> bool:
    chinese = any("\u4e00" <= letter <= "\u9fff" for letter in part)
    return len(part) >= (2 if chinese else SHORTEST)


def _bounded(word: str) -> str:
    """Whole words only, where the script has words."""
    plain = re.escape(word)
    return rf"(?<![A-Za-z0-9]){plain}(?![A-Za-z0-9])" if word.isascii() else plain


@cache
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    table = yaml.safe_load((files(__package__) / "text_rules.yaml").read_text(encoding="utf-8"))
    sharp = [(re.compile(rule["pattern"]), rule["put"]) for rule in table["cases_matter"]]
    loose = [(re.compile(rule["pattern"], re.IGNORECASE), rule["put"]) for rule in table["cases_do_not_matter"]]
    return (*loose, *sharp)
