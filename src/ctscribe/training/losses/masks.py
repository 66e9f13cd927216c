"""The model's own segmentation: Dice and cross-entropy against the masks that the scan came with."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ctscribe.errors import ConfigError
from ctscribe.scene.regions import in_order, occupancy_on
from ctscribe.training.losses import LossValue


def dice_loss(score: Float[Tensor, "*#b n"], truth: Float[Tensor, "*#b n"]) -> Float[Tensor, "*_"]:
    """1 - soft Dice with squared sums (Milletari et al., 3DV 2016): 0 exactly when the two are equal."""
    both = (score * truth).sum(-1)
    return 1 - (2 * both + 1e-3) / (score.square().sum(-1) + truth.square().sum(-1) + 1e-3)


class MaskLoss:
    """Soft Dice plus binary cross-entropy per region, over the regions whose mask is there.

    Reads ``outputs.scene.mask_logits`` (b, r, m) and ``batch.regions`` (the classical rules' masks, or better ones).
    A region that is absent from the given masks is not known to be missing from the scan, and weighs nothing. The
    cross-entropy of every region is weighted so that its cells count as much as all the others: a bronchus fills a
    thousandth of the grid.

    Args:
        dice: weight of the Dice part.
        entropy: weight of the cross-entropy part.
    """

    def __init__(self, dice: float = 1.0, entropy: float = 1.0) -> None:
        self.dice, self.entropy = dice, entropy

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene = outputs.scene
        if scene.mask_logits is None:
            raise ConfigError(
                "the loss 'masks' needs a model that segments", expected="scene.masks=own or given_or_own"
            )
        logits = scene.mask_logits.float()
        names = scene.region_names[: logits.shape[1]]
        given = in_order(batch.regions, names)
        if not given.present.any():
            return LossValue.nothing(logits)
        grid, valid = outputs.visual.fine.grid, outputs.visual.fine.valid
        known = given.present
        truth = occupancy_on(given, grid)[known]
        score, real = logits[known], valid.unsqueeze(1).expand_as(logits)[known].float()
        cost = F.binary_cross_entropy_with_logits(score, truth, reduction="none")
        share = (truth * real).sum(-1, keepdim=True) / real.sum(-1, keepdim=True)
        weight = real * torch.where(truth > 0, 0.5 / share.clamp_min(1e-3), 0.5 / (1 - share).clamp_min(1e-3))
        entropy = (cost * weight).sum(-1) / weight.sum(-1)
        value = self.dice * dice_loss(score.sigmoid() * real, truth * real) + self.entropy * entropy
        return LossValue(value.mean(), int(known.any(1).sum()))
