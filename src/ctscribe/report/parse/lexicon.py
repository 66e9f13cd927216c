"""Compiled patterns: which words name which kind, region, attribute or cue.

Each pattern knows a literal that any match must hold; a pattern whose literal is not in the sentence is not run. That, and
the cache on sentences, is what makes reading fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.choice import phrasing
from ctscribe.report.english import plural

_LETTERS = re.compile(r"[a-z]{3,}|[\u4e00-\u9fff]+")


@dataclass(frozen=True)
class Pattern:
    """One regular expression, what it stands for, and a literal every match contains ("" when there is none)."""

    means: Any
    regex: re.Pattern[str]
    literal: str


@dataclass(frozen=True)
class Lexicon:
    """Everything that is recognised in one language."""

    kinds: tuple[Pattern, ...]
    regions: tuple[Pattern, ...]
    attributes: tuple[Pattern, ...]
    cues: dict[str, re.Pattern[str]]
    elsewhere_kinds: frozenset[str]
    names: dict[str, re.Pattern[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sense:
    """What a kind pattern means: the kind, a status it forces, and an attribute the word itself carries."""

    kind: str
    status: str | None = None
    attribute: tuple[str, str] | None = None


@cache
def reading(language: Language) -> Any:
    """The reading table of one language (``reading/<language>.yaml``)."""
    table = files("ctscribe.report") / "reading" / f"{language}.yaml"
    return yaml.safe_load(table.read_text(encoding="utf-8"))


def required_literal(regex: str) -> str:
    """The longest run of letters that is outside every group, class, alternative and optional part, else ""."""
    bare, depth, i = [], 0, 0
    while i < len(regex):
        char = regex[i]
        if char == "\\":
            bare.append(" ")
            i += 2
            continue
        if char == "[":
            i = regex.index("]", i + 1) + 1
            bare.append(" ")
            continue
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            bare.append(" ")
        elif depth == 0:
            if char == "|":
                return ""
            if char in "?*{" and bare:
                bare[-1] = " "
            if char == "{":
                i = regex.index("}", i)
            bare.append(char if char.isalpha() else " ")
        i += 1
    return max(_LETTERS.findall("".join(bare)), key=len, default="")


def phrase_regex(phrase: str, language: Language) -> str:
    """A written name as a regular expression: spaces and hyphens are interchangeable in English."""
    text = phrase.lower()
    if language == "zh":
        return re.escape(text)
    words = [re.escape(word) for word in re.split(r"[ -]+", text)]
    return r"(?<![\w])" + r"[\s-]+".join(words) + r"(?!\w)"


def _pattern(means: Any, regex: str) -> Pattern:
    return Pattern(means, re.compile(regex), required_literal(regex))


def _named(means: Any, names: Iterable[str], language: Language) -> Iterator[Pattern]:
    for name in dict.fromkeys(n.lower() for n in names):
        words = _LETTERS.findall(name)
        literal = max(words, key=len, default="")
        yield Pattern(means, re.compile(phrase_regex(name, language)), literal)


def _kind_names(kind: str, language: Language) -> list[str]:
    entry = phrasing(language)["kinds"][kind]
    written = [n.lstrip("~+") for key in ("nouns", "alone", "negated") for n in entry.get(key, [])]
    names = [*ontology.findings()[kind].names[language], *written]
    if language == "en":
        names += [plural(name.lower()) for name in names if not name.endswith("s")]
        names += ["masses", "lung masses", "pulmonary masses"] if kind == "mass" else []
    return names


def _kind_patterns(language: Language) -> Iterator[Pattern]:
    table = reading(language)
    for kind in ontology.findings():
        yield from _named(Sense(kind), _kind_names(kind, language), language)
        for status, part in ((None, "kinds"), ("uncertain", "weak"), ("absent", "absent")):
            for regex in table[part].get(kind, []):
                yield _pattern(Sense(kind, status), regex)
    for value, entry in ontology.attributes()["device"].items():
        names = [*entry[language], *(n.lstrip("~+") for n in phrasing(language)["device"][value])]
        if language == "en":
            names += [plural(n) for n in names if not n.endswith("s")]
        yield from _named(Sense("medical_material", None, ("device", value)), names, language)


def _attribute_patterns(language: Language) -> Iterator[Pattern]:
    """Words for attribute values; one word may stand for several."""
    senses: dict[str, list[tuple[str, str]]] = {}
    words = phrasing(language)
    tables = [words["words"], words["after"], *(k.get("words", {}) for k in words["kinds"].values())]
    for name, values in ontology.attributes().items():
        if name == "device":
            continue
        for value, entry in values.items():
            spoken = [w for table in tables for w in table.get(f"{name}.{value}", [])]
            for word in dict.fromkeys([*entry[language], *spoken]):
                senses.setdefault(word.lower(), []).append((name, value))
    for word, meanings in senses.items():
        yield from _named(tuple(dict.fromkeys(meanings)), [word], language)


def _region_patterns(language: Language) -> Iterator[Pattern]:
    for region in ontology.regions().values():
        names = list(region.names[language])
        if language == "en" and region.id not in ("lungs",):
            names += [n + "s" for n in names[:1] if n.endswith(("lobe", "segment", "bronchus", "breast"))]
        yield from _named((region.id,), names, language)


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in patterns))


@cache
def lexicon(language: Language) -> Lexicon:
    """Compile the lexicon of one language once."""
    table = reading(language)
    cues = {
        "pseudo": _any(table["negation"]["pseudo"]),
        "no_before": _any(table["negation"]["before"]),
        "no_after": _any(table["negation"]["after"]),
        "maybe_before": _any(table["uncertainty"]["before"]),
        "maybe_after": _any(table["uncertainty"]["after"]),
    }
    for single in ("terminator", "predicate", "past", "thin", "smaller", "filler_of", "breaker", "anaphora", "continues"):
        if single in table:
            cues[single] = re.compile(table[single])
    for part in ("organs", "lungs", "overrides"):
        cues[part] = re.compile(table["elsewhere"][part])
    return Lexicon(
        kinds=tuple(_kind_patterns(language)),
        regions=tuple(_region_patterns(language)),
        attributes=tuple(_attribute_patterns(language)),
        cues=cues,
        elsewhere_kinds=frozenset(table["elsewhere"]["kinds"]),
    )
