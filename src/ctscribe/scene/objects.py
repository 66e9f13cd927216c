"""What a slot holds: a box in millimetres and a kind of finding, or nothing (the head of DETR, Carion et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe import ontology
from ctscribe.layers import MLP
from ctscribe.scene.regions import masked_mean
from ctscribe.tensors import SceneTokens

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


@dataclass(frozen=True)
class SlotObject:
    """A lesion that one slot holds: its kind and how probable it is, and its box.

    ``box``: (z, y, x) of the low, then of the high corner, in mm from the middle of the model's grid.
    """

    kind: str
    probability: float
    box: tuple[float, ...]


@torch.no_grad()
def slot_objects(scene: SceneTokens) -> tuple[SlotObject, ...]:
    """What the slots of the first study hold, most probable first; slots that hold nothing are left out."""
    if scene.slot_boxes is None or scene.slot_kinds is None:
        return ()
    kinds = list(ontology.findings())
    chances = scene.slot_kinds[0].float().softmax(-1)
    found = [
        SlotObject(kinds[best], float(chances[slot, best]), tuple(scene.slot_boxes[0, slot].tolist()))
        for slot, best in enumerate(chances.argmax(-1).tolist())
        if best < len(kinds)
    ]
    return tuple(sorted(found, key=lambda slot: -slot.probability))
