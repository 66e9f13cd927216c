"""Contrastive losses and their gradients on a part of eight pairs: run by torchrun in `test_training_pretraining`.

``pretraining_run.py FILE`` writes, from the first process, the mean loss over the processes and the gradient of every
row; called directly, one process holds all eight pairs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from ctscribe.engines.gather import gathered_rows
from ctscribe.engines.world import World, connected
from ctscribe.training.losses.clip import ClipLoss
from ctscribe.training.losses.siglip import SiglipLoss
from ctscribe.training.pretraining.contrast import Contrast


@dataclass(frozen=True)
class Made:
    contrast: Contrast


def measured(world: World) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(2, 8, 5, generator=generator), dim=-1)
    paired = torch.tensor([True, True, False, True, False, True, True, True])
    part = slice(world.rank * 8 // world.size, (world.rank + 1) * 8 // world.size)
    found = {}
    for name, loss in (("clip", ClipLoss()), ("siglip", SiglipLoss())):
        images, texts = rows[0, part].clone().requires_grad_(), rows[1, part].clone().requires_grad_()
        made = Contrast(images, texts, paired[part], torch.tensor(7.0), torch.tensor(-2.0))
        result = loss(Made(made), None)
        result.value.backward()
        # What averaging over the processes makes of it, as every engine does.
        found[name] = torch.tensor(world.total([float(result.value.detach())])) / world.size
        found[f"{name}.seen"] = torch.tensor(world.total([float(result.seen)]))
        for side, tensor in (("images", images), ("texts", texts)):
            found[f"{name}.{side}"] = gathered_rows(tensor.grad / world.size)
    return found


if __name__ == "__main__":
    with connected() as world:
        result = measured(world)
        if world.main:
            torch.save(result, sys.argv[1])
