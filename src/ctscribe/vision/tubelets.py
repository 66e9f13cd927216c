"""Phase 0: a volume becomes tubelets at three scales.

```
 volume (b, z, y, x) HU ── windows ──► (b, w, z, y, x)
        │ mean-pooled 1x        2x             4x        (so each stem sees a tubelet of the same voxel count)
        ▼                ▼              ▼
   fine (t, h, w)   mid (2t, 2h, 2w)  coarse (4t, 4h, 4w)   voxels per tubelet
   N tokens         N/8               N/64
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch

Size = tuple[int, int, int]


def triple(values: Iterable[int]) -> Size:
    """Three numbers (z, y, x) as a tuple of known length."""
    z, y, x = values
    return z, y, x


@dataclass(frozen=True)
class TubeletConfig:
    """How a volume is cut into tokens.

    Attributes:
        fine: tubelet (z, y, x) of the fine scale, in voxels.
        mid: tubelet of the middle scale.
        coarse: tubelet of the coarse scale.
        widths: channels of a token, per scale.
        stem: channels after each stem's first convolution.
        stem_blocks: residual convolutions of a stem after its first strided one, after each inner one, and on the
            finished tokens.
    """

    fine: Size = (2, 16, 16)
    mid: Size = (4, 32, 32)
    coarse: Size = (8, 64, 64)
    widths: tuple[int, int, int] = (96, 192, 256)
    stem: int = 32
    stem_blocks: tuple[int, int, int] = (0, 1, 0)

    @property
    def sizes(self) -> tuple[Size, Size, Size]:
        return self.fine, self.mid, self.coarse


class Windows(nn.Module):
    """Hounsfield units -> one channel per (centre, width) window, each clipped to 0..1."""

    low: Tensor
    width: Tensor

    def __init__(self, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor([c - w / 2 for c, w in windows]), persistent=False)
        self.register_buffer("width", torch.tensor([w for _, w in windows]), persistent=False)

    def forward(self, hu: Float[Tensor, "b z y x"]) -> Float[Tensor, "b w z y x"]:
        # Channels last in memory, which is how the convolutions want them.
        return ((hu.unsqueeze(-1) - self.low) / self.width).clamp_(0, 1).permute(0, 4, 1, 2, 3)


def token_centres(grid: Size, size: Size, spacing: Float[Tensor, "b 3"]) -> Float[Tensor, "b n 3"]:
    """Centres (z, y, x) in mm of every tubelet, measured from the centre of the field of view."""
    axes = []
    for cells, voxels in zip(grid, size, strict=True):
        middle = (torch.arange(cells, device=spacing.device, dtype=torch.float32) + 0.5 - cells / 2) * voxels
        axes.append(middle)
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    return places[None] * spacing[:, None, :].float()


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

    Padding is invisible: wherever a convolution reads, invalid voxels are zero, as beyond the border.
    """

    def __init__(self, size: Size, channels_in: int, width: int, first: int, blocks: Size) -> None:
        super().__init__()
        steps = strides_of(size)
        widths = [min(first * 2**i, width) for i in range(len(steps) - 1)] + [width]
        self.strides = steps
        self.convs, self.residuals = nn.ModuleList(), nn.ModuleList()
        before = channels_in
        for index, (stride, after) in enumerate(zip(steps, widths, strict=True)):
            # Strides of one and two look one voxel beyond their cell; larger ones just cut.
            kernel = triple(3 if s <= 2 else s for s in stride)
            padding = triple(1 if k == 3 else 0 for k in kernel)
            self.convs.append(nn.Conv3d(before, after, kernel, stride, padding))
            count = blocks[0] if index == 0 else blocks[2] if index == len(steps) - 1 else blocks[1]
            self.residuals.append(nn.ModuleList(ConvResidual(after) for _ in range(count)))
            before = after
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "b w z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b n c"]:
        for conv, blocks, stride in zip(self.convs, self.residuals, self.strides, strict=True):
            x = F.gelu(conv(x if valid is None else x * valid))
            valid = None if valid is None else F.max_pool3d(valid, stride)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, valid)
        return self.norm(rearrange(x, "b c t h w -> b (t h w) c"))


class TubeletTokenizer(nn.Module):
    """Volume -> `VisualTokens` before any attention."""

    def __init__(self, config: TubeletConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        self.config = config
        self.windows = Windows(windows)
        self.pools = [triple(max(1, s // f) for s, f in zip(size, config.fine, strict=True)) for size in config.sizes]
        self.stems = nn.ModuleList(
            TubeletStem(
                triple(s // p for s, p in zip(size, pool, strict=True)),
                len(windows),
                width,
                config.stem,
                config.stem_blocks,
            )
            for size, pool, width in zip(config.sizes, self.pools, config.widths, strict=True)
        )
        self.scale_embedding = nn.ParameterList(nn.Parameter(torch.zeros(w)) for w in config.widths)

    def forward(self, volume: VolumeBatch) -> VisualTokens:
        image = self.windows(volume.hu)
        scales = []
        for size, pool, stem, mark in zip(self.config.sizes, self.pools, self.stems, self.scale_embedding, strict=True):
            view = image if pool == (1, 1, 1) else F.avg_pool3d(image, pool)
            seen = None if volume.valid is None else F.max_pool3d(volume.valid.float().unsqueeze(1), pool)
            grid = grid_of(volume, size)
            scales.append(
                ScaleTokens(
                    tokens=stem(view, seen) + mark,
                    grid=grid,
                    centres=token_centres(grid, size, volume.spacing),
                    valid=pool_valid(volume, size),
                )
            )
        return VisualTokens(*scales)


def grid_of(volume: VolumeBatch, size: Size) -> Size:
    """Tokens per axis; the volume must be a whole number of tubelets (`data` pads it to that)."""
    shape = volume.hu.shape[1:]
    if any(n % s for n, s in zip(shape, size, strict=True)):
        raise ValueError(f"volume {tuple(shape)} is not a whole number of tubelets {size} (z, y, x)")
    return triple(n // s for n, s in zip(shape, size, strict=True))


def pool_valid(volume: VolumeBatch, size: Size) -> Bool[Tensor, "b n"]:
    """A tubelet is valid when any of its voxels is."""
    if volume.valid is None:
        cells = torch.tensor(grid_of(volume, size)).prod()
        return torch.ones(volume.hu.shape[0], int(cells), dtype=torch.bool, device=volume.hu.device)
    return F.max_pool3d(volume.valid.float().unsqueeze(1), size).flatten(1) > 0
