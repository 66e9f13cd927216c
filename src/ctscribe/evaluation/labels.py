"""Is each abnormality reported? Precision, recall and F1 per label, macro and micro.

Two vocabularies. CT-RATE's 18 labels, which others publish, are given as its annotators give them: read from the text
of a report whose findings were read from it (`report.parse.ct_rate_labels`), else from the structured findings. A
finding kind of the ontology is positive when the report says it is present or possible, or says another that implies
it. Whether a system hedges where the reference is sure is counted in `faithfulness`.

Conventions are scikit-learn's (`precision_recall_fscore_support` with `zero_division=0`), except that a
label no reference is positive for has no recall and no F1: it leaves the macro average, and the table says
so. Its false positives still count in the micro average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, defined, ratio

VocabularyName = Literal["ct_rate", "ontology"]


def vocabulary(name: VocabularyName) -> Mapping[str, str]:
    """Label as printed -> finding id, in column order."""
    if name == "ct_rate":
        return ontology.ct_rate_labels()
    return MappingProxyType({kind: kind for kind in ontology.findings()})


def positive(record: Record, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The labels of a vocabulary that are positive in a report, in its order."""
    if labels == ontology.ct_rate_labels():
        return record.ct_rate
    kinds = record.implied
    return tuple(label for label, kind in labels.items() if kind in kinds)


def present_matrix(records: Sequence[Record], labels: Mapping[str, str]) -> np.ndarray:
    """Boolean matrix (records, labels): is the label positive in the report?"""
    column = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(records), len(column)), dtype=bool)
    for row, record in enumerate(records):
        matrix[row, [column[label] for label in positive(record, labels)]] = True
    return matrix


def confusion(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elementwise true positives, false positives, false negatives, true negatives as float64."""
    truth, predicted = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    cells = (truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted)
    tp, fp, fn, tn = (cell.astype(np.float64) for cell in cells)
    return tp, fp, fn, tn


def precision_recall_f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per label from counts of any shape; NaN where the label has no support, else scikit-learn's values."""
    supported = tp + fn > 0
    recall = ratio(tp, tp + fn)
    precision = np.where(supported, np.nan_to_num(ratio(tp, tp + fp)), np.nan)
    return precision, recall, np.where(supported, ratio(2 * tp, 2 * tp + fp + fn), np.nan)


def label_rows(
    labels: Sequence[str],
    tp: np.ndarray,
    fp: np.ndarray,
    fn: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    in_macro: np.ndarray,
) -> list[dict[str, Any]]:
    """One row per label.

    Args:
        scores: precision, recall and F1 of each label.
        in_macro: is the label part of the macro averages?
    """
    precision, recall, f1 = scores
    return [
        {
            "label": label,
            "support": int(tp[i] + fn[i]),
            "predicted": int(tp[i] + fp[i]),
            "precision": defined(precision[i]),
            "recall": defined(recall[i]),
            "f1": defined(f1[i]),
            "in_macro": bool(in_macro[i]),
        }
        for i, label in enumerate(labels)
    ]


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the entries that are defined; NaN when none is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


class Labels(Scorer):
    """Label-wise agreement over one vocabulary."""

    def __init__(self, name: VocabularyName) -> None:
        self.labels = vocabulary(name)
        self.name: str = {"ct_rate": "labels18", "ontology": "findings"}[name]
        what = f"{len(self.labels)} {'CT-RATE labels' if name == 'ct_rate' else 'finding kinds'}"
        self.measures = (
            Measure("macro_f1", f"Mean F1 over those of the {what} that some reference is positive for."),
            Measure("macro_precision", "Mean precision over the same labels."),
            Measure("macro_recall", "Mean recall over the same labels."),
            Measure("micro_f1", f"F1 of all decisions on {what} pooled; common labels dominate."),
            Measure("micro_precision", "Precision of all decisions pooled."),
            Measure("micro_recall", "Recall of all decisions pooled."),
        )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: TP of each label, then FP of each, then FN of each."""
        truth = present_matrix([pair.reference for pair in pairs], self.labels)
        predicted = present_matrix([pair.candidate for pair in pairs], self.labels)
        return np.concatenate(confusion(truth, predicted)[:3], axis=1)

    def _split(self, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tp, fp, fn = np.split(totals, 3, axis=-1)
        return tp, fp, fn

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Macro and micro precision, recall and F1; macro NaN when no label has support."""
        tp, fp, fn = self._split(totals)
        precision, recall, f1 = precision_recall_f1(tp, fp, fn)
        all_tp, all_fp, all_fn = tp.sum(-1), fp.sum(-1), fn.sum(-1)
        return {
            "macro_f1": _mean_defined(f1),
            "macro_precision": _mean_defined(precision),
            "macro_recall": _mean_defined(recall),
            "micro_f1": ratio(2 * all_tp, 2 * all_tp + all_fp + all_fn),
            "micro_precision": np.where(all_tp + all_fn > 0, np.nan_to_num(ratio(all_tp, all_tp + all_fp)), np.nan),
            "micro_recall": ratio(all_tp, all_tp + all_fn),
        }

    def explain(self, pair: Pair) -> dict[str, Any]:
        """Labels found, invented and missed."""
        found, truth = positive(pair.candidate, self.labels), positive(pair.reference, self.labels)
        return {
            "found": [label for label in found if label in truth],
            "invented": [label for label in found if label not in truth],
            "missed": [label for label in truth if label not in found],
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per label; values None without support."""
        tp, fp, fn = self._split(totals)
        return label_rows(tuple(self.labels), tp, fp, fn, precision_recall_f1(tp, fp, fn), in_macro=tp + fn > 0)
