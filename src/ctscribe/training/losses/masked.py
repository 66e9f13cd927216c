"""Masked tubelet prediction: the squared error of what was hidden."""

from __future__ import annotations

from typing import Any

from ctscribe.training.losses import LossValue


class MaskedLoss:
    """Mean squared error over the voxels of hidden tubelets; what was visible counts for nothing.

    Reads ``outputs.reconstruction`` (`training.pretraining.masked.Reconstruction`). Needs no label. Predicting
    nothing costs about 1 per tubelet that is not flat, when tubelets are normalised.
    """

    def __call__(self, outputs: Any, batch: Any) -> LossValue:
        made = outputs.reconstruction
        seen = int(made.hidden.any(1).sum())
        if not seen:
            return LossValue.nothing(made.predicted)
        return LossValue((made.predicted.float() - made.target.float())[made.hidden].square().mean(), seen)
