"""How the tubelets of a scale enter the stream of tokens that is already there.

```
 residual   x + tubelets
 concat     W [x ; tubelets]
 cross      x + attention(from x, to tubelets), in the window that both share
```

The tubelets arrive projected to the stream's width and on its grid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.layers import Attention
from ctscribe.tensors import ScaleTokens
from ctscribe.vision.resample import Size
from ctscribe.vision.windows import in_windows


class Residual(nn.Module):
    """``x + tubelets``: nothing is learned here, nothing can be lost."""

    def forward(
        self, x: ScaleTokens, tubelets: Float[Tensor, "b n c"], *, masked: bool = True, skip: bool = False
    ) -> Float[Tensor, "b n c"]:
        return x.tokens + tubelets


class Concat(nn.Module):
    """Both side by side, projected back to the stream's width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * width, width)

    def forward(
        self, x: ScaleTokens, tubelets: Float[Tensor, "b n c"], *, masked: bool = True, skip: bool = False
    ) -> Float[Tensor, "b n c"]:
        return self.project(torch.cat((x.tokens, tubelets), dim=-1))


class CrossAttention(nn.Module):
    """The stream asks, the tubelets of the same window answer."""

    def __init__(self, width: int, heads: int, window: Size | None, longest_mm: float | None) -> None:
        super().__init__()
        self.window = window
        self.norm, self.norm_tubelets = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, longest_mm=longest_mm)

    def forward(
        self, x: ScaleTokens, tubelets: Float[Tensor, "b n c"], *, masked: bool = True, skip: bool = False
    ) -> Float[Tensor, "b n c"]:
        both = torch.cat((self.norm(x.tokens), self.norm_tubelets(tubelets).to(x.tokens.dtype)), dim=-1)
        return x.tokens + in_windows(x.map(both), self.window, self._brick, masked=masked, skip=skip)

    def _brick(self, both: Tensor, valid: Tensor | None, bias: Tensor | None, places: Tensor) -> Tensor:
        asking, answering = both.chunk(2, dim=-1)
        remembered = self.attention.remember(answering)
        return self.attention(asking, remembered, valid=valid, bias=bias, positions=places)[0]


#: word of the configuration -> (width, heads, window, longest wavelength) -> module
INJECTIONS: dict[str, Callable[[int, int, Size | None, float | None], nn.Module]] = {
    "residual": lambda width, heads, window, longest_mm: Residual(),
    "concat": lambda width, heads, window, longest_mm: Concat(width),
    "cross": CrossAttention,
}
