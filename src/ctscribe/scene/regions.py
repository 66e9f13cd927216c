"""Phase 2.1: one token per anatomical region, by pooling features under its mask.

A region's token carries what is seen inside it (masked mean of the fused features) and what it measures (volume,
centre, extent: a heart that is too wide for its thorax is cardiomegaly). An absent mask is a normal case: the token is
then a learned "not seen" embedding, on the same code path.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.layers import MLP
from ctscribe.tensors import RegionMasks, ScaleTokens


def occupancy_on(masks: RegionMasks, grid: tuple[int, int, int]) -> Float[Tensor, "b r n"]:
    """Share of every token's cell that each region occupies."""
    occupancy = masks.occupancy
    if tuple(occupancy.shape[2:]) != tuple(grid):
        occupancy = F.adaptive_avg_pool3d(occupancy, grid)
    return (occupancy * masks.present[:, :, None, None, None]).flatten(2)


def masked_mean(
    values: Float[Tensor, "b n c"], weights: Float[Tensor, "b r n"]
) -> tuple[Float[Tensor, "b r c"], Float[Tensor, "b r"]]:
    """Weighted mean of values under each weight map (zero where a map is empty), and the weight sums."""
    total = weights.sum(-1)
    mean = (weights / total.clamp_min(1e-6).unsqueeze(-1)).to(values.dtype) @ values
    return mean, total


def region_geometry(
    weights: Float[Tensor, "b r n"], centres: Float[Tensor, "b n 3"]
) -> tuple[Float[Tensor, "b r 7"], Float[Tensor, "b r 3"]]:
    """(log cells, centre z y x, spread z y x) per region, in decimetres where metric; and centres in mm."""
    mean, total = masked_mean(centres.float(), weights.float())
    second, _ = masked_mean(centres.float() ** 2, weights.float())
    spread = (second - mean**2).clamp_min(0).sqrt()
    described = torch.cat((torch.log1p(total).unsqueeze(-1) / 5, mean / 100, spread / 100), dim=-1)
    return described, mean


class RegionPool(nn.Module):
    """Fused features + masks -> region tokens."""

    def __init__(self, dim: int, regions: int) -> None:
        super().__init__()
        self.geometry = MLP(7, dim, dim)
        self.name = nn.Parameter(torch.randn(regions, dim) * 0.02)
        self.absent = nn.Parameter(torch.randn(regions, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, fused: ScaleTokens, weights: Float[Tensor, "b r n"]
    ) -> tuple[Float[Tensor, "b r c"], Bool[Tensor, "b r"], Float[Tensor, "b r 3"]]:
        """Returns tokens, which regions are present, and their centres in mm."""
        mean, total = masked_mean(fused.tokens, weights)
        geometry, centres = region_geometry(weights, fused.centres)
        present = total > 0
        token = self.norm(mean + self.geometry(geometry.to(mean.dtype))) + self.name
        return torch.where(present.unsqueeze(-1), token, self.absent.to(token.dtype)), present, centres
