"""Detection: is each finding there, where, how large, of what kind, and in which tokens.

All five read ``outputs.findings`` (`tensors.FindingLogits`) and ``batch.targets`` (`data.dataset.Targets`).
Unknown labels weigh nothing. Every value is float32 whatever the precision of the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ctscribe.training.losses import LossValue

DOUBT = 0.5
"""Truth of a token about which readers disagree."""


def _masked_mean(value: Tensor, known: Tensor) -> LossValue:
    """Mean of `value` (b, ...) where `known` (b, ...) is true; seen counts studies with any known entry."""
    seen = int(known.flatten(1).any(dim=1).sum())
    if not seen:
        return LossValue.nothing(value)
    return LossValue(value[known].mean(), seen)


class PresenceLoss:
    """Binary cross-entropy of presence, over the kinds whose truth is known.

    Args:
        positive_weight: weight of a present finding relative to an absent one; findings are rare.
    """

    def __init__(self, positive_weight: float = 1.0) -> None:
        self.positive_weight = positive_weight

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        logits = outputs.findings.presence.float()
        if batch.targets is None:
            return LossValue.nothing(logits)
        weight = torch.tensor(self.positive_weight, device=logits.device)
        value = F.binary_cross_entropy_with_logits(logits, batch.targets.presence, pos_weight=weight, reduction="none")
        return _masked_mean(value, batch.targets.presence_known)


class WhereLoss:
    """Binary cross-entropy of "the finding lies in this region", for findings whose place is known."""

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        logits = outputs.findings.where.float()
        if batch.targets is None:
            return LossValue.nothing(logits)
        value = F.binary_cross_entropy_with_logits(logits, batch.targets.where, reduction="none")
        return _masked_mean(value, batch.targets.where_known)


class SizeLoss:
    """Smooth L1 of log(1 + mm): an error of a tenth costs the same at 5 mm and at 50 mm.

    Args:
        beta: where the quadratic part ends, in log mm; 0.1 is about ten per cent of the size.
    """

    def __init__(self, beta: float = 0.1) -> None:
        self.beta = beta

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        size = outputs.findings.size.float()
        if batch.targets is None:
            return LossValue.nothing(size)
        value = F.smooth_l1_loss(size, batch.targets.size, beta=self.beta, reduction="none")
        return _masked_mean(value, batch.targets.size_known)


class AttributesLoss:
    """Cross-entropy of each attribute's value, over all (study, finding, attribute) that are known."""

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        anchor = outputs.findings.presence
        if batch.targets is None:
            return LossValue.nothing(anchor)
        values, seen = [], torch.zeros(anchor.shape[0], dtype=torch.bool, device=anchor.device)
        for name, target in batch.targets.attributes.items():
            known = target >= 0
            if known.any():
                logits = outputs.findings.attributes[name][known].float()
                values.append(F.cross_entropy(logits, target[known], reduction="none"))
                seen |= known.any(dim=1)
        if not values:
            return LossValue.nothing(anchor)
        return LossValue(torch.cat(values).mean(), int(seen.sum()))


class DenseLoss:
    """Focal loss per fine token and finding kind: which tokens hold the lesion (Lin et al., ICCV 2017).

    A lesion fills a few of thousands of tokens. Easy tokens are turned down by (1 - p_true)^gamma, and every kind's sum
    is divided by its own number of positive tokens in the batch, so that a 5 mm granuloma weighs as much as emphysema;
    the loss is the mean over kinds. A kind that is present without one marked token was not drawn as voxels; it weighs
    nothing, for "absent everywhere" would be a lie; nor does a kind that nobody outlined, or a token about which the
    readers disagree.

    Args:
        alpha: weight of positive tokens, 1 - alpha that of negative ones.
        gamma: focal exponent.
        least: smallest divisor, so that kinds with hardly any positive token do not shout.
    """

    def __init__(self, alpha: float = 0.5, gamma: float = 2.0, least: float = 10.0) -> None:
        self.alpha, self.gamma, self.least = alpha, gamma, least

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        logits, targets = outputs.findings.dense, batch.targets
        if logits is None or targets is None or targets.dense is None:
            return LossValue.nothing(outputs.findings.presence)
        rows = targets.dense_known
        if not rows.any():
            return LossValue.nothing(logits)
        truth = targets.dense.flatten(2)[rows]
        score = logits.flatten(2)[rows].float()
        drawn = truth.any(dim=2) | (targets.presence[rows] == 0)
        known = targets.presence_known[rows] & drawn
        if targets.dense_kinds is not None:
            known = known & targets.dense_kinds[rows]
        known = known[..., None] & (truth != DOUBT)
        if not known.any():
            return LossValue.nothing(logits)
        cost = F.binary_cross_entropy_with_logits(score, truth, reduction="none")
        focus = (1 - torch.exp(-cost)) ** self.gamma
        weight = known * torch.where(truth > 0, self.alpha, 1 - self.alpha) * focus
        positives = (truth * known).sum(dim=(0, 2)).clamp(min=self.least)
        kinds = known.any(dim=2).any(dim=0)
        per_kind = (cost * weight).sum(dim=(0, 2)) / positives
        return LossValue(per_kind[kinds].mean(), int(known.flatten(1).any(dim=1).sum()))
