"""Laws of the vision station beyond the default: choices together, air, depth in mm, routing, precision, graphs."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import scene_kit
from tests import tiny as small
from tests.laws.test_vision_options import OPTIONS, RANDOM, encoder, flat

from ctscribe.checkpoint import LoadedModel, ModelInfo
from ctscribe.model import CTReportModel, Thresholds
from ctscribe.tensors import Affine, ScaleTokens, Volume, VolumeBatch
from ctscribe.vision.air import body_cells
from ctscribe.vision.positions import PositionTable
from ctscribe.vision.protocol import Encoder
from ctscribe.vision.resample import axis_weights, regrid, resample_box
from ctscribe.vision.routing import Router, routing_of
from ctscribe.vision.stems import LinearStem, TubeletStem
from ctscribe.vision.swin import RelativeBias, SwinBlock
from ctscribe.vision.timesformer import DividedBlock
from ctscribe.vision.tubelets import TubeletConfig, adapt_depth
from recipes import tiny

ROOT = Path(__file__).parents[2]
TRUNKS = ("pyramid", "isotropic", "swin", "timesformer", "astra")


def brief(count: int = 2) -> VolumeBatch:
    """A scan small enough for a matrix of tests."""
    volume, _ = small.scans(count)
    return VolumeBatch(volume.hu[:, :16], volume.spacing)


# -------------------------------------------------------------------------------- choices together
@pytest.mark.parametrize(
    ("backbone", "injection", "mapping"),
    list(product(TRUNKS, ("residual", "concat", "cross"), ("thirds", "routed", "parallel"))),
)
def test_every_backbone_takes_every_injection_and_mapping(backbone: str, injection: str, mapping: str) -> None:
    public = {"public": replace(RANDOM, frame=(16, 32, 32))} if backbone == "astra" else {}
    model = encoder(backbone=backbone, injection=injection, mapping=mapping, **public).train()
    assert isinstance(model, Encoder)
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimiser = torch.optim.SGD([p for _, p in learned], lr=0.01)
    start = {n: p.detach().clone() for n, p in learned}
    for _ in range(2):
        seen = model(brief(1))
        loss = flat(seen).square().mean() + model.embed_scales(seen).square().mean()
        loss = loss + (seen.routing.balance if seen.routing is not None else 0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert [n for n, p in learned if p.grad is None] == []
    assert sum(not torch.equal(start[n], p) for n, p in learned) > len(learned) / 2
    assert [s.tokens.shape[-1] for s in seen.scales] == list(model.widths)
    assert [s.grid for s in seen.scales] == [
        model.config.tubelets.cells((16, 64, 64), (10, 5.5, 5.5), i) for i in range(3)
    ]


def lean(option: str) -> dict[str, Any]:
    """The option; a public encoder is shown a small frame."""
    changes = OPTIONS[option]
    return changes | {"public": replace(changes["public"], frame=(64, 64, 64))} if "public" in changes else changes


@pytest.mark.parametrize("option", OPTIONS)
def test_bfloat16_is_close(option: str) -> None:
    model, volume = encoder(**lean(option)), brief(1)
    with torch.no_grad():
        exact = flat(model(volume))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = flat(model(volume)).float()
    assert float((exact - rough).norm() / exact.norm()) < 0.05


COMPILED = """
import torch
from ctscribe.vision.build import BACKBONES
from tests.laws.test_vision_laws import brief, lean
from tests.laws.test_vision_options import cut, encoder, flat
volume = brief(1)
several = {"routed": {"mapping": "routed", "injection": "cross", "positions": ("learned", "none", "rope")},
           "lean": {"checkpointing": True, "skip_air": True, "mapping": "parallel", "injection": "concat"},
           "tubelets": {"tubelets": cut(overlap=(0.0, 0.5, 0.0), depth_mm=30.0).tubelets}}
for name in (*BACKBONES, *several):
    torch._dynamo.reset()
    model = encoder(**(several[name] if name in several else lean(name)))
    with torch.no_grad():
        compiled = torch.compile(model.encode, fullgraph=True, backend="eager")(model.adapt(volume))
        plain = model(volume)
    for a, b in zip(compiled.scales, plain.scales, strict=True):
        torch.testing.assert_close(a.tokens[a.valid], b.tokens[b.valid], atol=1e-5, rtol=1e-4, msg=name)
