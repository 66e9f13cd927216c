"""One map for detection: fine tokens that also know what the mid and coarse stages know (top-down)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.tensors import ScaleTokens, VisualTokens


def as_grid(scale: ScaleTokens) -> Float[Tensor, "b c t h w"]:
    """Flat tokens back on their grid, channels first."""
    t, h, w = scale.grid
    return rearrange(scale.tokens, "b (t h w) c -> b c t h w", t=t, h=h, w=w)


class TopDown(nn.Module):
    """``fused = fine + up(mid) + up(coarse)``, each projected to a common width, then a norm."""

    def __init__(self, widths: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Linear(w, dim) for w in widths)
        self.norm = nn.LayerNorm(dim)

    def forward(self, visual: VisualTokens) -> ScaleTokens:
        fine = visual.fine
        total = self.lateral[0](fine.tokens)
        for scale, project in zip(visual.scales[1:], list(self.lateral)[1:], strict=True):
            coarse = as_grid(scale.map(project(scale.tokens)))
            total = total + rearrange(F.interpolate(coarse, size=fine.grid, mode="nearest"), "b c t h w -> b (t h w) c")
        return fine.map(self.norm(total))
