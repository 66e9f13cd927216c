"""Report generation: cross-entropy of the next token."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from ctscribe.training.losses import LossValue

IGNORE = -100
"""Label of a position that is not learned: prompt and padding (the value of Hugging Face and torch)."""


class ReportLoss:
    """Mean cross-entropy over the labelled tokens.

    ``outputs.text_logits`` (b, l, v) at position i predict ``batch.labels`` (b, l) at position i + 1: labels
    are aligned with the input ids, as Hugging Face models take them, and the shift is made here.

    Args:
        smoothing: share of probability spread over all tokens.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        logits, labels = outputs.text_logits, batch.labels
        if labels is None:
            return LossValue.nothing(logits)
        targets = labels[:, 1:]
        chosen = targets != IGNORE
        seen = int(chosen.any(dim=1).sum())
        if not seen:
            return LossValue.nothing(logits)
        # Select first: the vocabulary axis is the large one, padding should not be turned into float32.
        value = F.cross_entropy(logits[:, :-1][chosen].float(), targets[chosen], label_smoothing=self.smoothing)
        return LossValue(value, seen)