"""


@pytest.mark.slow
def test_every_backbone_and_several_options_compile_into_one_graph() -> None:
    """In a process of its own: the annotation checker of the tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# ---------------------------------------------------------------------------------------------- air
def patient(outside: float = -1000.0) -> VolumeBatch:
    """A block of body with air inside, in a room filled with ``outside`` HU."""
    hu = torch.full((1, 32, 96, 64), outside)
    hu[:, 8:24, 32:80, 16:48] = small.scans(1)[0].hu[:, 8:24, 16:64, 16:48].clamp(-200, 200)
    hu[:, 12:20, 48:64, 24:40] = -900.0
    return VolumeBatch(hu, torch.tensor([[10.0, 5.5, 5.5]]))


@pytest.mark.parametrize("backbone", ["pyramid", "swin", "isotropic", "timesformer"])
def test_leaving_out_air_equals_masking_it(backbone: str) -> None:
    """Where there is body the tokens are the same, whether windows of air are computed or not."""
    model = encoder(backbone=backbone, skip_air=True, depths=(2, 2, 1), injection="cross")
    volume = patient()
    with torch.no_grad():
        lean = model(volume)
        object.__setattr__(model.config, "skip_air", False)
        model.see = masked_see(model, volume)  # type: ignore[method-assign]
        full = model(VolumeBatch(volume.hu, volume.spacing, torch.ones_like(volume.hu, dtype=torch.bool)))
    for a, b in zip(lean.scales, full.scales, strict=True):
        assert torch.equal(a.valid, b.valid)
        torch.testing.assert_close(a.tokens[a.valid], b.tokens[b.valid], atol=1e-5, rtol=1e-4)


def masked_see(model: Any, volume: VolumeBatch) -> Any:
    """The tokenizer, and then every tubelet of air marked invalid; nothing is left out."""
    from ctscribe.vision.air import without_air

    see = model.see
    return lambda v: without_air(v, see(v), model.config.tubelets.strides[0])


