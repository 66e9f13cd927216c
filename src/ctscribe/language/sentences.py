"""Every text in canonical wording as one automaton over bytes: what may come next, given what was written so far.

```
 report    = sentence (between sentence)*       no kind of finding twice: nothing is denied after it was stated
 sentence  = what `report.render` writes for one finding, or for absences that share a sentence
 a size    = one byte in the list below, and any number of mm that the kind may have in the text
```

The sentences of a language are listed once, sorted; a range of that list is a node of its trie, so none is built.
Bytes, because the tokens of a decoder may end inside a Chinese character.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import NamedTuple, cast

import numpy as np

from ctscribe import ontology
from ctscribe.facts import LARGEST_MM, collapse, places_of
from ctscribe.ontology import Language
from ctscribe.report import Finding, Status, render_findings
from ctscribe.report.english import article
from ctscribe.report.sampler import PERTINENT_NEGATIVES

NUMBER = 0
"""The byte that stands for a size in a sentence."""
BETWEEN = {"en": b" ", "zh": b""}
MOST_DENIED = 4
"""Absences in one sentence, at most, as `report.render` groups them."""
SPOKEN = (7, 8)
"""A size with "a" before it, and one with "an"."""


class SortedBytes:
    """Byte strings in order; those that share their first ``depth`` bytes are a range of them."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = list(texts)

    def narrow(self, low: int, high: int, depth: int, byte: int) -> tuple[int, int]:
        """The part of a range whose next byte is ``byte``; empty when there is none."""
        first = bisect_left(self.texts, byte, low, high, key=lambda text: _at(text, depth))
        return first, bisect_left(self.texts, byte + 1, first, high, key=lambda text: _at(text, depth))

    def following(self, low: int, high: int, depth: int) -> Iterator[tuple[int, int, int]]:
        """Every next byte of a range, with the part of it that has this byte."""
        while low < high:
            byte = _at(self.texts[low], depth)
            end = bisect_left(self.texts, byte + 1, low, high, key=lambda text: _at(text, depth))
            if byte >= 0:
                yield byte, low, end
            low = end


def _at(text: bytes, depth: int) -> int:
    """A byte of a text, -1 after its end."""
    return text[depth] if depth < len(text) else -1


class Place(NamedTuple):
    """How far a text has come.

    Attributes:
        said: bit ``k`` is set when kind ``k`` of the ontology was spoken of in a sentence before.
        low, high: the sentences that the one being written may still become.
        depth: its bytes so far, a size counted as one; -1 when a sentence has just ended.
        digits: the size in it, as far as it is written.
        inside: more digits may follow.
    """

    said: int
    low: int
    high: int
    depth: int
    digits: str = ""
    inside: bool = False


class CanonicalText:
    """The automaton of one language."""

    def __init__(self, language: Language) -> None:
        listed = canonical_sentences(language)
        self.between = BETWEEN[language]
        self.sorted = SortedBytes(sorted(listed))
        rows = [listed[text] for text in self.sorted.texts]
        self._kinds = np.array([kinds for kinds, _ in rows], dtype=np.uint64)
        self._sizes = np.zeros((len(rows), LARGEST_MM + 1), dtype=bool)
        for row, (_, sizes) in enumerate(rows):
            self._sizes[row, list(sizes)] = True
        self._fitting: dict[tuple[str, bool], np.ndarray] = {}

    @property
    def start(self) -> Place:
        """Before the first byte."""
        return Place(0, 0, len(self.sorted.texts), 0)

    def may_end(self, place: Place) -> bool:
        """Whether the text is complete here: after a sentence."""
        return place.depth < 0

    def step(self, place: Place, byte: int) -> Place | None:
        """The place after one more byte, None when no text goes on like this."""
        if place.depth < 0:
            opened = place._replace(low=0, high=len(self.sorted.texts), depth=0)
            if not self.between:
                return self.step(opened, byte)
            return self._alive(opened) if byte == self.between[0] else None
        if chr(byte).isdigit() and (following := self._digit(place, chr(byte))) is not None:
            return following
        low, high = self.sorted.narrow(place.low, place.high, place.depth, byte)
        return self._moved(place, low, high)

    def following(self, place: Place) -> list[tuple[int, Place]]:
        """Every byte that may come next, and the place after it."""
        if place.depth < 0:
            opened = place._replace(low=0, high=len(self.sorted.texts), depth=0)
            if not self.between:
                return self.following(opened)
            alive = self._alive(opened)
            return [] if alive is None else [(self.between[0], alive)]
        found = []
        for byte, low, high in self.sorted.following(place.low, place.high, place.depth):
            if byte != NUMBER and (moved := self._moved(place, low, high)) is not None:
                found.append((byte, moved))
        for digit in "0123456789":
            if (after := self._digit(place, digit)) is not None:
                found.append((ord(digit), after))
        return found

    def _digit(self, place: Place, digit: str) -> Place | None:
        """The place after a digit of a size."""
        if place.inside:
            return self._alive(place._replace(digits=place.digits + digit))
        low, high = self.sorted.narrow(place.low, place.high, place.depth, NUMBER)
        if low == high or place.digits:
            return None
        return self._alive(Place(place.said, low, high, place.depth + 1, digit, True))

    def _moved(self, place: Place, low: int, high: int) -> Place | None:
        """One byte of wording further, into a part of the range; sentences that end here end."""
        after = self._alive(Place(place.said, low, high, place.depth + 1, place.digits, False))
        if after is not None and len(self.sorted.texts[after.low]) == after.depth:
            return Place(place.said | int(self._kinds[after.low]), 0, 0, -1)
        return after

    def _alive(self, place: Place) -> Place | None:
        """The place, if any sentence of its range speaks of new kinds only and may have its size."""
        rows = slice(place.low, place.high)
        new = np.equal(self._kinds[rows] & np.uint64(place.said), 0)
        if not place.digits:
            return place if np.any(new) else None
        return place if np.any(np.logical_and(new, self._having(place.digits, place.inside)[rows])) else None

    def _having(self, digits: str, inside: bool) -> np.ndarray:
        """Sentences that may have the size written so far."""
        key = (digits, inside)
        if key not in self._fitting:
            wanted = [n for n in range(LARGEST_MM + 1) if (str(n).startswith(digits) if inside else str(n) == digits)]
            self._fitting[key] = np.asarray(self._sizes[:, wanted].any(axis=1))
        return self._fitting[key]


