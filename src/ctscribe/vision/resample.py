"""Cells of one grid from cells of another, as matrices that know how much of each cell lies in which.

```
 slices   | 1 | 2 | 3 | 4 | 5 |          thickness 2 mm
 cells    |   a   |   b   |  c ...       thickness 4 mm:  a = (1 + 2) / 2
```

Everything here is tensor arithmetic over all studies at once: no study is looped over and nothing is read back to
Python, so that a compiled graph stays whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from ctscribe.tensors import ScaleTokens

Mode = Literal["area", "linear"]
Size = tuple[int, int, int]


def triple(values: Iterable[int]) -> Size:
    """Three numbers (z, y, x) as a tuple of known length."""
    z, y, x = values
    return z, y, x


def filled_shape(shape: Iterable[int], multiple: Size) -> Size:
    """Voxels (z, y, x) of what is filled up to a whole multiple."""
    return triple(-(-n // m) * m for n, m in zip(shape, multiple, strict=True))


def over_blocks(
    join: Callable[[Tensor, Tensor], Tensor], x: Shaped[Tensor, "*b z y x"], size: Size
) -> Shaped[Tensor, "*b t h w"]:
    """``join`` (`torch.add`, `torch.maximum`, `torch.bitwise_or`) over every block of ``size`` voxels.

    Axis by axis, the fast one last: whole rows are joined at once, which a pooling kernel does not do on a CPU.
    """
    for axis, cells in zip((-3, -2, -1), size, strict=True):
        if cells > 1:
            x = functools.reduce(join, x.unflatten(axis, (-1, cells)).unbind(axis))
    return x


def axis_weights(
    cells_in: int, cells_out: int, start: Float[Tensor, " b"], step: Float[Tensor, " b"], mode: Mode = "area"
) -> Float[Tensor, "b o i"]:
    """Share of every input cell in every output cell, along one axis.

    Output cell ``k`` covers ``start + k * step`` to ``start + (k + 1) * step``, in units of input cells. Rows sum to
    the covered share: to one inside the input, to less where an output cell reaches beyond it.
    """
    inputs = torch.arange(cells_in, device=start.device, dtype=torch.float32)
    low = start.float()[:, None] + torch.arange(cells_out, device=start.device) * step.float()[:, None]
    if mode == "linear":
        middle = low + step.float()[:, None] / 2 - 0.5
        return (1 - (middle[..., None] - inputs).abs()).clamp_min(0)
    high = low + step.float()[:, None]
    shared = torch.minimum(high[..., None], inputs + 1) - torch.maximum(low[..., None], inputs)
    return shared.clamp_min(0) / step.float()[:, None, None]


def resample_box(
    values: Float[Tensor, "b z y x"],
    low: Float[Tensor, "b 3"],
    high: Float[Tensor, "b 3"],
    size: Size,
    *,
    fill: float,
    mode: Mode = "area",
) -> Float[Tensor, "b u v w"]:
    """The box from ``low`` to ``high`` (edges in voxels; z, y, x) on a grid of ``size``; ``fill`` beyond the volume."""
    covered = values.new_ones(values.shape[0], 1, 1, 1)
    for axis, cells in enumerate(size):
        step = (high[:, axis] - low[:, axis]) / cells
        weights = axis_weights(values.shape[axis + 1], cells, low[:, axis], step, mode).to(values.dtype)
        values = torch.einsum("boi,b...i->b...o", weights, values.movedim(axis + 1, -1)).movedim(-1, axis + 1)
        share = weights.sum(-1).reshape(-1, *[cells if a == axis else 1 for a in range(3)])
        covered = covered * share
    return values + (1 - covered) * fill


def regrid(
    scale: ScaleTokens, grid: Size, tokens: Float[Tensor, "b n c"] | None = None, *, masked: bool = True
) -> Float[Tensor, "b m c"]:
    """Tokens (``scale``'s own if none are given) brought to another grid over the same field of view.

    A larger cell takes the mean of the valid cells inside it; a smaller one copies the cell it lies in.
    """
    tokens = scale.tokens if tokens is None else tokens
    if grid == scale.grid:
        return tokens
    weights = scale.valid.unsqueeze(-1).to(tokens.dtype)
    moved = _pool(tokens * weights if masked else tokens, scale.grid, grid)
    return moved / _pool(weights, scale.grid, grid).clamp_min(1e-6) if masked else moved


def _pool(x: Float[Tensor, "b n c"], grid: Size, wanted: Size) -> Float[Tensor, "b m c"]:
    t, h, w = grid
    pooled = F.adaptive_avg_pool3d(rearrange(x, "b (t h w) c -> b c t h w", t=t, h=h, w=w), wanted)
    return rearrange(pooled, "b c t h w -> b (t h w) c")
