"""The one protocol every metric follows, and what is done with it.

A metric is a function of sums. For each pair a scorer tallies a fixed row of counts; the rows of any set of
reports are added; `values` turns a sum into the metric's measures:

    pairs ──tally──► (pairs, counts) ──sum──► (counts) ──values──► {"macro_f1": 0.41, ...}

So one pair, ten thousand pairs, a bootstrap resample and a shard scored by another process all go through
the same two functions, and no metric needs its own bootstrap. A new metric is one file with such a class and
one line in `registry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ctscribe.evaluation.record import Pair, Record

# One count, or many: numpy turns the sum over all axes into a scalar.
Counts = np.ndarray | np.number


@dataclass(frozen=True)
class Measure:
    """One number a scorer reports.

    Attributes:
        name: short name, unique within its scorer.
        says: what the number means, one sentence.
        low: value of the worst possible report, None when unbounded.
        high: value of the best possible report, None when unbounded; below `low` when smaller is better.
    """

    name: str
    says: str
    low: float | None = 0.0
    high: float | None = 1.0

    @property
    def smaller_is_better(self) -> bool:
        """True for rates of error."""
        return self.high is not None and self.low is not None and self.high < self.low


@runtime_checkable
class Scorer(Protocol):
    """One metric family. Subclass it for the defaults, or provide the same names."""

    name: str
    measures: tuple[Measure, ...]

    def fitted(self, references: Sequence[Record]) -> Scorer:
        """The scorer with whatever it must know of all references (CIDEr's document frequencies)."""
        return self

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Counts of each pair, float64 of shape (pairs, counts); rows may be added."""
        ...

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Measures from summed counts of shape (..., counts), each of shape (...); NaN where undefined."""
        ...

    def explain(self, pair: Pair) -> dict[str, Any]:
        """Why this pair scores as it does, in JSON values; {} when the values say it all."""
        return {}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """Rows behind the measures (one per label, one per stage); [] when there are none."""
        return []


@dataclass(frozen=True)
class PairScore:
    """One pair under one scorer: its values (None where undefined for a single pair) and the reasons."""

    id: str
    values: Mapping[str, float | None]
    explanation: Mapping[str, Any] = field(default_factory=dict)


def defined(value: Counts | float) -> float | None:
    """The number, or None for NaN: an undefined measure is absent, never zero."""
    return None if np.isnan(value) else float(value)


def score_pair(scorer: Scorer, pair: Pair) -> PairScore:
    """Score one report with an explanation."""
    return score_pairs(scorer, [pair])[0]


def score_pairs(scorer: Scorer, pairs: Sequence[Pair], tally: np.ndarray | None = None) -> list[PairScore]:
    """Score each report on its own, with explanations.

    Args:
        tally: `scorer.tally(pairs)` when it is already at hand.
    """
    if not pairs:
        return []
    values = scorer.values(scorer.tally(pairs) if tally is None else tally)
    return [
        PairScore(
            id=pair.candidate.id,
            values={name: defined(column[row]) for name, column in values.items()},
            explanation=scorer.explain(pair),
        )
        for row, pair in enumerate(pairs)
    ]


def counts_row(names: Sequence[str], totals: np.ndarray) -> list[dict[str, Any]]:
    """A table of one row: the counts themselves."""
    return [dict(zip(names, (int(count) for count in totals), strict=True))]


def ratio(numerator: Counts | float, denominator: Counts | float) -> np.ndarray:
    """Elementwise quotient, NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
