"""Muon: the directions of an update are equally long; what it does not move is AdamW's alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ctscribe.training.muon import MuonAdamW, orthogonal
from ctscribe.training.optim import build_optimizer
from ctscribe.training.stages import Stage

CONVOLUTION = (8, 4, 3, 3, 3)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (12, 12)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    turned = orthogonal(torch.randn(shape, generator=generator))
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_the_length_of_the_gradient_does_not_matter() -> None:
    steps = []
    for length in (1e-4, 1e4):
        weight = nn.Parameter(torch.zeros(CONVOLUTION))
        weight.grad = length * torch.randn(CONVOLUTION, generator=torch.Generator().manual_seed(2))
        MuonAdamW([{"params": [weight], "muon": True}], lr=1e-2, weight_decay=0.0).step()
        steps.append(weight.detach())
    torch.testing.assert_close(steps[0], steps[1], rtol=0.05, atol=3e-4)  # bfloat16 inside
    # The root mean square of AdamW's steps, 0.2 to 0.4 of the learning rate.
    assert 0.1e-2 < float(steps[0].square().mean().sqrt()) < 0.4e-2


def test_the_others_move_as_under_adamw_alone() -> None:
    torch.manual_seed(0)
    model, twin = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    twin.load_state_dict(model.state_dict())
    mixed = build_optimizer(model, Stage("one", 1, {"loss": 1.0}, muon=("0.weight",)), (0.9, 0.95))
    plain = build_optimizer(twin, Stage("one", 1, {"loss": 1.0}), (0.9, 0.95))
    for network, optimizer in ((model, mixed), (twin, plain)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        network(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(model.state_dict()[name], twin.state_dict()[name])
    assert not torch.equal(model.state_dict()["0.weight"], twin.state_dict()["0.weight"])
