"""Load balance of a learned mapping of scales to layers: no scale may take everything."""

from __future__ import annotations

from typing import Any

import torch

from ctscribe.training.losses import LossValue


class RoutingLoss:
    """The encoder's own balance term (see `ctscribe.vision.routing`), less the 1 that is its least.

    Needs no label. An encoder whose mapping is fixed has nothing to balance: zero, seen zero.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        if outputs.visual is None:
            return LossValue(torch.zeros(()), 0)
        routing = outputs.visual.routing
        if routing is None:
            return LossValue.nothing(outputs.visual.fine.tokens)
        return LossValue(routing.balance.float() - 1, len(routing.shares))
