"""Attention inside windows of a token grid, plain or shifted: the brick of the pyramid, Swin and divided attention.

```
 plain                shifted by half a window        the grid is rolled, so windows at the border bring together
 +---+---+            |.+---+-.|                      tokens from opposite sides: a bias keeps them apart
 |   |   |            |.|   | .|
 +---+---+            +-+---+-+
 |   |   |            |.|   | .|
 +---+---+            |.+---+-.|
```

Windows are counted from the grid's origin, and a grid that is no whole number of windows is filled up with invalid
tokens at its end: padding a volume therefore changes nothing for its valid tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.layers import UNHEARD, Block
from ctscribe.tensors import ScaleTokens
from ctscribe.vision.resample import Size

#: (tokens, valid or None, additive bias or None, centres), windows on the batch axis -> tokens.
Brick = Callable[[Tensor, Tensor | None, Tensor | None, Tensor], Tensor]


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


def in_windows(
    scale: ScaleTokens,
    window: Size | None,
    brick: Brick,
    *,
    shifted: bool = False,
    masked: bool = True,
    skip: bool = False,
) -> Float[Tensor, "b n c"]:
    """Apply ``brick`` inside windows; over the whole grid where ``window`` is None.

    Args:
        scale: the tokens and their places.
        window: tokens (t, h, w) of a window.
        brick: what happens inside a window.
        shifted: move the windows by half of their size.
        masked: False promises that every token is valid.
        skip: leave out the windows without any valid token (their tokens become zero). A compiled graph computes them,
            because how many there are is known only from the data.
    """
    if window is None:
        return brick(scale.tokens, scale.valid if masked else None, None, scale.centres)
    whole = _fill_up(scale, window)
    masked = masked or whole.grid != scale.grid
    x, places, valid, grid = whole.tokens, whole.centres, whole.valid, whole.grid
    shift = (window[0] // 2, window[1] // 2, window[2] // 2) if shifted else (0, 0, 0)
    seam = None
    if any(shift):
        back = (-shift[0], -shift[1], -shift[2])
        x, places, valid = roll(x, grid, back), roll(places, grid, back), roll(valid, grid, back)
        seam = _seam_bias(grid, window, shift, x.shape[0], x.device)
    mask = to_windows(valid.unsqueeze(-1).float(), grid, window).squeeze(-1) > 0 if masked else None
    parts = (to_windows(x, grid, window), mask, seam, to_windows(places, grid, window))
    out = _alive(brick, *parts) if skip and not torch.compiler.is_compiling() else brick(*parts)
    out = from_windows(out, grid, window)
    out = roll(out, grid, shift) if any(shift) else out
    return _cut_back(out, grid, scale.grid)


def _alive(brick: Brick, x: Tensor, mask: Tensor | None, seam: Tensor | None, places: Tensor) -> Tensor:
    """The brick on the windows that hold a valid token; zero elsewhere."""
    if mask is None:
        return brick(x, mask, seam, places)
    chosen = mask.any(-1).nonzero().squeeze(1)
    if chosen.numel() in (0, x.shape[0]):
        return brick(x, mask, seam, places)
    out = brick(x[chosen], mask[chosen], None if seam is None else seam[chosen], places[chosen])
    return out.new_zeros(x.shape[0], *out.shape[1:]).index_copy(0, chosen, out)


def roll(x: Tensor, grid: Size, shift: Size) -> Tensor:
    """Shift a flat token grid (b, n, ...) cyclically."""
    t, h, w = grid
    shaped = x.reshape(x.shape[0], t, h, w, *x.shape[2:])
    return torch.roll(shaped, shift, dims=(1, 2, 3)).reshape(x.shape)


class WindowBlock(nn.Module):
    """A transformer block inside (optionally shifted) windows of a token grid; without a window it is global."""

    def __init__(
        self, dim: int, heads: int, window: Size | None, shifted: bool, mlp_ratio: float, longest_mm: float | None
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.block = Block(dim, heads, mlp_ratio=mlp_ratio, longest_mm=longest_mm)

    def forward(self, scale: ScaleTokens, *, masked: bool = True, skip: bool = False) -> Float[Tensor, "b n c"]:
        return in_windows(scale, self.window, self._brick, shifted=self.shifted, masked=masked, skip=skip)

    def _brick(self, x: Tensor, valid: Tensor | None, bias: Tensor | None, places: Tensor) -> Tensor:
        return self.block(x, valid=valid, bias=bias, positions=places)[0]


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
    bias = (ids[:, None, :] != ids[:, :, None]).float() * UNHEARD
    return bias.repeat(batch, 1, 1).unsqueeze(1)
