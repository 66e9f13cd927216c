"""Gated cross-attention: how a language-model layer looks at the scan (Flamingo, Alayrac et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.layers import Attention, Remembered, TanhGate


class GatedCrossAttention(nn.Module):
    """``gate(attend(x, memory))``: what a layer adds to its words. With the gate at zero that is nothing.

    A sample without any valid memory hears nothing either.

    Args:
        near: the first so many memory tokens are few and decided (facts); all others are many and seen (the scan).
        reach: where the learned bias, per head, on the attention to the many starts. At -6 a thousand of them weigh
            about as much as two of the few, so that a writer that has learned to say facts is not drowned out when it
            first opens its eyes.
    """

    def __init__(
        self, dim: int, memory_dim: int, heads: int, *, gate: float = 0.0, near: int = 0, reach: float = 0.0
    ) -> None:
        super().__init__()
        self.near = near
        self.reach = nn.Parameter(torch.full((heads,), float(reach))) if near else None
        self.norm, self.norm_memory = nn.LayerNorm(dim), nn.LayerNorm(memory_dim)
        self.attention = Attention(dim, heads, memory_dim=memory_dim)
        self.gate = TanhGate(gate)

    def remember(self, memory: Float[Tensor, "b m d"], valid: Bool[Tensor, "b m"]) -> Remembered:
        """The memory made ready; it stays the same for every word that is written."""
        bias = None
        if self.reach is not None:  # of each head on every token that is not near
            far = torch.arange(memory.shape[1], device=memory.device) >= self.near
            bias = (self.reach[:, None, None] * far)[None]
        made = self.attention.prepare(self.norm_memory(memory), valid, bias)
        return made._replace(weight=self.gate(made.weight))

    def forward(
        self, x: Float[Tensor, "b l c"], remembered: Remembered, *, return_weights: bool = False
    ) -> tuple[Float[Tensor, "b l c"], Float[Tensor, "b l m"] | None]:
        """What is added to ``x``, and if asked the weights."""
        return self.attention.recall(self.norm(x), remembered, return_weights=return_weights)