def test_windows_of_air_are_not_computed() -> None:
    model = encoder(skip_air=True)
    sizes: list[int] = []
    model.stages[0][0].block.register_forward_hook(lambda _, args, out: sizes.append(args[0].shape[0]))  # type: ignore[index, union-attr]
    with torch.no_grad():
        model(patient())
    windows = (16 // 4) * (12 // 4) * (8 // 4)
    assert 0 < sizes[0] < windows


def test_the_room_is_outside_and_the_lung_is_inside() -> None:
    inside = body_cells(patient(), (2, 8, 8))[0]
    assert not inside[:4].any()
    assert not inside[:, :4].any()
    assert inside[6:10, 6:8, 3:5].all()
    assert body_cells(VolumeBatch(torch.full((1, 4, 8, 8), -1000.0), torch.ones(1, 3)), (2, 8, 8)).all()


# ------------------------------------------------------------------------------------- tubelets in mm
def test_a_scan_of_thin_and_of_thick_slices_gives_tubelets_of_the_same_extent() -> None:
    config = replace(tiny.model().encoder.tubelets, depth_mm=20.0)
    shade = torch.linspace(-800, 200, 32)
    thick = VolumeBatch(shade[None, :, None, None].expand(1, 32, 8, 8).contiguous(), torch.tensor([[5.0, 2.0, 2.0]]))
    thin = VolumeBatch(thick.hu.repeat_interleave(5, 1), torch.tensor([[1.0, 2.0, 2.0]]))
    one, two = adapt_depth(thick, config.slice_mm), adapt_depth(thin, config.slice_mm)
    assert one.hu.shape == two.hu.shape
    torch.testing.assert_close(one.hu, two.hu, atol=1e-2, rtol=0)
    torch.testing.assert_close(one.spacing, two.spacing)
    assert one.hu.shape[1] == 16
    assert config.cells((32, 8, 8), (5.0, 2.0, 2.0)) == config.cells((160, 8, 8), (1.0, 2.0, 2.0))


def test_scans_of_other_thickness_may_share_a_batch() -> None:
    torch.manual_seed(0)
    hu = torch.rand(2, 24, 64, 64) * 1000 - 900
    both = VolumeBatch(hu, torch.tensor([[2.0, 5.0, 5.0], [3.5, 5.0, 5.0]]))
    model = encoder(tubelets=replace(tiny.model().encoder.tubelets, depth_mm=8.0))
    with torch.no_grad():
        together, alone = model(both), model(VolumeBatch(hu[:1], both.spacing[:1]))
    for a, b in zip(together.scales, alone.scales, strict=True):
        assert int(a.valid[0].sum()) == int(b.valid[0].sum())
        torch.testing.assert_close(a.tokens[0][a.valid[0]], b.tokens[0][b.valid[0]], atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(a.centres[0][a.valid[0]], b.centres[0][b.valid[0]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("sizes", [((1, 4, 4), (2, 8, 8), (4, 16, 16)), ((2, 8, 8), (3, 12, 12), (8, 20, 20))])
def test_tubelets_of_any_size(sizes: tuple[tuple[int, int, int], ...]) -> None:
    config = replace(tiny.model().encoder.tubelets, fine=sizes[0], mid=sizes[1], coarse=sizes[2])
    model = encoder(tubelets=config)
    volume = brief(1)
    wide = torch.full((1, 20, 64, 70), 500.0)
    valid = torch.zeros_like(wide, dtype=torch.bool)
    wide[:, :16, :, :64], valid[:, :16, :, :64] = volume.hu, True
    with torch.no_grad():
        bare, padded = model(volume), model(VolumeBatch(wide, volume.spacing, valid))
    for a, b in zip(bare.scales, padded.scales, strict=True):
        assert int(a.valid.sum()) == int(b.valid.sum())
        torch.testing.assert_close(a.tokens[a.valid], b.tokens[b.valid], atol=5e-4, rtol=1e-3)
        torch.testing.assert_close(a.centres[a.valid], b.centres[b.valid], atol=1e-3, rtol=0)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    ("size", "stride"), [((2, 16, 16), (2, 8, 8)), ((4, 8, 8), (2, 8, 8)), ((3, 12, 12), (3, 9, 9))]
)
def test_an_overlapping_tubelet_reads_all_its_voxels_and_few_others(
    size: tuple[int, int, int], stride: tuple[int, int, int], linear: bool
) -> None:
    """By gradients: which voxels does the middle token depend on?"""
    torch.manual_seed(0)
    stem = LinearStem(size, 1, 8, stride) if linear else TubeletStem(size, 1, 8, 4, (0, 0, 0), stride)
    image = torch.rand(1, 1, *(5 * s for s in stride), requires_grad=True)
    tokens = stem(image).reshape(5, 5, 5, 8)
    (tokens[2, 2, 2] * torch.randn(8)).sum().backward()
    assert image.grad is not None
    read = image.grad[0, 0] != 0
    for axis in range(3):
        touched = read.any(dim=[a for a in range(3) if a != axis]).nonzero().flatten()
        low, high = (
            2 * stride[axis] - (size[axis] - stride[axis]) // 2,
            3 * stride[axis] + (size[axis] - stride[axis]) // 2,
        )
        assert int(touched.min()) <= low
        assert int(touched.max()) >= high - 1
        assert len(touched) < size[axis] + 3 * stride[axis]


def test_a_linear_stem_is_the_convolution_whose_weights_it_keeps() -> None:
    torch.manual_seed(0)
    stem, image = LinearStem((2, 4, 4), 3, 8), torch.rand(2, 3, 4, 8, 12)
    apart = stem.norm(stem.embed(image).movedim(1, -1))
    torch.testing.assert_close(stem(image), apart, atol=1e-5, rtol=1e-4)


def test_scales_of_an_overlapping_tubelet_nest() -> None:
    config = TubeletConfig(overlap=(0.0, 0.5, 0.5))
    assert config.strides == ((2, 8, 8), (4, 16, 16), (8, 32, 32))
    assert config.cells((64, 128, 128), (1.0, 1.0, 1.0)) == (32, 16, 16)


# ---------------------------------------------------------------------------------------- resampling
def test_area_weights_conserve_what_they_cover() -> None:
    weights = axis_weights(10, 4, torch.tensor([0.0, 1.5]), torch.tensor([2.5, 1.3]))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    torch.testing.assert_close(weights[0].sum(0) * 2.5, torch.ones(10))
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.4, 0.4, 0.2] + [0.0] * 7))


