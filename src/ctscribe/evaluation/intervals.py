"""How sure is a number? Percentile bootstrap intervals, resampling patients rather than reports.

Two scans of one patient are not two independent observations, so whole patients are drawn. Because every
metric is a function of summed counts, a resample is a weighted sum of rows: no report is scored twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.evaluation.scorer import Scorer, defined

# Resamples drawn at a time, so that (resamples, patients) stays small on large sets.
_BLOCK_CELLS = 4_000_000

# An interval needs the measure to be defined in nearly every resample, else it describes the lucky ones only.
LEAST_DEFINED = 0.95


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


def codes_of(clusters: Sequence[Hashable]) -> np.ndarray:
    """Clusters numbered in order of appearance, int64 of their shape."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)


def sums_by_cluster(tally: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """Rows of (reports, counts) added per cluster: float64 (clusters, counts), in order of appearance."""
    codes = codes_of(clusters)
    sums = np.zeros((int(codes.max(initial=-1)) + 1, tally.shape[1]))
    np.add.at(sums, codes, tally)
    return sums


def weight_blocks(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n clusters is drawn into each bootstrap sample, in blocks: float64 (samples, n).

    A block holds a few million numbers whatever n is, so memory does not grow with resamples times clusters.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // max(n, 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def resampled_totals(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Totals of bootstrap samples of clusters, float64 of shape (resamples, counts)."""
    totals = [weights @ sums for weights in weight_blocks(len(sums), resamples, seed)]
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
    tallies = {scorer.name: tally}
    return all_estimates([scorer], tallies, clusters, resamples=resamples, level=level, seed=seed)[scorer.name]


def all_estimates(
    scorers: Sequence[Scorer],
    tallies: Mapping[str, np.ndarray],
    clusters: Sequence[Hashable],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """`estimates` of several scorers; the samples are drawn once and shared.

    Returns:
        scorer name -> measure name -> Estimate.
    """
    sums = {scorer.name: sums_by_cluster(tallies[scorer.name], clusters) for scorer in scorers}
    n = len(set(clusters))
    totals: dict[str, list[np.ndarray]] = {name: [] for name in sums}
    for weights in weight_blocks(n, resamples if n > 1 else 0, seed):
        for name, own in sums.items():
            totals[name].append(weights @ own)
    found: dict[str, dict[str, Estimate]] = {}
    for scorer in scorers:
        point = scorer.values(tallies[scorer.name].sum(axis=0))
        parts = totals[scorer.name]
        drawn = scorer.values(np.concatenate(parts)) if parts else {}
        found[scorer.name] = {name: estimate(float(v), drawn.get(name), level) for name, v in point.items()}
    return found


def estimate(value: float, drawn: np.ndarray | None, level: float) -> Estimate:
    """A value with the percentile interval of its bootstrap samples; without one where there are none."""
    if np.isnan(value) or drawn is None:
        return Estimate(defined(value))
    return Estimate(value, *percentile_interval(drawn, level))


def percentile_interval(drawn: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """The interval of bootstrap samples; (None, None) where too few of them are defined."""
    known = drawn[~np.isnan(drawn)]
    if not known.size or known.size < LEAST_DEFINED * drawn.size:
        return None, None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
