"""Compiled patterns and fixed names, indexed so that few of them are tried on a sentence.

Each pattern knows literals of which any match must hold one; a pattern without one in the sentence is not run. That,
and the cache on sentences, is what makes reading fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[a-z]{3,}|[\u4e00-\u9fff]+")


# Longer runs of letters are not remembered, nor are more words than these that call nothing.
_LONGEST = 30
_REMEMBERED = 100_000


@lru_cache(maxsize=1024)
def words_of(sentence: str) -> frozenset[str]:
    """Runs of letters and digits."""
    return frozenset(_WORD.findall(sentence))


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
            yield Hit(*match.span(), gap)


class Cue:
    """One of several expressions: each is searched for where one of its literals is, which is seldom."""

    def __init__(self, regexes: Iterable[str]) -> None:
        each = tuple(regexes)
        self._whole = re.compile("|".join(f"(?:{regex})" for regex in each))
        self._parts = tuple((required_literals(regex), re.compile(regex).search) for regex in each)
        self._always = not all(literals for literals, _ in self._parts)
        self._literals = tuple(dict.fromkeys(literal for literals, _ in self._parts for literal in literals))

    def search(self, text: str) -> bool:
        """Whether any is there."""
        for literals, search in self._parts:  # written out: a generator for each would take longer than the searches
            for literal in literals:
                if literal in text:
                    break
            else:
                if literals:
                    continue
            if search(text):
                return True
        return False

    def masked(self, text: str) -> str:
        """The text with every match blanked out, positions kept."""
        if self._always or any(literal in text for literal in self._literals):
            return masked(self._whole, text)
        return text


def masked(pattern: re.Pattern[str], text: str) -> str:
    """The text with every match blanked out, positions kept."""
    return pattern.sub(lambda match: " " * len(match.group()), text)


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
        self._called: dict[str, tuple[int, ...]] = {}
        self._silent: set[str] = set()

    def _calls(self, word: str) -> tuple[int, ...]:
        """What is tried where this word is: names that begin with it, patterns with a literal in it."""
        called = set(self._names.get(word, ()))
        for literal, positions in self._literals:
            if literal in word:
                called.update(positions)
        if not called:
            if len(self._silent) >= _REMEMBERED:
                self._silent.clear()
            self._silent.add(word)
        elif len(word) <= _LONGEST:  # Chinese has no spaces: its sentences are no vocabulary
            self._called[word] = tuple(called)
        return tuple(called)

    def hits(self, sentence: str) -> Iterator[tuple[Any, Hit]]:
        """(meaning, hit) of everything found, in the order of the words."""
        flat = sentence.replace("-", " ")
        tried = set(self._always)
        for run in words_of(flat) - self._silent:
            tried.update(self._called.get(run) or self._calls(run))
        if self._by_letter:
            for key in self._by_letter.keys() & flat:
                tried.update(self._by_letter[key])
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


def pattern(means: Any, regex: str) -> Pattern:
    """A pattern with the literals of its expression."""
    return Pattern(means, re.compile(regex), required_literals(regex))


def required_literals(regex: str) -> tuple[str, ...]:
    """Strings of which every match of `regex` contains at least one, () when that cannot be told.

    The longest run of letters outside every group, class and optional part, or the same for each alternative of a group
    where the shortest of those is longer: the longer a literal, the fewer sentences hold it.
    """
    plain, groups = _outline(re.sub(r"\[[^\]]*\]", ".", re.sub(r"\\.", ".", regex)))
    runs = _LETTERS.findall(plain)
    found: list[tuple[str, ...]] = [(max(runs, key=len),)] if runs else []
    for body in groups:
        options = [required_literals(option) for option in _alternatives(body)]
        if all(options):
            found.append(tuple(dict.fromkeys(literal for option in options for literal in option)))
    return max(found, key=lambda literals: min(map(len, literals)), default=())


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
