"""Divided attention (TimeSformer): each token first looks along z, then across its own slice of tokens.

```
   z  ▲   x        z  .   x
      │ .             . .
   ───●───         ───●───       a token hears t others along z, then h x w others across:
      │                .         t + h w instead of t h w
```

After Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML 2021), with z in the place
of time: slices are to CT what frames are to video. One grid and one width, as in `isotropic`; no class token, because
scale summaries are means. The projection after the attention along z starts at zero, as published: a layer wakes up as
one that sees slices, and learns to look along z.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.layers import MLP, Attention
from ctscribe.tensors import ScaleTokens
from ctscribe.vision.config import EncoderConfig
from ctscribe.vision.isotropic import IsotropicEncoder
from ctscribe.vision.resample import Size
from ctscribe.vision.windows import Brick, in_windows


class DividedBlock(nn.Module):
    """Attention along z, attention across the slice, MLP; pre-norm, each added back."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, longest_mm: float | None) -> None:
        super().__init__()
        self.norm_z, self.norm_slice, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.along_z = Attention(dim, heads, longest_mm=longest_mm)
        self.gate_z = nn.Linear(dim, dim)
        nn.init.zeros_(self.gate_z.weight)
        nn.init.zeros_(self.gate_z.bias)
        self.across = Attention(dim, heads, longest_mm=longest_mm)
        self.mlp = MLP(dim, int(mlp_ratio * dim))

    def forward(self, scale: ScaleTokens, *, masked: bool = True, skip: bool = False) -> Float[Tensor, "b n c"]:
        t, h, w = scale.grid
        x = scale.tokens
        heard = in_windows(scale.map(self.norm_z(x)), (t, 1, 1), _hearing(self.along_z), masked=masked, skip=skip)
        x = x + self.gate_z(heard)
        heard = in_windows(scale.map(self.norm_slice(x)), (1, h, w), _hearing(self.across), masked=masked, skip=skip)
        x = x + heard
        return x + self.mlp(self.norm_mlp(x))


def _hearing(attention: Attention) -> Brick:
    """The attention as a brick for `in_windows`."""
    return lambda x, valid, bias, places: attention(x, valid=valid, bias=bias, positions=places)[0]


class TimeSformerEncoder(IsotropicEncoder):
    """The plain ViT with divided attention in every layer."""

    def __init__(self, config: EncoderConfig, windows: tuple[tuple[float, float], ...]) -> None:
        if config.window != EncoderConfig().window:
            raise ConfigError(
                "encoder.window has no meaning for the backbone timesformer",
                expected=f"the default {EncoderConfig().window}: it attends to whole lines and whole slices",
                got=str(config.window),
            )
        super().__init__(config, windows)

    def _window(self, index: int) -> Size | None:
        return None

    def _layer(self, index: int, layer: int) -> nn.Module:
        return DividedBlock(self.stage_widths[index], self._heads(index), self.config.mlp_ratio, self._longest(index))