@pytest.mark.parametrize("mode", ["area", "linear"])
def test_a_box_on_its_own_grid_is_itself_and_beyond_lies_the_filling(mode: Any) -> None:
    hu = torch.rand(1, 4, 6, 8)
    low, high = torch.zeros(1, 3), torch.tensor([[4.0, 6.0, 8.0]])
    torch.testing.assert_close(resample_box(hu, low, high, (4, 6, 8), fill=-1.0, mode=mode), hu)
    beyond = resample_box(hu, low - torch.tensor([[4.0, 0, 0]]), high, (8, 6, 8), fill=-1.0, mode=mode)
    torch.testing.assert_close(beyond[:, :4], torch.full((1, 4, 6, 8), -1.0))
    torch.testing.assert_close(beyond[:, 4:], hu)


def test_bringing_tokens_to_another_grid_averages_what_is_valid() -> None:
    scale = scene_kit.scale(1, (2, 2, 2), 3, (1.0, 1.0, 1.0), torch.Generator().manual_seed(0))
    valid = torch.tensor([[True] * 3 + [False] * 5])
    half = ScaleTokens(scale.tokens, scale.grid, scale.centres, valid)
    torch.testing.assert_close(regrid(half, (1, 1, 1))[0, 0], scale.tokens[0, :3].mean(0))
    torch.testing.assert_close(regrid(scale, (4, 4, 4)).reshape(4, 4, 4, 3)[3, 0, 1], scale.tokens[0, 4])


# ------------------------------------------------------------------------------------------- parts
def test_a_learned_place_is_a_place_in_millimetres() -> None:
    torch.manual_seed(0)
    table = PositionTable(4, 400.0)
    places = torch.tensor([[[0.0, 0.0, 0.0], [200.0, -200.0, 0.0], [900.0, -900.0, 0.0]]])
    read = table(places)[0]
    torch.testing.assert_close(read[0], table.table[0, :, 4, 4, 4])
    torch.testing.assert_close(read[1], table.table[0, :, 8, 0, 4])
    torch.testing.assert_close(read[1], read[2])


@pytest.mark.parametrize("routes", [1, 2, 3])
def test_a_router_opens_so_many_gates_and_they_sum_to_one(routes: int) -> None:
    torch.manual_seed(0)
    router = Router(8, 1, routes)
    gates, *_ = router(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(gates.sum(-1), torch.ones(2, 5))
    assert ((gates > 0).sum(-1) == routes).all()
    assert float(gates.detach().mean((0, 1))[1]) > 1 / 3


def test_balance_is_one_when_scales_are_used_alike_and_three_when_one_takes_all() -> None:
    alike = [torch.eye(3)[[i]] for i in range(3)]
    one = [torch.tensor([[1.0, 0.0, 0.0]])] * 3
    assert float(routing_of(alike, alike, alike).balance) == pytest.approx(1)
    assert float(routing_of(one, one, one).balance) == pytest.approx(3)


def test_the_balance_loss_moves_the_routers() -> None:
    model = encoder(mapping="routed").train()
    seen = model(brief(1))
    assert seen.routing is not None
    assert tuple(seen.routing.shares.shape) == (1, 3, 3)
    torch.testing.assert_close(seen.routing.shares.sum(-1), torch.ones(1, 3))
    seen.routing.balance.backward()
    assert all(float(r.score.bias.grad.abs().sum()) > 0 for stage in model.routers for r in stage)  # type: ignore[union-attr]


def test_relative_bias_is_the_table_at_the_offset() -> None:
    torch.manual_seed(0)
    window = (2, 3, 2)
    bias = RelativeBias(window, 2)
    places = [(t, h, w) for t in range(2) for h in range(3) for w in range(2)]
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            dt, dh, dw = (p - q + n - 1 for p, q, n in zip(a, b, window, strict=True))
            torch.testing.assert_close(bias()[:, i, j], bias.table[(dt * 5 + dh) * 3 + dw])


def test_a_swin_block_sees_offsets_where_no_position_is_told() -> None:
    """Without its bias it cannot tell the order of the tokens of a window; with it, it can."""
    torch.manual_seed(0)
    block = SwinBlock(16, 2, (2, 2, 2), False, 2.0, None).eval()
    scale = scene_kit.scale(1, (2, 2, 2), 16, (1.0, 1.0, 1.0), torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 1, 2, 7, 6, 5, 4])
    with torch.no_grad():
        block.relative.table.mul_(50)
        swapped = block(scale.map(scale.tokens[:, order]))
        assert not torch.allclose(swapped, block(scale)[:, order], atol=1e-3)
        block.relative.table.zero_()
        torch.testing.assert_close(block(scale.map(scale.tokens[:, order])), block(scale)[:, order])


