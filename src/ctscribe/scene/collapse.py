"""Have the slots collapsed? A number to watch: slots that all see the same, or one that sees everything."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SlotHealth:
    """Per study.

    Attributes:
        effective: how many slots share the scan, exp of the entropy of their masses: from 1 (one slot has all) to
            the number of slots (all have the same share).
        overlap: mean overlap of two slots' masks (soft intersection over union): 0 for disjoint masks, 1 when all
            slots look at the same tokens with the same strength.
    """

    effective: Float[Tensor, " b"]
    overlap: Float[Tensor, " b"]


def slot_health(masks: Float[Tensor, "b s n"]) -> SlotHealth:
    """Measure masks of at least two slots; differentiable, so that it can also be asked for as a loss."""
    masks = masks.float()
    mass = masks.sum(-1)
    share = mass / mass.sum(-1, keepdim=True).clamp_min(1e-6)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(-1)
    one, other = torch.triu_indices(masks.shape[1], masks.shape[1], offset=1, device=masks.device)
    both = torch.minimum(masks[:, one], masks[:, other]).sum(-1)
    either = torch.maximum(masks[:, one], masks[:, other]).sum(-1).clamp_min(1e-6)
    return SlotHealth(entropy.exp(), (both / either).mean(-1))
