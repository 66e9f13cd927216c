"""How sure is a number? Percentile bootstrap intervals, resampling patients rather than reports.

Two scans of one patient are not two independent observations, so whole patients are drawn. Because every
metric is a function of summed counts, a resample is a weighted sum of rows: no report is scored twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.evaluation.scorer import Scorer, defined

# Resamples drawn at a time, so that (resamples, patients) stays small on large sets.
_BLOCK_CELLS = 4_000_000

# An interval needs the measure to be defined in nearly every resample, else it describes the lucky ones only.
_DEFINED_SHARE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; each None where undefined.

    Attributes:
        value: on the whole set.
        low: lower end of the interval.
        high: upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def sums_by_cluster(tally: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """Rows of (reports, counts) added per cluster: float64 (clusters, counts), in order of appearance."""
    number: dict[Hashable, int] = {}
    codes = np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)
    sums = np.zeros((len(number), tally.shape[1]))
    np.add.at(sums, codes, tally)
    return sums


def resampled_totals(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Totals of bootstrap samples of clusters, float64 of shape (resamples, counts)."""
    rng = np.random.default_rng(seed)
    n = len(sums)
    block = max(1, _BLOCK_CELLS // max(n, 1))
    totals = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        totals.append(weights @ sums)
    return np.concatenate(totals) if totals else np.zeros((0, sums.shape[1]))


def estimates(
    scorer: Scorer,
    tally: np.ndarray,
    clusters: Sequence[Hashable],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every measure of a scorer with its interval.

    Args:
        tally: `scorer.tally(pairs)`, float64 of shape (reports, counts).
        clusters: the patient of each report.
        resamples: bootstrap samples; 0 gives values without intervals.
        level: coverage of the interval.

    Returns:
        measure name -> Estimate. No interval with fewer than two clusters, or where the measure is undefined
        in more than a twentieth of the resamples.
    """
    point = scorer.values(tally.sum(axis=0))
    sums = sums_by_cluster(tally, clusters)
    if resamples < 1 or len(sums) < 2:
        return {name: Estimate(defined(float(value))) for name, value in point.items()}
    drawn = scorer.values(resampled_totals(sums, resamples, seed))
    return {name: _estimate(float(value), drawn[name], level) for name, value in point.items()}


def _estimate(value: float, drawn: np.ndarray, level: float) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or known.size < _DEFINED_SHARE * drawn.size:
        return Estimate(defined(value))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
