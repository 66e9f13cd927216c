"""Is one system better than another, or was it the luck of these patients? Paired permutation test and interval.

If two systems are equally good, it does not matter which of a patient's reports came from which. So the reports of
whole patients change sides at random (all scans of a patient together), the difference is computed anew, and

    p = (1 + swaps whose difference is at least as large as the observed one) / (1 + swaps)        two-sided

With few patients all 2^n swaps are tried instead, and p is exact: the share that reach it. The interval of the
difference is a bootstrap over the same patients, both systems drawn together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.evaluation.intervals import LEAST_DEFINED, percentile_interval, sums_by_cluster, weight_blocks
from ctscribe.evaluation.scorer import Scorer, defined

# Differences that agree to this share count as equal: swapping two identical reports must not look like a smaller one.
_EQUAL = 1e-9

# Swaps tallied at a time times clusters.
_BLOCK_CELLS = 4_000_000


@dataclass(frozen=True)
class Difference:
    """First minus second system on one measure; each None where undefined.

    Attributes:
        value: the observed difference.
        low: lower end of its bootstrap interval.
        high: upper end.
        p: two-sided, of the permutation test.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def differences(
    scorer: Scorer,
    first: np.ndarray,
    second: np.ndarray,
    clusters: Sequence[Hashable],
    *,
    permutations: int = 2000,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two systems on every measure of a scorer.

    Args:
        first: `scorer.tally` of the first system's pairs, float64 (reports, counts).
        second: the same of the second system, on the same references in the same order.
        clusters: the patient of each report.

    Returns:
        measure name -> Difference. No interval and no p with fewer than two patients, or where the measure is
        undefined in more than a twentieth of the samples.
    """
    ours, theirs = sums_by_cluster(first, clusters), sums_by_cluster(second, clusters)
    observed = _difference(scorer, ours.sum(axis=0), theirs.sum(axis=0))
    if len(ours) < 2:
        return {name: Difference(defined(float(value))) for name, value in observed.items()}
    swapped = _swapped(scorer, ours, theirs, permutations, seed)
    drawn = _drawn(scorer, ours, theirs, resamples, seed)
    exact = 2 ** len(ours) <= permutations
    return {
        name: _result(float(value), swapped[name], drawn.get(name), level, exact) for name, value in observed.items()
    }


def _difference(scorer: Scorer, ours: np.ndarray, theirs: np.ndarray) -> dict[str, np.ndarray]:
    a, b = scorer.values(ours), scorer.values(theirs)
    return {name: np.asarray(a[name] - b[name]) for name in a}


def _swapped(
    scorer: Scorer, ours: np.ndarray, theirs: np.ndarray, permutations: int, seed: int
) -> dict[str, np.ndarray]:
    """Differences after swaps, measure -> (swaps)."""
    total, gap = ours.sum(axis=0), ours - theirs
    parts: list[dict[str, np.ndarray]] = []
    for swaps in _swaps(len(ours), permutations, seed):
        moved = swaps @ gap
        parts.append(_difference(scorer, total - moved, theirs.sum(axis=0) + moved))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _swaps(clusters: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of swaps, float64 (swaps, clusters) of zeros and ones; all of them where they are few."""
    if 2**clusters <= permutations:
        yield ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1).astype(np.float64)
        return
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // clusters)
    for start in range(0, permutations, block):
        yield rng.integers(0, 2, size=(min(block, permutations - start), clusters)).astype(np.float64)


def _drawn(scorer: Scorer, ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Differences of bootstrap samples, measure -> (resamples); {} when none are wanted."""
    parts = [_difference(scorer, w @ ours, w @ theirs) for w in weight_blocks(len(ours), resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _result(value: float, swapped: np.ndarray, drawn: np.ndarray | None, level: float, exact: bool) -> Difference:
    known = swapped[~np.isnan(swapped)]
    if np.isnan(value) or known.size < LEAST_DEFINED * swapped.size:
        return Difference(defined(value))
    reached = int((np.abs(known) >= abs(value) * (1 - _EQUAL) - 1e-15).sum())
    p = reached / known.size if exact else (1 + reached) / (1 + known.size)
    low, high = (None, None) if drawn is None else percentile_interval(drawn, level)
    return Difference(value, low, high, min(p, 1.0))
