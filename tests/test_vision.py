from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests import tiny as small
from torch import Tensor, nn

from ctscribe.layers import Attention, rotary_angles
from ctscribe.tensors import VolumeBatch
from ctscribe.vision import windows
from ctscribe.vision.stems import TubeletStem, strides_of
from ctscribe.vision.tubelets import TubeletConfig, TubeletTokenizer, Windows, token_centres
from ctscribe.vision.vit import PyramidEncoder
from ctscribe.vision.windows import WindowBlock, in_windows
from recipes import tiny


def encoder(seed: int = 0) -> PyramidEncoder:
    torch.manual_seed(seed)
    return PyramidEncoder(tiny.model().encoder, tiny.model().windows).eval()


def test_batched_equals_single() -> None:
    volume, _ = small.scans(2)
    model = encoder()
    together = model(volume)
    alone = model(VolumeBatch(volume.hu[1:], volume.spacing[1:]))
    for a, b in zip(together.scales, alone.scales, strict=True):
        torch.testing.assert_close(a.tokens[1:], b.tokens, atol=1e-5, rtol=1e-4)


def test_grids_and_centres_follow_the_tubelets() -> None:
    volume, _ = small.scans(1)
    fine, mid, coarse = encoder()(volume).scales
    assert (fine.grid, mid.grid, coarse.grid) == ((16, 8, 8), (8, 4, 4), (4, 2, 2))
    # Eight fine tubelets make a mid one, so their mean centre is its centre.
    first = fine.centres[0].reshape(16, 8, 8, 3)[:2, :2, :2].reshape(-1, 3).mean(0)
    torch.testing.assert_close(first, mid.centres[0, 0])
    torch.testing.assert_close(coarse.centres.mean(1), torch.zeros(1, 3), atol=1e-4, rtol=0)


def test_padding_is_invisible() -> None:
    """A scan padded by whole coarse tubelets gives the same tokens where it is valid, whatever the padding holds."""
    volume, _ = small.scans(1)
    model = encoder()
    z, y, x = volume.hu.shape[1:]
    padded = torch.full((1, z + 8, y + 32, x), 3000.0)
    valid = torch.zeros_like(padded, dtype=torch.bool)
    padded[:, :z, :y], valid[:, :z, :y] = volume.hu, True
    bare, wrapped = model(volume), model(VolumeBatch(padded, volume.spacing, valid))
    for a, b in zip(bare.scales, wrapped.scales, strict=True):
        t, h, w = a.grid
        kept = b.tokens.reshape(1, *b.grid, -1)[:, :t, :h, :w].reshape(a.tokens.shape)
        torch.testing.assert_close(a.tokens, kept, atol=2e-4, rtol=1e-3)
        assert int(b.valid.sum()) == t * h * w


def test_a_volume_of_any_size_is_filled_up_and_masked() -> None:
    volume, _ = small.scans(1)
    cut = VolumeBatch(volume.hu[:, :30, :, :50], volume.spacing)
    valid = torch.zeros_like(volume.hu, dtype=torch.bool)
    valid[:, :30, :, :50] = True
    model = encoder()
    with torch.no_grad():
        bare, masked = model(cut), model(VolumeBatch(volume.hu, volume.spacing, valid))
    for a, b in zip(bare.scales, masked.scales, strict=True):
        assert int(a.valid.sum()) == int(b.valid.sum())
        torch.testing.assert_close(a.tokens[a.valid], b.tokens[b.valid], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(2, 8, 8), (2, 16, 16), (4, 32, 32), (8, 64, 64), (1, 4, 4), (3, 6, 6)])
def test_strides_multiply_to_the_tubelet(size: tuple[int, int, int]) -> None:
    product = torch.tensor(strides_of(size)).prod(0)
    assert tuple(product.tolist()) == size
    stem = TubeletStem(size, 3, 16, 4, (1, 1, 1))
    tokens = stem(torch.rand(1, 3, *(2 * s for s in size)))
    assert tokens.shape == (1, 2, 2, 2, 16)


