"""No field of the vision station is read and then ignored: changing any of them changes the model or what it says."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from tests import tiny as small
from tests.laws.test_vision_options import RANDOM, flat

from ctscribe.errors import ConfigError
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig, PublicConfig
from ctscribe.vision.tubelets import TubeletConfig
from ctscribe.vision.vit import PyramidEncoder
from recipes import tiny

Change = dict[str, Any]
#: field -> (what the encoder is otherwise, what the field is changed to)
TUBELETS: dict[str, tuple[Change, Any]] = {
    "fine": ({}, (2, 16, 16)),
    "mid": ({}, (4, 16, 32)),
    "coarse": ({}, (16, 32, 32)),
    "widths": ({}, (32, 48, 32)),
    "stem": ({}, 0),
    "stem_blocks": ({}, (1, 1, 1)),
    "overlap": ({}, (0.5, 0.0, 0.0)),
    "depth_mm": ({}, 5.0),
}
ENCODER: dict[str, tuple[Change, Any]] = {
    "tubelets": ({}, replace(tiny.model().encoder.tubelets, stem=4)),
    "depths": ({}, (1, 2, 1)),
    "head_dim": ({}, 8),
    "window": ({}, (2, 2, 2)),
    "mlp_ratio": ({}, 2.0),
    "longest_mm": ({}, 100.0),
    "embedding": ({}, 8),
    "backbone": ({}, "swin"),
    "injection": ({}, "concat"),
    "mapping": ({}, "parallel"),
    "positions": ({}, ("rope", "rope", "none")),
    "routes": ({"mapping": "routed"}, 1),
    "checkpointing": ({}, True),
    "skip_air": ({}, True),
    "public": ({"backbone": "astra", "public": RANDOM}, replace(RANDOM, frame=(32, 32, 32))),
}
PUBLIC: dict[str, tuple[Change, Any]] = {
    "weights": ({}, "nowhere.safetensors"),
    "size": ({}, "published"),
    "frame": ({}, (32, 64, 32)),
}


def build(config: EncoderConfig) -> PyramidEncoder:
    torch.manual_seed(0)
    return build_encoder(config, tiny.model().windows).eval()


def differs(one: EncoderConfig, two: EncoderConfig) -> bool:
    """Other parameters, or the same ones with another output, or with other memory on the way to the gradient."""
    first, second = build(one), build(two)
    shapes = [{n: v.shape for n, v in m.state_dict().items()} for m in (first, second)]
    if shapes[0] != shapes[1]:
        return True
    volume, _ = small.scans(1)
    volume.hu[:, :, :16] = -1000.0  # the room beside the patient
    one_says, two_says = flat(first(volume)), flat(second(volume))
    if one_says.shape != two_says.shape or not torch.allclose(one_says, two_says, atol=1e-5):
        return True
    return kept(first) != kept(second)


def kept(model: PyramidEncoder) -> int:
    """Numbers that a forward pass keeps for the backward pass."""
    total = 0

    def pack(x: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(small.scans(1)[0])
    return total


def test_there_is_a_case_for_every_field() -> None:
    for cls, cases in ((TubeletConfig, TUBELETS), (EncoderConfig, ENCODER), (PublicConfig, PUBLIC)):
        assert {f.name for f in fields(cls)} == set(cases), cls.__name__


@pytest.mark.parametrize("name", TUBELETS)
def test_a_field_of_the_tubelets_matters(name: str) -> None:
    base = tiny.model().encoder
    assert differs(base, replace(base, tubelets=replace(base.tubelets, **{name: TUBELETS[name][1]})))


@pytest.mark.parametrize("name", ENCODER)
def test_a_field_of_the_encoder_matters(name: str) -> None:
    context, value = ENCODER[name]
    base = replace(tiny.model().encoder, **context)
    assert differs(base, replace(base, **{name: value}))


def test_the_fields_of_the_public_encoder_matter() -> None:
    base = replace(tiny.model().encoder, backbone="astra", public=RANDOM)
    assert differs(base, replace(base, public=replace(RANDOM, frame=PUBLIC["frame"][1])))
    with torch.device("meta"):
        large = build(replace(base, public=replace(RANDOM, size="published")))
    assert len(large.state_dict()) > len(build(base).state_dict())
    with pytest.raises(Exception, match="no such file of weights"):
        build(replace(base, public=replace(RANDOM, weights="nowhere.safetensors")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mapping": "routed", "routes": 4},
        {"mapping": "routed", "depths": (0, 0, 0)},
        {"window": (0, 4, 4)},
        {"backbone": "timesformer", "window": (2, 2, 2)},
        {"tubelets": TubeletConfig(overlap=(0.0, 1.0, 0.0))},
        {"tubelets": TubeletConfig(depth_mm=-1.0)},
        {"tubelets": TubeletConfig(fine=(0, 8, 8))},
    ],
)
def test_what_builds_nothing_is_refused(wrong: Change) -> None:
    with pytest.raises(ConfigError):
        build(replace(tiny.model().encoder, **wrong))
