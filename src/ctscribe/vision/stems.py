"""How the tubelets of one scale become tokens: by strided convolutions, or by one linear map.

```
 TubeletStem   3x3x3 convolutions, their strides multiply to the tubelet     sees a voxel beyond its cell, learns edges
 LinearStem    one map of the tubelet's voxels, as ViT and VideoMAE have it  the cheapest; takes published weights
```
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ctscribe.vision.resample import Size, triple


def strides_of(size: Size) -> list[Size]:
    """Factor a tubelet size into convolution strides of at most two per axis, in-plane first.

    ``(2, 8, 8)`` -> ``[(1, 2, 2), (1, 2, 2), (2, 2, 2)]``. A factor that is no power of two goes into the last step.
    """
    left = list(size)
    steps: list[Size] = []
    depth = max(max(1, (n - 1).bit_length()) for n in size)
    for index in range(depth):
        remaining = depth - index
        step = []
        for axis in range(3):
            twos = (left[axis] & -left[axis]).bit_length() - 1
            stride = 2 if twos >= remaining else 1
            if remaining == 1:
                stride = left[axis]
            left[axis] //= stride
            step.append(stride)
        steps.append(triple(step))
    return steps


class ConvResidual(nn.Module):
    """Norm over channels, 3x3x3 convolution, GELU, added back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b c z y x"]:
        # Channels lie last in memory, so both permutes are views.
        normed = self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        return x + F.gelu(self.conv(normed if valid is None else normed * valid))


class TubeletStem(nn.Module):
    """Embeds tubelets of one scale: strided convolutions whose strides multiply to the tubelet size.

    Where tubelets overlap, the strides multiply to ``stride`` and the last convolution is as large as the tubelet (the
    next larger number of its steps that stays centred). Padding is invisible: wherever a convolution reads, invalid
    voxels are zero, as beyond the border.
    """

    def __init__(
        self, size: Size, channels_in: int, width: int, first: int, blocks: Size, stride: Size | None = None
    ) -> None:
        super().__init__()
        cell = stride or size
        steps = strides_of(cell)
        widths = [min(first * 2**i, width) for i in range(len(steps) - 1)] + [width]
        self.strides = steps
        self.convs, self.residuals = nn.ModuleList(), nn.ModuleList()
        before = channels_in
        for index, (step, after) in enumerate(zip(steps, widths, strict=True)):
            # Strides of one and two look one voxel beyond their cell; larger ones just cut.
            kernel = triple(3 if s <= 2 else s for s in step)
            padding = triple(1 if k == 3 else 0 for k in kernel)
            if index == len(steps) - 1 and cell != size:
                reach = [_reach(whole, c, s, k) for whole, c, s, k in zip(size, cell, step, kernel, strict=True)]
                kernel, padding = triple(k for k, _ in reach), triple(p for _, p in reach)
            self.convs.append(nn.Conv3d(before, after, kernel, step, padding))
            count = blocks[0] if index == 0 else blocks[2] if index == len(steps) - 1 else blocks[1]
            self.residuals.append(nn.ModuleList(ConvResidual(after) for _ in range(count)))
            before = after
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "b k z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b gt gh gw c"]:
        x = x.contiguous(memory_format=torch.channels_last_3d)  # which is how the convolutions want it
        for conv, blocks, stride in zip(self.convs, self.residuals, self.strides, strict=True):
            x = F.gelu(conv(x if valid is None else x * valid))
            valid = None if valid is None else F.max_pool3d(valid, stride)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, valid)
        return self.norm(rearrange(x, "b c t h w -> b t h w c"))


class LinearStem(nn.Module):
    """Embeds tubelets of one scale by one linear map: the patch embedding of ViT and VideoMAE.

    The map is kept in a convolution's layout (width, windows, z, y, x), which is that of published checkpoints.
    Tubelets that overlap must stay centred on their cells, so they may be one voxel larger than asked for.
    """

    def __init__(self, size: Size, channels_in: int, width: int, stride: Size | None = None) -> None:
        super().__init__()
        self.stride = stride or size
        reach = [_reach(whole, cell, cell, cell) for whole, cell in zip(size, self.stride, strict=True)]
        self.overlap = triple(p if whole != c else 0 for whole, c, (_, p) in zip(size, self.stride, reach, strict=True))
        kernel = triple(cell + 2 * p for cell, p in zip(self.stride, self.overlap, strict=True))
        self.embed = nn.Conv3d(channels_in, width, kernel, self.stride, self.overlap)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "b k z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b gt gh gw c"]:
        # Invalid voxels are zero already and there is one map only: ``valid`` has nothing left to hide.
        if any(self.overlap):
            return self.norm(rearrange(self.embed(x), "b c t h w -> b t h w c"))
        return self.embed_cut(self.cut(x), self.embed.weight.flatten(1), cast(Tensor, self.embed.bias))

    def cut(self, x: Float[Tensor, "b k z y x"]) -> Float[Tensor, "b gt gh gw p"]:
        """The voxels of each tubelet, side by side."""
        kt, kh, kw = self.stride
        return rearrange(x, "b c (t i) (h j) (w k) -> b t h w (c i j k)", i=kt, j=kh, k=kw)

    def embed_cut(
        self, patches: Float[Tensor, "b gt gh gw p"], weight: Float[Tensor, "c p"], bias: Float[Tensor, " c"]
    ) -> Float[Tensor, "b gt gh gw c"]:
        """Cut tubelets through one linear map, this stem's or one of `after_clipping`."""
        return self.norm(F.linear(patches, weight, bias))

    def after_clipping(self, low: Float[Tensor, " k"], width: Float[Tensor, " k"]) -> tuple[Tensor, Tensor]:
        """Weight and bias that take clipped Hounsfield units: ``(clipped - low) / width`` and the map in one."""
        weight = (self.embed.weight.flatten(2) / width[:, None]).double()
        bias = cast(Tensor, self.embed.bias).double() - (weight * low[:, None]).sum((1, 2))
        return weight.flatten(1).to(low.dtype), bias.to(low.dtype)


def _reach(size: int, cell: int, step: int, kernel: int) -> tuple[int, int]:
    """Kernel and padding of the last convolution of an overlapping stem, along one axis."""
    if size == cell:
        return kernel, 1 if kernel == 3 else 0
    wide = max(kernel, -(-size * step // cell))
    wide += (wide - step) % 2
    return wide, (wide - step) // 2
