"""Losses: one idea, one file.

A loss reads the model's outputs and the batch, leaves out every sample that lacks its labels, and says how
many it saw. It never fails because labels are missing: a batch without them is worth zero and seen zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

SPEC_WEIGHTS: Mapping[str, float] = {
    "report": 1.0,
    "slots": 0.5,
    "relations": 0.3,
    "consistency": 0.2,
    "alignment": 0.1,
}
"""The specification's weights of the total loss."""


@dataclass(frozen=True)
class LossValue:
    """One loss on one batch: the mean over what it `seen` (studies), a float32 scalar."""

    value: Tensor
    seen: int

    @classmethod
    def nothing(cls, like: Tensor) -> LossValue:
        """No sample had labels."""
        return cls(torch.zeros((), device=like.device), 0)


@runtime_checkable
class Loss(Protocol):
    """``loss(outputs, batch) -> LossValue``."""

    def __call__(self, outputs: Any, batch: Any) -> LossValue: ...


def standard_losses() -> Mapping[str, Loss]:
    """Every loss under the name recipes call it by, with its default settings."""
    from ctscribe.training.losses.alignment import AlignmentLoss
    from ctscribe.training.losses.change import ChangeLoss
    from ctscribe.training.losses.clip import ClipLoss
    from ctscribe.training.losses.collapse import SlotOverlapLoss, SlotUseLoss
    from ctscribe.training.losses.consistency import ConsistencyLoss
    from ctscribe.training.losses.edges import EdgeLoss
    from ctscribe.training.losses.findings import (
        AttributesLoss,
        DenseLoss,
        PresenceLoss,
        SizeLoss,
        WhereLoss,
    )
    from ctscribe.training.losses.masked import MaskedLoss
    from ctscribe.training.losses.masks import MaskLoss
    from ctscribe.training.losses.priors import PriorsLoss
    from ctscribe.training.losses.report import ReportLoss
    from ctscribe.training.losses.routing import RoutingLoss
    from ctscribe.training.losses.siglip import SiglipLoss
    from ctscribe.training.losses.slots import SlotLoss

    return {
        "report": ReportLoss(),
        "presence": PresenceLoss(),
        "where": WhereLoss(),
        "size": SizeLoss(),
        "attributes": AttributesLoss(),
        "dense": DenseLoss(),
        "consistency": ConsistencyLoss(),
        "masks": MaskLoss(),
        "slots": SlotLoss(),
        "alignment": AlignmentLoss(),
        "relations": EdgeLoss(),
        "priors": PriorsLoss(),
        "slot_use": SlotUseLoss(),
        "slot_overlap": SlotOverlapLoss(),
        "masked": MaskedLoss(),
        "clip": ClipLoss(),
        "siglip": SiglipLoss(),
        "routing": RoutingLoss(),
        "change": ChangeLoss(),
    }
