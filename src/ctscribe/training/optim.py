"""Optimiser and learning rate: AdamW (with Muon where a stage asks for it), cosine after a linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ctscribe.engines.shards import like
from ctscribe.training.muon import MuonAdamW
from ctscribe.training.stages import Stage, matches, trainable_names


def learning_rate(stage: Stage, step: int) -> float:
    """Learning rate of optimiser step `step` (0-based): a pure function, so resuming needs no state."""
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return stage.lr * (stage.final_lr + (1 - stage.final_lr) * cosine)


def freeze_all_but(model: nn.Module, stage: Stage) -> tuple[str, ...]:
    """Set `requires_grad` for this stage and return the names that learn."""
    chosen = trainable_names(model, stage)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in set(chosen))
        parameter.grad = None
    return chosen


def build_optimizer(model: nn.Module, stage: Stage, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over the stage's parameters, grouped by (decay, factor on the learning rate, whether Muon moves them).

    Decay acts on tensors of two or more axes only: decaying biases, norm scales and gates pulls them
    to zero for no gain. Fused kernels are used wherever all the parameters live on a device that has them.
    """
    groups: dict[tuple[float, float, bool], list[Tensor]] = {}
    chosen = set(trainable_names(model, stage))
    for name, parameter in model.named_parameters():
        if name in chosen:
            decay = stage.weight_decay if parameter.ndim >= 2 else 0.0
            turned = parameter.ndim >= 2 and matches(name, stage.muon)
            groups.setdefault((decay, _scale(name, stage.lr_scale), turned), []).append(parameter)
    table: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "scale": scale, "muon": turned}
        for (decay, scale, turned), parameters in groups.items()
    ]
    devices = {p.device.type for group in table for p in group["params"]}
    kind = MuonAdamW if stage.muon else torch.optim.AdamW
    return kind(table, lr=stage.lr, betas=betas, fused=devices <= {"cpu", "cuda"})


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors named ``parameter|key``, fit for safetensors."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}|{key}": value.detach()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took out, bit for bit."""
    parameters = dict(model.named_parameters())
    for joined, value in tensors.items():
        name, _, key = joined.rpartition("|")
        parameter = parameters[name]
        # The step counter of fused kernels lives beside the parameter, so everything goes to its device.
        moved = like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
        optimizer.state[parameter][key] = moved.clone()


def _scale(name: str, scales: Mapping[str, float]) -> float:
    return next((factor for pattern, factor in scales.items() if fnmatchcase(name, pattern)), 1.0)
