"""The load balance of a learned mapping of scales is a loss like any other."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import tiny as small
from ctscribe.training.losses import standard_losses
from ctscribe.vision.build import build_encoder
from recipes import tiny


@pytest.mark.parametrize(("mapping", "seen"), [("routed", 2), ("thirds", 0)])
def test_only_a_learned_mapping_has_something_to_balance(mapping: str, seen: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(replace(tiny.model().encoder, mapping=mapping), tiny.model().windows)
    visual = encoder(small.scans()[0])
    value = standard_losses()["routing"](SimpleNamespace(visual=visual), None)
    assert value.seen == seen
    if not seen:
        assert value.value.item() == 0
        return
    assert value.value.item() >= 0
    value.value.backward()
    routers = [p.grad for n, p in encoder.named_parameters() if "router" in n and p.grad is not None]
    assert any(bool(g.abs().sum() > 0) for g in routers)
