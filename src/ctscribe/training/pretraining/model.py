"""The report model with what pretraining needs beside it, so that one loop and one run folder hold the whole course."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ctscribe.model import CTReportModel, ModelOutputs
from ctscribe.training.pretraining.contrast import Contrast, ContrastConfig, ContrastHead
from ctscribe.training.pretraining.masked import MaskedConfig, MaskedHead, Reconstruction

MASKED, CONTRASTS = "masked", frozenset({"clip", "siglip"})
PRETRAINING = CONTRASTS | {MASKED}
"""Losses that need a `Pretrainer`; all others are asked of the report model itself."""


@dataclass(frozen=True)
class PretrainConfig:
    """Heads that only pretraining uses.

    Attributes:
        masked: masked tubelet prediction, for the loss ``masked``.
        contrast: CT-text contrast, for the losses ``clip`` and ``siglip``.
    """

    masked: MaskedConfig = field(default_factory=MaskedConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)


@dataclass(frozen=True)
class PretrainOutputs(ModelOutputs):
    """What the report model declares, and what its pretraining heads add."""

    reconstruction: Reconstruction | None = None
    contrast: Contrast | None = None


class Pretrainer(nn.Module):
    """A report model whose stages may also pretrain it.

    Its parameters are those of the report model under their own names, and ``masked.*`` and ``contrast.*``; training
    it trains the report model. Heads that no loss needs are not built.

    Args:
        model: the report model.
        config: the heads.
        losses: names of all losses of the course.
    """

    def __init__(self, model: CTReportModel, config: PretrainConfig, losses: Iterable[str]) -> None:
        super().__init__()
        names = frozenset(losses)
        self.vision, self.scene, self.language = model.vision, model.scene, model.language
        # Held, not registered: its parts above are the same modules, and no parameter gets a second name.
        self._whole = (model,)
        self.masked = MaskedHead(config.masked, model.vision) if MASKED in names else None
        self.contrast = None
        if names & CONTRASTS:
            self.contrast = ContrastHead(config.contrast, model.vision.widths, len(model.language.tokenizer))

    def fixed_params(self) -> list[str]:
        """Names of the parameters that no training stage may move."""
        return self._whole[0].fixed_params()

    def forward(self, batch: Any, *, wants: frozenset[str] = frozenset({"report"})) -> PretrainOutputs:
        """One batch: the report model's outputs if a loss other than pretraining's wants them, then the heads'."""
        plain = wants - PRETRAINING
        made = self._whole[0](batch, wants=plain) if plain or not wants else ModelOutputs()
        visual, hidden, contrast = made.visual, None, None
        if self.masked is not None and MASKED in wants:
            hidden = self.masked(self.vision, batch.volume)
        if self.contrast is not None and wants & CONTRASTS:
            visual = self.vision(batch.volume) if visual is None else visual
            contrast = self.contrast(visual, batch.input_ids, batch.labels)
        return PretrainOutputs(
            visual, made.scene, made.findings, made.text_logits, made.scale_embeddings, hidden, contrast
        )


def with_heads(model: CTReportModel, config: PretrainConfig, losses: Iterable[str]) -> nn.Module:
    """The model itself, or a `Pretrainer` around it where the course pretrains."""
    names = frozenset(losses)
    return Pretrainer(model, config, names) if names & PRETRAINING else model
