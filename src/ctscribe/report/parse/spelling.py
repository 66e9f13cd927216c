"""Typing errors in the words that matter ("atelactasis", "emphysama"), put right before a sentence is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from ctscribe.report.parse.patterns import words_of

_LONG_WORD = re.compile(r"[a-z]{6,}")
# A word of this many letters may hold two slips, a shorter one only one.
_TWO_SLIPS = 10


def corrected(sentence: str) -> str:
    """A sentence in lower case with the misspelt words of ``reading/spelling.yaml`` spelt right."""
    if all(map(_right, words_of(sentence))):
        return sentence
    return _LONG_WORD.sub(lambda match: _word(match.group()), sentence)


@lru_cache(maxsize=65536)
def _right(word: str) -> bool:
    """Whether nothing in a run of letters and digits is put right."""
    return all(_word(part) == part for part in _LONG_WORD.findall(word))


@lru_cache(maxsize=65536)
def _word(word: str) -> str:
    """The listed word this is a misspelling of, else the word itself."""
    known, by_remainder = _index()
    if word in known:
        return word
    slips = 2 if len(word) >= _TWO_SLIPS else 1
    near = {right for rest in _remainders(word, slips) for right in by_remainder.get(rest, ())}
    scored = ((_slips(word, right), right) for right in near if right[0] == word[0])
    count, best = min(scored, default=(slips + 1, word))
    return best if count <= slips else word


@cache
def _index() -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
    """(words that are right as they are, listed words by what is left of them after dropping letters)."""
    table = yaml.safe_load((files("ctscribe.report") / "reading" / "spelling.yaml").read_text(encoding="utf-8"))
    index: dict[str, list[str]] = {}
    for word in table["words"]:
        for rest in _remainders(word, 2 if len(word) >= _TWO_SLIPS - 1 else 1):
            index.setdefault(rest, []).append(word)
    return frozenset(table["words"]) | frozenset(table["never"]), {rest: tuple(w) for rest, w in index.items()}


def _remainders(word: str, drops: int) -> Iterator[str]:
    """The word with up to `drops` letters left out: two words one slip apart share one (Garbe's symmetric deletion)."""
    yield word
    if drops:
        for i in range(len(word)):
            yield from _remainders(word[:i] + word[i + 1 :], drops - 1)


def _slips(a: str, b: str) -> int:
    """Letters left out, put in, exchanged or swapped with a neighbour between two words."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = previous
    return row[-1]
