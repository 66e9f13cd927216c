"""The backbone of SPECTRE: a large 3D vision transformer over crops of a scan, each crop on its own.

```
 scan ─ crops of 128 x 128 x 64 ─► each: 8 x 8 x 8 patches of 16 x 16 x 8 + class token ─ 24 blocks ─ norm
                                   └──────────── put back side by side ─────────────► (1080, z/8, y/16, x/16)
```

After the published presets of the package ``spectre-fm`` (code MIT, weights CC BY-NC-SA 4.0: not for commercial use):
``spectre-large``, pre-norm blocks with layer scale, rotary positions over coordinates from -1 to 1 within a crop
(periods from 1 to 1000), none on the class token. Parameter names are those of the published file. Input: -1000..1000
HU as 0..1, axes right, anterior, superior.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.layers import rotate
from ctscribe.vision.resample import Size

#: size -> (width, layers, heads)
SIZES = {"published": (1080, 24, 12), "tiny": (48, 2, 2)}
#: voxels of a crop and of a patch, in this house's axes (z, y, x)
CROP: Size = (64, 128, 128)
PATCH: Size = (8, 16, 16)
BASE = 1000.0


class SpectreAttention(nn.Module):
    """Attention whose rotary positions spare the class token in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"], angles: Float[Tensor, "m a"]) -> Float[Tensor, "b n c"]:
        q = rearrange(self.q(x), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.kv(x), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        # The class token stands at angle zero: it does not turn.
        turned = F.pad(angles, (0, 0, 1, 0)).expand(x.shape[0], -1, -1)
        heard = F.scaled_dot_product_attention(rotate(q, turned), rotate(k, turned), v)
        return self.proj(rearrange(heard, "b h n d -> b n (h d)"))


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return x * self.gamma


class SpectreBlock(nn.Module):
    """Pre-norm block whose two halves are scaled per channel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.ls1, self.ls2 = SpectreAttention(width, heads), LayerScale(width), LayerScale(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Float[Tensor, "b n c"], angles: Float[Tensor, "m a"]) -> Float[Tensor, "b n c"]:
        x = x + self.ls1(self.attn(self.norm1(x), angles))
        return x + self.ls2(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class CropPositions(nn.Module):
    """Rotary angles of the patches of a crop; the periods are stored in the published file."""

    periods: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        bands = head_dim // 6
        exponents = 2 * torch.arange(bands, dtype=torch.float32) / (head_dim // 3)
        self.register_buffer("periods", BASE**exponents)

    def forward(self, grid: Size) -> Float[Tensor, "n a"]:
        axes = [2 * (torch.arange(n, device=self.periods.device) + 0.5) / n - 1 for n in grid]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        return (2 * math.pi * places[:, :, None] / self.periods).flatten(1)


class SpectreNetwork(nn.Module):
    """HU on the frame -> a feature for every patch of 8 x 16 x 16 voxels."""

    # The publication keeps a scan's own voxels: 512 x 512 in the plane, about 1 mm along z. Five crops by four by four.
    frame: Size = (320, 512, 512)
    spacing = None
    mode = "linear"
    prefixes: tuple[str, ...] = ("backbone.", "module.backbone.")
    drop: tuple[str, ...] = ("head.", "feature_combiner.", "mask_token")

    def __init__(self, size: str) -> None:
        super().__init__()
        width, layers, heads = SIZES[size]
        self.channels = width
        patch = (PATCH[2], PATCH[1], PATCH[0])
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.rope = CropPositions(width // heads)
        self.blocks = nn.ModuleList(SpectreBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, hu: Float[Tensor, "b z y x"]) -> Float[Tensor, "b c t h w"]:
        """``hu`` in this house's axes (superior, posterior, left), and so are the features.

        A frame smaller than a crop is one crop.
        """
        crop = [min(n, c) for n, c in zip(hu.shape[1:], CROP, strict=True)]
        if any(n % c or c % p for n, c, p in zip(hu.shape[1:], crop, PATCH, strict=True)):
            raise ConfigError(
                "encoder.public.frame does not fit spectre-fm",
                expected=f"multiples of {CROP} voxels, or on a smaller axis of {PATCH}",
                got=str(tuple(hu.shape[1:])),
            )
        image = ((hu.clamp(-1000, 1000) + 1000) / 2000).flip(2, 3)
        d, h, w = (n // c for n, c in zip(image.shape[1:], crop, strict=True))
        crops = rearrange(image, "b (d z) (h y) (w x) -> (b d h w) 1 x y z", d=d, h=h, w=w)
        patches = self.patch_embed["proj"](crops)
        grid = (patches.shape[2], patches.shape[3], patches.shape[4])
        angles = self.rope(grid)
        x = torch.cat(
            (self.cls_token.expand(crops.shape[0], -1, -1), rearrange(patches, "b c x y z -> b (x y z) c")), 1
        )
        for block in self.blocks:
            x = block(x, angles)
        x = self.norm(x)[:, 1:]
        whole = rearrange(
            x, "(b d h w) (x y z) c -> b c (d z) (h y) (w x)", d=d, h=h, w=w, x=grid[0], y=grid[1], z=grid[2]
        )
        return whole.flip(3, 4)
