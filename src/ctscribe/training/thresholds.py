"""From probabilities to statements: one threshold per finding kind, chosen on validation studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ctscribe import ontology
from ctscribe.model import Thresholds

SLOPE_PRIOR = 2.0
"""Weight of the prior on the slope of the calibration: that of a few studies."""

LEAST_CHANCE = 0.2
"""What is wrong more often than four times in five is not stated, whatever F1 would gain by it."""


def best_threshold(probability: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """The cut with the highest *expected* F1 on studies like these, half-way between two scores, and that F1.

    A logistic curve from score to chance is fitted first (Platt, 1999), and every study then counts by its chance. The
    cut that happens to be best on some twenty positive studies is the luck of those twenty; this one does not depend on
    where a single study falls. Scores whose chance is below `LEAST_CHANCE` are never above the cut; a detector that
    knows nothing of a kind thus stays silent about it (a cut of 1). Without a positive study nothing can be chosen:
    0.5, F1 not a number.
    """
    if not truth.any():
        return 0.5, float("nan")
    order = np.argsort(-probability, kind="stable")
    scores = probability[order]
    chance = _chances(scores, truth[order])
    f1 = 2 * np.cumsum(chance) / (np.arange(1, len(order) + 1) + chance.sum())
    # A cut between equal scores cannot be made.
    cuttable = np.append(scores[1:] < scores[:-1], True) & (chance >= LEAST_CHANCE)
    if not cuttable.any():
        return 1.0, 0.0
    best = int(np.argmax(np.where(cuttable, f1, -1)))
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2), float(f1[best])


def _chances(probability: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Calibrated chance of each study: a logistic curve over the logit, its slope held near one by a weak prior."""
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    score = logit(np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6))

    def cost(line: np.ndarray) -> float:
        seen = line[0] * score + line[1]
        return float((np.logaddexp(0, seen) - truth * seen).sum() + SLOPE_PRIOR * (line[0] - 1) ** 2)

    slope, offset = minimize(cost, np.array([1.0, 0.0])).x
    return expit(max(slope, 0.0) * score + offset)


def temperature(probability: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """By what the logits of one kind should be divided so that their likelihood is largest (Guo et al., ICML 2017).

    1 without any positive or any negative study; between 1/4 and 4, so that a handful of studies cannot do more.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logit

    if truth.all() or not truth.any():
        return 1.0
    score = logit(np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6))

    def cost(log_temperature: float) -> float:
        seen = score / np.exp(log_temperature)
        return float((np.logaddexp(0, seen) - truth * seen).sum() + SLOPE_PRIOR * log_temperature**2)

    return float(np.exp(minimize_scalar(cost, bounds=(-np.log(4), np.log(4)), method="bounded").x))


def calibrated(probability: Float[np.ndarray, "n f"], by: Sequence[float]) -> Float[np.ndarray, "n f"]:
    """Probabilities with the logits of each kind divided by its temperature."""
    from scipy.special import expit, logit

    return expit(logit(np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)) / np.asarray(by))


def calibration_error(probability: Float[np.ndarray, "n f"], truth: Bool[np.ndarray, "n f"]) -> float:
    """Expected calibration error over all decisions, in the bins of `evaluation.calibration`."""
    from ctscribe.evaluation.calibration import bin_of

    p, y = probability.ravel(), truth.ravel().astype(float)
    return float(np.abs(np.bincount(bin_of(p), y - p)).sum() / len(p))


def tune(
    probability: Float[np.ndarray, "n f"], truth: Bool[np.ndarray, "n f"], *, hedge: float = 1.0
) -> tuple[Thresholds, dict[str, float]]:
    """Temperature and threshold of every kind, and the F1 each reaches on the studies they were chosen on.

    Args:
        hedge: a finding is called uncertain down to this share of its threshold; 1 never hedges.
    """
    kinds = tuple(ontology.findings())
    by = [round(temperature(probability[:, i], truth[:, i]), 4) for i in range(len(kinds))]
    before = calibration_error(probability, truth)
    probability = calibrated(probability, by)
    chosen = {kind: best_threshold(probability[:, i], truth[:, i]) for i, kind in enumerate(kinds)}
    present = {kind: round(cut, 4) for kind, (cut, _) in chosen.items()}
    return (
        Thresholds(
            present=present,
            uncertain={kind: round(cut * hedge, 4) for kind, cut in present.items()},
            temperature=dict(zip(kinds, by, strict=True)),
            calibration_error=(round(before, 4), round(calibration_error(probability, truth), 4)),
        ),
        {kind: f1 for kind, (_, f1) in chosen.items()},
    )
