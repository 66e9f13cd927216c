"""What a training run is, as data: a list of stages handed to one loop.

```
TrainConfig ── seed, precision, clipping, EMA, checkpoints
└── stages
    ├── Stage("text",   data="text",    losses={"report": 1.0},                  trainable=("language.*",))
    ├── Stage("detect", data="studies", losses={"presence": 1.0, "dense": 0.5},  trainable=("vision.*",))
    └── Stage("write",  data="studies", losses={"report": 1.0, "presence": 0.5}, trainable=("*",))
```
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from ctscribe.config import check_numbers
from ctscribe.engines import Parallel
from ctscribe.errors import ConfigError
from ctscribe.layers import usable_device
from ctscribe.training.boards import check_boards

Precision = Literal["float32", "bfloat16"]
Board = Literal["mlflow", "wandb"]


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one learning-rate schedule and one set of trainable parameters.

    Attributes:
        name: appears in every metric, checkpoint and plot; unique in a run.
        steps: optimiser steps.
        losses: loss name -> weight; only these are asked of the model (`wants`) and computed.
        trainable: `fnmatch` patterns of parameter names that learn; all others are frozen.
        frozen: patterns taken out of `trainable` again.
        data: which data the stage reads; the data function given to `train` decides what the word means.
        lr: peak learning rate.
        lr_scale: pattern -> factor on `lr`; the first pattern that matches a parameter's name counts.
        batch_size: studies in one forward pass.
        accumulate: forward passes in one optimiser step, over all processes together.
        warmup: steps of linear warm-up before the cosine.
        final_lr: the cosine ends at this share of `lr`.
        weight_decay: decoupled decay, on matrices only (never on biases, norms or gates).
        muon: patterns of the weight matrices and convolutions that Muon moves instead of AdamW, see `muon`; best for
            those inside the network, not for embeddings, tables and last layers. Patterns for parts that this network
            does not have are passed over, unless none matches.
        bucket: neighbouring batches whose studies are sorted by the length of their texts, so that less is padded;
            0 for none, see `order.BucketOrder`.
    """

    name: str
    steps: int
    losses: dict[str, float]
    trainable: tuple[str, ...] = ("*",)
    frozen: tuple[str, ...] = ()
    data: str = "studies"
    lr: float = 3e-4
    lr_scale: dict[str, float] = field(default_factory=dict)
    batch_size: int = 8
    accumulate: int = 1
    warmup: int = 100
    final_lr: float = 0.05
    weight_decay: float = 0.05
    muon: tuple[str, ...] = ()
    bucket: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, apart from the model, the data and the losses themselves.

    Attributes:
        stages: in order.
        seed: the one seed; every random choice is a function of it and of the step.
        precision: ``"bfloat16"`` runs the forward pass under autocast; weights, losses and updates stay
            float32.
        clip: largest gradient norm, 0 for none.
        ema: decay of the averaged weights saved beside the raw ones, 0 for none.
        betas: AdamW's.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        threads: intra-operator threads, None leaves torch's choice. Another number may round differently.
        log_every: steps between two lines of metrics.jsonl.
        checkpoint_every: steps between two checkpoints; one is also written at the end of each stage.
        keep: newest checkpoints kept on disk.
        save_frozen: False leaves out of checkpoints every parameter that no stage trains
            (a large pretrained language model); the caller must then build the model with the same ones.
        validate_every: steps between two calls of the validation function, 0 for only after each stage.
        deterministic: ask torch for deterministic kernels.
        parallel: how the processes of a torchrun share the work: ``"ddp"`` (all weights everywhere) or ``"fsdp"``
            (each holds a part); one process alone needs neither.
        trackers: where metrics go besides the run folder: ``"mlflow"``, ``"wandb"``; see `boards`.
    """

    stages: tuple[Stage, ...]
    seed: int = 0
    precision: Precision = "float32"
    clip: float = 1.0
    ema: float = 0.999
    betas: tuple[float, float] = (0.9, 0.95)
    device: str = "cpu"
    threads: int | None = None
    log_every: int = 10
    checkpoint_every: int = 500
    keep: int = 2
    save_frozen: bool = True
    validate_every: int = 0
    deterministic: bool = True
    parallel: Parallel = "ddp"
    trackers: tuple[Board, ...] = ()


HOUSEKEEPING = frozenset(
    {"log_every", "checkpoint_every", "keep", "validate_every", "threads", "device", "parallel", "trackers"}
)
"""Fields of `TrainConfig` that may change between a run and its resumption.

