"""Slots learn to hold one lesion each: set prediction with Hungarian matching (DETR, Carion et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ctscribe.data.objects import objects_of
from ctscribe.data.targets import Targets
from ctscribe.errors import ConfigError
from ctscribe.tensors import ScaleTokens, SceneTokens, VisualTokens
from ctscribe.training.losses import LossValue
from ctscribe.training.losses.masks import dice_loss

DECIMETRE = 100.0


def boxes_in_mm(boxes: Float[Tensor, "o 6"], fine: ScaleTokens, row: int) -> Float[Tensor, "o 6"]:
    """Cell edges of the fine grid -> mm in the model's coordinates of one study."""
    centres = fine.centres[row].unflatten(0, fine.grid)
    first = centres[0, 0, 0]
    steps = torch.stack([centres.movedim(a, 0)[min(1, n - 1), 0, 0, a] for a, n in enumerate(fine.grid)]) - first
    return boxes.unflatten(-1, (2, 3)).sub(0.5).mul(steps).add(first).flatten(-2)


def volume_of(boxes: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n"]:
    """Volume of boxes; zero for one turned inside out."""
    return (boxes[..., 3:] - boxes[..., :3]).clamp_min(0).prod(-1)


def generalised_iou(a: Float[Tensor, "*#n 6"], b: Float[Tensor, "*#n 6"]) -> Float[Tensor, "*_"]:
    """GIoU of pairs of boxes in three dimensions, -1 to 1 (Rezatofighi et al., CVPR 2019)."""
    a, b = torch.broadcast_tensors(a, b)
    both = volume_of(torch.cat((torch.maximum(a[..., :3], b[..., :3]), torch.minimum(a[..., 3:], b[..., 3:])), -1))
    around = volume_of(torch.cat((torch.minimum(a[..., :3], b[..., :3]), torch.maximum(a[..., 3:], b[..., 3:])), -1))
    either = (volume_of(a) + volume_of(b) - both).clamp_min(1e-6)
    return both / either - (around - either) / around.clamp_min(1e-6)


def match(cost: Float[Tensor, "s o"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """The one-to-one assignment of slots to objects with the least total cost; min(s, o) pairs."""
    from scipy.optimize import linear_sum_assignment

    # A step that is not finite is left out by the training loop; it must get that far.
    slots, objects = linear_sum_assignment(cost.detach().float().nan_to_num().cpu().numpy())
    return torch.as_tensor(slots, device=cost.device), torch.as_tensor(objects, device=cost.device)


@dataclass(frozen=True)
class Lesions:
    """What one study's slots should hold: kinds, boxes in mm, masks on the mid grid (None where only boxes known).

    ``looked_for``: kinds that were outlined; of others it is not known that a slot should not hold them. None for all.
    """

    kinds: Int[Tensor, " o"]
    boxes: Float[Tensor, "o 6"]
    masks: Float[Tensor, "o ..."] | None
    looked_for: Bool[Tensor, " f"] | None = None


@dataclass(frozen=True)
class Match:
    """Which slot of a study was given which lesion."""

    row: int
    lesions: Lesions
    slots: Int[Tensor, " m"]
    objects: Int[Tensor, " m"]


class SlotLoss:
    """Cross-entropy of the kind, L1 and GIoU of the box, Dice of the mask, on the best assignment of slots to lesions.

    Reads ``outputs.scene`` (``slot_boxes``, ``slot_kinds``, ``slot_masks``) and the lesions of ``batch.targets``. Slots
    without a lesion learn to say "nothing" with a small weight, for most are empty; where only some kinds were outlined
    they learn to say none of these. Where only boxes are known the mask part is left out; studies with neither outlines
    nor boxes weigh nothing.

    Args:
        kind: weight of the cross-entropy, and of the kind's probability in the assignment.
        distance: weight of the mean distance of the corners per axis, in decimetres.
        overlap: weight of 1 - GIoU.
        mask: weight of the Dice part.
        empty: weight of an empty slot relative to a full one.
    """

    def __init__(
        self, kind: float = 1.0, distance: float = 2.0, overlap: float = 1.0, mask: float = 1.0, empty: float = 0.1
    ) -> None:
        self.kind, self.distance, self.overlap, self.mask, self.empty = kind, distance, overlap, mask, empty

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene = outputs.scene
        if scene.slot_boxes is None or scene.slot_kinds is None:
            raise ConfigError("the loss 'slots' needs slots that name objects", expected="scene.slot_objects=true")
        values = [
            self._study(scene.slot_kinds[m.row], scene.slot_boxes[m.row], scene.slot_masks[m.row].float(), m)
            for m in self.matches(outputs, batch)
        ]
        if not values:
            return LossValue.nothing(scene.slot_masks)
        return LossValue(torch.stack(values).mean(), len(values))

    def matches(self, outputs: Any, batch: Any) -> Iterator[Match]:
        """The assignment in every study whose lesions were outlined, or at least boxed."""
        scene = outputs.scene
        for row, lesions in lesions_of(batch.targets, outputs.visual, scene.slot_masks.shape[1]):
            yield Match(row, lesions, *match(self.costs(scene, row, lesions)))

    def costs(self, scene: SceneTokens, row: int, lesions: Lesions) -> Float[Tensor, "s o"]:
        """What it would cost to give each lesion to each slot; without the object head only the masks decide."""
        slots = scene.slot_masks[row].float()
        cost = slots.new_zeros(slots.shape[0], len(lesions.kinds))
        if lesions.masks is not None:
            cost = cost + self.mask * dice_loss(slots.unsqueeze(1), lesions.masks.unsqueeze(0))
        if scene.slot_boxes is None or scene.slot_kinds is None:
            return cost
        said = scene.slot_boxes[row].unsqueeze(1)
        distance = (said - lesions.boxes).abs().mean(-1) / DECIMETRE
        likely = scene.slot_kinds[row].softmax(-1)[:, lesions.kinds]
        giou = generalised_iou(said, lesions.boxes.unsqueeze(0))
        return cost + self.distance * distance - self.overlap * giou - self.kind * likely

    def _study(
        self, logits: Float[Tensor, "s f"], boxes: Float[Tensor, "s 6"], masks: Float[Tensor, "s n"], found: Match
    ) -> Tensor:
        slots, objects, lesions = found.slots, found.objects, found.lesions
        truth = torch.full((logits.shape[0],), logits.shape[1] - 1, device=logits.device)
        truth[slots] = lesions.kinds[objects]
        weight = torch.full_like(logits[:, 0], self.empty)
        weight[slots] = 1.0
        entropy = F.cross_entropy(logits, truth, reduction="none")
        if lesions.looked_for is not None:
            silent = -torch.log1p(-logits.softmax(-1)[:, :-1][:, lesions.looked_for].sum(-1).clamp_max(1 - 1e-6))
            entropy = torch.where(truth == logits.shape[1] - 1, silent, entropy)
        value = self.kind * (entropy * weight).sum() / weight.sum()
        if len(slots):
            said, wanted = boxes[slots], lesions.boxes[objects]
            value = value + self.distance * (said - wanted).abs().mean() / DECIMETRE
            value = value + self.overlap * (1 - generalised_iou(said, wanted)).mean()
            if lesions.masks is not None:
                value = value + self.mask * dice_loss(masks[slots], lesions.masks[objects]).mean()
        return value


def lesions_of(targets: Targets | None, visual: VisualTokens, most: int) -> Iterator[tuple[int, Lesions]]:
    """(row, lesions) of every study with outlines, and of every study without them that has boxes.

    Lesions that were outlined one by one are taken as they are; where only lesion tokens are known, their connected
    pieces stand for lesions.
    """
    if targets is None:
        return
    found = objects_of(targets, most)
    for row in range(len(targets.dense_known)):
        looked_for = None if targets.dense_kinds is None else targets.dense_kinds[row]
        looked_for = None if looked_for is None or bool(looked_for.all()) else looked_for
        single = _single(targets, row, most)
        if single is not None and single.masks is not None:
            masks = F.adaptive_avg_pool3d(single.masks.unsqueeze(0), visual.mid.grid)[0].flatten(1)
            yield row, Lesions(single.kinds, single.boxes, masks, looked_for)
        elif found is not None and bool(found.known[row]):
            real = found.kind[row] >= 0
            boxes = boxes_in_mm(found.boxes[row, real], visual.fine, row)
            masks = F.adaptive_avg_pool3d(found.masks[row : row + 1], visual.mid.grid)[0, real].flatten(1)
            yield row, Lesions(found.kind[row, real], boxes, masks, looked_for)
        elif single is not None:
            yield row, single


def _single(targets: Targets, row: int, most: int) -> Lesions | None:
    """Boxes of single lesions, and their masks (o, t, h, w) where they were outlined; None for a study without."""
    if targets.boxes is None or targets.box_kinds is None:
        return None
    real = targets.box_kinds[row] >= 0
    if not bool(real.any()):
        return None
    masks = None if targets.box_masks is None else targets.box_masks[row, real][:most]
    outlined = masks is not None and bool(masks.flatten(1).any(1).all())
    return Lesions(targets.box_kinds[row, real][:most], targets.boxes[row, real][:most], masks if outlined else None)
