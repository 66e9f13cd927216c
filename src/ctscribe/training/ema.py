"""A running average of the weights: what a finished run ships, as it mostly scores better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ctscribe.engines.shards import like


class WeightAverage:
    """Exponential moving average of some of a model's parameters, always float32.

    The decay rises as ``min(decay, (1 + n) / (10 + n))`` with the number of updates n, so that the random
    start is forgotten quickly (the schedule of TensorFlow's ExponentialMovingAverage).

    Args:
        model: read now and at each `update`.
        decay: share of the old average kept at each update.
        names: parameters to average; the others are taken from the model as they are.
    """

    def __init__(self, model: nn.Module, decay: float, names: Iterable[str]) -> None:
        chosen = set(names)
        self.decay = decay
        self.updates = 0
        self._parameters = {name: p for name, p in model.named_parameters() if name in chosen}
        self.averages = {name: p.detach().float().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        fresh = [p.detach().float() for p in self._parameters.values()]
        torch._foreach_lerp_(list(self.averages.values()), fresh, 1 - decay)

    @torch.no_grad()
    def load(self, averages: Mapping[str, Tensor], updates: int) -> None:
        """Continue from saved averages."""
        self.updates = updates
        for name, average in self.averages.items():
            average.copy_(like(averages[name], average))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model wears the averaged weights inside the ``with`` block, its own again after it."""
        own = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._wear(self.averages)
        try:
            yield
        finally:
            self._wear(own)

    @torch.no_grad()
    def _wear(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])
