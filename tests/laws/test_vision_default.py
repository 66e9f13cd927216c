"""The default encoder is a promise to checkpoints: names, shapes, starting values and outputs do not move."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tests import tiny as small
from torch import Tensor

from ctscribe import config as cfg
from ctscribe.model import ModelConfig
from ctscribe.tensors import VolumeBatch
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.vit import PyramidEncoder
from recipes import demo, tiny

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vision_default.json").read_text(encoding="utf-8"))


def seeded(name: str, shape: torch.Size) -> Tensor:
    """The same random numbers for a name, wherever it stands."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def encoder() -> PyramidEncoder:
    torch.manual_seed(0)
    return build_encoder(tiny.model().encoder, tiny.model().windows).eval()


def outputs() -> dict[str, Tensor]:
    """Tokens, centres and embeddings with weights that depend on their names alone, whole and padded."""
    model = encoder()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(seeded(name, value.shape) * (0.3 if value.ndim < 2 else value[0].numel() ** -0.5))
        volume, _ = small.scans(2)
        valid = torch.ones_like(volume.hu, dtype=torch.bool)
        valid[:, :, 32:] = False
        found = {}
        for kind, mask in (("whole", None), ("padded", valid)):
            seen = model(VolumeBatch(volume.hu, volume.spacing, mask))
            for scale, tokens in zip(("fine", "mid", "coarse"), seen.scales, strict=True):
                found[f"{kind} {scale}"] = tokens.tokens * tokens.valid.unsqueeze(-1)
                found[f"{kind} {scale} centres"] = tokens.centres
            found[f"{kind} embeddings"] = model.embed_scales(seen)
    return found


def test_names_and_shapes_of_the_weights() -> None:
    assert {name: list(value.shape) for name, value in encoder().state_dict().items()} == GOLDEN["shapes"]


def test_a_seed_starts_from_the_same_weights() -> None:
    sums = {n: float((p.detach() * seeded(n, p.shape)).sum()) for n, p in encoder().named_parameters()}
    assert sums == pytest.approx(GOLDEN["initial"], abs=2e-3)


def test_the_same_weights_give_the_same_outputs() -> None:
    for name, value in outputs().items():
        length, product = GOLDEN["outputs"][name]
        assert float(value.norm()) == pytest.approx(length, rel=1e-4), name
        told = float((value * seeded(name, value.shape)).sum())
        assert told == pytest.approx(product, abs=1e-3 * length + 1e-3), name


def test_the_encoder_of_the_bundled_checkpoint_has_the_names_it_was_trained_with() -> None:
    config = demo.config().model
    with torch.device("meta"):
        names = sorted(build_encoder(config.encoder, config.windows).state_dict())
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == GOLDEN["demo_names"]


def test_a_configuration_written_before_the_newer_fields_still_loads() -> None:
    plain = cfg.to_dict(tiny.model())
    old = {name: plain["encoder"][name] for name in GOLDEN["fields"]}
    old["tubelets"] = {name: old["tubelets"][name] for name in GOLDEN["tubelet_fields"]}
    assert cfg.from_dict(ModelConfig, plain | {"encoder": old}) == tiny.model()
    assert cfg.from_dict(EncoderConfig, {}) == EncoderConfig()
