"""AUROC and AUPRC of probabilities: do true findings get larger numbers than false ones?

- AUROC: chance that a random positive is ranked above a random negative, ties counting half (Mann-Whitney).
- AUPRC: average precision, the sum of precision times gain in recall over the distinct thresholds, which is what
  scikit-learn calls ``average_precision_score``. What guessing scores is the share of positives, so it is printed.

Both take weights, so that a bootstrap sample of patients is a vector of weights and nothing is sorted twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctscribe.evaluation.scorer import defined, ratio


@dataclass(frozen=True)
class Ranked:
    """Decisions of one finding, sorted by score, largest first.

    Attributes:
        truth: bool (decisions).
        case: int64 (decisions), the row of the weights each decision belongs to.
        starts: int64 (distinct scores), where each group of equal scores begins.
    """

    truth: np.ndarray
    case: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, truth: np.ndarray, case: np.ndarray) -> Ranked:
        """Sort decisions; those without a score (NaN) are left out."""
        known = ~np.isnan(score)
        score, truth, case = score[known], truth[known].astype(bool), case[known]
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        fresh = np.ones(len(ranked), dtype=bool)
        fresh[1:] = ranked[1:] != ranked[:-1]
        return cls(truth[order], case[order], np.flatnonzero(fresh))

    @property
    def support(self) -> int:
        """Positive decisions."""
        return int(self.truth.sum())

    def groups(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of positives and of negatives at each distinct score, each (samples, distinct scores)."""
        own = weights[:, self.case]
        positive = own * self.truth
        return tuple(np.add.reduceat(part, self.starts, axis=1) for part in (positive, own - positive))  # type: ignore[return-value]


def auroc(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each row of weights (samples, cases); NaN without both classes."""
    if not len(ranked.truth):
        return np.full(len(weights), np.nan)
    positive, negative = ranked.groups(weights)
    below = negative.sum(axis=1, keepdims=True) - np.cumsum(negative, axis=1)
    wins = (positive * (below + negative / 2)).sum(axis=1)
    return ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def auprc(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """Average precision for each row of weights (samples, cases); NaN without positives or without negatives."""
    if not len(ranked.truth):
        return np.full(len(weights), np.nan)
    positive, negative = ranked.groups(weights)
    hits = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(ratio(hits, hits + np.cumsum(negative, axis=1)))
    area = ratio((precision * positive).sum(axis=1), hits[:, -1])
    return np.where(negative.sum(axis=1) > 0, area, np.nan)


def mean_defined(values: Iterable[np.ndarray], samples: int) -> np.ndarray:
    """Mean of several measures, those undefined left out; NaN where all are."""
    stack = np.array(list(values)).reshape(-1, samples)
    known = ~np.isnan(stack)
    return ratio(np.where(known, stack, 0.0).sum(axis=0), known.sum(axis=0))


def ranking_row(name: str, ranked: Ranked, cases: int) -> dict[str, Any]:
    """One line of the table: support, what guessing scores, and both areas."""
    everybody = np.ones((1, cases))
    total = len(ranked.truth)
    return {
        "label": name,
        "decisions": total,
        "support": ranked.support,
        "prevalence": defined(ratio(ranked.support, total)),
        "auroc": defined(auroc(ranked, everybody)[0]),
        "auprc": defined(auprc(ranked, everybody)[0]),
    }
