"""Muon for the matrices inside a network, AdamW for everything else, as one optimiser.

Muon (Jordan et al., 2024) takes the momentum of a weight matrix and moves along the nearest orthogonal matrix, so that
every direction of the update has the same length; a few large singular values no longer decide for all. The step is
scaled to the root mean square of AdamW's (Liu et al., arXiv 2502.16982), so both share one learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ctscribe.engines.shards import like, whole

MOMENTUM = 0.95
ROUNDS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that pushes singular values towards one (Jordan et al., 2024)."""


class MuonAdamW(torch.optim.AdamW):
    """AdamW whose groups marked ``"muon": True`` are moved by Muon; convolutions count as (out, everything else)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of all groups."""
        groups = self.param_groups
        for group in groups:
            if group.get("muon"):
                for parameter in group["params"]:
                    self._turn(parameter, group)
        self.param_groups = [group for group in groups if not group.get("muon")]
        try:
            return super().step(closure) if self.param_groups else None
        finally:
            self.param_groups = groups

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - MOMENTUM)
        # A part of a matrix has other singular values: sharded ones are put together, turned everywhere, and cut again.
        ahead = whole(parameter.grad.lerp(momentum, MOMENTUM)).flatten(1)
        step = 0.2 * math.sqrt(max(ahead.shape)) * group["lr"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        turned = orthogonal(ahead).view(parameter.shape).to(parameter.dtype)
        parameter.add_(like(turned, parameter), alpha=-step)


def orthogonal(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Roughly the nearest matrix with all singular values near one (0.7 to 1.2), by Newton-Schulz iteration.

    Runs in bfloat16 where the device multiplies that faster; its rounding is far below the iteration's own error.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()