def test_divided_attention_hears_its_line_and_its_slice_and_nothing_else() -> None:
    torch.manual_seed(0)
    block = DividedBlock(16, 2, 2.0, 100.0).eval()
    torch.nn.init.eye_(block.gate_z.weight)
    scale = scene_kit.scale(1, (3, 3, 3), 16, (1.0, 1.0, 1.0), torch.Generator().manual_seed(0))
    line = scale.tokens.clone().reshape(3, 3, 3, 16)
    line[0, 2, 2] += torch.randn(16)
    with torch.no_grad():
        before = block(scale).reshape(3, 3, 3, 16)
        after = block(scale.map(line.reshape(1, -1, 16))).reshape(3, 3, 3, 16)
    moved = (before - after).abs().amax(-1) > 1e-6
    # Along z first, then across each slice: two steps reach everything, but only by way of the line.
    assert moved[0].all()
    assert moved[:, 2, 2].all()
    torch.nn.init.zeros_(block.gate_z.weight)
    with torch.no_grad():
        alone = (block(scale) - block(scale.map(line.reshape(1, -1, 16)))).reshape(3, 3, 3, 16).abs().amax(-1) > 1e-6
    assert alone[0].all()
    assert not alone[1:].any()


def test_a_timesformer_layer_wakes_up_seeing_slices_only() -> None:
    block = DividedBlock(16, 2, 2.0, 100.0)
    assert float(block.gate_z.weight.detach().abs().sum()) == 0


# --------------------------------------------------------------------------------- the whole model
@pytest.mark.parametrize(
    "changes",
    [{"overlap": (0.0, 0.5, 0.5)}, {"depth_mm": 30.0}, {"fine": (2, 8, 8), "mid": (3, 12, 12), "coarse": (8, 20, 20)}],
)
def test_a_model_of_other_tubelets_learns_and_describes_a_scan(changes: dict[str, Any]) -> None:
    """What lies on the fine grid (region masks, heat maps) follows the tubelets."""
    torch.manual_seed(0)
    plain = tiny.model()
    tubelets = replace(plain.encoder.tubelets, **changes)
    config = replace(plain, encoder=replace(plain.encoder, tubelets=tubelets))
    loaded = LoadedModel(CTReportModel(config, small.tokenizer()), ModelInfo("tiny"), Thresholds())
    batch, masks = small.scans(1)
    visual, scene = loaded.model.see(batch, masks)
    assert visual.fine.grid == loaded.cells
    assert scene.findings.dense is not None
    assert scene.findings.dense.shape[-1] == math.prod(loaded.cells)
    (scene.findings.presence.square().mean() + scene.findings.dense.square().mean()).backward()
    volume = Volume(batch.hu[0].numpy(), Affine.from_spacing(plain.grid.spacing))
    occupancy = np.zeros((len(loaded.regions), *loaded.cells), dtype=np.float32)
    described = loaded.describe(volume, occupancy, np.zeros(len(loaded.regions), dtype=bool), ("en",))
    assert described.detections[0].heat.shape == loaded.cells
