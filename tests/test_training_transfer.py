"""Weights from elsewhere, the strategies as data, and the whole curriculum in one command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests import tiny
from torch import Tensor, nn

from ctscribe import checkpoint
from ctscribe.errors import CheckpointError
from ctscribe.tensors import VolumeBatch
from ctscribe.training import plans
from ctscribe.training.losses import SPEC_WEIGHTS, standard_losses
from ctscribe.training.pretraining.contrast import ContrastConfig
from ctscribe.training.pretraining.layouts import read_published
from ctscribe.training.pretraining.masked import MaskedConfig
from ctscribe.training.pretraining.model import PretrainConfig, with_heads
from ctscribe.training.pretraining.transfer import (
    StartConfig,
    inflate,
    into_encoder,
    resample_positions,
    start_from,
)
from ctscribe.training.stages import check_stages, trainable_names
from ctscribe.vision.build import build_encoder
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.tubelets import TubeletConfig
from recipes import curriculum
from recipes import tiny as smallest

WIDTH, HIDDEN, LAYERS = 32, 64, 2


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 0.1


def hugging_face(video: bool) -> dict[str, Tensor]:
    """A ViT or VideoMAE under the names of its published safetensors file."""
    root = "videomae." if video else "vit."
    patch = (WIDTH, 3, 2, 16, 16) if video else (WIDTH, 3, 16, 16)
    state = {
        f"{root}embeddings.patch_embeddings.projection.weight": numbers(*patch),
        f"{root}embeddings.patch_embeddings.projection.bias": numbers(WIDTH),
    }
    if not video:
        state[f"{root}embeddings.cls_token"] = numbers(1, 1, WIDTH)
        state[f"{root}embeddings.position_embeddings"] = numbers(1, 17, WIDTH)
    for layer in range(LAYERS):
        at = f"{root}encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            state[f"{at}attention.attention.{part}.weight"] = numbers(WIDTH, WIDTH, seed=layer * 7 + len(part))
            if not video:
                state[f"{at}attention.attention.{part}.bias"] = numbers(WIDTH, seed=layer + len(part))
        if video:
            state[f"{at}attention.attention.q_bias"] = numbers(WIDTH, seed=1)
            state[f"{at}attention.attention.v_bias"] = numbers(WIDTH, seed=2)
        for name, shape in (
            ("attention.output.dense", (WIDTH, WIDTH)),
            ("intermediate.dense", (HIDDEN, WIDTH)),
            ("output.dense", (WIDTH, HIDDEN)),
        ):
            state[f"{at}{name}.weight"], state[f"{at}{name}.bias"] = numbers(*shape), numbers(shape[0])
        for name in ("layernorm_before", "layernorm_after"):
            state[f"{at}{name}.weight"], state[f"{at}{name}.bias"] = numbers(WIDTH, seed=3), numbers(WIDTH, seed=4)
    state[f"{root}layernorm.weight"] = numbers(WIDTH)
    return state


def timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same ViT under timm's names, queries, keys and values stacked."""
    names = {
        "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
        "vit.embeddings.position_embeddings": "pos_embed",
        "vit.embeddings.cls_token": "cls_token",
        "vit.encoder.layer.": "blocks.",
        "vit.layernorm": "norm",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if ".attention.attention." not in name:
            made[name] = tensor
    for layer in range(LAYERS):
        for kind in ("weight", "bias"):
            at = f"vit.encoder.layer.{layer}.attention.attention."
            made[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(
                [state[f"{at}{part}.{kind}"] for part in ("query", "key", "value")]
            )
    return made


def encoder(**choices: object) -> nn.Module:
    tubelets = TubeletConfig((2, 16, 16), (4, 32, 32), (8, 64, 64), widths=(WIDTH, WIDTH, 48), stem=0)
    config = EncoderConfig(tubelets=tubelets, depths=(1, 1, 1), head_dim=16, mlp_ratio=2.0)
    return build_encoder(replace(config, **choices), ((0.0, 1.0), (0.0, 1.0)))


# ------------------------------------------------------------------------------------------------ transfer
def test_two_layouts_of_one_network_are_read_alike() -> None:
    one, two = read_published(hugging_face(video=False)), read_published(timm(hugging_face(video=False)))
    assert len(one.blocks) == LAYERS
    for a, b in zip(one.blocks, two.blocks, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(one.patch, two.patch)
    assert torch.equal(one.positions, two.positions)


@pytest.mark.parametrize("video", [False, True], ids=["vit", "videomae"])
def test_networks_in_memory_are_read_like_the_files_they_write(video: bool, tmp_path: Path) -> None:
    from transformers import VideoMAEConfig, VideoMAEForPreTraining, ViTConfig, ViTModel

    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS}
    if video:
        few = {
            "num_frames": 4,
            "decoder_num_hidden_layers": 1,
            "decoder_hidden_size": 16,
            "decoder_intermediate_size": 16,
        }
        theirs = VideoMAEForPreTraining(VideoMAEConfig(image_size=32, decoder_num_attention_heads=2, **sizes, **few))
    else:
        theirs = ViTModel(ViTConfig(image_size=32, **sizes))
    for tensor in theirs.parameters():
        tensor.data = numbers(*tensor.shape, seed=tensor.numel())
    theirs.save_pretrained(tmp_path)
    here, there = read_published(theirs.state_dict()), read_published(load_file(tmp_path / "model.safetensors"))
    assert len(here.blocks) == len(there.blocks) == LAYERS
    for a, b in zip(here.blocks, there.blocks, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(here.patch, there.patch)
    net = encoder(positions=("none", "none", "none"))
    assert "block 0" in into_encoder(net, here).taken.values()
    assert torch.equal(net.stages[0][0].block.mlp.down.weight, here.blocks[0]["mlp.down.weight"])


def test_keys_of_a_video_network_without_bias_get_zero() -> None:
    block = read_published(hugging_face(video=True)).blocks[0]
    assert not block["attention.kv.bias"][:WIDTH].any()
    assert block["attention.kv.bias"][WIDTH:].any()


def test_a_block_computes_what_it_computed_where_it_was_trained() -> None:
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTLayer

    state = hugging_face(video=False)
    config = ViTConfig(
        hidden_size=WIDTH, num_attention_heads=2, intermediate_size=HIDDEN, hidden_act="gelu", layer_norm_eps=1e-5
    )
    config._attn_implementation = "eager"
    theirs = ViTLayer(config).eval()
    own = read_published(state).blocks[0]
    for kind in ("weight", "bias"):
        key, value = own[f"attention.kv.{kind}"].chunk(2)
        for part, tensor in (
            (theirs.attention.q_proj, own[f"attention.q.{kind}"]),
            (theirs.attention.k_proj, key),
            (theirs.attention.v_proj, value),
            (theirs.attention.o_proj, own[f"attention.out.{kind}"]),
            (theirs.mlp.fc1, own[f"mlp.up.{kind}"]),
            (theirs.mlp.fc2, own[f"mlp.down.{kind}"]),
            (theirs.layernorm_before, own[f"norm1.{kind}"]),
            (theirs.layernorm_after, own[f"norm2.{kind}"]),
        ):
            getattr(part, kind).data = tensor
    net = encoder(positions=("none", "none", "none"))
    report = into_encoder(net, read_published(state))
    assert report.taken["stages.0.0.block.attention.q.weight"] == "block 0"
    x = numbers(2, 5, WIDTH)
    with torch.no_grad():
        said = theirs(x)
        said = said[0] if isinstance(said, tuple) else said
        assert torch.allclose(net.stages[0][0].block(x)[0], said, atol=1e-5)


def test_an_inflated_patch_answers_a_grey_still_picture_as_before() -> None:
    weight, grey = numbers(5, 3, 8, 8), torch.rand(1, 1, 8, 8)
    before = torch.nn.functional.conv2d(grey.expand(1, 3, 8, 8), weight)[0, :, 0, 0]
    made = inflate(weight, 4, (2, 8, 8))
    video = grey[:, :, None].expand(1, 4, 2, 8, 8)
    assert torch.allclose(torch.nn.functional.conv3d(video, made).flatten(), before, atol=1e-5)
    smaller = inflate(weight, 4, (2, 4, 4))
    assert torch.allclose(smaller.flatten(1).sum(1), weight.flatten(1).sum(1), atol=1e-5)


def test_positions_of_a_picture_hold_at_every_depth_and_of_a_video_do_not() -> None:
    picture = resample_positions(numbers(1, 17, 6), 1, 4)
    assert torch.allclose(picture[:, :, 0], picture[:, :, 3], atol=1e-6)
    assert torch.allclose(picture[0, :, 0].flatten(1).T, numbers(1, 17, 6)[0, 1:], atol=1e-6)
    video = resample_positions(numbers(1, 32, 6), 2, 4)
    assert not torch.allclose(video[:, :, 0], video[:, :, 3])


@pytest.mark.parametrize("video", [False, True], ids=["vit", "videomae"])
def test_what_fits_is_taken_and_what_does_not_is_said(video: bool) -> None:
    net = encoder(positions=("learned", "learned", "learned"))
    report = into_encoder(net, read_published(hugging_face(video)))
    assert {"tokenizer.stems.0.embed.weight", "tokenizer.stems.1.embed.weight"} <= set(report.taken)
    assert "tokenizer.stems.2.embed.weight" in report.fresh
    assert ("tables.0.table" in report.taken) is not video
    named = {name for name, _ in net.named_parameters()}
    assert set(report.taken) | set(report.fresh) == named
    assert not set(report.taken) & set(report.fresh)
    assert any("layernorm" in name for name in report.left)
    seen = net(VolumeBatch(torch.rand(1, 8, 64, 64), torch.ones(1, 3)))
    assert all(s.tokens.isfinite().all() for s in seen.scales)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    other, mine = tiny.build(1), tiny.build(2)
    state = {n: p.detach().clone() for n, p in other.named_parameters() if n.startswith("vision.")}
    save_file({**state, "masked.norm.weight": torch.ones(3)}, tmp_path / "w.safetensors")
    report = start_from(mine, StartConfig(str(tmp_path / "w.safetensors")))
    assert report.taken.keys() == state.keys()
    assert list(report.left) == ["masked.norm.weight"]
    assert all(torch.equal(p, state[n]) for n, p in mine.named_parameters() if n in state)
    assert all(not n.startswith("vision.") for n in report.fresh)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"linear.weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    for layout in ("ctscribe", "published"):
        with pytest.raises(CheckpointError):
            start_from(tiny.build(), StartConfig(str(tmp_path / "w.safetensors"), layout))


# -------------------------------------------------------------------------------------------------- plans
def course(**steps: int) -> object:
    counts = {"masked": 1, "contrast": 1, "multitask": 1, "text": 1, "connect": 1, "refine": 1, "gates": 1, **steps}
    base = smallest.config()
    stages = tuple(replace(s, batch_size=2) for s in curriculum.stages(**counts))
    return replace(
        base,
        recipe="curriculum",
        model=replace(base.model, scene=curriculum.supervised(base.model.scene)),
        train=replace(base.train, stages=stages),
        data=replace(base.data, studies=2, validation=2),
        pretrain=PretrainConfig(MaskedConfig(width=32, layers=1), ContrastConfig(dim=8, width=16, layers=1, heads=2)),
    )


def test_what_thaws_grows_from_cross_attention_to_the_encoders_top_and_ends_with_gates() -> None:
    model = tiny.build()
    connect, refine, gates = (set(trainable_names(model, s)) for s in plans.stage_wise(1, 1, 1))
    assert gates < connect < refine
    assert all(".gate." in name for name in gates)
    assert all(name.startswith("language.") and ".host.mlp" not in name for name in connect)
    assert {n.split(".")[1] for n in refine - connect if n.startswith("vision.")} == {"stages", "norms"}
    assert not any(n.startswith(("vision.stages.0.", "vision.stages.1.")) for n in refine)
    assert set(trainable_names(model, plans.end_to_end(1)[0])) == {n for n, _ in model.named_parameters()}


def test_every_stage_of_the_curriculum_finds_its_losses_and_parameters() -> None:
    config = curriculum.config()
    names = [s.name for s in config.train.stages]
    assert names == ["masked", "contrast", "multitask", "text", "connect", "refine", "gates"]
    check_stages(config.train.stages, standard_losses())
    assert dict(config.train.stages[5].losses) == dict(SPEC_WEIGHTS)
    learner = with_heads(tiny.build(), PretrainConfig(), [n for s in config.train.stages for n in s.losses])
    assert all(trainable_names(learner, stage) for stage in config.train.stages)


def test_the_curriculum_runs_from_pretraining_to_a_model_folder(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"vision.norms.0.weight": torch.full((32,), 2.0)}, start)
    config = replace(course(), start=StartConfig(str(start)))
    folder = curriculum.run(config, tmp_path / "run")
    assert checkpoint.load(folder).info.synthetic
    assert json.loads((tmp_path / "run" / "transfer.json").read_text())["taken"] == {
        "vision.norms.0.weight": "vision.norms.0.weight"
    }
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = {row["stage"]: row["seen"] for row in rows if "seen" in row}
    assert list(seen) == [s.name for s in config.train.stages]
    assert seen["masked"]["masked"] == seen["contrast"]["siglip"] == seen["multitask"]["presence"] == 2
    assert seen["refine"].keys() == SPEC_WEIGHTS.keys()
    kept = load_file(tmp_path / "run" / "averaged.safetensors")
    assert any(name.startswith("masked.") for name in kept)
    assert not any(name.startswith(("masked.", "contrast.")) for name in load_file(folder / "model.safetensors"))
