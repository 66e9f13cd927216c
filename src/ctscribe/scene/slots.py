"""Phase 2.2: slot attention, objects that nobody named (Locatello et al., NeurIPS 2020).

Slots compete for tokens: the softmax runs over slots, then each slot takes the mean of the tokens it won. Objects of a
chest differ in size a hundredfold, so groups of slots may each look at a scale of their own, and parent slots may
gather child slots into larger things.

```
 fine tokens ──► slots 0-5  ─┐
 mid tokens  ──► slots 6-10 ─┼─► child slots ──► parent slots (slot attention over slots)
 coarse      ──► slots 11-15─┘       masks on the mid grid, whatever the scale
```
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.layers import MLP
from ctscribe.tensors import ScaleTokens, VisualTokens

SlotScale = Literal["fine", "mid", "coarse"]
SCALES: tuple[SlotScale, ...] = ("fine", "mid", "coarse")


class SlotAttention(nn.Module):
    """Tokens -> slots, refined over ``steps`` rounds with shared weights.

    Each slot starts from its own learned vector; in training a little noise is added, so that slots do not lean on
    their order. Permuting the starts permutes the slots and their masks.
    """

    def __init__(self, dim_in: int, dim: int, slots: int = 16, steps: int = 3, noise: float = 0.1) -> None:
        super().__init__()
        self.steps, self.noise = steps, noise
        self.start = nn.Parameter(torch.randn(slots, dim) * dim**-0.5)
        self.norm_in, self.norm_slot, self.norm_mlp = (
            nn.LayerNorm(dim_in),
            nn.LayerNorm(dim),
            nn.LayerNorm(dim),
        )
        self.k, self.v, self.q = nn.Linear(dim_in, dim), nn.Linear(dim_in, dim), nn.Linear(dim, dim)
        self.update = nn.GRUCell(dim, dim)
        self.mlp = MLP(dim, 2 * dim)

    def forward(
        self,
        tokens: Float[Tensor, "b n c"],
        valid: Bool[Tensor, "b n"],
        start: Float[Tensor, "b s d"] | None = None,
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s n"]]:
        """Returns slots and masks: the share of each token that each slot explains (sums to 1 over slots)."""
        if start is None:
            start = self.start.expand(tokens.shape[0], -1, -1)
            if self.training and self.noise:
                start = start + self.noise * start.std() * torch.randn_like(start)
        tokens = self.norm_in(tokens)
        k, v = self.k(tokens), self.v(tokens)
        slots = start
        for _ in range(self.steps):
            q = self.q(self.norm_slot(slots))
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            masks = scores.float().softmax(dim=1) * valid.unsqueeze(1)
            # Padding is not heard at all, not even by the small number that keeps an empty slot defined.
            weights = (masks + 1e-8) * valid.unsqueeze(1)
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-8)
            heard = weights.to(v.dtype) @ v
            moved = self.update(heard.flatten(0, 1).float(), slots.flatten(0, 1).float()).view_as(slots)
            slots = moved + self.mlp(self.norm_mlp(moved))
        return slots, masks


class ScaledSlots(nn.Module):
    """Groups of slots, each with a scale of its own; within a group every token is shared out once.

    Args:
        widths: channels of the fine, mid and coarse tokens.
        scales: which scale each group looks at; slots are dealt out evenly, the first groups take what is left over.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        dim: int,
        slots: int,
        scales: tuple[SlotScale, ...],
        steps: int = 3,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        counts = [slots // len(scales) + (i < slots % len(scales)) for i in range(len(scales))]
        self.groups = nn.ModuleDict(
            {
                name: SlotAttention(widths[SCALES.index(name)], dim, count, steps, noise)
                for name, count in zip(scales, counts, strict=True)
            }
        )

    def forward(self, visual: VisualTokens) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s n"]]:
        """Slots of all groups in order, and their masks on the mid grid."""
        slots, masks = [], []
        for name, group in self.groups.items():
            scale = visual.scales[SCALES.index(name)]
            found, mask = group(scale.tokens, scale.valid)
            slots.append(found)
            masks.append(on_grid_of(visual.mid, mask, scale.grid))
        return torch.cat(slots, dim=1), torch.cat(masks, dim=1)


def on_grid_of(scale: ScaleTokens, masks: Float[Tensor, "b s m"], grid: tuple[int, int, int]) -> Float[Tensor, "b s n"]:
    """Masks moved from their own grid to that of ``scale``: averaged when it is coarser, repeated when it is finer."""
    if grid == scale.grid:
        return masks
    t, h, w = grid
    shaped = rearrange(masks, "b s (t h w) -> b s t h w", t=t, h=h, w=w)
    finer = scale.grid[0] >= t
    moved = F.interpolate(shaped, size=scale.grid) if finer else F.adaptive_avg_pool3d(shaped, scale.grid)
    return moved.flatten(2) * scale.valid.unsqueeze(1)


class SlotParents(nn.Module):
    """Parent slots compete for child slots; a parent's mask is what its children explain."""

    def __init__(self, dim: int, parents: int, steps: int = 3, noise: float = 0.1) -> None:
        super().__init__()
        self.gather = SlotAttention(dim, dim, parents, steps, noise)

    def forward(
        self, children: Float[Tensor, "b s d"], masks: Float[Tensor, "b s n"]
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b p n"], Float[Tensor, "b p s"]]:
        """Parent slots, their masks, and the share of each child that each parent takes (sums to 1 over parents)."""
        everyone = torch.ones(children.shape[:2], dtype=torch.bool, device=children.device)
        parents, shares = self.gather(children, everyone)
        return parents, shares @ masks.float(), shares
