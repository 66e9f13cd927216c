"""The default design is a promise to checkpoints: names, shapes, starting values and outputs do not move."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tests import scene_kit as kit
from torch import Tensor

from ctscribe import config as cfg
from ctscribe.model import ModelConfig
from ctscribe.scene.station import Scene, SceneConfig
from recipes import tiny

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "scene_default.json").read_text(encoding="utf-8"))


def seeded(name: str, shape: torch.Size) -> Tensor:
    """The same random numbers for a name, wherever it stands."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def scene() -> Scene:
    config = tiny.model()
    torch.manual_seed(0)
    return Scene(config.scene, config.encoder.tubelets.widths).eval()


def test_names_and_shapes_of_the_weights(scene: Scene) -> None:
    assert {name: list(value.shape) for name, value in scene.state_dict().items()} == GOLDEN["shapes"]


def test_a_seed_starts_from_the_same_weights(scene: Scene) -> None:
    sums = {n: float((p.detach() * seeded(n, p.shape)).sum()) for n, p in scene.named_parameters()}
    assert sums == pytest.approx(GOLDEN["initial"], abs=2e-3)


def test_the_same_weights_give_the_same_outputs(scene: Scene) -> None:
    widths = tiny.model().encoder.tubelets.widths
    with torch.no_grad():
        for name, value in scene.named_parameters():
            value.copy_(seeded(name, value.shape) * (0.3 if value.ndim < 2 else value.shape[-1] ** -0.5))
        found = kit.declared(scene(kit.visual(widths=widths), kit.masks()))
    for name, (length, product) in GOLDEN["outputs"].items():
        value = found[name].float()
        assert float(value.norm()) == pytest.approx(length, rel=1e-3), name
        assert float((value * seeded("out " + name, value.shape)).sum()) == pytest.approx(
            product, abs=2e-3 * length + 2e-3
        )
    assert set(found) - set(GOLDEN["outputs"]) == {"region_masks"}


def test_a_configuration_written_before_the_newer_fields_still_loads() -> None:
    old = ("dim", "slots", "slot_steps", "graph_layers", "heads", "neighbours")
    plain = cfg.to_dict(tiny.model())
    plain["scene"] = {name: plain["scene"][name] for name in old}
    assert cfg.from_dict(ModelConfig, plain) == tiny.model()
    assert cfg.from_dict(SceneConfig, {}) == SceneConfig()
