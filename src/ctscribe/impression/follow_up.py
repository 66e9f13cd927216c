"""What a sentence asks to be done next: examinations, intervals in months, or expressly nothing.

The same reader reads the guideline tables' own words and a writer's sentence, so the two can be compared whatever the
wording ("half a year", "6 months" and "6个月" are one interval). Patterns are in ``follow_up.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe.impression.result import Option
from ctscribe.ontology import Language
from ctscribe.report.parse import normalise

Months = tuple[float, float]

SAME_WORDS = 0.5
"""Share of a row's words that a sentence must have to ask for a step that is neither an examination nor dated."""


@dataclass(frozen=True)
class Asked:
    """What one sentence asks for.

    Attributes:
        modality: examinations and steps as in `Option.modality`; low-dose CT counts as CT.
        months: intervals as (earliest, latest).
        nothing: it says that nothing needs to be done.
        advice: it reads as advice at all; where False the rest is empty.
    """

    modality: frozenset[str] = frozenset()
    months: frozenset[Months] = frozenset()
    nothing: bool = False
    advice: bool = False


@lru_cache(maxsize=16384)
def read(text: str, language: Language, *, advice: bool = False) -> Asked:
    """Read one sentence.

    Args:
        text: as written.
        language: of the text.
        advice: known to be advice, so that no word needs to say so (the action of a table, say).
    """
    cues = _cues(language)
    plain = cues["masked"].sub(" ", normalise(text).lower())
    nothing = bool(cues["nothing"].search(plain))
    months = frozenset(_intervals(plain, language))
    found = set()
    for name, pattern in _modalities(language):
        if pattern.search(plain):
            found.add(name)
            plain = pattern.sub(" ", plain)
    timed = bool(months) and bool(found)
    if not (advice or nothing or timed or cues["advice"].search(plain)):
        return Asked()
    return Asked(frozenset(found), months, nothing, True)


def of_option(option: Option, language: Language) -> Asked:
    """What a row of a guideline asks for: its words, and the examinations and the interval of its first step."""
    asked = read(option.action[language], language, advice=True)
    names = {"ct" if name == "ldct" else name for name in option.modality}
    months = frozenset({option.months} if option.months else ())
    return Asked(asked.modality | names, asked.months | months, asked.nothing or not option.modality, True)


def asks_for(text: str, option: Option, language: Language) -> bool:
    """Whether a sentence asks for the first step of a row: its interval, or else its examination or its words."""
    asked = read(text, language)
    if option.months is not None:
        return option.months in asked.months
    if asked.advice and asked.modality & of_option(option, language).modality:
        return True
    own, theirs = _content(option.action[language], language), _content(text, language)
    return len(own & theirs) >= SAME_WORDS * len(own)


def made_of(text: str, known: str, language: Language) -> bool:
    """Whether at least `SAME_WORDS` of a sentence's words stand in a text (lower case)."""
    own = _content(text, language)
    return bool(own) and len(own & _content(known, language)) >= SAME_WORDS * len(own)


@lru_cache(maxsize=1024)
def _content(text: str, language: Language) -> set[str]:
    """Beginnings of the longer words; pairs of neighbours in Chinese."""
    plain = normalise(text).lower()
    if language == "en":
        return {word[:5] for word in re.findall(r"[a-z]{4,}", plain)}
    return {run[i : i + 2] for run in re.findall(r"[\u4e00-\u9fff]+", plain) for i in range(len(run) - 1)}


def _intervals(text: str, language: Language) -> list[Months]:
    cues = _cues(language)
    found = []
    for match in cues["interval"].finditer(text):
        if cues["past"].match(text[match.end() :]):
            continue
        low = _number(match["low"], language)
        high = _number(match["high"], language) if match["high"] else low
        unit = _table()["units"][match["unit"]]
        found.append((round(low * unit, 1), round(high * unit, 1)))
    for name, months in _table()["words"].items():
        if re.search(name, text):
            found.append((float(months), float(months)))
    return found


def _number(word: str, language: Language) -> float:
    named = _table()["numbers"][language]
    return float(named[word]) if word in named else float(word)


@cache
def _cues(language: Language) -> Mapping[str, re.Pattern[str]]:
    table = _table()
    number = r"\d+(?:\.\d+)?|" + "|".join(sorted(table["numbers"][language], key=len, reverse=True))
    units = "|".join(sorted((u for u in table["units"]), key=len, reverse=True))
    joint, counter = table["joint"][language], table["counter"][language]
    start = r"(?<![\w.])" if language == "en" else ""
    # "6 months to 1 year" keeps its first unit out of the way: each end is an interval of its own then.
    interval = (
        rf"{start}(?P<low>{number})(?:{joint}(?P<high>{number}))?{counter}(?P<unit>{units})"
        if language == "zh"
        else rf"{start}(?P<low>{number})(?:{joint}(?P<high>{number}))?[\s-]*(?P<unit>{units})s?\b"
    )
    cues = {name: re.compile(table[name][language]) for name in ("advice", "nothing", "past", "masked")}
    return {**cues, "interval": re.compile(interval)}


@cache
def _modalities(language: Language) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile(words[language])) for name, words in _table()["modalities"].items())


@cache
def _table() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "follow_up.yaml").read_text(encoding="utf-8"))
