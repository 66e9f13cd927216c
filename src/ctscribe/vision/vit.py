"""Phase 1: a 3D vision transformer as a pyramid, with the spec's scale-to-layer injection.

```
 layers 1-4   windowed, shifted attention over fine tokens     ◄── fine tubelets
                    │ merge 2x2x2
 layers 5-8   windowed, shifted attention over mid tokens      ◄── mid tubelets   (residual injection)
                    │ merge 2x2x2
 layers 9-12  global attention over the few coarse tokens      ◄── coarse tubelets (residual injection)
```

Cost grows linearly with voxels: only the coarse stage attends globally. Layer numbers are the reference of 12;
`depths` holds any other split. The other backbones are this one with other layers (`swin`, `timesformer`), another
shape (`isotropic`) or more to look at (`public`); the choice of injection and mapping is theirs too.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctscribe.errors import ConfigError
from ctscribe.tensors import Routing, ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.air import without_air
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.injection import INJECTIONS
from ctscribe.vision.positions import PositionTable, wavelength
from ctscribe.vision.resample import Size, filled_shape, regrid, triple
from ctscribe.vision.routing import Router, routing_of
from ctscribe.vision.tubelets import TubeletTokenizer, adapt_depth, fill_up
from ctscribe.vision.windows import WindowBlock


class Merge(nn.Module):
    """Join neighbouring tokens into one of the next scale (a strided linear map)."""

    def __init__(self, dim_in: int, dim_out: int, factor: Size) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(dim_in * math.prod(factor))
        self.linear = nn.Linear(self.norm.normalized_shape[0], dim_out, bias=False)

    def forward(self, scale: ScaleTokens, grid: Size, masked: bool) -> Float[Tensor, "b m d"]:
        x = scale.tokens * scale.valid.unsqueeze(-1) if masked else scale.tokens
        a, b, c = self.factor
        joined = rearrange(
            x, "b (t a h b2 w c2) c -> b (t h w) (a b2 c2 c)", t=grid[0], a=a, h=grid[1], b2=b, w=grid[2], c2=c
        )  # fmt: skip
        return self.linear(self.norm(joined))


class Bring(nn.Module):
    """Tokens of one grid on another over the same field of view (mean or copy), projected to its width."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim_in)
        self.linear = nn.Linear(dim_in, dim_out, bias=False)

    def forward(self, scale: ScaleTokens, grid: Size, masked: bool) -> Float[Tensor, "b m d"]:
        return regrid(scale, grid, self.linear(self.norm(scale.tokens)), masked=masked)


