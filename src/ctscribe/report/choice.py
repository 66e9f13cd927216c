"""The one door through which phrasing becomes random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


@cache
def phrasing(language: str) -> Any:
    """The phrasing tables of one language (``phrasing/<language>.yaml``)."""
    return yaml.safe_load((files(__package__) / "phrasing" / f"{language}.yaml").read_text(encoding="utf-8"))


class Choice:
    """Picks among phrasings: always the first one without a seed, reproducibly at random with one."""

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else random.Random(seed)

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`; the first is the canonical one."""
        return options[0] if self._random is None else self._random.choice(options)

    def chance(self, probability: float) -> bool:
        """True with that probability, never without a seed."""
        return self._random is not None and self._random.random() < probability

    def upto(self, most: int) -> int:
        """A number from 1 to `most`; `most` itself without a seed."""
        return most if self._random is None else self._random.randint(1, most)