def test_windows_clip_hounsfield_units_to_zero_and_one() -> None:
    seen = Windows(((40.0, 400.0),))(torch.tensor([-2000.0, -160.0, 40.0, 240.0, 3000.0]).view(1, 1, 1, 5))
    torch.testing.assert_close(seen.flatten(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("at_once", [1, 50, 4096])
def test_every_token_returns_to_its_place(shifted: bool, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through windows that do not divide the grid, however many are computed together; once each."""
    monkeypatch.setattr(windows, "IN_CACHE", at_once)
    torch.manual_seed(0)
    volume, _ = small.scans(2)
    scale = encoder()(volume).fine
    seen: list[int] = []

    def brick(x: Tensor, valid: Tensor | None, bias: Tensor | None, places: Tensor) -> Tensor:
        seen.append(x.shape[:2].numel() if valid is None else int(valid.sum()))
        return x + 1

    with torch.no_grad():
        out = in_windows(scale, (3, 5, 4), brick, shifted=shifted)
    torch.testing.assert_close(out, scale.tokens + 1)
    assert sum(seen) == int(scale.valid.sum())
    if at_once == 4096:
        assert len(seen) <= 2  # those that need no mask, and those that do
    else:
        assert len(seen) > 2


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("shape", [(32, 128, 64), (20, 100, 72), (19, 90, 75)])
@pytest.mark.parametrize("masked", ["no", "ragged", "behind"])
def test_blocks_of_a_scan_embed_as_the_whole_does(
    masked: str, shape: tuple[int, int, int], learning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear stems look at a block at a time on a CPU; the tokens and their places are those of the whole."""
    tokenizer, volume = _linear(shape, masked)
    with torch.set_grad_enabled(learning):
        blocks = tokenizer(volume)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        whole = tokenizer(volume)
    for a, b in zip(blocks.scales, whole.scales, strict=True):
        torch.testing.assert_close(a.tokens, b.tokens, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(a.centres, b.centres)
        assert torch.equal(a.valid, b.valid)


def _linear(shape: tuple[int, int, int], masked: str) -> tuple[TubeletTokenizer, VolumeBatch]:
    torch.manual_seed(0)
    hu = torch.rand(2, *shape) * 2000 - 1000
    valid = None
    if masked == "ragged":
        valid = torch.rand(2, 16, 64, 64).repeat_interleave(2, 1).repeat_interleave(2, 2) > 0.3
        valid = valid[:, : shape[0], : shape[1], : shape[2]] if shape[2] <= 64 else hu > -700
    if masked == "behind":
        valid = torch.ones_like(hu, dtype=torch.bool)
        valid[1, 12:] = False
    config = TubeletConfig(widths=(8, 12, 16), stem=0)
    return TubeletTokenizer(config, ((-600.0, 1500.0), (40.0, 400.0))), VolumeBatch(hu, torch.ones(2, 3), valid)


@pytest.mark.parametrize("masked", ["no", "ragged"])
@pytest.mark.parametrize("learning", [False, True])
def test_linear_stems_embed_as_convolutions_do(masked: str, learning: bool) -> None:
    """One convolution as large as the tubelet, over the mean of the valid voxels of each block."""
    tokenizer, volume = _linear((32, 128, 64), masked)
    hu, valid = volume.hu, volume.valid
    with torch.set_grad_enabled(learning):
        blocks = tokenizer(volume)
    seen = tokenizer.windows(hu) if valid is None else tokenizer.windows(hu) * valid.unsqueeze(1)
    for pool, stem, mark, got in zip(
        tokenizer.pools, tokenizer.stems, tokenizer.scale_embedding, blocks.scales, strict=True
    ):
        view = F.avg_pool3d(seen, pool)
        if valid is not None:
            view = view / F.avg_pool3d(valid.float().unsqueeze(1), pool).clamp_min(1e-6)
        wanted = stem.norm(stem.embed(view).flatten(2).transpose(1, 2)) + mark
        torch.testing.assert_close(got.tokens, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("learning", [False, True])
def test_shifted_windows_keep_opposite_borders_apart(learning: bool) -> None:
    """A token at one border must not hear the one at the other, though the shift brings them together."""
    with torch.set_grad_enabled(learning):
        _opposite_borders()


def _opposite_borders() -> None:
    torch.manual_seed(0)
    volume, _ = small.scans(1)
    block = WindowBlock(32, 2, (4, 4, 4), shifted=True, mlp_ratio=2, longest_mm=400.0).eval()
    scale = encoder()(volume).fine
    before = block(scale).reshape(16, 8, 8, 32)
    changed = scale.tokens.clone().reshape(16, 8, 8, 32)
    changed[0, 0, 0] = torch.randn(32)
    after = block(scale.map(changed.reshape(1, -1, 32))).reshape(16, 8, 8, 32)
    moved = (before - after).abs().amax(-1) > 1e-5
    assert moved[0, 0, 0]
    assert moved[0, 0, 1]
    assert not moved[-2:].any()
    assert not moved[:, -2:].any()
    assert not moved[:, :, -2:].any()


@pytest.mark.parametrize("learning", [False, True])
def test_positions_turn_the_same_with_and_without_complex_numbers(
    learning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    attention = Attention(48, 2, longest_mm=400.0)
    x, places, valid = torch.randn(3, 10, 48), torch.randn(3, 10, 3) * 100, torch.rand(3, 10) > 0.3
    with torch.set_grad_enabled(learning):
        complex_ = attention(x, valid=valid, positions=places)[0]
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        real = attention(x, valid=valid, positions=places)[0]
        elsewhere = attention(x, valid=valid, positions=places.flip(1))[0]
    torch.testing.assert_close(complex_, real, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(real, elsewhere, atol=1e-3)


def test_rotary_positions_are_relative() -> None:
    """Moving the whole scan in millimetres changes no attention."""
    torch.manual_seed(0)
    attention = Attention(48, 2, longest_mm=400.0)
    x, places = torch.randn(1, 6, 48), torch.rand(1, 6, 3) * 100
    here, _ = attention(x, positions=places)
    there, _ = attention(x, positions=places + torch.tensor([35.0, -20.0, 7.0]))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)
    still, _ = attention(x, positions=places * 3)
    assert (here - still).abs().max() > 1e-3


def test_rotary_angles_use_every_axis() -> None:
    angles = rotary_angles(torch.eye(3)[None] * 10, 24, 400.0)
    assert (angles.abs().sum(-1) > 0).all()
    assert (angles[0, 0, :4] != 0).all()
    assert (angles[0, 0, 4:] == 0).all()


def test_attention_weights_sum_to_one_and_equal_the_fused_kernel() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4)
    x, valid = torch.randn(2, 5, 32), torch.tensor([[True] * 5, [True, True, False, False, False]])
    told, weights = attention(x, valid=valid, return_weights=True)
    with torch.no_grad():
        fused, none = attention(x, valid=valid)
    torch.testing.assert_close(told, fused, atol=1e-5, rtol=1e-4)
    assert none is None
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
    assert float(weights[1, :, 2:].detach().max()) < 1e-6


def test_query_without_any_valid_key_hears_nothing() -> None:
    attention = Attention(32, 4)
    out, _ = attention(torch.randn(1, 3, 32), valid=torch.zeros(1, 3, dtype=torch.bool))
    assert float(out.detach().abs().max()) == 0


def test_attention_equals_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.q.weight, ours.kv.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.q.bias, ours.kv.bias)))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(ours(x)[0], theirs(x, x, x)[0], atol=1e-5, rtol=1e-4)


def test_token_centres_are_symmetric_in_millimetres() -> None:
    centres = token_centres((2, 2, 2), (2, 8, 8), torch.tensor([[5.0, 2.0, 1.0]]))
    torch.testing.assert_close(centres[0, 0], torch.tensor([-5.0, -8.0, -4.0]))
    torch.testing.assert_close(centres[0, -1], torch.tensor([5.0, 8.0, 4.0]))
