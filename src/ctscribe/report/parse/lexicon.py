"""Compiled patterns: which words name which kind, region, attribute or cue.

Each pattern knows literals of which any match must hold one; a pattern without one in the sentence is not run. That,
and the cache on sentences, is what makes reading fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.choice import phrasing
from ctscribe.report.english import plural

_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[a-z]{3,}|[\u4e00-\u9fff]+")


@dataclass(frozen=True)
class Hit:
    """One match at [start, end); `gap` is where attribute words may stand inside it, (-1, -1) when nowhere."""

    start: int
    end: int
    gap: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class Name:
    """A fixed phrase and what it stands for; whole words only, where letters have words."""

    means: Any
    phrase: str
    whole_words: bool


@dataclass(frozen=True)
class Pattern:
    """A regular expression and what it stands for; every match contains one of `literals` (unless there are none)."""

    means: Any
    regex: re.Pattern[str]
    literals: tuple[str, ...]

    def hits(self, sentence: str) -> Iterator[Hit]:
        """Matches in a sentence."""
        for match in self.regex.finditer(sentence):
            gap = match.span("gap") if "gap" in self.regex.groupindex else (-1, -1)
            yield Hit(match.start(), match.end(), gap)


class Words:
    """Names and patterns, indexed so that few of them are tried on a sentence.

    A name is tried when its first word (in Chinese: its first character) is there, a pattern when one of its
    literals is.
    """

    def __init__(self, words: Iterable[Name | Pattern]) -> None:
        self.words = tuple(words)
        self._always: list[int] = []
        self._names: dict[str, list[int]] = {}
        self._by_letter: dict[str, list[int]] = {}
        literals: dict[str, list[int]] = {}
        for position, word in enumerate(self.words):
            if isinstance(word, Name) and word.whole_words:
                first = _WORD.match(word.phrase)
                self._names.setdefault(first.group() if first else word.phrase, []).append(position)
            elif isinstance(word, Name):
                self._by_letter.setdefault(word.phrase[0], []).append(position)
            elif word.literals:
                for literal in word.literals:
                    literals.setdefault(literal, []).append(position)
            else:
                self._always.append(position)
        self._literals = tuple(literals.items())

    def hits(self, sentence: str) -> Iterator[tuple[Any, Hit]]:
        """(meaning, hit) of everything found, in the order of the words."""
        flat = sentence.replace("-", " ")
        tried = set(self._always)
        for index, keys in ((self._names, _WORD.findall(flat)), (self._by_letter, flat)):
            if index:
                for key in index.keys() & keys:
                    tried.update(index[key])
        for literal, positions in self._literals:
            if literal in sentence:
                tried.update(positions)
        for position in sorted(tried):
            word = self.words[position]
            if isinstance(word, Pattern):
                for hit in word.hits(sentence):
                    yield word.means, hit
                continue
            start = flat.find(word.phrase)
            while start >= 0:
                end = start + len(word.phrase)
                if not word.whole_words or not (flat[start - 1 : start].isalnum() or flat[end : end + 1].isalnum()):
                    yield word.means, Hit(start, end)
                start = flat.find(word.phrase, start + 1)


@dataclass(frozen=True)
class Topic:
    """What a heading adds to the sentences below it.

    Attributes:
        kinds: words that name a finding only here ("effusion" under "PLEURA:").
        place: region that findings without a place lie in, "" for none.
        elsewhere: True when a bare "nodule" here is not in the lungs.
    """

    kinds: Words
    place: str = ""
    elsewhere: bool = False


@dataclass(frozen=True)
class Lexicon:
    """Everything that is recognised in one language.

    Attributes:
        kinds: names of findings; each means a `Sense`.
        further: words that count for one CT-RATE label only; each means a `Further`.
        regions: names of places; each means region ids.
        attributes: names of attribute values; each means (attribute, value) pairs.
        cues: compiled cue patterns by name.
        elsewhere_kinds: kinds whose plain names belong to other organs too.
        topics: what headings add, by topic.
        headed: how each topic, and each section that is no topic, is headed.
    """

    kinds: Words
    further: Words
    regions: Words
    attributes: Words
    cues: dict[str, re.Pattern[str]]
    elsewhere_kinds: frozenset[str]
    topics: dict[str, Topic]
    headed: dict[str, re.Pattern[str]]


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


def required_literals(regex: str) -> tuple[str, ...]:
    """Strings of which every match of `regex` contains at least one, () when that cannot be told.

    The longest run of letters outside every group, class and optional part; failing that, the same for each alternative
    of the first group.
    """
    plain, groups = _outline(re.sub(r"\[[^\]]*\]", ".", re.sub(r"\\.", ".", regex)))
    runs = _LETTERS.findall(plain)
    if runs:
        return (max(runs, key=len),)
    for body in groups:
        options = [required_literals(option) for option in _alternatives(body)]
        if all(options):
            return tuple(dict.fromkeys(literal for option in options for literal in option))
    return ()


def _outline(regex: str) -> tuple[str, list[str]]:
    """(letters that every match has, bodies of the groups that every match passes), the rest left out."""
    if len(_alternatives(regex)) > 1:
        return "", [regex]
    plain: list[str] = []
    groups: list[str] = []
    i = 0
    while i < len(regex):
        char = regex[i]
        if char == "(":
            end = _closing(regex, i)
            body, optional = regex[i + 1 : end], regex[end + 1 :].startswith(("?", "*", "{0"))
            if not optional and not body.startswith(("?!", "?<!", "?<=")):
                groups.append(re.sub(r"^\?(?:[:=]|P<\w+>)", "", body))
            plain.append(" ")
            i = end + 1
        elif char in "?*{":
            if plain:
                plain[-1] = " "
            i = regex.index("}", i) + 1 if char == "{" else i + 1
        else:
            plain.append(char if char.isalpha() else " ")
            i += 1
    return "".join(plain), groups


def _closing(regex: str, start: int) -> int:
    """Index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(regex)):
        if regex[i] in "()":
            depth += 1 if regex[i] == "(" else -1
            if depth == 0:
                return i
    raise ValueError(f"unbalanced brackets in {regex!r}")


