"""Products of a few rows, as decoding a batch asks for on a CPU: weights laid out once for all tokens of a text.

The general matrix product copies a weight into its own order for every call, which for eight rows takes longer than the
product. While a batch is written, oneDNN's order of each weight is kept beside it (as much memory again) and
multiplied by row counts from 2 to `FEW`; one row, and prompts longer than that, go the usual way. Only the order in
which numbers are summed differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 32
"""Rows up to which oneDNN's order pays."""


class _LaidOut:
    """Stands for the forward of a linear map."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        self.linear = linear
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        if 1 < x.shape[:-1].numel() <= FEW:
            return torch.ops.mkldnn._linear_pointwise(x.contiguous(), self.weight, self.linear.bias, "none", [], "")
        return F.linear(x, self.linear.weight, self.linear.bias)


@contextmanager
def few_rows(network: nn.Module, rows: int) -> Iterator[int]:
    """While it lasts, the linear maps of ``network`` multiply ``rows`` rows fast; yields how many do.

    None does for one row, on another device than a CPU, in another precision than float32, where gradients are
    recorded, or where PyTorch was built without oneDNN.
    """
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    helped = known and 1 < rows <= FEW and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    linears = [cast(nn.Linear, module) for module in network.modules() if _plain(module)] if helped else []
    try:
        for linear in linears:
            linear.__dict__["forward"] = _LaidOut(linear, rows)
        yield len(linears)
    finally:
        for linear in linears:
            linear.__dict__.pop("forward", None)


def _plain(module: nn.Module) -> bool:
    """A linear map as PyTorch has it, untouched."""
    if type(module) is not nn.Linear or "forward" in module.__dict__:
        return False
    return module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
