"""Rows of all processes in one tensor, with gradients: how a contrastive loss sees the negatives of the others."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ctscribe.engines.world import here


class _Gather(torch.autograd.Function):
    """All processes' rows; backwards each process gets the sum of what all of them want of its own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        ctx.rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.rows
        return total[first : first + ctx.rows]


def gathered_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every process, in the order of the processes (n x processes, ...); alone, the same tensor.

    All processes must bring the same number of rows, and all of them must go backwards through the result.
    """
    return rows if here().size == 1 else _Gather.apply(rows)
