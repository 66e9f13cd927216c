"""The shuffled control: does the report depend on its scan at all?

Each candidate is paired with the reference of another study (another patient's, when patients are known). A
system that reads the scan loses almost everything; one that writes a template keeps its score. Three numbers
per measure:

    observed     candidates with their own references
    shuffled     mean over permutations of the same candidates with other studies' references
    p            (1 + permutations that reach the observed score) / (1 + permutations)

For label matrices the level of chance needs no permutations: a label called positive in a share q of the
reports and true in a share p of the studies is right by luck in p q of them (`chance_confusion`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer

# Shuffled pairs scored per metric: keeps the control cheaper than the score itself on large sets.
PAIR_BUDGET = 5_000


@dataclass(frozen=True)
class Control:
    """One measure under shuffling; numbers are None where undefined.

    Attributes:
        shuffled: mean over permutations.
        spread: standard deviation over permutations.
        p: how often luck reaches the observed score.
        permutations: how many were drawn.
    """

    shuffled: float | None
    spread: float | None
    p: float | None
    permutations: int


def other_study(clusters: Sequence[Hashable], rng: np.random.Generator) -> np.ndarray | None:
    """A random permutation that pairs nobody with their own cluster, int64 of shape (studies,).

    Args:
        clusters: whom each study belongs to, hashable.

    Returns:
        None when there is no such permutation: one cluster holds more than half of the studies.
    """
    n = len(clusters)
    number: dict[Hashable, int] = {}
    codes = np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)
    largest = int(np.bincount(codes).max()) if n else 0
    if n < 2 or 2 * largest > n:
        return None
    # Random order with clusters kept together; a rotation by at least the largest cluster never meets its
    # own.
    order = np.lexsort((rng.permutation(n), rng.permutation(len(number))[codes]))
    partner = np.empty(n, dtype=np.int64)
    partner[order] = np.roll(order, -int(rng.integers(largest, n - largest + 1)))
    return partner


def repaired(pairs: Sequence[Pair], partner: np.ndarray) -> list[Pair]:
    """Each candidate with the reference of its partner study."""
    return [Pair(pair.candidate, pairs[other].reference) for pair, other in zip(pairs, partner.tolist(), strict=True)]


def shuffled_control(
    scorer: Scorer, pairs: Sequence[Pair], *, permutations: int = 20, seed: int = 0
) -> dict[str, Control]:
    """Score candidates against other studies' references.

    Args:
        scorer: fitted on the references.
        permutations: how many to draw; fewer are drawn on large sets (`PAIR_BUDGET` pairs, at least one
        permutation).

    Returns:
        measure name -> Control; {} when the studies cannot be re-paired.
    """
    rng = np.random.default_rng(seed)
    draws = max(1, min(permutations, PAIR_BUDGET // max(1, len(pairs))))
    clusters = [pair.reference.cluster for pair in pairs]
    partners = [other_study(clusters, rng) for _ in range(draws)]
    observed = scorer.values(scorer.tally(pairs).sum(axis=0))
    totals = [scorer.tally(repaired(pairs, partner)).sum(axis=0) for partner in partners if partner is not None]
    if not totals:
        return {}
    values = scorer.values(np.stack(totals))
    return {m.name: _control(m, float(observed[m.name]), values[m.name]) for m in scorer.measures}


def _control(measure: Measure, observed: float, shuffled: np.ndarray) -> Control:
    known = shuffled[~np.isnan(shuffled)]
    if not known.size or np.isnan(observed):
        return Control(None, None, None, int(shuffled.size))
    reached = known <= observed if measure.smaller_is_better else known >= observed
    p = (1 + int(reached.sum())) / (1 + known.size)
    return Control(float(known.mean()), float(known.std()), p, int(shuffled.size))


def chance_confusion(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts per label expected of a system that is right only by luck.

    Args:
        truth: boolean (exams, labels).
        predicted: boolean (exams, labels).

    Returns:
        expected true positives, false positives and false negatives per label, when each label keeps how
        often it is true and how often it is called but the two are independent.
    """
    n = len(truth)
    true_count, called = truth.sum(axis=0, dtype=np.float64), predicted.sum(axis=0, dtype=np.float64)
    hits = true_count * called / n
    return hits, called - hits, true_count - hits
