"""The default writer is a promise to checkpoints: names, shapes, starting values and outputs do not move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests import language_kit as kit
from tests import tiny as small

from ctscribe import config as cfg
from ctscribe.language.station import LanguageConfig
from ctscribe.model import ModelConfig
from recipes import tiny

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "language_default.json").read_text(encoding="utf-8"))


def outputs() -> dict[str, torch.Tensor]:
    """Logits with and without a scan, and with padding on the right, of a writer with seeded weights."""
    model = kit.fill(kit.writer(gate=None))
    given, facts = kit.tokens(), small.facts()
    attention = torch.ones_like(given)
    attention[1, 7:] = 0
    with torch.no_grad():
        seen = model(facts, given, None, *kit.study())
        blind = model(facts, given, None)
        padded = model(facts, given, attention, *kit.study()) * attention.unsqueeze(-1)
    return {"seen": seen, "blind": blind, "padded": padded}


def test_names_and_shapes_of_the_weights() -> None:
    shapes = {name: list(value.shape) for name, value in kit.writer(gate=None).state_dict().items()}
    assert shapes == GOLDEN["shapes"]


def test_a_seed_starts_from_the_same_weights() -> None:
    sums = {n: float((p.detach() * kit.seeded(n, p.shape)).sum()) for n, p in kit.writer(gate=None).named_parameters()}
    assert sums == pytest.approx(GOLDEN["initial"], abs=2e-3)


def test_the_same_weights_give_the_same_outputs() -> None:
    for name, value in outputs().items():
        length, product = GOLDEN["outputs"][name]
        assert float(value.norm()) == pytest.approx(length, rel=1e-4), name
        assert float((value * kit.seeded(name, value.shape)).sum()) == pytest.approx(product, abs=1e-3 * length), name


def test_a_configuration_written_before_the_newer_fields_still_loads() -> None:
    plain = cfg.to_dict(tiny.model())
    plain["language"] = {name: plain["language"][name] for name in GOLDEN["fields"]}
    assert cfg.from_dict(ModelConfig, plain) == tiny.model()
    assert cfg.from_dict(LanguageConfig, {}) == LanguageConfig()
