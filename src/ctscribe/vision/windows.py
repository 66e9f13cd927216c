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

from collections.abc import Callable, Iterator
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ctscribe.layers import UNHEARD, Block
from ctscribe.tensors import ScaleTokens
from ctscribe.vision.resample import Size

IN_CACHE = 2048
"""Tokens that are computed together on a CPU: their widest layer is a megabyte or two."""

#: (tokens, valid or None, additive bias or None, centres), windows on the batch axis -> tokens.
Brick = Callable[[Tensor, Tensor | None, Tensor | None, Tensor], Tensor]


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
    tokens, places, valid = (part.flatten(0, 1) for part in (whole.tokens, whole.centres, whole.valid))
    shift = (window[0] // 2, window[1] // 2, window[2] // 2) if shifted else (0, 0, 0)
    rows = _rows(whole, window, shift)
    mask = valid[rows] if masked else None
    sides = _sides(whole.grid, window, shift, rows.device).repeat(whole.tokens.shape[0])[rows] if any(shift) else None
    if skip and mask is not None and not torch.compiler.is_compiling():
        chosen = mask.any(-1).nonzero().squeeze(1)
        if 0 < chosen.numel() < rows.shape[0]:
            rows, mask, sides = rows[chosen], mask[chosen], None if sides is None else sides[chosen]
    out = None
    for index, real, apart in _parts(rows, mask, sides):
        x, at = (values.index_select(0, index).unflatten(0, (-1, rows.shape[1])) for values in (tokens, places))
        heard = brick(x, real, None if apart is None else _seam_bias(apart), at).flatten(0, 1)
        if out is None:
            every = rows.numel() == tokens.shape[0]
            out = (heard.new_empty if every else heard.new_zeros)(tokens.shape[0], heard.shape[-1])
        out.index_copy_(0, index, heard)
    return _cut_back(cast(Tensor, out).unflatten(0, (whole.tokens.shape[0], -1)), whole.grid, scale.grid)


def _rows(whole: ScaleTokens, window: Size, shift: Size) -> Int[Tensor, "bw k"]:
    """Which token (counted through the batch) each place of each window holds."""
    batch, count = whole.valid.shape
    each = torch.arange(count, device=whole.valid.device).reshape(whole.grid)
    back = torch.roll(each, (-shift[0], -shift[1], -shift[2]), dims=(0, 1, 2))
    wt, wh, ww = window
    order = rearrange(back, "(t wt) (h wh) (w ww) -> (t h w) (wt wh ww)", wt=wt, wh=wh, ww=ww)
    return (order + count * torch.arange(batch, device=order.device).reshape(-1, 1, 1)).flatten(0, 1)


def _parts(
    rows: Int[Tensor, "bw k"], mask: Bool[Tensor, "bw k"] | None, sides: Int[Tensor, "bw k"] | None
) -> Iterator[tuple[Int[Tensor, " m"], Tensor | None, Tensor | None]]:
    """Windows that are computed together: tokens, which of them are valid, their sides.

    All at once, but on a CPU that does not learn as many as its cache holds, and there the windows that need no mask
    (most: everything is valid, no seam runs through them) go first and get none.
    """
    if rows.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield rows.flatten(), mask, sides
        return
    plain = torch.ones(rows.shape[0], dtype=torch.bool)
    if mask is not None:
        plain &= mask.all(-1)
    if sides is not None:
        plain &= (sides == sides[:, :1]).all(-1)
    step = max(1, IN_CACHE // rows.shape[1])
    for some in _some(plain, step):
        yield rows[some].flatten(), None, None
    for some in _some(~plain, step):
        yield rows[some].flatten(), None if mask is None else mask[some], None if sides is None else sides[some]


def _some(which: Bool[Tensor, " bw"], step: int) -> Iterator[Int[Tensor, " m"]]:
    """Numbers of the chosen windows, ``step`` at a time."""
    return (part for part in which.nonzero().squeeze(1).split(step) if part.numel())


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


def _sides(grid: Size, window: Size, shift: Size, device: torch.device) -> Int[Tensor, " n"]:
    """Numbers that differ between the tokens which a cyclic shift brings together from opposite borders."""
    marks = []
    for cells, size, moved in zip(grid, window, shift, strict=True):
        place = (torch.arange(cells, device=device) - moved) % cells  # where the shift puts it
        marks.append((place >= cells - size).long() + (place >= cells - moved).long() if moved else 0 * place)
    z, y, x = torch.meshgrid(*marks, indexing="ij")
    return (z * 9 + y * 3 + x).flatten()


def _seam_bias(sides: Int[Tensor, "bw k"]) -> Float[Tensor, "bw 1 k k"]:
    """Additive bias that separates tokens of different sides."""
    return ((sides[:, None, :] != sides[:, :, None]).float() * UNHEARD).unsqueeze(1)
