"""Disease words of a sentence that are not names of findings, and whether the sentence states or only considers them.

Works by word lists and by endings (-itis, -oma, 炎, 瘤), so that a term nobody thought of is found too. The
patterns are in ``terms.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.parse import normalise, sentences
from ctscribe.report.parse.sentence import read_sentence


@lru_cache(maxsize=16384)
def diseases(text: str, language: Language) -> tuple[str, ...]:
    """Disease words in the order of the text, lower case, each once; the words that name findings left out."""
    found: list[str] = []
    for sentence in sentences(text, language):
        rest = sentence
        for name in (name for reading in read_sentence(sentence, language) for name in reading.names):
            rest = rest.replace(name, " , ")
        rest = _patterns(language)["plain"].sub(" , ", _attributes(language).sub(" ", rest))
        found += _english(rest) if language == "en" else [*_patterns("zh")["words"].findall(sentence), *_chinese(rest)]
    return tuple(dict.fromkeys(found))


def _english(text: str) -> list[str]:
    cues = _patterns("en")
    matches = [m for name in ("endings", "words") for m in cues[name].finditer(text)]
    return [m[0] for m in sorted(matches, key=lambda m: m.start())]


def _chinese(text: str) -> list[str]:
    cues = _patterns("zh")
    found = []
    for run in re.findall(r"[\u4e00-\u9fff]+", text):
        for piece in cues["glue"].split(run):
            if piece and (match := cues["endings"].match(piece)) and len(match[0]) > 1:
                found.append(match[0])
    return found


def supported(term: str, known: str, language: Language) -> bool:
    """Whether a disease word occurs in texts that belong to the study's findings (lower case)."""
    if language == "zh":
        return term in known
    root = _patterns("en")["roots"].match(term)
    stem = root[0] if root else term[:-1] if term.endswith("s") and len(term) > 4 else term
    return re.search(rf"\b{re.escape(stem)}", known) is not None


def hedged(text: str, language: Language) -> bool:
    """Whether a sentence considers something rather than stating it."""
    return _patterns(language)["hedges"].search(normalise(text).lower()) is not None


def names_short_axis(text: str, language: Language) -> bool:
    """Whether a sentence gives a short axis instead of a length."""
    return _patterns(language)["short_axis"].search(normalise(text).lower()) is not None


def says_normal(text: str, language: Language) -> bool:
    """Whether a sentence calls the whole study normal."""
    plain = normalise(text).lower()
    match = _patterns(language)["normal"].search(plain)
    return match is not None and not re.search(r"otherwise|other |remaining|elsewhere|其余|余", plain)


def about_the_study(text: str, language: Language) -> bool:
    """Whether a sentence speaks of the examination itself, or of earlier ones."""
    return _patterns(language)["study"].search(normalise(text).lower()) is not None


@cache
def _attributes(language: Language) -> re.Pattern[str]:
    """Names of attribute values ("varicose"): they describe findings and are compared as such."""
    names = [n for values in ontology.attributes().values() for entry in values.values() for n in entry[language]]
    edge = r"\b" if language == "en" else ""
    return re.compile(edge + "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")" + edge)


@cache
def _patterns(language: Language) -> Mapping[str, re.Pattern[str]]:
    table = yaml.safe_load((files(__package__) / "terms.yaml").read_text(encoding="utf-8"))
    patterns = {name: re.compile(words) for name, words in table[language].items()}
    return {**patterns, **{name: re.compile(table[name][language]) for name in ("normal", "study")}}
