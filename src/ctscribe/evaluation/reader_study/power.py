"""How many cases and readers? Power of a paired difference of mean scores, and the width of a kappa's interval.

The difference between two systems' scores, given by reader r to case c, is modelled as

    d_rc = difference + reader_r + case_c + error_rc
    Var(d_rc) = sd^2 = sd^2 (reader_share + case_share + error_share)

    these readers    Var(mean) = sd^2 (case_share / C + error_share / RC),  df = C - 1
    other readers    Var(mean) = sd^2 (reader_share / R + case_share / C + error_share / RC),  df after Hillis 2007

and the power is that of a two-sided t test: a noncentral t with noncentrality difference / sqrt(Var(mean)). This is the
Dorfman-Berbaum-Metz model as unified by Hillis, Obuchowski and Berbaum 2011 (Academic Radiology 18:129), the same that
`compare.mrmc` analyses.

The interval of kappa: two raters with the same marginals who agree beyond chance in a share kappa of cases, that is
P = kappa diag(p) + (1 - kappa) p p'. Then every weighted kappa equals kappa, and its standard error is that of Fleiss,
Cohen and Everitt 1969 (Psychological Bulletin 72:323).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctscribe.errors import UsageError
from ctscribe.evaluation.reader_study.agreement import Weights, agreement_weights

# Cases tried at most when a size is searched for.
_MOST_CASES = 100_000

# Marginals of five-point scores when nothing is known: most reports are judged fair or good.
TYPICAL_SCORES = (0.05, 0.15, 0.30, 0.35, 0.15)


@dataclass(frozen=True)
class Plan:
    """A planned comparison of two systems on the same cases.

    Attributes:
        difference: of mean scores that should be found.
        sd: standard deviation of the difference that one reader gives to one case.
        readers: number of readers, who all read all cases.
        reader_share: share of the variance of the difference that is between readers.
        case_share: share that is between cases: how much readers agree on the difference of a case.
        alpha: two-sided error of the first kind.
    """

    difference: float
    sd: float
    readers: int
    reader_share: float = 0.05
    case_share: float = 0.5
    alpha: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a plan that cannot be.

        Raises:
            UsageError: a number out of its range.
        """
        _need("--difference", self.difference, self.difference != 0 and np.isfinite(self.difference), "not 0")
        _need("--sd", self.sd, 0 < self.sd < np.inf, "more than 0")
        _need("--readers", self.readers, self.readers >= 1, "1 or more")
        _need("--alpha", self.alpha, 0 < self.alpha < 1, "between 0 and 1")
        for name, share in (("--reader-share", self.reader_share), ("--case-share", self.case_share)):
            _need(name, share, 0 <= share <= 1, "0 to 1")
        both = self.reader_share + self.case_share
        _need("--reader-share and --case-share together", both, both < 1, "less than 1: the rest is chance")

    def power(self, cases: int, *, other_readers: bool = False) -> float | None:
        """Power with so many cases; None where it is not defined (one reader cannot speak for others)."""
        _need("--cases", cases, cases >= 2, "2 or more")
        error_share = 1 - self.reader_share - self.case_share
        by_case = self.case_share / cases + error_share / (self.readers * cases)
        if not other_readers:
            return self._power(by_case, cases - 1.0)
        if self.readers < 2:
            return None
        ms_reader = cases * self.reader_share + error_share
        bottom = ms_reader + self.readers * self.case_share
        df = bottom**2 * (self.readers - 1) / ms_reader**2
        return self._power(by_case + self.reader_share / self.readers, df)

    def _power(self, relative_variance: float, df: float) -> float:
        from scipy import stats

        noncentrality = abs(self.difference) / (self.sd * float(np.sqrt(relative_variance)))
        critical = float(stats.t.ppf(1 - self.alpha / 2, df))
        beyond = float(stats.nct.sf(critical, df, noncentrality))
        below = float(stats.nct.cdf(-critical, df, noncentrality))
        if not np.isfinite(beyond):  # far out scipy's series gives up: there the test is certain
            return 1.0
        return beyond + (below if np.isfinite(below) else 0.0)

    def cases_needed(self, power: float, *, other_readers: bool = False) -> int | None:
        """The fewest cases that reach this power; None where no number does."""
        _need("--power", power, 0 < power < 1, "between 0 and 1")
        low, high = 1, 2
        while (reached := self.power(high, other_readers=other_readers)) is not None and reached < power:
            low, high = high, 2 * high
            if high > _MOST_CASES:
                return None
        if reached is None:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = (self.power(middle, other_readers=other_readers) or 0.0) >= power
            low, high = (low, middle) if enough else (middle, high)
        return high


def kappa_error(
    kappa: float, cases: int, *, marginals: Sequence[float] = TYPICAL_SCORES, weights: Weights = "quadratic"
) -> float:
    """Standard error of a (weighted) kappa of two raters.

    Args:
        kappa: expected value, below 1.
        cases: reports that both judge.
        marginals: shares of the categories, the same for both raters.

    Raises:
        UsageError: a number out of its range, or shares that no such raters can have.
    """
    share = np.asarray(marginals, dtype=float)
    _need("--kappa", kappa, -1 < kappa < 1, "between -1 and 1")
    _need("--cases", cases, cases >= 2, "2 or more")
    fits = share.size > 1 and bool((share > 0).all()) and abs(share.sum() - 1) < 1e-6
    _need("--marginals", ",".join(f"{s:g}" for s in share), fits, "two or more positive shares that add up to 1")
    table = kappa * np.diag(share) + (1 - kappa) * np.outer(share, share)
    _need(
        "--kappa", kappa, bool((table >= 0).all()), f"a value that these marginals allow (lowest {_lowest(share):.2f})"
    )
    return _table_error(table, weights) / float(np.sqrt(cases))


def _lowest(share: np.ndarray) -> float:
    return -float((share / (1 - share)).min())


def _table_error(table: np.ndarray, weights: Weights) -> float:
    """Standard error of weighted kappa from a table of shares, times the root of the number of cases."""
    weight = agreement_weights(len(table), weights)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    chance = float((weight * np.outer(rows, columns)).sum())
    kappa = (float((weight * table).sum()) - chance) / (1 - chance)
    typical = (weight @ columns)[:, None] + (rows @ weight)[None, :]
    spread = float((table * (weight - typical * (1 - kappa)) ** 2).sum()) - (kappa - chance * (1 - kappa)) ** 2
    return float(np.sqrt(max(spread, 0.0))) / (1 - chance)


def half_width(error: float, level: float = 0.95) -> float:
    """Half the width of an interval from a standard error."""
    from scipy import stats

    return float(stats.norm.ppf((1 + level) / 2)) * error


def _need(what: str, value: object, fits: bool | np.bool_, expected: str) -> None:
    if not fits:
        raise UsageError(what, expected=expected, got=str(value))
