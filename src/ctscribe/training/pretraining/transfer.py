"""Weights of 2D and video transformers, fitted into the encoder; what fits nowhere is reported, not forced.

```
 patch embedding   3 colours -> windows (mean), depth stretched or repeated, plane resampled: a grey, still video gives
                   the same response as the picture gave (I3D, Carreira and Zisserman, CVPR 2017)
 blocks            spread evenly over our layers of the same width
 positions         resampled onto the encoder's learned tables, where it has any
```
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.training.pretraining.layouts import Published, read_published
from ctscribe.vision.stems import LinearStem
from ctscribe.vision.vit import PyramidEncoder
from ctscribe.vision.weights import read_state

Layout = Literal["ctscribe", "published"]
Colours = Literal["imagenet", "half", "none"]
COLOURS: dict[Colours, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and spread by which a network's pictures were normalised: ImageNet's (VideoMAE, DINO), 0.5 (Google's ViT)."""


@dataclass(frozen=True)
class StartConfig:
    """Weights to start from, before the first stage.

    Attributes:
        weights: a .safetensors or .pt file; empty for none.
        layout: ``published`` for a ViT or VideoMAE under its published names, which goes into the encoder;
            ``ctscribe`` for the weights of an earlier run or a model folder, by name.
        colours: how the published network's pictures were normalised.
    """

    weights: str = ""
    layout: Layout = "ctscribe"
    colours: Colours = "imagenet"

    def __post_init__(self) -> None:
        if not self.weights and self.layout != "ctscribe":
            raise ConfigError("start.layout without start.weights", expected="start.weights=FILE, which it describes")
        if self.layout != "published" and self.colours != "imagenet":
            raise ConfigError("start.colours is read of published networks only", expected="start.layout=published")


@dataclass
class Transfer:
    """What was and what was not taken.

    Attributes:
        taken: our parameter -> where it came from.
        left: tensor of the file -> why it was not taken.
        fresh: our parameters that keep their random start.
    """

    taken: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{len(self.taken)} tensors taken, {len(self.fresh)} start at random, {len(self.left)} not used"]
        lines += [f"  {count} not used: {why}" for why, count in Counter(self.left.values()).most_common()]
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        temporary = path.with_name(f".{path.name}.partial")
        temporary.write_text(
            json.dumps({"taken": self.taken, "left": self.left, "fresh": self.fresh}, indent=2) + "\n", encoding="utf-8"
        )
        temporary.replace(path)


def start_from(model: nn.Module, config: StartConfig) -> Transfer:
    """Put the weights that ``config`` names into the model (its ``vision`` for a published network).

    Raises:
        CheckpointError: the file cannot be read, or nothing in it fits.
    """
    path = Path(config.weights)
    state = read_state(path)
    if config.layout == "ctscribe":
        report = by_name(model, state)
    else:
        encoder = cast(PyramidEncoder, model.get_submodule("vision"))
        report = into_encoder(encoder, read_published(state), config.colours)
    if not report.taken:
        raise CheckpointError(f"{path}: nothing in it fits this model", got=report.summary())
    return report


def by_name(model: nn.Module, state: Mapping[str, Tensor]) -> Transfer:
    """Every tensor of the same name and shape."""
    report, own = Transfer(), dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in state.items():
        if name not in own:
            report.left[name] = "the model has no such parameter"
        elif own[name].shape != tensor.shape:
            report.left[name] = "another shape"
        else:
            _put(report, own[name], tensor, name, name)
    report.fresh = [name for name, _ in model.named_parameters() if name not in report.taken]
    return report


def into_encoder(encoder: PyramidEncoder, source: Published, colours: Colours = "imagenet") -> Transfer:
    """A published transformer into ours: patch embedding, blocks, positions; names are those of the encoder."""
    report = Transfer(left=dict.fromkeys(source.left, "no counterpart (class token, last norm, head or decoder)"))
    _patches(encoder, source, colours, report)
    _blocks(encoder, source, report)
    _positions(encoder, source, report)
    report.fresh = [name for name, _ in encoder.named_parameters() if name not in report.taken]
    return report


def inflate(weight: Float[Tensor, "c k *s"], windows: int, size: tuple[int, int, int]) -> Float[Tensor, "c w t h v"]:
    """A colour patch embedding as a tubelet embedding with the same response to a grey, still picture.

    The sum of the weights is kept: colours are added up and shared among the windows, a picture's patch is repeated
    through the depth, and the patch is resampled to ``size``.
    """
    grey = weight.sum(1, keepdim=True)
    if grey.ndim == 4:
        grey = grey.unsqueeze(2)
    if grey.shape[2:] != size:
        before = math.prod(grey.shape[2:])
        grey = F.interpolate(grey, size, mode="trilinear", align_corners=False) * before / math.prod(size)
        # Resampling keeps the mean only nearly; the sum is what a flat picture answers to.
        lost = weight.flatten(1).sum(1) - grey.flatten(1).sum(1)
        grey = grey + (lost / math.prod(size)).reshape(-1, 1, 1, 1, 1)
    return grey.expand(-1, windows, -1, -1, -1) / windows


