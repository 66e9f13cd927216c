"""Phase 2.1: one token per anatomical region, by pooling features under its mask.

A region's token carries what is seen inside it (a masked mean, or ROIAlign, which keeps where in the region it was
seen) and what it measures (volume, centre, extent: a heart that is too wide for its thorax is cardiomegaly). An absent
mask is a normal case: the token is then a learned "not seen" embedding, on the same code path.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.layers import MLP
from ctscribe.scene.roi import boxes_of, roi_align
from ctscribe.tensors import RegionMasks, ScaleTokens

Pooling = Literal["mean", "align"]


def occupancy_on(masks: RegionMasks, grid: tuple[int, int, int]) -> Float[Tensor, "b r n"]:
    """Share of every token's cell that each region occupies."""
    return _on(masks.occupancy * masks.present[:, :, None, None, None], grid)


def lesions_on(masks: RegionMasks, grid: tuple[int, int, int], count: int) -> Float[Tensor, "b l n"]:
    """Share of every token's cell that each of ``count`` lesions occupies; missing ones are empty."""
    cells = grid[0] * grid[1] * grid[2]
    if masks.lesions is None:
        return masks.occupancy.new_zeros(masks.occupancy.shape[0], count, cells)
    given = _on(masks.lesions[:, :count], grid)
    return F.pad(given, (0, 0, 0, count - given.shape[1]))


def lesion_kinds(masks: RegionMasks, count: int) -> Int[Tensor, "b l"]:
    """Kinds of ``count`` lesions, -1 where not known or not there."""
    unknown = torch.full((masks.present.shape[0], count), -1, dtype=torch.long, device=masks.present.device)
    if masks.lesion_kinds is None:
        return unknown
    given = masks.lesion_kinds[:, :count]
    return torch.cat((given, unknown[:, given.shape[1] :]), dim=1)


def _on(masks: Float[Tensor, "b r z y x"], grid: tuple[int, int, int]) -> Float[Tensor, "b r n"]:
    pooled = masks if tuple(masks.shape[2:]) == tuple(grid) else F.adaptive_avg_pool3d(masks, grid)
    return pooled.flatten(2)


def in_order(masks: RegionMasks, names: tuple[str, ...]) -> RegionMasks:
    """The masks of these regions in this order; a region without a mask is absent."""
    if masks.names == names:
        return masks
    place = {name: i for i, name in enumerate(masks.names)}
    known = [name in place for name in names]
    rows = torch.tensor([place.get(name, 0) for name in names], device=masks.present.device)
    there = torch.tensor(known, device=masks.present.device)
    return RegionMasks(
        occupancy=masks.occupancy[:, rows] * there[:, None, None, None],
        present=masks.present[:, rows] & there,
        names=names,
        lesions=masks.lesions,
        lesion_kinds=masks.lesion_kinds,
    )


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
    variance = (second - mean**2).clamp_min(0)
    # Where masks are learned, a mask of one cell must not divide by zero on the way back.
    spread = torch.where(variance > 1, variance.clamp_min(1).sqrt(), variance.detach().sqrt())
    described = torch.cat((torch.log1p(total).unsqueeze(-1) / 5, mean / 100, spread / 100), dim=-1)
    return described, mean


class RegionPool(nn.Module):
    """Fused features + masks -> region tokens.

    Args:
        dim: channels.
        regions: named regions, each with its own name and "not seen" embedding.
        pooling: ``"mean"`` under the mask, or ``"align"``: ROIAlign in the mask's box, whose bins are read together.
        bins: bins per axis of ROIAlign.
        samples: sample points per axis and bin of ROIAlign.
    """

    def __init__(self, dim: int, regions: int, *, pooling: Pooling = "mean", bins: int = 2, samples: int = 4) -> None:
        super().__init__()
        self.pooling, self.bins, self.samples = pooling, (bins, bins, bins), samples
        self.geometry = MLP(7, dim, dim)
        self.name = nn.Parameter(torch.randn(regions, dim) * 0.02)
        self.absent = nn.Parameter(torch.randn(regions, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)
        if pooling == "align":
            self.layout = nn.Linear(bins**3 * dim, dim, bias=False)

    def forward(
        self, fused: ScaleTokens, weights: Float[Tensor, "b r n"]
    ) -> tuple[Float[Tensor, "b r c"], Bool[Tensor, "b r"], Float[Tensor, "b r 3"]]:
        """Returns tokens, which regions are present, and their centres in mm."""
        seen, present, centres = self.see(fused, weights)
        token = seen + self.name
        return torch.where(present.unsqueeze(-1), token, self.absent.to(token.dtype)), present, centres

    def see(
        self, fused: ScaleTokens, weights: Float[Tensor, "b r n"]
    ) -> tuple[Float[Tensor, "b r c"], Bool[Tensor, "b r"], Float[Tensor, "b r 3"]]:
        """What is seen and measured under each mask, before anything is named."""
        if self.pooling == "align":
            inside = weights * fused.valid.unsqueeze(1)
            boxes = boxes_of(inside, fused.grid)
            bins = roi_align(fused.tokens, fused.grid, boxes, bins=self.bins, samples=self.samples, masks=inside)
            mean = bins.mean(2)
            mean = mean + self.layout((bins - mean.unsqueeze(2)).flatten(2))
            total = inside.sum(-1)
        else:
            mean, total = masked_mean(fused.tokens, weights)
        geometry, centres = region_geometry(weights, fused.centres)
        return self.norm(mean + self.geometry(geometry.to(mean.dtype))), total > 0, centres


class LesionPool(nn.Module):
    """Masks of single lesions -> tokens, pooled as regions are; lesions have a kind instead of a name."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(ontology.findings()) + 1, dim)  # the first row: kind not known
        nn.init.normal_(self.kind.weight, std=0.02)
        self.absent = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(
        self, pool: RegionPool, fused: ScaleTokens, weights: Float[Tensor, "b l n"], kinds: Int[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l c"], Bool[Tensor, "b l"], Float[Tensor, "b l 3"]]:
        """Returns tokens, which lesions are present, and their centres in mm."""
        seen, present, centres = pool.see(fused, weights)
        token = seen + self.kind(kinds + 1)
        return torch.where(present.unsqueeze(-1), token, self.absent.to(token.dtype)), present, centres
