"""Do raters agree? Every coefficient as a function of sums over units, so that a bootstrap is one matrix product.

    ratings ──tally──► (units, counts) ──sum──► (counts) ──value──► coefficient

Ratings are a float array (units, raters), NaN where a rater did not judge a unit. Sources:

    Cohen           Cohen 1960; weighted: Cohen 1968, weights 1 - |i-j|/(k-1) and 1 - ((i-j)/(k-1))^2
    Fleiss          Fleiss 1971, with missing ratings as in Gwet, Handbook of Inter-Rater Reliability, 4th ed. 2014
    Gwet            AC1: Gwet 2008; AC2, with weights: Gwet 2014
    Krippendorff    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"
    Icc             ICC(2,1): Shrout and Fleiss 1979, two-way random, absolute agreement, one rater

All are 1 for perfect agreement and NaN where chance alone explains everything (all ratings alike) or nothing is shared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctscribe.evaluation.intervals import Estimate, estimate, resampled_totals, sums_by_cluster
from ctscribe.evaluation.scorer import Counts

Weights = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]


def agreement_weights(categories: int, weights: Weights) -> np.ndarray:
    """How far two categories agree, 1 for the same: (categories, categories)."""
    if weights == "none" or categories < 2:
        return np.eye(categories)
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))) / (categories - 1)
    return 1 - (apart if weights == "linear" else apart**2)


def _divide(top: Counts, bottom: Counts) -> np.ndarray:
    """top / bottom, NaN where the bottom is (numerically) zero."""
    usable = np.abs(bottom) > 1e-12
    return np.where(usable, top / np.where(usable, bottom, 1.0), np.nan)


def _counts(ratings: np.ndarray, categories: Sequence[float]) -> np.ndarray:
    """How many raters put each unit into each category: (units, categories)."""
    return (ratings[:, :, None] == np.asarray(categories, dtype=float)).sum(axis=1).astype(float)


class Coefficient(ABC):
    """A measure of agreement that is a function of sums over units."""

    @abstractmethod
    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """Counts of each unit, (units, counts), from ratings (units, raters)."""

    @abstractmethod
    def value(self, totals: np.ndarray) -> Counts:
        """The coefficient from summed counts (..., counts): shape (...)."""

    def of(self, ratings: np.ndarray) -> float:
        """The coefficient of all units."""
        return float(self.value(self.tally(np.asarray(ratings, dtype=float)).sum(axis=0)))

    def estimate(
        self, ratings: np.ndarray, clusters: Sequence[Hashable], *, resamples: int, level: float = 0.95, seed: int = 0
    ) -> Estimate:
        """The coefficient with a percentile bootstrap interval over clusters (patients or cases)."""
        sums = sums_by_cluster(self.tally(np.asarray(ratings, dtype=float)), clusters)
        point = float(self.value(sums.sum(axis=0)))
        if resamples < 1 or len(sums) < 2 or np.isnan(point):
            return estimate(point, None, level)
        return estimate(point, np.asarray(self.value(resampled_totals(sums, resamples, seed))), level)


@dataclass(frozen=True)
class Cohen(Coefficient):
    """Cohen's kappa of two raters (the first two columns)."""

    categories: tuple[float, ...]
    weights: Weights = "none"

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """The flattened confusion matrix of each unit."""
        known = np.asarray(self.categories, dtype=float)
        first, second = ratings[:, 0, None] == known, ratings[:, 1, None] == known
        return (first[:, :, None] & second[:, None, :]).reshape(len(ratings), -1).astype(float)

    def value(self, totals: np.ndarray) -> Counts:
        """(observed - expected) / (1 - expected)."""
        k = len(self.categories)
        table = totals.reshape(*totals.shape[:-1], k, k)
        share = _divide(table, table.sum(axis=(-2, -1), keepdims=True))
        expected = share.sum(axis=-1)[..., :, None] * share.sum(axis=-2)[..., None, :]
        weights = agreement_weights(k, self.weights)
        chance = (weights * expected).sum(axis=(-2, -1))
        return _divide((weights * share).sum(axis=(-2, -1)) - chance, 1 - chance)


@dataclass(frozen=True)
class MeanCohen(Coefficient):
    """Mean of Cohen's kappa over pairs of raters (Light 1971); pairs that share nothing are left out.

    Attributes:
        categories: the values.
        weights: as for `Cohen`.
        against_first: only the pairs that the first rater is in.
    """

    categories: tuple[float, ...]
    weights: Weights = "none"
    against_first: bool = False

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """The flattened confusion matrices of all pairs, side by side."""
        one = Cohen(self.categories, self.weights)
        pairs = [(i, j) for i in range(ratings.shape[1]) for j in range(i + 1, ratings.shape[1])]
        chosen = [pair for pair in pairs if pair[0] == 0 or not self.against_first]
        return np.hstack([one.tally(ratings[:, pair]) for pair in chosen] or [np.zeros((len(ratings), 0))])

    def value(self, totals: np.ndarray) -> Counts:
        """The mean over the pairs whose kappa is defined."""
        cells = len(self.categories) ** 2
        if totals.shape[-1] == 0:
            return np.full(totals.shape[:-1], np.nan)
        kappas = np.asarray(Cohen(self.categories, self.weights).value(totals.reshape(*totals.shape[:-1], -1, cells)))
        known = ~np.isnan(kappas)
        return _divide(np.where(known, kappas, 0.0).sum(axis=-1), known.sum(axis=-1).astype(float))


