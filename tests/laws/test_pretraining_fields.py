"""No field of the pretraining heads is read and then ignored."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from tests import tiny as small
from torch import nn

from ctscribe.training.pretraining.contrast import ContrastConfig, ContrastHead
from ctscribe.training.pretraining.masked import MaskedConfig, MaskedHead
from ctscribe.training.pretraining.model import PretrainConfig
from ctscribe.vision.vit import PyramidEncoder

MASKED = MaskedConfig(width=32, layers=1)
CONTRAST = ContrastConfig(dim=16, width=32, layers=1, heads=2, longest=8)
OTHER: dict[str, Any] = {
    "masked.ratio": 0.5,
    "masked.unit": "coarse",
    "masked.width": 16,
    "masked.layers": 2,
    "masked.normalised": False,
    "contrast.dim": 8,
    "contrast.width": 16,
    "contrast.layers": 2,
    "contrast.heads": 4,
    "contrast.longest": 4,
    "contrast.scale": 5.0,
    "contrast.bias": -10.0,
}


@cache
def encoder() -> PyramidEncoder:
    return small.build().vision


@torch.no_grad()
def seen(head: nn.Module, *given: Any) -> tuple[Any, ...]:
    """Names and shapes of a head's weights, and everything that it declares."""
    torch.manual_seed(1)
    declared = [value.tolist() for value in vars(head(*given)).values()]
    return [(name, tuple(value.shape)) for name, value in head.named_parameters()], declared


def masked(config: MaskedConfig) -> tuple[Any, ...]:
    torch.manual_seed(0)
    return seen(MaskedHead(config, encoder()).eval(), encoder(), small.scans()[0])


def contrast(config: ContrastConfig) -> tuple[Any, ...]:
    torch.manual_seed(0)
    head = ContrastHead(config, encoder().widths, 50).eval()
    ids = torch.randint(5, 50, (2, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return seen(head, encoder()(small.scans()[0]), ids, ids)


def test_there_is_a_case_for_every_field() -> None:
    assert {f.name for f in fields(PretrainConfig)} == {"masked", "contrast"}
    listed = [("masked", MaskedConfig), ("contrast", ContrastConfig)]
    assert {f"{part}.{f.name}" for part, cls in listed for f in fields(cls)} == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_a_field_of_the_heads_matters(name: str) -> None:
    part, field = name.split(".")
    build, plain = (masked, MASKED) if part == "masked" else (contrast, CONTRAST)
    assert build(plain) != build(replace(plain, **{field: OTHER[name]}))  # type: ignore[operator, type-var]
