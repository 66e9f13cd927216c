"""Where the masks come from: from outside, from the model's own segmentation head, or from outside where there is one.

With its own head the model needs no other tool: the head is trained on the classical rules' masks (or better ones) and
then draws soft masks for any scan, with gradients from whatever is built on them.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.layers import MLP
from ctscribe.scene.regions import occupancy_on
from ctscribe.tensors import RegionMasks, ScaleTokens

MaskSource = Literal["given", "own", "given_or_own"]

FAINT = 0.1
"""Own probabilities below it count as nothing: thousands of faint cells would drown a small organ."""

THERE = 0.25
"""A region is there when one cell reaches this: a bronchus never fills a whole cell."""


class OwnMasks(nn.Module):
    """Fused tokens -> one probability per token and region. Regions nest, so each has a sigmoid of its own."""

    def __init__(self, dim: int, regions: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.LayerNorm(dim), MLP(dim, 2 * dim, regions))

    def forward(self, fused: ScaleTokens) -> Float[Tensor, "b r n"]:
        """Logits; padding belongs to no region."""
        logits = self.head(fused.tokens).float().transpose(1, 2)
        return logits.masked_fill(~fused.valid.unsqueeze(1), -30.0)


def choose(
    source: MaskSource, given: RegionMasks, logits: Float[Tensor, "b q n"], grid: tuple[int, int, int]
) -> RegionMasks:
    """Masks on the fine grid: the model's own, or the given ones where they are present.

    The own masks name the first regions of ``given``; for those beyond them (segments) only given masks exist.
    """
    probability = logits.sigmoid()
    own = torch.where(probability > FAINT, probability, 0.0)
    there = probability.amax(-1) > THERE
    outside = occupancy_on(given, grid)
    regions = own.shape[1]
    first, seen = outside[:, :regions], given.present[:, :regions]
    if source == "own":
        first, seen = own, there
    else:
        first = torch.where(seen.unsqueeze(-1), first, own)
        seen = seen | there
    occupancy = torch.cat((first, outside[:, regions:]), dim=1).unflatten(-1, grid)
    present = torch.cat((seen, given.present[:, regions:]), dim=1)
    return RegionMasks(occupancy, present, given.names, given.lesions, given.lesion_kinds)
