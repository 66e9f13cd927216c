"""The processes of one training: how many there are, which one this is, and the few things they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from ctscribe.errors import TrainingError

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, who may be drawing phantoms or writing a large checkpoint."""


@dataclass(frozen=True)
class World:
    """All processes of one training; alone, every method is the identity.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """True in the one process that writes files and talks to people."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over all processes, in float64."""
        if self.size == 1:
            return list(values)
        # On the CPU, whose backend is always there: no GPU is stopped for a few numbers.
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return [float(value) for value in summed]

    def share(self, value: T) -> T:
        """The main process's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            self.total([0.0])

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs in the main process, then in all others: they find on the disk what it made."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()


def here() -> World:
    """The world this process is connected to; a world of one when there is none."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def connected() -> Iterator[World]:
    """Join the processes that torchrun started, for the duration of the block; alone, nothing happens.

    With CUDA each process takes the GPU of its local rank, and ``device="cuda"`` means that one.

    Raises:
        TrainingError: torchrun's variables are there in part, or there are more processes than GPUs.
    """
    size = _size()
    if size == 1 or dist.is_initialized():
        yield here()
        return
    accelerated = torch.cuda.is_available()
    if accelerated:
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=PATIENCE)
    yield here()
    # After an error the group is left as it is: taking it down would wait for processes that wait for this one.
    dist.destroy_process_group()


def _size() -> int:
    needed = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    size = os.environ.get("WORLD_SIZE", "1")
    # A SLURM or MPI shell may set WORLD_SIZE=1, or set it alone; one process needs none of them.
    if size == "1":
        return 1
    missing = [name for name in needed if name not in os.environ]
    if missing or not size.isdecimal():
        raise TrainingError(
            "this process cannot find the others",
            expected=f"{', '.join(needed)} in the environment",
            got=f"WORLD_SIZE={size}" + (f", no {', '.join(missing)}" if missing else ""),
            hint="start with torchrun: torchrun --nproc-per-node 2 --no-python ctscribe train RECIPE",
        )
    return int(size)


def _take_gpu(local: int) -> None:
    count = torch.cuda.device_count()
    if local >= count:
        raise TrainingError(
            "more processes than GPUs on this machine",
            expected=f"--nproc-per-node of at most {count}",
            got=f"local rank {local}",
            hint="one process drives one GPU",
        )
    torch.cuda.set_device(local)
