"""The same report in other words: synonyms of the ontology, and sentences in another order, the findings unchanged.

Whatever is changed is read back by the parser; a change that alters a single finding is not made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ctscribe import ontology
from ctscribe.data.batch import Sample
from ctscribe.ontology import Language
from ctscribe.report.document import split_sentences
from ctscribe.report.parse import parse


@dataclass(frozen=True)
class Reword:
    """A transform: a paraphrase of the report.

    Attributes:
        synonyms: chance that a name of the ontology is exchanged for another name of the same thing.
        order: chance that the sentences change places.
    """

    synonyms: float = 0.3
    order: float = 0.3

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not sample.text:
            return sample
        language: Language = "zh" if sample.language == "zh" else "en"
        return replace(sample, text=reword(sample.text, language, rng, synonyms=self.synonyms, order=self.order))


def reword(
    text: str, language: Language, rng: np.random.Generator, *, synonyms: float = 0.3, order: float = 0.3
) -> str:
    """A text that states the same findings.

    Args:
        text: findings section.
        language: of the text.
        rng: decides what is changed.
        synonyms, order: chances, see `Reword`.
    """
    wanted = _said(text, language)
    pieces = [_synonymous(sentence, language, rng, synonyms) for sentence in split_sentences(text, language)]
    between = "" if language == "zh" else " "
    if rng.random() < order:
        shuffled = [pieces[i] for i in rng.permutation(len(pieces))]
        if _said(between.join(shuffled), language) == wanted:
            pieces = shuffled
    changed = between.join(pieces)
    return changed if _said(changed, language) == wanted else text


def _said(text: str, language: Language) -> frozenset[object]:
    """The findings as a set: their order is what may change."""
    return frozenset(parse(text, language))


def _synonymous(sentence: str, language: Language, rng: np.random.Generator, chance: float) -> str:
    """Exchange names one by one, longest first; each change must keep what the sentence says."""
    said = _said(sentence, language)
    pattern, table = _names(language)
    changed = sentence
    for match in reversed(list(pattern.finditer(sentence))):
        if rng.random() >= chance:
            continue
        others = [name for name in table[match[0].lower()] if name.lower() != match[0].lower()]
        if not others:
            continue
        name = others[int(rng.integers(len(others)))]
        name = name[0].upper() + name[1:] if match[0][0].isupper() and match.start() == 0 else name
        tried = changed[: match.start()] + name + changed[match.end() :]
        if _said(tried, language) == said:
            changed = tried
    return changed


@cache
def _names(language: Language) -> tuple[re.Pattern[str], dict[str, tuple[str, ...]]]:
    """(pattern of every name, name -> all names of the same thing)."""
    table: dict[str, tuple[str, ...]] = {}
    entries = [e.names for e in ontology.findings().values()] + [e.names for e in ontology.regions().values()]
    for entry in entries:
        # Abbreviations and adjectives ("RUL", "pleural") do not fit every place of a sentence.
        names = tuple(n for n in entry[language] if language == "zh" or (n.islower() and len(n) > 3))
        table.update({name.lower(): names for name in names})
    words = sorted(map(re.escape, table), key=len, reverse=True)
    edge = "" if language == "zh" else r"\b"
    return re.compile(rf"{edge}(?:{'|'.join(words)}){edge}", re.IGNORECASE), table
