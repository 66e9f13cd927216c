"""Phase 2.2: slot attention, objects that nobody named (Locatello et al., NeurIPS 2020).

Slots compete for tokens: the softmax runs over slots, then each slot takes the mean of the tokens it won.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.layers import MLP


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
            weights = (masks + 1e-8) / (masks + 1e-8).sum(-1, keepdim=True)
            heard = weights.to(v.dtype) @ v
            moved = self.update(heard.flatten(0, 1).float(), slots.flatten(0, 1).float()).view_as(slots)
            slots = moved + self.mlp(self.norm_mlp(moved))
        return slots, masks
