"""Two systems on the same cases: is the difference more than chance?

permutation   the two labels of a patient are exchanged at random (sign flips of the patients' summed differences);
              all 2^n exchanges for up to 12 patients, else a random sample. Readers are taken as they are.
mrmc          analysis of variance of the differences with readers and cases both random, so that the conclusion is
              about other readers too: Dorfman, Berbaum and Metz 1992 with the degrees of freedom of Hillis 2007.
adjusted      Holm's correction over all p-values of a table together, see `correction`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.evaluation.correction import holm
from ctscribe.evaluation.intervals import Estimate, estimate, resampled_totals, sums_by_cluster

# Up to this many patients all exchanges are tried: 4096 of them.
_EXACT = 12

# Differences of the same size in binary arithmetic.
_TIE = 1e-9


def mean_estimate(
    values: np.ndarray, clusters: Sequence[Hashable], *, resamples: int, level: float, seed: int
) -> Estimate:
    """Mean of all entries that are not NaN, with a percentile bootstrap interval over clusters.

    Args:
        values: (rows,) or (rows, readers).
        clusters: of each row.
    """
    table = values.reshape(len(values), -1)
    known = ~np.isnan(table)
    tally = np.column_stack([np.where(known, table, 0.0).sum(axis=1), known.sum(axis=1)]).astype(float)
    sums = sums_by_cluster(tally, clusters)
    total, count = sums.sum(axis=0)
    if count == 0:
        return Estimate(None)
    if resamples < 1 or len(sums) < 2:
        return Estimate(float(total / count))
    drawn = resampled_totals(sums, resamples, seed)
    drawn = drawn[drawn[:, 1] > 0]
    return estimate(float(total / count), drawn[:, 0] / drawn[:, 1], level)


def permutation_p(
    differences: np.ndarray, clusters: Sequence[Hashable], *, permutations: int = 10_000, seed: int = 0
) -> float | None:
    """Two-sided p of the mean difference under exchange of the two systems within each cluster; None without data."""
    if len(differences) == 0:
        return None
    sums = sums_by_cluster(np.asarray(differences, dtype=float)[:, None], clusters)[:, 0]
    observed = abs(sums.sum())
    n = len(sums)
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ sums) >= observed - _TIE).mean())
    rng = np.random.default_rng(seed)
    reached = 0
    for start in range(0, permutations, 1000):
        signs = rng.integers(0, 2, size=(min(1000, permutations - start), n)) * 2 - 1
        reached += int((np.abs(signs @ sums) >= observed - _TIE).sum())
    return (1 + reached) / (1 + permutations)


def adjusted(values: Sequence[float | None]) -> list[float | None]:
    """Holm's corrected p-values; None stays None and counts for nothing."""
    corrected = iter(holm([p for p in values if p is not None]))
    return [None if p is None else next(corrected) for p in values]


@dataclass(frozen=True)
class Mrmc:
    """A mean difference with readers and cases random.

    Attributes:
        mean: of all differences.
        low: lower end of the interval.
        high: upper end.
        p: two-sided.
        df: degrees of freedom.
        reader_variance: of the difference between readers.
        case_variance: of the difference between cases.
        error_variance: the rest.
    """

    mean: float
    low: float
    high: float
    p: float
    df: float
    reader_variance: float
    case_variance: float
    error_variance: float


def mrmc(differences: np.ndarray, *, level: float = 0.95) -> Mrmc | None:
    """Differences (readers, cases) without holes; None with fewer than two of either, or where nothing varies."""
    from scipy import stats

    readers, cases = differences.shape
    if readers < 2 or cases < 2:
        return None
    mean = float(differences.mean())
    of_reader, of_case = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - of_reader[:, None] - of_case[None, :] + mean
    ms_reader = cases * float(of_reader.var(ddof=1))
    ms_case = readers * float(of_case.var(ddof=1))
    ms_error = float((rest**2).sum()) / ((readers - 1) * (cases - 1))
    bottom = ms_reader + max(ms_case - ms_error, 0.0)
    if bottom <= _TIE:
        return None
    df = bottom**2 / (ms_reader**2 / (readers - 1)) if ms_reader > _TIE else float("inf")
    spread = float(np.sqrt(bottom / (readers * cases)))
    wide = float(stats.t.ppf((1 + level) / 2, df)) * spread
    return Mrmc(
        mean=mean,
        low=mean - wide,
        high=mean + wide,
        p=float(2 * stats.t.sf(abs(mean) / spread, df)),
        df=df,
        reader_variance=max((ms_reader - ms_error) / cases, 0.0),
        case_variance=max((ms_case - ms_error) / readers, 0.0),
        error_variance=ms_error,
    )
