"""Conditions of a guideline row: read from a table, answered with yes, no or not known.

```
"< 6"                     a number          ">= 6, < 8"  both          "6 to 8"  both ends count
"< 6 mm or < 100 mm3"     a size: the diameter decides; the volume only where no diameter is known
solid    [new, growing]   a word, or one of several       true    yes or no
```
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctscribe.errors import ConfigError
from ctscribe.impression.measure import Size
from ctscribe.ontology import Language

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARISON = re.compile(r"(<=|>=|<|>)\s*(\d+(?:\.\d+)?)")
_RANGE = re.compile(r"(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)")
_NUMBERS = re.compile(r"[<>]|\d+(?:\.\d+)? to \d")
_UNIT = re.compile(r"\s*(mm3|mm)?$")


@dataclass(frozen=True)
class Bounds:
    """One or two comparisons that must all hold, with the unit they are in."""

    comparisons: tuple[tuple[str, float], ...]
    unit: str = ""

    def __str__(self) -> str:
        """As in a table."""
        return ", ".join(f"{sign} {limit:g}" for sign, limit in self.comparisons) + (
            f" {self.unit}" if self.unit else ""
        )

    def holds(self, value: float) -> bool:
        """Whether a number lies within the bounds."""
        return all(_OPERATORS[sign](value, limit) for sign, limit in self.comparisons)


@dataclass(frozen=True)
class Condition:
    """What one fact must be.

    Attributes:
        fact: name of the fact.
        words: the values that satisfy it, for a fact in words or a yes or no.
        bounds: the bounds that satisfy it, for a number; one per unit for a size.
    """

    fact: str
    words: tuple[Any, ...] = ()
    bounds: tuple[Bounds, ...] = ()

    def __str__(self) -> str:
        """As in a table: ``size: < 6 mm or < 100 mm3``."""
        words = ["yes" if word is True else "no" if word is False else str(word) for word in self.words]
        return f"{self.fact}: {' or '.join(words or map(str, self.bounds))}"

    def holds(self, value: Any) -> bool | None:
        """True, False, or None where the value is not known."""
        if isinstance(value, Size):
            return self._of_size(value)
        if value is None:
            return None
        if self.bounds:
            return self.bounds[0].holds(value)
        if isinstance(value, frozenset):
            return any(word in value for word in self.words)
        return value in self.words

    def _of_size(self, size: Size) -> bool | None:
        for unit, number in (("mm", size.mm), ("mm3", size.mm3)):
            for bounds in self.bounds:
                if bounds.unit == unit and number is not None:
                    return bounds.holds(number)
        return None


def read_condition(fact: str, written: Any, where: str) -> Condition:
    """A condition as written in a table.

    Raises:
        ConfigError: none of the forms above; names the place.
    """
    if isinstance(written, str) and _NUMBERS.match(written):
        return Condition(fact, bounds=tuple(_bounds(part, where) for part in written.split(" or ")))
    values = written if isinstance(written, list) else [written]
    if not values or not all(isinstance(value, (str, bool)) for value in values):
        raise ConfigError(where, expected="a word, a list of words, true, false or a comparison", got=repr(written))
    return Condition(fact, words=tuple(values))


def _bounds(text: str, where: str) -> Bounds:
    unit = _UNIT.search(text)
    body = text[: unit.start()].strip() if unit else text.strip()
    if match := _RANGE.fullmatch(body):
        pairs = ((">=", float(match[1])), ("<=", float(match[2])))
    else:
        found = [_COMPARISON.fullmatch(part.strip()) for part in body.split(",")]
        if not all(found):
            raise ConfigError(where, expected="a comparison such as '< 6', '>= 6, < 8' or '6 to 8'", got=repr(text))
        pairs = tuple((match[1], float(match[2])) for match in found if match)  # type: ignore[assignment]
    return Bounds(pairs, (unit[1] if unit else None) or "")


def all_of(conditions: Sequence[Condition], facts: Mapping[str, Any]) -> bool | None:
    """True when all hold, False when any does not, None when that is not known."""
    answers = [condition.holds(facts.get(condition.fact)) for condition in conditions]
    if any(answer is False for answer in answers):
        return False
    return None if any(answer is None for answer in answers) else True


def bounds_in_words(bounds: Bounds, language: Language, unit: str = "") -> str:
    """ "below 6 mm", "6 to 8 mm" or "8 mm or more"; in Chinese by signs.

    Args:
        unit: of bounds that do not name their own.
    """
    unit = bounds.unit or unit
    if language == "zh":
        signs = {"<=": "≤", ">=": "≥"}
        return "且".join(f"{signs.get(sign, sign)}{with_unit(limit, unit)}" for sign, limit in bounds.comparisons)
    if len(bounds.comparisons) == 1:
        ((sign, limit),) = bounds.comparisons
        words = {"<": "below {}", ">": "above {}", "<=": "{} or less", ">=": "{} or more"}
        return words[sign].format(with_unit(limit, unit))
    (_, low), (sign, high) = bounds.comparisons
    return f"{low:g} to {'below ' if sign == '<' else ''}{with_unit(high, unit)}"


def with_unit(number: float, unit: str) -> str:
    """ "6 mm", "5%", "35岁"."""
    tight = unit == "%" or not unit.isascii()
    return f"{number:g}{'' if tight or not unit else ' '}{unit}"
