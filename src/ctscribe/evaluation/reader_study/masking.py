"""Codes that say nothing, and texts that say too much.

A code has consonants only: no spreadsheet takes it for a number or a date, and it spells no word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ctscribe.errors import InputRefused
from ctscribe.evaluation.reading import listed

_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH = 6

# A line this common in one system and this rare in the others gives the system away.
_COMMON, _RARE = 0.9, 0.1


def codes(count: int, rng: np.random.Generator) -> list[str]:
    """Different random codes of six consonants."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(_LETTERS[i] for i in rng.integers(0, len(_LETTERS), _LENGTH))] = None
    return list(found)


def refuse_names(texts: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse texts that name the system they come from.

    Args:
        texts: system name -> case -> text.

    Raises:
        InputRefused: a system's name, three letters or longer, stands as a word in a text.
    """
    for name in texts:
        if len(name) < 3:
            continue
        word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
        told = [case for by_case in texts.values() for case, text in by_case.items() if word.search(text)]
        if told:
            raise InputRefused(
                f"a text names the system {name!r}",
                code="unblinded_text",
                expected="texts that do not tell who wrote them",
                got=f"case {listed(told)}",
                hint="remove the phrase from the predictions, or give the system another name: NAME=FILE",
            )


def telltale_lines(texts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Notes on lines that nearly all texts of one system have and nearly none of the others: readers learn them."""
    if len(texts) < 2:
        return []
    shares = {name: _line_shares(list(by_case.values())) for name, by_case in texts.items()}
    notes = []
    for name, share in shares.items():
        others = [other for key, other in shares.items() if key != name]
        for line, often in share.items():
            if often >= _COMMON and all(other.get(line, 0.0) <= _RARE for other in others):
                notes.append(
                    f"{often:.0%} of the texts of {name} hold the line {line[:60]!r}, and hardly any other text does: "
                    "readers may recognise the system by it."
                )
    return notes


def _line_shares(texts: Sequence[str]) -> dict[str, float]:
    seen = Counter(line for text in texts for line in {part.strip() for part in text.splitlines()} if line)
    return {line: count / len(texts) for line, count in seen.items()}