@cache
def canonical_text(language: str) -> CanonicalText:
    """The automaton of a language, made on first use (about half a second)."""
    return CanonicalText(cast(Language, language))


def canonical_sentences(language: Language) -> dict[bytes, tuple[int, frozenset[int]]]:
    """Every sentence of canonical wording, sizes left open -> the kinds it speaks of (bits), the sizes it may have."""
    bits = {kind: 1 << index for index, kind in enumerate(ontology.findings())}
    listed: dict[bytes, tuple[int, frozenset[int]]] = {}
    for text, kinds, sizes in _spoken(language):
        mask = sum(bits[kind] for kind in kinds)
        before = listed.get(text, (mask, frozenset()))[1]
        listed[text] = (mask, before | sizes)
    return listed


def _spoken(language: Language) -> Iterator[tuple[bytes, tuple[str, ...], frozenset[int]]]:
    for kinds in _denied():
        (sentence,) = render_findings([Finding(kind, "absent") for kind in kinds], language)
        yield sentence.text.encode(), kinds, frozenset()
    statuses: tuple[Status, ...] = ("present", "uncertain")
    for kind in ontology.findings():
        for status, regions, attributes in product(statuses, _sites(kind), _attributes(kind)):
            finding = Finding(kind, status, regions, (), attributes)
            (sentence,) = render_findings([finding], language)
            yield sentence.text.encode(), (kind,), frozenset()
            for text, sizes in _measured(finding, language):
                yield text, (kind,), sizes


def _measured(finding: Finding, language: Language) -> Iterator[tuple[bytes, frozenset[int]]]:
    """The finding with a size, said with "a" and with "an" before the number."""
    limits = ontology.findings()[finding.kind].size_mm
    if limits is None:
        return
    for spoken in SPOKEN:
        (sentence,) = render_findings([replace(finding, size_mm=(float(spoken),))], language)
        before, number, after = sentence.text.partition(f"{spoken} mm")
        mark = before.encode() + bytes([NUMBER]) + number[1:].encode() + after.encode()
        yield mark, _said_alike(spoken, max(1, int(limits[0])), min(LARGEST_MM, int(limits[1])))


@cache
def _said_alike(spoken: int, least: int, most: int) -> frozenset[int]:
    """Sizes within limits that follow the article of ``spoken``."""
    wanted = article(str(spoken))
    return frozenset(n for n in range(least, most + 1) if article(str(n)) == wanted)


def _sites(kind: str) -> list[tuple[str, ...]]:
    """Every set of places that a finding of this kind may be said to lie in, as reports name them.

    A place and one inside it are never named together: a reader takes the finer one.
    """
    places = places_of(kind)
    named = (collapse(kind, some) for count in range(len(places) + 1) for some in combinations(places, count))
    return [some for some in named if not any(a != b and a in ontology.ancestors(b) for a in some for b in some)]


def _attributes(kind: str) -> list[tuple[tuple[str, str], ...]]:
    """Every combination of a kind's attributes, each said or not."""
    table = ontology.findings()[kind].attributes
    options = [[(name, value) for value in (None, *table[name])] for name in sorted(table)]
    return [tuple((name, value) for name, value in chosen if value is not None) for chosen in product(*options)]


def _denied() -> list[tuple[str, ...]]:
    """Absences that share a sentence: any of a section's pertinent ones, and every kind alone."""
    groups = {
        some
        for kinds in PERTINENT_NEGATIVES.values()
        for count in range(1, MOST_DENIED + 1)
        for some in combinations(kinds, count)
    }
    return sorted(groups | {(kind,) for kind in ontology.findings()})
