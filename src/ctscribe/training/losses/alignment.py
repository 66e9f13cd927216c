"""Slots should tell anatomy apart: each slot within one region, as far as it can."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ctscribe import ontology
from ctscribe.scene.regions import in_order, occupancy_on
from ctscribe.tensors import RegionMasks
from ctscribe.training.losses import LossValue


def leaf_regions(names: tuple[str, ...]) -> tuple[str, ...]:
    """The named regions that enclose no other named one."""
    return tuple(n for n in names if not any(n != other and n in ontology.ancestors(other) for other in names))


def joint(slots: Float[Tensor, "b s n"], masks: RegionMasks, grid: tuple[int, int, int]) -> Float[Tensor, "b s r"]:
    """How much of the scan each slot shares with each leaf region, sums to one; the last column is "elsewhere"."""
    leaves = in_order(masks, leaf_regions(masks.names))
    inside = occupancy_on(leaves, grid)
    inside = inside / inside.sum(1, keepdim=True).clamp_min(1)
    inside = torch.cat((inside, (1 - inside.sum(1, keepdim=True)).clamp_min(0)), dim=1)
    shared = slots.float() @ inside.transpose(1, 2)
    return shared / shared.sum((1, 2), keepdim=True).clamp_min(1e-6)


class AlignmentLoss:
    """What remains unknown of the region when the slot is known, relative to what is unknown without it.

    ``H(region | slot) / H(region)``: 0 when every slot lies within one region, 1 when slots say nothing of anatomy (all
    see the same, or one has everything). Lowering it raises the mutual information of slots and regions. It does not
    say which slot takes which region. Child slots count, parent slots do not; studies without masks weigh nothing.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene, mid = outputs.scene, outputs.visual.mid
        parents = 0 if scene.slot_parents is None else scene.slot_parents.shape[1]
        slots = scene.slot_masks[:, : scene.slot_masks.shape[1] - parents]
        rows = batch.regions.present.any(1)
        if not rows.any():
            return LossValue.nothing(slots)
        shared = joint(slots, batch.regions, mid.grid)[rows]
        of_slot, of_region = shared.sum(2, keepdim=True), shared.sum(1)
        unknown = -(shared * ((shared + 1e-12) / (of_slot + 1e-12)).log()).sum((1, 2))
        at_first = -(of_region * (of_region + 1e-12).log()).sum(1)
        return LossValue((unknown / at_first.clamp_min(1e-3)).mean(), int(rows.sum()))
