"""Studies as the language station sees them: random visual and scene tokens of any size, small and seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from tests import scene_kit as kit
from tests import tiny as small
from torch import Tensor, nn

from ctscribe.language.station import LanguageConfig, Writer
from ctscribe.tensors import FindingLogits, ScaleTokens, SceneTokens, VisualTokens
from recipes import tiny

WIDTHS = (24, 32, 40)
SCENE = 16
CONFIG = tiny.model().language


def writer(seed: int = 0, gate: float | None = 0.7, **changes: object) -> Writer:
    """A tiny writer; ``gate`` opens (or closes, at 0) every gate it has."""
    torch.manual_seed(seed)
    made = Writer(replace(CONFIG, **changes), small.tokenizer(), WIDTHS, SCENE).eval()
    return made if gate is None else set_gates(made, gate)


def set_gates(model: Writer, value: float) -> Writer:
    for name, parameter in model.named_parameters():
        if name.endswith("gate.scale"):
            nn.init.constant_(parameter, value)
    return model


def study(batch: int = 2, seed: int = 0, fine: kit.Size = kit.FINE) -> tuple[VisualTokens, SceneTokens]:
    """Visual and scene tokens of ``batch`` studies on one grid."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    visual = kit.visual(batch, seed, WIDTHS, fine)
    slots, regions = 3, 5
    nodes = slots + regions
    present = torch.ones(batch, regions, dtype=torch.bool)
    present[:, 1] = False
    nothing = FindingLogits(some(batch, 1), some(batch, 1, 1), some(batch, 1), {})
    scene = SceneTokens(
        regions=some(batch, regions, SCENE),
        region_present=present,
        slots=some(batch, slots, SCENE),
        graph=some(batch, nodes, SCENE),
        slot_masks=some(batch, slots, visual.mid.tokens.shape[1]),
        edges=some(batch, nodes, nodes),
        findings=nothing,
        centres=some(batch, nodes, 3),
    )
    return visual, scene


def first(visual: VisualTokens, scene: SceneTokens) -> tuple[VisualTokens, SceneTokens]:
    """The first study of a batch alone."""
    return _each(visual, scene, lambda tensor: tensor[:1])


def twice(visual: VisualTokens, scene: SceneTokens) -> tuple[VisualTokens, SceneTokens]:
    """A batch and the same batch again."""
    return _each(visual, scene, lambda tensor: torch.cat((tensor, tensor)))


def _each(
    visual: VisualTokens, scene: SceneTokens, change: Callable[[Tensor], Tensor]
) -> tuple[VisualTokens, SceneTokens]:
    scales = [ScaleTokens(change(s.tokens), s.grid, change(s.centres), change(s.valid)) for s in visual.scales]
    lone = {f.name: change(getattr(scene, f.name)) for f in fields(scene) if isinstance(getattr(scene, f.name), Tensor)}
    return VisualTokens(scales[0], scales[1], scales[2]), replace(scene, **lone)


def padded(visual: VisualTokens, fine: kit.Size) -> VisualTokens:
    """The same study on a larger grid: the new places hold noise and are not valid."""
    scales = []
    for step, scale in zip((1, 2, 4), visual.scales, strict=True):
        grid = (fine[0] // step, fine[1] // step, fine[2] // step)
        t, h, w = scale.grid
        batch, _, width = scale.tokens.shape
        tokens = torch.full((batch, *grid, width), 5.0)
        centres = torch.full((batch, *grid, 3), 900.0)
        valid = torch.zeros(batch, *grid, dtype=torch.bool)
        tokens[:, :t, :h, :w] = scale.tokens.reshape(batch, t, h, w, width)
        centres[:, :t, :h, :w] = scale.centres.reshape(batch, t, h, w, 3)
        valid[:, :t, :h, :w] = scale.valid.reshape(batch, t, h, w)
        scales.append(ScaleTokens(tokens.flatten(1, 3), grid, centres.flatten(1, 3), valid.flatten(1, 3)))
    return VisualTokens(scales[0], scales[1], scales[2])


@torch.no_grad()
def cached_and_plain(model: Writer, prompt: Tensor, beams: int = 1) -> tuple[Tensor, Tensor]:
    """Six tokens after a prompt, decoded with the host's cache and without."""
    settings = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 0, "eos_token_id": 1}
    memory = model.recall(small.facts(), *study())
    cached, plain = (
        model.decoder.generate(prompt, torch.ones_like(prompt), memory, use_cache=cache, **settings)
        for cache in (True, False)
    )
    return cached, plain


def seeded(name: str, shape: torch.Size) -> Tensor:
    """The same random numbers for a name, wherever it stands."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill(model: Writer) -> Writer:
    """Weights that depend on their names alone."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(seeded(name, value.shape) * (0.3 if value.ndim < 2 else value.shape[-1] ** -0.5))
    return model


def tokens(count: int = 2, length: int = 12) -> Tensor:
    return torch.randint(5, len(small.tokenizer()), (count, length), generator=torch.Generator().manual_seed(3))


__all__ = [
    "CONFIG",
    "LanguageConfig",
    "cached_and_plain",
    "fill",
    "first",
    "padded",
    "seeded",
    "set_gates",
    "study",
    "tokens",
    "twice",
    "writer",
]
