"""Can the probabilities be taken at their word? Expected calibration error, Brier score, reliability plot.

Over all decisions (a report and a finding it gives a probability for), in fifteen equal bins of the probability:

    ECE   = sum over bins of (decisions in the bin / all) * | share that is true - mean probability |
    Brier = mean over decisions of (probability - truth)^2

Truth is what the reference says, possible findings counting as true, as in the label metrics. (Guo et al., ICML 2017;
Brier, Monthly Weather Review 1950.) Findings only, not diseases. Both are functions of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, defined, ratio

BINS = 15


def bin_of(probability: np.ndarray) -> np.ndarray:
    """Index of the bin of each probability; bins are closed above, 0 belongs to the first."""
    return np.clip(np.ceil(np.asarray(probability) * BINS).astype(np.int64) - 1, 0, BINS - 1)


class Calibration(Scorer):
    """ECE and Brier score of the probabilities given beside the texts."""

    name = "calibration"
    measures = (
        Measure("ece", "Mean gap between probability and share of true findings, over 15 bins.", 1.0, 0.0),
        Measure("brier", "Mean squared error of the probabilities.", 1.0, 0.0),
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: decisions of each bin, their summed probability, how many are true; summed squared error."""
        rows = np.zeros((len(pairs), 3 * BINS + 1))
        for row, pair in zip(rows, pairs, strict=True):
            given = [(p, kind) for kind, p in pair.candidate.probabilities if kind in ontology.findings()]
            if not given:
                continue
            said = pair.reference.implied
            p = np.array([probability for probability, _ in given])
            y = np.array([kind in said for _, kind in given], dtype=float)
            where = bin_of(p)
            for part, weights in enumerate((np.ones_like(p), p, y)):
                row[part * BINS : (part + 1) * BINS] = np.bincount(where, weights, BINS)
            row[-1] = ((p - y) ** 2).sum()
        return rows

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """NaN without probabilities."""
        count, probability, true = np.split(totals[..., :-1], 3, axis=-1)
        decisions = count.sum(axis=-1)
        return {
            "ece": ratio(np.abs(true - probability).sum(axis=-1), decisions),
            "brier": ratio(totals[..., -1], decisions),
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per bin: the points of the reliability plot."""
        count, probability, true = np.split(totals[:-1], 3)
        return [
            {
                "from": round(i / BINS, 4),
                "to": round((i + 1) / BINS, 4),
                "decisions": int(count[i]),
                "mean_probability": defined(ratio(probability[i], count[i])),
                "share_true": defined(ratio(true[i], count[i])),
            }
            for i in range(BINS)
        ]
