"""ROIAlign in three dimensions, for boxes and for masks, as plain weights over tokens.

```
 box, cut into bins        each bin: samples on a regular lattice        weights over the cells of the grid
 ┌─────┬─────┐             ┌─────────┐
 │  0  │  1  │             │ ·  ·  · │   trilinear interpolation        w(bin, t, h, w) = wz(t) * wy(h) * wx(w)
 ├─────┼─────┤      ►      │ ·  ·  · │   is a product of hat      ►     feature of a bin = Σ w * token
 │  2  │  3  │             │ ·  ·  · │   functions, one per axis        (times the mask, normalised)
 └─────┴─────┘             └─────────┘
```

The lattice of samples is regular, so their mean factorises into one small matrix per axis; no gather, and every sample
costs next to nothing. After He et al., "Mask R-CNN" (ICCV 2017), carried to volumes and to soft masks: a cell outside a
mask is not heard, not even through interpolation, and gradients reach features, masks and boxes.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Size = tuple[int, int, int]
EMPTY = 1e-6
"""Weight below which a bin counts as empty: it then shows the mean of the whole region."""


def bin_weights(
    low: Float[Tensor, "*n"], high: Float[Tensor, "*n"], cells: int, bins: int, samples: int
) -> Float[Tensor, "*n k cells"]:
    """Weights of the cells of one axis in each bin between ``low`` and ``high``, before they are normalised.

    Positions are cell edges: cell i reaches from i to i + 1. Beyond the grid there is nothing, as in padding.
    """
    steps = (torch.arange(bins * samples, device=low.device, dtype=low.dtype) + 0.5) / (bins * samples)
    points = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * steps
    middles = torch.arange(cells, device=low.device, dtype=low.dtype) + 0.5
    hats = (1 - (points.unsqueeze(-1) - middles).abs()).clamp_min(0)
    return rearrange(hats, "... (k s) c -> ... k s c", s=samples).mean(-2)


def align_weights(
    boxes: Float[Tensor, "b r 6"], grid: Size, bins: Size, samples: int, masks: Float[Tensor, "b r n"] | None = None
) -> Float[Tensor, "b r p n"]:
    """How much every cell counts in every bin of every box; each bin's weights sum to one.

    Args:
        boxes: (z, y, x) of the low corner, then of the high one, in cell edges of the grid.
        grid: cells (t, h, w).
        bins: bins per axis; p = their product, z slowest.
        samples: lattice points per axis and bin.
        masks: in 0..1, hard or soft; the whole grid when not given. A bin without mask shows the region's mean, an
            empty mask gives zeros.
    """
    axes = [bin_weights(boxes[..., axis], boxes[..., 3 + axis], grid[axis], bins[axis], samples) for axis in range(3)]
    weights = torch.einsum("brit,brjh,brkw->brijkthw", *axes).flatten(2, 4).flatten(-3)
    masks = torch.ones_like(weights[:, :, 0]) if masks is None else masks
    weights = weights * masks.unsqueeze(2)
    whole = masks / masks.sum(-1, keepdim=True).clamp_min(EMPTY)
    return (weights + EMPTY * whole.unsqueeze(2)) / (weights.sum(-1, keepdim=True) + EMPTY)


def roi_align(
    tokens: Float[Tensor, "b n c"],
    grid: Size,
    boxes: Float[Tensor, "b r 6"],
    *,
    bins: Size = (2, 2, 2),
    samples: int = 4,
    masks: Float[Tensor, "b r n"] | None = None,
) -> Float[Tensor, "b r p c"]:
    """Features of every bin of every box, see `align_weights`."""
    weights = align_weights(boxes, grid, bins, samples, masks)
    return torch.einsum("brpn,bnc->brpc", weights.to(tokens.dtype), tokens)


@torch.no_grad()
def boxes_of(masks: Float[Tensor, "b r n"], grid: Size) -> Float[Tensor, "b r 6"]:
    """Tight box (cell edges) around the cells that hold at least half of a mask's maximum; the whole grid if empty."""
    shaped = masks.unflatten(-1, grid)
    peak = masks.amax(-1)
    filled = (shaped >= peak[..., None, None, None] / 2) & (shaped > 0)
    low, high = [], []
    for axis, size in enumerate(grid):
        line = filled.movedim(2 + axis, -1).flatten(2, 3).any(2)
        place = torch.arange(size, device=masks.device)
        low.append(torch.where(line, place, size).amin(-1))
        high.append(torch.where(line, place + 1, 0).amax(-1))
    box = torch.stack((*low, *high), dim=-1).to(masks.dtype)
    everything = box.new_tensor((0, 0, 0, *grid))
    return torch.where((peak > 0).unsqueeze(-1), box, everything)
