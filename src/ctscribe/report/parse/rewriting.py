"""English shorthand written out before a sentence is read: units, "R" and "L", "right > left", shared nouns, slips.

The rules are those of ``reading/en/shorthand.yaml``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from ctscribe.report.parse.spelling import corrected

_SIDED = re.compile(r"\b(?:right|left|both|bilateral|[rl][uml]l)\b")
_LOBE = re.compile(r"\b(upper|middle|lower) lobe\b")


@dataclass(frozen=True)
class Rule:
    """What a sentence must hold for the rule to be tried (the first word, and the others), the rule, what it writes."""

    held: str
    also: tuple[str, ...]
    regex: re.Pattern[str]
    written: str


@dataclass(frozen=True)
class Shorthand:
    """Whole words and what they stand for, rules in their order, and a segment named without its lobe."""

    words: tuple[tuple[str, re.Pattern[str], str], ...]
    rules: tuple[Rule, ...]
    bare_segment: re.Pattern[str]


@cache
def shorthand() -> Shorthand:
    """The table, compiled once."""
    text = (files("ctscribe.report") / "reading" / "en" / "shorthand.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)

    def compiled(regex: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"<(\w+)>", lambda part: table["parts"].get(part[1], part[0]), regex))

    return Shorthand(
        tuple((word, re.compile(rf"\b{word}\b"), full) for word, full in table["words"].items()),
        tuple(Rule(held[0], tuple(held[1:]), compiled(regex), full) for held, regex, full in table["rules"]),
        compiled(table["bare_segment"]),
    )


def segments_in(sentence: str, lobe: str) -> str:
    """The sentence with "anterior segment" as one of `lobe`, an id such as ``right_upper_lobe``."""
    return shorthand().bare_segment.sub(rf"\1 of the {lobe.replace('_', ' ')}", sentence)


@lru_cache(maxsize=1024)
def lobes_on(sentence: str, side: str) -> str:
    """The sentence with "lower lobe" as that of the side its heading names, unless it names one itself."""
    return sentence if _SIDED.search(sentence) else _LOBE.sub(rf"{side} \1 lobe", sentence)


def written_out(sentence: str) -> str:
    """An English sentence in lower case without shorthand and typing errors."""
    sentence = corrected(sentence)
    table = shorthand()
    for word, regex, full in table.words:
        if word in sentence:
            sentence = regex.sub(full, sentence)
    for rule in table.rules:
        if rule.held in sentence and (not rule.also or all(held in sentence for held in rule.also)):
            sentence = rule.regex.sub(rule.written, sentence)
    return sentence