They change which lines are written and at most how sums are rounded, never what is computed."""


@runtime_checkable
class KeepsWeights(Protocol):
    """A model some of whose parameters never learn (a frozen pretrained decoder)."""

    def fixed_params(self) -> list[str]: ...


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True when a parameter's name matches one of the `fnmatch` patterns (case counts)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def trainable_names(model: nn.Module, stage: Stage) -> tuple[str, ...]:
    """Names of the parameters that learn in this stage, in the model's order.

    A model may keep parameters out of every stage, whatever its patterns say: those its ``fixed_params()`` lists.

    Raises:
        ConfigError: a pattern that matches nothing, or nothing left to train.
    """
    fixed = frozenset(model.fixed_params()) if isinstance(model, KeepsWeights) else frozenset()
    names = [name for name, _ in model.named_parameters() if name not in fixed]
    # A recipe's patterns for Muon are written for one network and hold for its relatives, whose parts differ.
    lost = stage.muon[:1] if stage.muon and not any(matches(name, stage.muon) for name in names) else ()
    for pattern in (*stage.trainable, *stage.frozen, *stage.lr_scale, *lost):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"stage {stage.name!r}: no parameter matches {pattern!r}",
                expected=f"a pattern such as {_example(names)!r}",
                hint="print the names with: [n for n, _ in model.named_parameters()]",
            )
    chosen = tuple(n for n in names if matches(n, stage.trainable) and not matches(n, stage.frozen))
    if not chosen:
        raise ConfigError(
            f"stage {stage.name!r} trains nothing",
            hint="its `frozen` patterns cover all of its `trainable` ones",
        )
    return chosen


def check_stages(stages: Sequence[Stage], loss_names: Iterable[str]) -> None:
    """Refuse a plan that cannot run before anything is read or computed.

    Raises:
        ConfigError: no stage, repeated names, numbers out of range, or a loss nobody defined.
    """
    if not stages:
        raise ConfigError("the training plan has no stages", expected="at least one Stage")
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ConfigError("stage names repeat", got=", ".join(names), hint="give each stage its own name")
    known = sorted(loss_names)
    for stage in stages:
        for key in ("steps", "batch_size", "accumulate"):
            if getattr(stage, key) < 1:
                raise ConfigError(
                    f"stage {stage.name!r}: {key} is {getattr(stage, key)}", expected=f"{key} of at least 1"
                )
        if stage.lr <= 0:
            raise ConfigError(f"stage {stage.name!r}: lr", expected="above 0", got=f"{stage.lr:g}")
        check_numbers(
            stage,
            f"stage {stage.name!r}: ",
            warmup=(0, math.inf),
            bucket=(0, math.inf),
            final_lr=(0, 1),
            weight_decay=(0, math.inf),
        )
        unknown = sorted(set(stage.losses) - set(known))
        if unknown or not stage.losses:
            raise ConfigError(
                f"stage {stage.name!r}: " + (f"unknown loss {unknown[0]!r}" if unknown else "no loss is named"),
                expected="one of " + ", ".join(known),
            )


def check_train(config: TrainConfig, loss_names: Iterable[str]) -> None:
    """Refuse a run that cannot work before any data are made, read or computed with.

    Raises:
        ConfigError: see `check_stages`; or a number out of its range.
        UsageError: a device that is not there.
        DependencyMissing: a board whose package is not installed.
    """
    check_stages(config.stages, loss_names)
    check_numbers(
        config,
        "train.",
        clip=(0, math.inf),
        ema=(0, 0.999999),
        betas=(0, 0.999999),
        threads=(1, math.inf),
        log_every=(1, math.inf),
        checkpoint_every=(0, math.inf),
        keep=(1, math.inf),
        validate_every=(0, math.inf),
    )
    usable_device(config.device)
    check_boards(config.trackers)


def _example(names: Sequence[str]) -> str:
    return names[0].split(".")[0] + ".*" if names else "*"
