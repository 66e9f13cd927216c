"""Comparison with the earlier scan: what became of each finding."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from ctscribe.training.losses import LossValue


class ChangeLoss:
    """Cross-entropy of the change of each kind of finding, over the kinds whose change is known.

    Studies without an earlier scan, or from which it was withheld in this step, weigh nothing.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        scene = outputs.scene
        if scene.change is None or batch.targets is None or batch.targets.change is None:
            return LossValue.nothing(scene.graph)
        known = (batch.targets.change >= 0) & scene.change_given.unsqueeze(1)
        seen = int(known.any(dim=1).sum())
        if not seen:
            return LossValue.nothing(scene.graph)
        return LossValue(F.cross_entropy(scene.change[known].float(), batch.targets.change[known]), seen)