class PyramidEncoder(nn.Module):
    """`VolumeBatch` -> `VisualTokens`: tokenizer, then three stages that each scale enters in its turn.

    The injection of a scale is ``x + project(tubelets)`` at the entrance of its stage (or one of the other
    `INJECTIONS`): the tubelets of that scale meet what the finer stages already know.
    """

    def __init__(self, config: EncoderConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.tokenizer = TubeletTokenizer(config.tubelets, windows)
        stage_widths = self.stage_widths
        self.merges = nn.ModuleList(self._merge(i) for i in range(1, 3))
        self.inject = nn.ModuleList(nn.Linear(w, d) for w, d in zip(self.widths, stage_widths, strict=True))
        self.stages = nn.ModuleList(
            nn.ModuleList(self._layer(i, layer) for layer in range(config.depths[i])) for i in range(3)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(w) for w in self.widths)
        self.embeddings = nn.ModuleList(nn.Linear(w, config.embedding) for w in self.widths)
        self._build_choices()

    def _build_choices(self) -> None:
        """Modules of the choices that are not the default; after all others, so that the default draws the same."""
        config, widths = self.config, self.stage_widths
        routed = config.mapping == "routed"
        entries = [config.depths[i] if routed else int(i > 0) for i in range(3)]
        self.joins = nn.ModuleList(
            nn.ModuleList(
                INJECTIONS[config.injection](widths[i], self._heads(i), self._window(i), self._longest(i))
                for _ in range(entries[i])
            )
            for i in range(3)
        )
        self.tables = nn.ModuleDict(
            {
                str(i): PositionTable(widths[i], config.longest_mm)
                for i, kind in enumerate(config.positions)
                if kind == "learned"
            }
        )
        self.routers, self.brought = nn.ModuleList(), nn.ModuleList()
        if routed:
            for i, width in enumerate(widths):
                self.routers.append(nn.ModuleList(Router(width, i, config.routes) for _ in range(config.depths[i])))
                # A scale comes to its own stage by `inject`, to the others by a way of its own.
                ways = {str(j): Bring(w, width) for j, w in enumerate(self.widths) if j != i}
                self.brought.append(nn.ModuleDict(ways))

    # ------------------------------------------------------------------ what another backbone may change
    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the tokens that come out, per scale."""
        return self.config.tubelets.widths

    @property
    def stage_widths(self) -> tuple[int, int, int]:
        """Channels of the stream inside each stage."""
        return self.widths

    def _window(self, index: int) -> Size | None:
        """Window of a stage; None where it attends globally."""
        return None if index == 2 else self.config.window

    def _layer(self, index: int, layer: int) -> nn.Module:
        """One layer of a stage: ``forward(scale, masked=, skip=) -> tokens``."""
        return WindowBlock(
            self.stage_widths[index],
            self._heads(index),
            self._window(index),
            shifted=index < 2 and layer % 2 == 1,
            mlp_ratio=self.config.mlp_ratio,
            longest_mm=self._longest(index),
        )

    def _merge(self, index: int) -> nn.Module:
        """From stage ``index - 1`` to stage ``index``."""
        small, large = list(pairwise(self.config.tubelets.strides))[index - 1]
        width_in, width_out = self.stage_widths[index - 1], self.stage_widths[index]
        if all(b % a == 0 for a, b in zip(small, large, strict=True)):
            return Merge(width_in, width_out, triple(b // a for a, b in zip(small, large, strict=True)))
        return Bring(width_in, width_out)

    def _places(self, tubelets: VisualTokens) -> tuple[ScaleTokens, ScaleTokens, ScaleTokens]:
        """The grid that each stage works on (tokens do not matter)."""
        return tubelets.scales

    def _own(self, index: int, tubelets: VisualTokens, masked: bool) -> Tensor:
        """Tubelets of a stage's own scale, on its grid and at its width."""
        return self.inject[index](tubelets.scales[index].tokens)

    def _leave(self, index: int, stream: ScaleTokens, tubelets: VisualTokens, masked: bool) -> Float[Tensor, "b n c"]:
        """From a stage's stream to the tokens of its scale."""
        return stream.tokens

    # ------------------------------------------------------------------------------------------- forward
    def forward(self, volume: VolumeBatch) -> VisualTokens:
        return self.encode(self.adapt(volume))

    def adapt(self, volume: VolumeBatch) -> VolumeBatch:
        """What depends on the data alone: slices of equal thickness, where the configuration asks for it."""
        tubelets = self.config.tubelets
        return adapt_depth(volume, tubelets.slice_mm) if tubelets.depth_mm > 0 else volume

    def encode(self, volume: VolumeBatch) -> VisualTokens:
        """`forward` for scans whose slices are already as the configuration wants them; one graph when compiled."""
        multiple, shape = self.config.tubelets.multiple, volume.hu.shape[1:]
        masked = volume.valid is not None or filled_shape(shape, multiple) != tuple(shape) or self.config.skip_air
        tubelets = self.see(volume)
        if self.config.skip_air:
            tubelets = without_air(fill_up(volume, multiple), tubelets, self.config.tubelets.strides[0])
        walk = {"thirds": self._thirds, "parallel": self._parallel, "routed": self._routed}[self.config.mapping]
        seen, routing = walk(tubelets, masked)
        fine, mid, coarse = (
            scale.map(norm(self._leave(i, stream, tubelets, masked)))
            for i, (scale, stream, norm) in enumerate(zip(tubelets.scales, seen, self.norms, strict=True))
        )
        return VisualTokens(fine, mid, coarse, routing)

    def see(self, volume: VolumeBatch) -> VisualTokens:
        """The volume as tokens, before any attention."""
        return self.tokenizer(volume)

    def _thirds(self, tubelets: VisualTokens, masked: bool) -> tuple[list[ScaleTokens], None]:
        """Each scale enters at the entrance of its own stage; what the finer ones know comes along."""
        seen: list[ScaleTokens] = []
        for index, place in enumerate(self._places(tubelets)):
            x = self._own(index, tubelets, masked)
            if index:
                x = self._join(index, 0, place.map(self.merges[index - 1](seen[-1], place.grid, masked)), x, masked)
            seen.append(self._stage(index, place, x, masked))
        return seen, None

    def _parallel(self, tubelets: VisualTokens, masked: bool) -> tuple[list[ScaleTokens], None]:
        """A branch per scale, none of which knows of the others until all have finished; then finer joins coarser."""
        branches = [
            self._stage(index, place, self._own(index, tubelets, masked), masked)
            for index, place in enumerate(self._places(tubelets))
        ]
        seen = branches[:1]
        for index, place in enumerate(branches[1:], start=1):
            merged = place.map(self.merges[index - 1](seen[-1], place.grid, masked))
            seen.append(place.map(self._join(index, 0, merged, place.tokens, masked)))
        return seen, None

    def _routed(self, tubelets: VisualTokens, masked: bool) -> tuple[list[ScaleTokens], Routing]:
        """Before every layer each token chooses the scales it listens to."""
        seen: list[ScaleTokens] = []
        reports: list[tuple[Tensor, Tensor, Tensor]] = []
        for index, place in enumerate(self._places(tubelets)):
            ways = cast(nn.ModuleDict, self.brought[index])
            offered = [
                self._own(index, tubelets, masked) if j == index else ways[str(j)](scale, place.grid, masked)
                for j, scale in enumerate(tubelets.scales)
            ]
            x = self.merges[index - 1](seen[-1], place.grid, masked) if index else offered[0]
            x = self._placed(index, place, x)
            for number, layer in enumerate(cast(nn.ModuleList, self.stages[index])):
                router = cast(nn.ModuleList, self.routers[index])[number]
                gates, *report = router(x, place.valid)
                reports.append((report[0], report[1], report[2]))
                mixed = sum(gates[..., j : j + 1] * tokens for j, tokens in enumerate(offered))
                x = self._join(index, number, place.map(x), cast(Tensor, mixed), masked)
                x = self._run(layer, place, x, masked)
            seen.append(place.map(x))
        gates_, chances, firsts = (list(part) for part in zip(*reports, strict=True))
        return seen, routing_of(gates_, chances, firsts)

    def _stage(self, index: int, place: ScaleTokens, x: Tensor, masked: bool) -> ScaleTokens:
        x = self._placed(index, place, x)
        for layer in cast(nn.ModuleList, self.stages[index]):
            x = self._run(layer, place, x, masked)
        return place.map(x)

    def _placed(self, index: int, place: ScaleTokens, x: Tensor) -> Tensor:
        """The stream at a stage's entrance: told where it is, nothing where there is nothing."""
        if str(index) in self.tables:
            x = x + self.tables[str(index)](place.centres)
        return x * place.valid.unsqueeze(-1)

    def _join(self, index: int, entry: int, x: ScaleTokens, tubelets: Tensor, masked: bool) -> Tensor:
        join = cast(nn.ModuleList, self.joins[index])[entry]
        return join(x, tubelets, masked=masked, skip=self.config.skip_air)

    def _run(self, layer: nn.Module, place: ScaleTokens, x: Tensor, masked: bool) -> Tensor:
        def apply(tokens: Tensor) -> Tensor:
            return layer(place.map(tokens), masked=masked, skip=self.config.skip_air)

        if self.config.checkpointing and torch.is_grad_enabled():
            return checkpoint(apply, x, use_reentrant=False)
        return apply(x)

    def _heads(self, index: int) -> int:
        return max(1, self.stage_widths[index] // self.config.head_dim)

    def _longest(self, index: int) -> float | None:
        return wavelength(self.config.positions[index], self.config.longest_mm)

    def embed_scales(self, visual: VisualTokens) -> Float[Tensor, "b 3 e"]:
        """One vector per scale: the projected mean of its valid tokens."""
        means = [
            (s.tokens * s.valid.unsqueeze(-1)).sum(1) / s.valid.sum(1, keepdim=True).clamp_min(1) for s in visual.scales
        ]
        return torch.stack([project(m) for project, m in zip(self.embeddings, means, strict=True)], dim=1)


def _check(config: EncoderConfig) -> None:
    """Refuse numbers that build nothing."""
    if config.mapping == "routed" and not 1 <= config.routes <= 3:
        raise ConfigError("a token cannot listen to that many scales", expected="1, 2 or 3", got=str(config.routes))
    if config.mapping == "routed" and sum(config.depths) == 0:
        raise ConfigError("a routing needs layers to route to", expected="depths above zero", got=str(config.depths))
    if min(config.window) < 1:
        raise ConfigError("an attention window has no tokens", expected="at least one", got=str(config.window))
