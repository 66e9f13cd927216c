"""Every option of the vision station: it learns, it changes what comes out, and the laws hold for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import tiny as small

from ctscribe.errors import CTScribeError
from ctscribe.tensors import VisualTokens, VolumeBatch
from ctscribe.vision.build import BACKBONES, build_encoder
from ctscribe.vision.config import EncoderConfig, PublicConfig
from ctscribe.vision.vit import PyramidEncoder
from recipes import tiny

ROOT = Path(__file__).parents[2]
RANDOM = PublicConfig(weights="random", size="tiny")
OPTIONS: dict[str, dict[str, Any]] = {
    "pyramid": {},
    "isotropic": {"backbone": "isotropic"},
    "swin": {"backbone": "swin"},
    "timesformer": {"backbone": "timesformer"},
    "astra": {"backbone": "astra", "public": RANDOM},
    "colipri": {"backbone": "colipri", "public": RANDOM},
    "spectre-fm": {"backbone": "spectre-fm", "public": RANDOM},
    "concat": {"injection": "concat"},
    "cross": {"injection": "cross"},
    "routed": {"mapping": "routed"},
    "parallel": {"mapping": "parallel"},
    "linear stem": {"tubelets": replace(tiny.model().encoder.tubelets, stem=0)},
    "learned positions": {"positions": ("learned", "learned", "learned")},
    "no positions": {"positions": ("none", "none", "none")},
}


def encoder(**changes: Any) -> PyramidEncoder:
    torch.manual_seed(0)
    plain = tiny.model()
    return build_encoder(replace(plain.encoder, **changes), plain.windows).eval()


def cut(**changes: Any) -> EncoderConfig:
    plain = tiny.model().encoder
    return replace(plain, tubelets=replace(plain.tubelets, **changes))


def flat(visual: VisualTokens) -> torch.Tensor:
    return torch.cat([s.tokens.flatten() for s in visual.scales])


def test_every_backbone_is_among_the_options() -> None:
    assert set(BACKBONES) <= set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_it_learns_two_steps_and_every_part_hears_of_it(option: str) -> None:
    model, (volume, _) = encoder(**OPTIONS[option]).train(), small.scans()
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimiser = torch.optim.SGD([p for _, p in learned], lr=1e-2)
    before = flat(model(volume)).detach()
    for _ in range(2):
        seen = model(volume)
        loss = flat(seen).square().mean() + model.embed_scales(seen).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)
    assert [n for n, p in learned if p.grad is None] == []
    assert not torch.equal(flat(model(volume)).detach(), before)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "pyramid"])
def test_it_is_not_the_default_in_disguise(option: str) -> None:
    volume, _ = small.scans(1)
    plain, other = encoder(), encoder(**OPTIONS[option])
    shared = {
        n: p for n, p in plain.state_dict().items() if n in (own := other.state_dict()) and p.shape == own[n].shape
    }
    other.load_state_dict(shared, strict=False)
    with torch.no_grad():
        assert not torch.allclose(flat(plain(volume)), flat(other(volume)), atol=1e-4)


@pytest.mark.parametrize("option", OPTIONS)
def test_batched_equals_single(option: str) -> None:
    volume, _ = small.scans(2)
    model = encoder(**OPTIONS[option])
    with torch.no_grad():
        together, alone = model(volume), model(VolumeBatch(volume.hu[1:], volume.spacing[1:]))
    for a, b in zip(together.scales, alone.scales, strict=True):
        torch.testing.assert_close(a.tokens[1:], b.tokens, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_padding_holds_is_invisible(option: str) -> None:
    volume, _ = small.scans(1)
    valid = torch.ones_like(volume.hu, dtype=torch.bool)
    valid[:, :, 32:] = False
    other = volume.hu.clone()
    other[~valid] = 3000.0
    model = encoder(**OPTIONS[option])
    with torch.no_grad():
        one, two = (model(VolumeBatch(hu, volume.spacing, valid)) for hu in (volume.hu, other))
    for a, b in zip(one.scales, two.scales, strict=True):
        torch.testing.assert_close(a.tokens[a.valid], b.tokens[b.valid], atol=1e-4, rtol=1e-3)


def test_the_learned_mapping_can_be_read() -> None:
    volume, _ = small.scans(2)
    assert encoder(**OPTIONS["routed"])(volume).routing is not None
    assert encoder()(volume).routing is None


def test_activations_computed_again_give_the_same_gradients() -> None:
    volume, _ = small.scans(1)
    gradients = []
    for again in (False, True):
        model = encoder(checkpointing=again).train()
        flat(model(volume)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_air_is_left_out_and_the_body_sees_the_same_tokens() -> None:
    body = torch.full((1, 32, 64, 64), -1000.0)
    body[:, 8:24, 16:48, 16:48] = small.scans(1)[0].hu[:, 8:24, 16:48, 16:48].clamp(-200, 200)
    volume = VolumeBatch(body, torch.tensor([[10.0, 5.5, 5.5]]))
    with torch.no_grad():
        lean = encoder(skip_air=True)(volume)
    assert 0 < int(lean.fine.valid.sum()) < lean.fine.valid.numel()
    outside = ~lean.fine.valid[0].reshape(lean.fine.grid)
    assert outside[0].all()
    assert not outside[8].all()


def test_overlapping_tubelets_lie_closer_and_see_more() -> None:
    volume, _ = small.scans(1)
    torch.manual_seed(0)
    model = build_encoder(cut(overlap=(0.0, 0.5, 0.5)), tiny.model().windows).eval()
    with torch.no_grad():
        fine = model(volume).fine
    assert fine.grid == (16, 16, 16)
    step = fine.centres.reshape(1, *fine.grid, 3)[0, 0, 0, :2, 2]
    assert float(step[1] - step[0]) == pytest.approx(4 * 5.5)


def test_tubelets_of_thin_and_thick_slices_have_about_the_same_depth() -> None:
    torch.manual_seed(0)
    model = build_encoder(cut(depth_mm=20.0), tiny.model().windows).eval()
    depths = []
    for slices, thickness in ((160, 1.0), (32, 5.0)):
        volume = VolumeBatch(torch.zeros(1, slices, 64, 64), torch.tensor([[thickness, 5.5, 5.5]]))
        with torch.no_grad():
            fine = model(volume).fine
        z = fine.centres.reshape(1, *fine.grid, 3)[0, :, 0, 0, 0]
        depths.append(float(z[1] - z[0]))
    assert depths[0] == pytest.approx(depths[1], rel=0.3)


def test_missing_public_weights_are_refused() -> None:
    with pytest.raises(CTScribeError, match="colipri"):
        encoder(backbone="colipri", public=PublicConfig(size="tiny"))