@dataclass(frozen=True)
class _Multi(Coefficient):
    """Coefficients of any number of raters that compare pairwise agreement with one expected by chance."""

    categories: tuple[float, ...]
    weights: Weights = "none"

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """Units with a rating, units with two or more, their pairwise agreement, and shares of the categories."""
        counts = _counts(ratings, self.categories)
        raters = counts.sum(axis=1)
        similar = counts @ agreement_weights(len(self.categories), self.weights)
        pairs = raters * (raters - 1)
        agreed = np.where(pairs > 0, (counts * (similar - 1)).sum(axis=1) / np.maximum(pairs, 1), 0.0)
        shares = counts / np.maximum(raters, 1)[:, None]
        return np.column_stack([raters > 0, pairs > 0, agreed, shares])

    def value(self, totals: np.ndarray) -> Counts:
        """(observed - expected) / (1 - expected)."""
        observed = _divide(totals[..., 2], totals[..., 1])
        chance = self.chance(_divide(totals[..., 3:], totals[..., :1]))
        return _divide(observed - chance, 1 - chance)

    @abstractmethod
    def chance(self, shares: np.ndarray) -> Counts:
        """Agreement expected by chance from the shares of the categories (..., categories)."""


@dataclass(frozen=True)
class Fleiss(_Multi):
    """Fleiss' kappa."""

    def chance(self, shares: np.ndarray) -> Counts:
        """Two raters who draw from the pooled distribution."""
        weights = agreement_weights(len(self.categories), self.weights)
        return ((shares @ weights) * shares).sum(axis=-1)


@dataclass(frozen=True)
class Gwet(_Multi):
    """Gwet's AC1 (no weights) or AC2 (weights): steady where nearly all ratings fall into one category."""

    def chance(self, shares: np.ndarray) -> Counts:
        """Agreement of raters who guess only where they are unsure."""
        k = len(self.categories)
        total = agreement_weights(k, self.weights).sum()
        return total / (k * (k - 1)) * (shares * (1 - shares)).sum(axis=-1)


@dataclass(frozen=True)
class Krippendorff(Coefficient):
    """Krippendorff's alpha for nominal, ordinal or interval data, any number of raters, missing ratings allowed."""

    categories: tuple[float, ...]
    level: Level = "ordinal"

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """The flattened coincidence matrix of each unit; zero for units with fewer than two ratings."""
        counts = _counts(ratings, self.categories)
        raters = counts.sum(axis=1)
        pairs = counts[:, :, None] * counts[:, None, :]
        pairs -= np.eye(len(self.categories)) * counts[:, None, :]
        return (np.where(raters > 1, 1 / np.maximum(raters - 1, 1), 0.0)[:, None, None] * pairs).reshape(len(pairs), -1)

    def value(self, totals: np.ndarray) -> Counts:
        """1 - observed disagreement / expected disagreement."""
        k = len(self.categories)
        seen = totals.reshape(*totals.shape[:-1], k, k)
        margin = seen.sum(axis=-1)
        n = margin.sum(axis=-1)
        apart = self._squared_distance(margin)
        observed = (seen * apart).sum(axis=(-2, -1))
        expected = (margin[..., :, None] * margin[..., None, :] * apart).sum(axis=(-2, -1))
        return 1 - _divide((n - 1) * observed, expected)

    def _squared_distance(self, margin: np.ndarray) -> np.ndarray:
        k = len(self.categories)
        if self.level == "nominal":
            return np.broadcast_to(1 - np.eye(k), (*margin.shape[:-1], k, k))
        if self.level == "interval":
            place = np.broadcast_to(np.asarray(self.categories, dtype=float), margin.shape)
        else:  # the middle rank of each category
            place = np.cumsum(margin, axis=-1) - margin / 2
        return (place[..., :, None] - place[..., None, :]) ** 2


@dataclass(frozen=True)
class Icc(Coefficient):
    """ICC(2,1) over the units that every rater judged."""

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """Per complete unit: 1, sum of squares, squared sum, and each rater's score."""
        complete = ~np.isnan(ratings).any(axis=1)
        scores = np.where(complete[:, None], ratings, 0.0)
        return np.column_stack([complete, (scores**2).sum(axis=1), scores.sum(axis=1) ** 2, scores])

    def value(self, totals: np.ndarray) -> Counts:
        """(BMS - EMS) / (BMS + (k-1) EMS + k (JMS - EMS) / n)."""
        n, squares, row_squares, columns = totals[..., 0], totals[..., 1], totals[..., 2], totals[..., 3:]
        k = columns.shape[-1]
        n = np.where(n > 1, n, np.nan)
        middle = columns.sum(axis=-1) ** 2 / (n * k)
        rows, raters = row_squares / k - middle, (columns**2).sum(axis=-1) / n - middle
        between, across = rows / (n - 1), _divide(raters, np.asarray(k - 1.0))
        rest = _divide(squares - middle - rows - raters, (n - 1) * (k - 1))
        return _divide(between - rest, between + (k - 1) * rest + k * (across - rest) / n)


@dataclass(frozen=True)
class Within(Coefficient):
    """Share of rater pairs whose scores differ by at most `steps`; nothing is taken off for chance."""

    steps: float = 0.0

    def tally(self, ratings: np.ndarray) -> np.ndarray:
        """Pairs that agree, and pairs, of each unit."""
        left, right = np.triu_indices(ratings.shape[1], k=1)
        apart = np.abs(ratings[:, left] - ratings[:, right])
        return np.column_stack([(apart <= self.steps).sum(axis=1), (~np.isnan(apart)).sum(axis=1)]).astype(float)

    def value(self, totals: np.ndarray) -> Counts:
        """The share."""
        return _divide(totals[..., 0], totals[..., 1])
