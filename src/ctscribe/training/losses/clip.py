"""CLIP: each scan picks its report among all, each report its scan (Radford et al., ICML 2021)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ctscribe.engines.gather import gathered_rows
from ctscribe.engines.world import here
from ctscribe.training.losses import LossValue


def all_pairs(
    made: Any,
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"], Bool[Tensor, " n"], Int[Tensor, " b"]]:
    """Scans, reports and which are paired, of all processes; and the rows among them that are this process's own.

    The vectors are `centred` over the pairs of all processes.
    """
    images, texts = gathered_rows(made.images), gathered_rows(made.texts)
    paired = gathered_rows(made.paired.to(made.images.dtype).detach()) > 0
    own = torch.arange(len(made.images), device=images.device) + here().rank * len(made.images)
    return centred(images, paired), centred(texts, paired), paired, own[made.paired]


def centred(rows: Float[Tensor, "n e"], paired: Bool[Tensor, " n"]) -> Float[Tensor, "n e"]:
    """Unit vectors of how each row differs from the mean of the paired ones.

    What all chests, and all reports, share is nearly all of every vector: left in, all similarities are equal, no pair
    gets a gradient that tells it from the others, and the loss stays at chance.
    """
    share = paired.to(rows.dtype).unsqueeze(-1)
    return F.normalize(rows - (rows * share).sum(0) / share.sum().clamp_min(1), dim=-1)


def share_of(total: Tensor, pairs: int) -> Tensor:
    """A process's part of the mean over all pairs: what processes have is averaged later, not added."""
    return total * here().size / max(1, pairs)


class ClipLoss:
    """Cross-entropy of the right partner, both ways, over the pairs of all processes.

    Reads ``outputs.contrast`` (`training.pretraining.contrast.Contrast`). A study without a report is neither taught
    nor a negative; fewer than two pairs are worth zero.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        made = outputs.contrast
        images, texts, paired, own = all_pairs(made)
        pairs = int(paired.sum())
        alone = torch.where(paired, 0.0, -torch.inf) if pairs > 1 else torch.zeros_like(paired, dtype=images.dtype)
        there = F.cross_entropy(made.scale * images[own] @ texts.T + alone, own, reduction="sum")
        back = F.cross_entropy(made.scale * texts[own] @ images.T + alone, own, reduction="sum")
        value = share_of((there + back) / 2, pairs)
        # Every process goes backwards through the gathered rows, or the others would wait for it.
        return LossValue(value, len(own)) if pairs > 1 else LossValue(0 * value, 0)
