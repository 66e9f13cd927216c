"""Parallelism, applied to a finished single-device model.

```
replicate   every process holds all weights; gradients are averaged                (DistributedDataParallel)
shard       every process holds a part of each weight, gradient and moment, and
            borrows the rest of a block while that block computes                   (fully_shard, FSDP2)
```
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ctscribe.engines.world import here
from ctscribe.errors import TrainingError

LEAST_BLOCK = 100_000
"""Parameters from which a block is gathered by itself; smaller ones travel with the block around them."""


def shard(model: nn.Module, device: torch.device, least: int | None = None) -> None:
    """Cut every parameter into one piece per process, in place; names stay as they are.

    Each `blocks` of the model is gathered when it computes and let go afterwards; the rest travels together.
    The main process's values count, so that a model that was built differently elsewhere does no harm.

    Raises:
        TrainingError: a parameter has no axis to cut.
    """
    scalars = [name for name, parameter in model.named_parameters() if not parameter.ndim]
    if scalars:
        raise TrainingError(
            f"parameter {scalars[0]} is a single number and cannot be sharded",
            expected="parameters with at least one axis",
            hint="use parallel=ddp, or give the parameter the shape (1,)",
        )
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0)
    mesh = init_device_mesh(device.type, (here().size,))
    for block in blocks(model, LEAST_BLOCK if least is None else least):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    # Without this the outermost weights stay whole after a pass without gradients, and averages would miss them.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def blocks(model: nn.Module, least: int) -> list[nn.Module]:
    """The repeated layers of a model, innermost first: members of its lists that hold at least `least` parameters."""
    found: dict[int, nn.Module] = {}
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.ModuleList):
            for member in module:
                if not isinstance(member, nn.ModuleList) and sum(p.numel() for p in member.parameters()) >= least:
                    found.setdefault(id(member), member)
    return list(found.values())


def replicate(objective: nn.Module) -> nn.Module:
    """The objective with its gradients averaged over all processes.

    Its output should be the loss alone: parameters that the loss does not reach (heads whose labels are missing in
    this batch) are found from it and keep no gradient, as in one process.
    """
    with warnings.catch_warnings():
        # From torch 2.13 on the word for it is another one, which earlier versions do not know.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        return DistributedDataParallel(objective, find_unused_parameters=True, broadcast_buffers=False)


def passing(objective: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Around one of several passes of a step: replicas exchange gradients only in the last one."""
    if last or not isinstance(objective, DistributedDataParallel):
        return nullcontext()
    return objective.no_sync()
