"""Does the system write different reports for different patients?

Template collapse is fluent text that is the same for everybody. n-gram metrics do not see it. Two numbers do:

- distinct share: different texts / texts, after case, punctuation and white space are levelled by the
  tokeniser.
- template-collapse index: how much more alike the texts are than the references are among themselves,

      collapse = (D_reference - D_system) / D_reference
      D = mean over pairs of reports of 1 - Jaccard(their bigrams)

  0: as diverse as the references (or more), 1: one and the same text for all. Undefined when the references
  are themselves all alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ctscribe.evaluation.record import Record

# Pairs of reports the mean distance is taken over: standard error below 0.003 at a spread of 0.2.
SAMPLED_PAIRS = 5000


@dataclass(frozen=True)
class Diversity:
    """How different a set of reports is.

    Attributes:
        distinct: share of different texts, 0..1.
        most_common: share of reports that have the most frequent text, 0..1.
        distance: mean bigram Jaccard distance between two reports, None with fewer than two.
        collapse: template-collapse index 0..1 against the references, None when undefined.
    """

    distinct: float
    most_common: float
    distance: float | None
    collapse: float | None


def distinct_share(records: Sequence[Record]) -> float:
    """Different texts divided by texts."""
    return len({record.tokens for record in records}) / len(records)


def _bigrams(record: Record) -> frozenset[tuple[str, str]]:
    tokens = record.tokens
    return frozenset(pairwise(tokens))


def mean_distance(records: Sequence[Record], seed: int = 0) -> float | None:
    """Mean bigram Jaccard distance over all pairs of reports, or a seeded sample of them."""
    n = len(records)
    if n < 2:
        return None
    if n * (n - 1) // 2 <= SAMPLED_PAIRS:
        first, second = np.triu_indices(n, k=1)
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(0, n, SAMPLED_PAIRS)
        second = (first + rng.integers(1, n, SAMPLED_PAIRS)) % n
    sets = {i: _bigrams(records[i]) for i in {*first.tolist(), *second.tolist()}}
    distances = []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        union = len(sets[i] | sets[j])
        distances.append(1.0 - len(sets[i] & sets[j]) / union if union else 0.0)
    return float(np.mean(distances))


def collapse_of(ours: float | None, theirs: float | None) -> float | None:
    """Template-collapse index of two mean distances, the system's and the references'; None when undefined."""
    return None if ours is None or not theirs else float(np.clip(1.0 - ours / theirs, 0.0, 1.0))


def collapse_index(system: Sequence[Record], references: Sequence[Record], seed: int = 0) -> float | None:
    """Share of the references' diversity that the system has lost; None when the references have none."""
    return collapse_of(mean_distance(system, seed), mean_distance(references, seed))


def diversity(system: Sequence[Record], reference_distance: float | None, seed: int = 0) -> Diversity:
    """All diversity numbers of a set of reports.

    Args:
        reference_distance: `mean_distance` of the references, None when they have none.
    """
    distance = mean_distance(system, seed)
    counts = Counter(record.tokens for record in system)
    return Diversity(
        distinct=len(counts) / len(system),
        most_common=counts.most_common(1)[0][1] / len(system),
        distance=distance,
        collapse=collapse_of(distance, reference_distance),
    )