def _alternatives(regex: str) -> list[str]:
    """The parts between top-level bars."""
    parts, depth, last = [], 0, 0
    for i, char in enumerate(regex):
        if char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            parts.append(regex[last:i])
            last = i + 1
    return [*parts, regex[last:]]


def _pattern(means: Any, regex: str) -> Pattern:
    return Pattern(means, re.compile(regex), required_literals(regex))


@cache
def label_table() -> Any:
    """How CT-RATE's labels are given (``reading/ct_rate.yaml``)."""
    table = files("ctscribe.report") / "reading" / "ct_rate.yaml"
    return yaml.safe_load(table.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Further:
    """Words that count for one CT-RATE label only: in a sentence that matches `needs` and does not match `unless`."""

    label: str
    sense: Sense
    needs: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None

    def holds(self, sentence: str) -> bool:
        """Whether the words count in this sentence."""
        if self.needs is not None and not self.needs.search(sentence):
            return False
        return self.unless is None or not self.unless.search(sentence)


def _label_patterns(language: Language) -> Iterator[Pattern]:
    for label, habit in label_table().items():
        for entry in habit.get("also", {}).get(language, []):
            rule = {"words": entry} if isinstance(entry, str) else entry
            needs, unless = (re.compile(rule[key]) if key in rule else None for key in ("with", "unless"))
            yield _pattern(Further(label, Sense(habit["kinds"][0]), needs, unless), rule["words"])


def _topics(table: Any) -> Iterator[tuple[str, Topic]]:
    for name, entry in table.items():
        patterns = [
            _pattern(Sense(kind, status), regex)
            for part, status in (("kinds", None), ("absent", "absent"))
            for kind, regexes in entry.get(part, {}).items()
            for regex in regexes
        ]
        yield name, Topic(Words(patterns), entry.get("place", ""), entry.get("elsewhere", False))


def _named(means: Any, names: Iterable[str], language: Language) -> Iterator[Name]:
    for name in dict.fromkeys(n.lower().replace("-", " ") for n in names):
        yield Name(means, name, whole_words=language == "en")


def _kind_names(kind: str, language: Language) -> list[str]:
    entry = phrasing(language)["kinds"][kind]
    written = [n.lstrip("~+") for key in ("nouns", "alone", "negated") for n in entry.get(key, [])]
    names = [*ontology.findings()[kind].names[language], *written]
    if language == "en":
        names += [plural(name.lower()) for name in names if not name.endswith("s")]
        names += ["masses", "lung masses", "pulmonary masses"] if kind == "mass" else []
    return names


def _kind_patterns(language: Language) -> Iterator[Name | Pattern]:
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


def _attribute_patterns(language: Language) -> Iterator[Name]:
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


def _region_patterns(language: Language) -> Iterator[Name]:
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
        "qualified": re.compile(table["negation"]["qualified"]),
        "mute_before": _any(table["mute"]["before"]),
        "mute_after": _any(table["mute"]["after"]),
        "masked": _any(table["masked"]),
        "maybe_before": _any(table["uncertainty"]["before"]),
        "maybe_after": _any(table["uncertainty"]["after"]),
    }
    for name, value in table.items():
        if isinstance(value, str):
            cues[name] = re.compile(value, re.VERBOSE if name == "headings" else 0)
    for part in ("organs", "lungs", "overrides", "chest", "thoracic"):
        cues[part] = re.compile(table["elsewhere"][part])
    headed = table["sections"] | {name: entry["heading"] for name, entry in table["topics"].items()}
    return Lexicon(
        kinds=Words(_kind_patterns(language)),
        further=Words(_label_patterns(language)),
        regions=Words(_region_patterns(language)),
        attributes=Words(_attribute_patterns(language)),
        cues=cues,
        elsewhere_kinds=frozenset(table["elsewhere"]["kinds"]),
        topics=dict(_topics(table["topics"])),
        headed={name: re.compile(regex) for name, regex in headed.items()},
    )