def resample_positions(positions: Float[Tensor, "1 n c"], depth: int, knots: int) -> Float[Tensor, "1 c k k k"]:
    """Learned positions of a picture or video on a cubic table, without the class token's.

    Args:
        positions: as published.
        depth: cells along time; 1 for a picture, whose table is then the same at all depths.
        knots: cells of the table along each axis.
    """
    count, channels = positions.shape[1:]
    for extra in (1, 0, 2):
        side = math.isqrt(max(0, count - extra) // depth)
        if side and side * side * depth == count - extra:
            grid = positions[:, extra:].transpose(1, 2).reshape(1, channels, depth, side, side)
            return F.interpolate(grid, (knots, knots, knots), mode="trilinear", align_corners=True)
    raise ConfigError("positions of a picture that is not square", got=f"{count} tokens at {depth} depths")


def _patches(encoder: PyramidEncoder, source: Published, colours: Colours, report: Transfer) -> None:
    if source.patch is None:
        return
    mean, spread = (torch.tensor(values) for values in COLOURS[colours])
    weight = source.patch / spread.reshape(-1, *[1] * (source.patch.ndim - 2))
    bias = -(weight.flatten(2).sum(2) * mean).sum(1)
    bias = bias if source.patch_bias is None else bias + source.patch_bias
    why = "the tubelet stems are convolutions (encoder.tubelets.stem=0 takes patch embeddings)"
    for number, stem in enumerate(encoder.tokenizer.stems):
        if not isinstance(stem, LinearStem):
            continue
        embed = stem.embed
        if embed.out_channels != weight.shape[0]:
            why = f"another width than {weight.shape[0]}"
            continue
        a, b, c = embed.kernel_size
        made, name = inflate(weight, embed.in_channels, (a, b, c)), f"tokenizer.stems.{number}.embed"
        _put(report, embed.weight, made, f"{name}.weight", "patch embedding, inflated")
        if embed.bias is not None:
            _put(report, embed.bias, bias, f"{name}.bias", "patch embedding")
    if not any(name.startswith("tokenizer.") for name in report.taken):
        report.left["patch embedding"] = why


def _blocks(encoder: PyramidEncoder, source: Published, report: Transfer) -> None:
    own = [
        (f"stages.{i}.{j}.block", block)
        for i, stage in enumerate(encoder.stages)
        for j, layer in enumerate(cast(nn.ModuleList, stage))
        if (block := getattr(layer, "block", None)) is not None
    ]
    used = set[int]()
    for place, (name, block) in enumerate(own):
        number = min(len(source.blocks) - 1, int((place + 0.5) * len(source.blocks) / len(own)))
        tensors, parameters = source.blocks[number], dict(block.named_parameters())
        if all(key in parameters and parameters[key].shape == tensor.shape for key, tensor in tensors.items()):
            used.add(number)
            for key, tensor in tensors.items():
                _put(report, parameters[key], tensor, f"{name}.{key}", f"block {number}")
    for number in sorted(set(range(len(source.blocks))) - used):
        shape = "x".join(map(str, source.blocks[number]["mlp.up.weight"].shape))
        fits = any(f"block {n}" in report.taken.values() for n in used)
        why = "the encoder has fewer layers" if fits else f"no layer has a feed-forward part of {shape}"
        report.left[f"block {number}"] = why


def _positions(encoder: PyramidEncoder, source: Published, report: Transfer) -> None:
    if source.positions is None:
        return
    for name, table in encoder.tables.items():
        values = cast(Tensor, table.table)
        if values.shape[1] == source.positions.shape[2]:
            depth = _depth(source)
            made = resample_positions(source.positions, depth, values.shape[2])
            _put(report, values, made, f"tables.{name}.table", "positions, resampled")
    if not any(name.startswith("tables.") for name in report.taken):
        report.left["positions"] = "the encoder has no learned positions of that width (encoder.positions=learned,...)"


def _depth(source: Published) -> int:
    """Cells along time of a video network's learned positions, the plane being square."""
    count = 0 if source.positions is None else source.positions.shape[1]
    if not source.video:
        return 1
    fits = [
        d for d in (8, 16, 4, 2, 32) for n in (count, count - 1) if n % d == 0 and math.isqrt(n // d) ** 2 == n // d
    ]
    return fits[0] if fits else 1


@torch.no_grad()
def _put(report: Transfer, parameter: Tensor, value: Tensor, name: str, origin: str) -> None:
    parameter.copy_(value)
    report.taken[name] = origin
