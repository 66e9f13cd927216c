"""A small training that two processes can share: run by torchrun in `test_engines`, called directly for one process.

``engines_run.py FOLDER:WAY[:STOP[:kill]] ...`` trains `plans(WAY)` in each FOLDER; STOP breaks the stream off after so
many batches of one process; with ``kill`` each process is then killed as by ``kill -9``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ctscribe.engines import spread
from ctscribe.engines.world import connected
from ctscribe.training.loop import TrainResult, train
from ctscribe.training.losses import LossValue
from ctscribe.training.order import ordered_batches
from ctscribe.training.stages import Stage, TrainConfig


@dataclass(frozen=True)
class Points:
    x: Tensor
    y: Tensor
    labelled: bool


@dataclass(frozen=True)
class Outputs:
    hidden: Tensor
    main: Tensor
    rare: Tensor


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.dropout(torch.tanh(self.up(self.norm(x))), 0.2, self.training))


class Net(nn.Module):
    """Blocks, dropout, a tied weight, and a head whose labels only some batches hold."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.main = nn.Linear(6, 6)
        self.main.weight = self.enter.weight
        self.rare = nn.Linear(6, 1)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3

    def forward(self, batch: Points, *, wants: frozenset[str]) -> Outputs:
        hidden = self.enter(batch.x)
        for block in self.blocks:
            hidden = block(hidden)
        return Outputs(hidden, self.main(hidden), self.rare(hidden)[:, 0])


def squared(outputs: Outputs, batch: Points) -> LossValue:
    return LossValue((outputs.main.sum(1) - batch.y).square().mean(), len(batch.y))


def rare(outputs: Outputs, batch: Points) -> LossValue:
    if not batch.labelled:
        return LossValue.nothing(outputs.rare)
    return LossValue((outputs.rare - batch.y).square().mean(), len(batch.y))


class Line:
    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.random.default_rng(index).normal(size=6).astype(np.float32), index


def stack(samples: list[tuple[np.ndarray, int]]) -> Points:
    x = torch.from_numpy(np.stack([s[0] for s in samples]))
    return Points(x, x.sum(1), labelled=True)


LABELS = {"ddp": 5, "fsdp": 2}
"""Every which batch is labelled. With 5, some steps see no label at all; with 2, the second process never sees one."""


def plans(parallel: str = "ddp") -> TrainConfig:
    common = {"lr": 1e-2, "batch_size": 3, "warmup": 2}
    return TrainConfig(
        stages=(
            Stage("first", 4, {"rare": 1.0}, trainable=("rare.*",), accumulate=2, **common),
            Stage("second", 8, {"squared": 1.0, "rare": 0.3}, accumulate=4, muon=("blocks.*.up.weight",), **common),
        ),
        seed=5,
        ema=0.9,
        log_every=2,
        checkpoint_every=3,
        parallel=parallel,
    )


class Killed(Exception):
    pass


LOSSES = {"squared": squared, "rare": rare}


def end() -> None:
    raise Killed


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(
    folder: Path,
    parallel: str = "ddp",
    stop: int | None = None,
    plan: TrainConfig | None = None,
    ending: Callable[[], None] = end,
) -> TrainResult:
    config = plan or plans(parallel)
    left = [stop]

    def data(stage: Stage):
        whole = ordered_batches(Line(), stack, batch_size=stage.batch_size, seed=(5, stage.name))

        def broken(*numbers: int):
            for number, batch in zip(range(*numbers), whole(*numbers), strict=True):
                if left[0] == 0:
                    ending()
                left[0] = None if left[0] is None else left[0] - 1
                yield replace(batch, labelled=number % LABELS[parallel] == 0)

        return broken

    def validate(model: nn.Module, stage: Stage) -> dict[str, float]:
        batch = stack([Line()[i] for i in range(4)])
        return {"score": float(squared(model(batch, wants=frozenset()), batch).value)}

    return train(Net(), config, data, LOSSES, folder, validate=validate)


if __name__ == "__main__":
    spread.LEAST_BLOCK = 1
    torch.set_num_threads(1)
    with connected():
        for job in sys.argv[1:]:
            folder, way, *rest = job.split(":")
            with suppress(Killed):
                run(Path(folder), way, *map(int, rest[:1]), ending=kill if "kill" in rest else end)
