"""SigLIP: of each pair of scan and report, do they belong together? (Zhai et al., ICCV 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from ctscribe.training.losses import LossValue
from ctscribe.training.losses.clip import all_pairs, share_of


class SiglipLoss:
    """Binary cross-entropy of "these two belong together" over all pairs of all processes, per scan.

    Every pair is judged by itself, so small batches lose less than with `ClipLoss`. Studies without a report are
    neither taught nor negatives; fewer than two pairs are worth zero, for nothing is left of one that is centred.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        made = outputs.contrast
        images, texts, paired, own = all_pairs(made)
        logits = made.scale * images[own] @ texts.T + made.bias
        right = -torch.ones_like(logits)
        right[torch.arange(len(own), device=own.device), own] = 1.0
        cost = -F.logsigmoid(right * logits) * paired
        pairs = int(paired.sum())
        value = share_of(cost.sum(), pairs)
        # Every process goes backwards through the gathered rows, or the others would wait for it.
        return LossValue(value, len(own)) if pairs > 1 else LossValue(0 * value, 0)
