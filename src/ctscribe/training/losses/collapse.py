"""Watching slots: with weight 0 in a stage these are numbers in the log, with a weight they keep slots apart."""

from __future__ import annotations

from typing import Any

from ctscribe.scene.collapse import slot_health
from ctscribe.training.losses import LossValue


class SlotUseLoss:
    """Share of the slots that go unused: 1 - (effective number / number); 0 when all share the scan alike."""

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        masks = outputs.scene.slot_masks
        return LossValue((1 - slot_health(masks).effective / masks.shape[1]).mean(), len(masks))


class SlotOverlapLoss:
    """Mean overlap of two slots' masks: 0 when disjoint, 1 when all slots see the same."""

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        masks = outputs.scene.slot_masks
        return LossValue(slot_health(masks).overlap.mean(), len(masks))
