"""The image encoder of COLIPRI: a Primus-M transformer over cubes of 8 voxels at 2 mm, trained on chest CT and reports.

```
 (1, 192, 192, 192) at 2 mm ─ 8x8x8 patches ─► 24^3 tokens of 864 ─ 16 EVA-02 blocks ─ norm ─► (864, 24, 24, 24)
```

After the published configuration of the package ``colipri`` (MIT) and the papers it rests on (Primus, Wald et al.
2025; EVA-02, Fang et al. 2023): separate q, k, v, a norm on the attention's output, gated SiLU feed-forward with a
norm, layer scale, and rotary positions over token indices: a third of the channels for each axis, neighbouring channels
paired.
Parameter names are those of the published file. Input: -1000..1000 HU as -1..1, axes right, anterior, superior.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.vision.resample import Size

#: size -> (width, layers, heads)
SIZES = {"published": (864, 16, 12), "tiny": (72, 2, 2)}
PATCH = 8
BASE = 10000.0


def rotary_table(grid: Size, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sine and cosine (n, head_dim) of every token's index on each axis; neighbouring channels share an angle."""
    bands = head_dim // 6
    rates = BASE ** (-torch.arange(bands, device=device, dtype=torch.float32) / bands)
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in grid), indexing="ij")
    places = torch.stack(axes, dim=-1).reshape(-1, 3)
    angles = (places[:, :, None] * rates).flatten(1).repeat_interleave(2, dim=-1)
    return angles.sin(), angles.cos()


def turn(
    x: Float[Tensor, "b h n d"], sine: Float[Tensor, "n d"], cosine: Float[Tensor, "n d"]
) -> Float[Tensor, "b h n d"]:
    """Rotate neighbouring channels by their angle."""
    pairs = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cosine.to(x.dtype) + pairs * sine.to(x.dtype)


class EvaAttention(nn.Module):
    """Attention with rotary queries and keys and a norm before the output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.norm, self.proj = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"], sine: Tensor, cosine: Tensor) -> Float[Tensor, "b n c"]:
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", h=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        heard = F.scaled_dot_product_attention(turn(q, sine, cosine), turn(k, sine, cosine), v)
        return self.proj(self.norm(rearrange(heard, "b h n d -> b n (h d)")))


class GatedMLP(nn.Module):
    """``down(norm(silu(gate(x)) * up(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(width * 4 * 2 / 3)
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm, self.fc2 = nn.LayerNorm(hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


class EvaBlock(nn.Module):
    """Pre-norm block whose two halves are scaled per channel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = EvaAttention(width, heads), GatedMLP(width)
        self.gamma_1, self.gamma_2 = (nn.Parameter(0.1 * torch.ones(width)) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n c"], sine: Tensor, cosine: Tensor) -> Float[Tensor, "b n c"]:
        x = x + self.gamma_1 * self.attn(self.norm1(x), sine, cosine)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class ColipriNetwork(nn.Module):
    """HU on the frame -> a feature for every cube of 16 mm."""

    frame: Size = (192, 192, 192)
    spacing = (2.0, 2.0, 2.0)
    mode = "linear"
    prefixes: tuple[str, ...] = ("image_encoder.backbone.", "backbone.")
    drop: tuple[str, ...] = ("mask_token", "up_projection.", "eva.rope.")

    def __init__(self, size: str) -> None:
        super().__init__()
        width, layers, heads = SIZES[size]
        self.channels, self.head_dim = width, width // heads
        self.down_projection = nn.ModuleDict({"proj": nn.Conv3d(1, width, PATCH, PATCH)})
        blocks = nn.ModuleList(EvaBlock(width, heads) for _ in range(layers))
        self.eva = nn.ModuleDict({"blocks": blocks, "norm": nn.LayerNorm(width)})

    def forward(self, hu: Float[Tensor, "b z y x"]) -> Float[Tensor, "b c t h w"]:
        """``hu`` in this house's axes (superior, posterior, left), and so are the features."""
        if any(n % PATCH for n in hu.shape[1:]):
            raise ConfigError(
                "encoder.public.frame does not fit colipri",
                expected=f"multiples of {PATCH} voxels",
                got=str(tuple(hu.shape[1:])),
            )
        image = (hu.clamp(-1000, 1000) / 1000).flip(2, 3).permute(0, 3, 2, 1).unsqueeze(1)
        patches = self.down_projection["proj"](image)
        grid = (patches.shape[2], patches.shape[3], patches.shape[4])
        sine, cosine = rotary_table(grid, self.head_dim, hu.device)
        x = rearrange(patches, "b c x y z -> b (x y z) c")
        for block in cast(nn.ModuleList, self.eva["blocks"]):
            x = block(x, sine, cosine)
        x = self.eva["norm"](x)
        return rearrange(x, "b (x y z) c -> b c z y x", x=grid[0], y=grid[1]).flip(3, 4)
