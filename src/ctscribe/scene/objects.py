"""What a slot holds: a box in millimetres and a kind of finding, or nothing (the head of DETR, Carion et al. 2020)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.layers import MLP
from ctscribe.scene.regions import masked_mean

REACH_MM = 100.0
SMALLEST_MM = 2.0


class ObjectHead(nn.Module):
    """Slots + masks -> boxes and kinds.

    The box starts from the middle and the spread of the slot's mask and is corrected from what the slot says, so that
    boxes are in millimetres of the model's coordinates from the start.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.box = MLP(dim, 2 * dim, 6)
        self.kind = nn.Linear(dim, len(ontology.findings()) + 1)

    def forward(
        self, slots: Float[Tensor, "b s d"], masks: Float[Tensor, "b s n"], centres: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b s 6"], Float[Tensor, "b s f"]]:
        """Boxes (low corner, high corner; z, y, x in mm), and logits over finding kinds and "nothing" (last)."""
        slots = self.norm(slots)
        middle, _ = masked_mean(centres.float(), masks.float())
        second, _ = masked_mean(centres.float() ** 2, masks.float())
        spread = (second - middle**2).clamp_min(SMALLEST_MM**2).sqrt()
        move, stretch = self.box(slots).float().chunk(2, dim=-1)
        middle = middle + REACH_MM * move / 4
        half = spread * torch.exp(stretch.clamp(-4, 4))
        return torch.cat((middle - half, middle + half), dim=-1), self.kind(slots).float()
