"""CRG, the score of the VLM3D challenge: true positives weighted by how rare positives are.

Definition: Hamamci et al., "CRG Score: A Distribution-Aware Clinical Metric for Radiology Report Generation",
arXiv:2505.17167; `crg_score.py` of the VLM3D challenge containers. Over N exams and L labels

    X = N L        all decisions             A = TP + FN    the positive ones
    r = (X - A) / (2 A)                      U = (X - A) / 2
    s = r TP - r FN - FP                     CRG = U / (2 U - s)

A perfect set of reports scores 1; calling everything negative and calling everything positive both score
1/3, so a CRG near 0.33 means nothing was learned. Undefined without positives (A = 0) and without negatives
(A = X).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe.evaluation.labels import confusion, present_matrix, vocabulary
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Counts, Measure, Scorer, counts_row, ratio


def crg(tp: Counts, fn: Counts, fp: Counts, decisions: Counts) -> np.ndarray:
    """CRG from counts summed over exams and labels.

    Args:
        tp: true positives; any shape.
        fn: false negatives; same shape.
        fp: false positives; same shape.
        decisions: exams times labels; same shape.

    Returns:
        same shape, NaN where undefined.
    """
    positives = tp + fn
    negatives = decisions - positives
    r = ratio(negatives, 2.0 * positives)
    u = negatives / 2.0
    s = r * tp - r * fn - fp
    return ratio(u, 2.0 * u - s)


def crg_score(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """CRG of boolean label matrices of shape (exams, labels); None where it is undefined."""
    tp, fp, fn, _ = (counts.sum() for counts in confusion(truth, predicted))
    value = float(crg(tp, fn, fp, np.float64(truth.size)))
    return None if np.isnan(value) else value


class Crg(Scorer):
    """CRG over CT-RATE's 18 labels."""

    name = "crg"
    measures = (Measure("crg", "Rare-positive-weighted agreement over 18 labels; 1/3 is what saying nothing scores."),)

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: TP, FP, FN, decisions."""
        names = vocabulary("ct_rate")
        truth = present_matrix([pair.reference for pair in pairs], names)
        predicted = present_matrix([pair.candidate for pair in pairs], names)
        tp, fp, fn, tn = (counts.sum(axis=1) for counts in confusion(truth, predicted))
        return np.stack([tp, fp, fn, tp + fp + fn + tn], axis=1)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The score; NaN without positives."""
        tp, fp, fn, decisions = np.moveaxis(totals, -1, 0)
        return {"crg": crg(tp, fn, fp, decisions)}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """The pooled counts the score is made of."""
        return counts_row(("true_positive", "false_positive", "false_negative", "decisions"), totals)
