"""From probabilities to statements: one threshold per finding kind, chosen on validation studies."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from ctscribe import ontology
from ctscribe.model import Thresholds


def best_threshold(probability: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """The cut with the highest F1 on these studies, half-way between two neighbouring scores, and that F1.

    Without a positive study nothing can be chosen: 0.5, F1 not a number.
    """
    if not truth.any():
        return 0.5, float("nan")
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(truth[order])
    said = np.arange(1, len(order) + 1)
    f1 = 2 * hits / (said + truth.sum())
    # A cut between equal scores cannot be made.
    scores = probability[order]
    cuttable = np.append(scores[1:] < scores[:-1], True)
    best = int(np.argmax(np.where(cuttable, f1, -1)))
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2), float(f1[best])


def tune(
    probability: Float[np.ndarray, "n f"], truth: Bool[np.ndarray, "n f"], *, hedge: float = 1.0
) -> tuple[Thresholds, dict[str, float]]:
    """Thresholds for every kind, and the F1 each reaches on the studies it was chosen on.

    Args:
        hedge: a finding is called uncertain down to this share of its threshold; 1 never hedges.
    """
    kinds = tuple(ontology.findings())
    chosen = {kind: best_threshold(probability[:, i], truth[:, i]) for i, kind in enumerate(kinds)}
    present = {kind: round(cut, 4) for kind, (cut, _) in chosen.items()}
    return (
        Thresholds(present=present, uncertain={kind: round(cut * hedge, 4) for kind, cut in present.items()}),
        {kind: f1 for kind, (_, f1) in chosen.items()},
    )
