"""Phase 1: a 3D vision transformer as a pyramid, with the spec's scale-to-layer injection.

```
 layers 1-4   windowed, shifted attention over fine tokens     ◄── fine tubelets
                    │ merge 2x2x2
 layers 5-8   windowed, shifted attention over mid tokens      ◄── mid tubelets   (residual injection)
                    │ merge 2x2x2
 layers 9-12  global attention over the few coarse tokens      ◄── coarse tubelets (residual injection)
```

Cost grows linearly with voxels: only the coarse stage attends globally. Layer numbers are the reference of 12;
`depths` holds any other split.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.layers import Block
from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.tubelets import Size, TubeletConfig, TubeletTokenizer, triple


@dataclass(frozen=True)
class EncoderConfig:
    """The vision station.

    Attributes:
        tubelets: how the volume is cut into tokens.
        depths: layers per stage (fine, mid, coarse).
        head_dim: channels per attention head.
        window: tokens (t, h, w) per attention window.
        mlp_ratio: width of the feed-forward layers over that of the tokens.
        longest_mm: longest wavelength of the rotary positions.
        embedding: width of the one-vector-per-scale summaries that the consistency loss compares.
    """

    tubelets: TubeletConfig = TubeletConfig()
    depths: tuple[int, int, int] = (4, 4, 4)
    head_dim: int = 32
    window: Size = (4, 4, 4)
    mlp_ratio: float = 4.0
    longest_mm: float = 400.0
    embedding: int = 64


def to_windows(x: Float[Tensor, "b n c"], grid: Size, window: Size) -> Float[Tensor, "bw k c"]:
    """Cut a token grid into windows, windows joining the batch axis."""
    t, h, w = grid
    return rearrange(
        x,
        "b (t wt h wh w ww) c -> (b t h w) (wt wh ww) c",
        t=t // window[0], wt=window[0], h=h // window[1], wh=window[1], w=w // window[2], ww=window[2],
    )  # fmt: skip


def from_windows(x: Float[Tensor, "bw k c"], grid: Size, window: Size) -> Float[Tensor, "b n c"]:
    """Undo `to_windows`."""
    t, h, w = (g // s for g, s in zip(grid, window, strict=True))
    return rearrange(
        x,
        "(b t h w) (wt wh ww) c -> b (t wt h wh w ww) c",
        t=t, h=h, w=w, wt=window[0], wh=window[1], ww=window[2],
    )  # fmt: skip


def roll(x: Tensor, grid: Size, shift: Size) -> Tensor:
    """Shift a flat token grid (b, n, ...) cyclically."""
    t, h, w = grid
    shaped = x.reshape(x.shape[0], t, h, w, *x.shape[2:])
    return torch.roll(shaped, shift, dims=(1, 2, 3)).reshape(x.shape)


class WindowBlock(nn.Module):
    """A transformer block inside (optionally shifted) windows of a token grid; without a window it is global.

    Windows are counted from the grid's origin, and a grid that is no whole number of windows is filled up with invalid
    tokens at its end: padding a volume therefore changes nothing for its valid tokens. A shift is cyclic; tokens that
    it brings together from opposite borders are kept apart.
    """

    def __init__(
        self, dim: int, heads: int, window: Size | None, shifted: bool, mlp_ratio: float, longest_mm: float
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.block = Block(dim, heads, mlp_ratio=mlp_ratio, longest_mm=longest_mm)

    def forward(self, scale: ScaleTokens) -> Float[Tensor, "b n c"]:
        if self.window is None:
            valid = None if bool(scale.valid.all()) else scale.valid
            return self.block(scale.tokens, valid=valid, positions=scale.centres)[0]
        window = self.window
        whole = _fill_up(scale, window)
        x, places, valid, grid = whole.tokens, whole.centres, whole.valid, whole.grid
        shift = (window[0] // 2, window[1] // 2, window[2] // 2) if self.shifted else (0, 0, 0)
        seam = None
        if any(shift):
            back = (-shift[0], -shift[1], -shift[2])
            x, places, valid = roll(x, grid, back), roll(places, grid, back), roll(valid, grid, back)
            seam = _seam_bias(grid, window, shift, x.shape[0], x.device)
        mask = to_windows(valid.unsqueeze(-1).float(), grid, window).squeeze(-1) > 0
        out, _ = self.block(
            to_windows(x, grid, window),
            valid=None if bool(mask.all()) else mask,
            bias=seam,
            positions=to_windows(places, grid, window),
        )
        out = from_windows(out, grid, window)
        out = roll(out, grid, shift) if any(shift) else out
        return _cut_back(out, grid, scale.grid)


def _fill_up(scale: ScaleTokens, window: Size) -> ScaleTokens:
    """The grid extended to whole windows with invalid tokens."""
    t, h, w = scale.grid
    extra = [-n % size for n, size in zip(scale.grid, window, strict=True)]
    if not any(extra):
        return scale
    pad = (0, 0, 0, extra[2], 0, extra[1], 0, extra[0])

    def extend(x: Tensor) -> Tensor:
        return nn.functional.pad(x.reshape(x.shape[0], t, h, w, -1), pad).flatten(1, 3)

    grid = (t + extra[0], h + extra[1], w + extra[2])
    valid = extend(scale.valid.float().unsqueeze(-1)).squeeze(-1) > 0
    return ScaleTokens(extend(scale.tokens), grid, extend(scale.centres), valid)


def _cut_back(x: Float[Tensor, "b n c"], grid: Size, wanted: Size) -> Float[Tensor, "b m c"]:
    """Undo `_fill_up` for tokens."""
    if grid == wanted:
        return x
    t, h, w = wanted
    return x.reshape(x.shape[0], *grid, -1)[:, :t, :h, :w].flatten(1, 3)


def _seam_bias(grid: Size, window: Size, shift: Size, batch: int, device: torch.device) -> Float[Tensor, "bw 1 k k"]:
    """Additive bias that separates tokens from opposite borders after a cyclic shift."""
    marks = []
    for cells, size, moved in zip(grid, window, shift, strict=True):
        axis = torch.zeros(cells, device=device)
        if moved:
            axis[cells - size : cells - moved] = 1
            axis[cells - moved :] = 2
        marks.append(axis)
    z, y, x = torch.meshgrid(*marks, indexing="ij")
    ids = to_windows((z * 9 + y * 3 + x).reshape(1, -1, 1), grid, window).squeeze(-1)
    bias = (ids[:, None, :] != ids[:, :, None]).float() * -1e4
    return bias.repeat(batch, 1, 1).unsqueeze(1)


class Merge(nn.Module):
    """Join neighbouring tokens into one of the next scale (a strided linear map)."""

    def __init__(self, dim_in: int, dim_out: int, factor: Size) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(dim_in * factor[0] * factor[1] * factor[2])
        self.linear = nn.Linear(self.norm.normalized_shape[0], dim_out, bias=False)

    def forward(self, x: Float[Tensor, "b n c"], grid: Size) -> Float[Tensor, "b m d"]:
        a, b, c = self.factor
        t, h, w = (g // f for g, f in zip(grid, self.factor, strict=True))
        joined = rearrange(
            x, "b (t a h b2 w c2) c -> b (t h w) (a b2 c2 c)", t=t, a=a, h=h, b2=b, w=w, c2=c
        )  # fmt: skip
        return self.linear(self.norm(joined))


class PyramidEncoder(nn.Module):
    """`VolumeBatch` -> `VisualTokens`: tokenizer, then three stages with residual injection.

    The injection of a scale is ``x + project(norm(tubelets))`` at the entrance of its stage: the tubelets of that scale
    are added to what the finer stages already know.
    """

    def __init__(self, config: EncoderConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = TubeletTokenizer(config.tubelets, windows)
        sizes, widths = config.tubelets.sizes, config.tubelets.widths
        steps = [triple(b // a for a, b in zip(small, large, strict=True)) for small, large in pairwise(sizes)]
        self.merges = nn.ModuleList(Merge(widths[i], widths[i + 1], steps[i]) for i in range(2))
        self.inject = nn.ModuleList(nn.Linear(w, w) for w in widths)
        self.stages = nn.ModuleList(self._stage(i) for i in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(w) for w in widths)
        self.embeddings = nn.ModuleList(nn.Linear(w, config.embedding) for w in widths)

    def _stage(self, index: int) -> nn.ModuleList:
        config, width = self.config, self.config.tubelets.widths[index]
        heads = max(1, width // config.head_dim)
        return nn.ModuleList(
            WindowBlock(
                width,
                heads,
                None if index == 2 else config.window,
                shifted=index < 2 and layer % 2 == 1,
                mlp_ratio=config.mlp_ratio,
                longest_mm=config.longest_mm,
            )
            for layer in range(config.depths[index])
        )

    def forward(self, volume: VolumeBatch) -> VisualTokens:
        tubelets = self.tokenizer(volume)
        seen: list[ScaleTokens] = []
        x: Tensor | None = None
        for index, scale in enumerate(tubelets.scales):
            injected = self.inject[index](scale.tokens)
            x = injected if x is None else self.merges[index - 1](x, seen[-1].grid) + injected
            x = x * scale.valid.unsqueeze(-1)
            for layer in cast(nn.ModuleList, self.stages[index]):
                x = layer(scale.map(x))
            seen.append(scale.map(x))
        fine, mid, coarse = (s.map(norm(s.tokens)) for s, norm in zip(seen, self.norms, strict=True))
        return VisualTokens(fine, mid, coarse)

    def embed_scales(self, visual: VisualTokens) -> Float[Tensor, "b 3 e"]:
        """One vector per scale: the projected mean of its valid tokens."""
        means = [
            (s.tokens * s.valid.unsqueeze(-1)).sum(1) / s.valid.sum(1, keepdim=True).clamp_min(1) for s in visual.scales
        ]
        return torch.stack([project(m) for project, m in zip(self.embeddings, means, strict=True)], dim=1)
