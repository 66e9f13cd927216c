"""One forward pass of a stage as a module of its own: a batch goes in, the weighted loss comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.engines import Parallel
from ctscribe.training.losses import Loss
from ctscribe.training.stages import Stage, TrainConfig


class Objective(nn.Module):
    """Model and losses together.

    Args:
        model: called as ``model(batch, wants=names)``.
        stage: which losses count, and how much.
        losses: by name.
        config: device and precision.
        joint: how several processes share the work, None for one process. A batch without labels in one of them must
            still take part in the exchange of gradients, or the others would wait for it for ever.
    """

    def __init__(
        self,
        model: nn.Module,
        stage: Stage,
        losses: Mapping[str, Loss],
        config: TrainConfig,
        joint: Parallel | None = None,
    ) -> None:
        super().__init__()
        self.model, self.weights, self.joint = model, dict(stage.losses), joint
        self.losses = {name: losses[name] for name in stage.losses}
        self.device, self.autocast = torch.device(config.device), config.precision == "bfloat16"
        # Always reached by the loss, so that a replica without labels has a backward pass; never learns.
        self.anchor = nn.Parameter(torch.zeros((), device=self.device)) if joint == "ddp" else None

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, tuple[float, int]]]:
        """Weighted sum and, by name, (mean, studies seen)."""
        if hasattr(batch, "to"):
            batch = batch.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            outputs = self.model(batch, wants=frozenset(self.weights))
        # Outside autocast: losses compute in float32.
        results = {name: loss(outputs, batch) for name, loss in self.losses.items()}
        total = torch.zeros((), device=self.device)
        for name, result in results.items():
            total = total + self.weights[name] * result.value
        if self.anchor is not None:
            total = total + 0 * self.anchor
        if self.joint == "fsdp":
            # Heads without labels then get a gradient of zero, where one process and DDP leave them none.
            for tensor in _tensors(outputs):
                if tensor.requires_grad:
                    # One element is enough to send a gradient of zeros through all that made the tensor.
                    total = total + 0 * tensor.flatten()[:1].sum().float().nan_to_num(0, 0, 0)
        return total, {name: (result.value.item(), result.seen) for name, result in results.items()}


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested dataclasses, mappings and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
