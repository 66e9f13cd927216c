"""Phase 0: a volume becomes tubelets at three scales.

```
 volume (b, z, y, x) HU ── windows ──► (b, w, z, y, x)
        │ mean-pooled 1x        2x             4x        (so each stem sees a tubelet of the same voxel count)
        ▼                ▼              ▼
   fine (t, h, w)   mid (2t, 2h, 2w)  coarse (4t, 4h, 4w)   voxels per tubelet
   N tokens         N/8               N/64

 overlap 0      |---|---|---|      overlap 0.5   |---|        every token is centred on its cell; a cell is one stride
                                                   |---|      (a token for each), the tubelet reaches beyond it
                                                     |---|    on both sides
```

A volume of any size is filled up at its end to whole tubelets, and the filling is masked: it is invisible. With
``depth_mm`` the depth of a tubelet follows the slice thickness (`adapt_depth`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.resample import Size, axis_weights


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
        stem: channels after each stem's first convolution; 0 embeds every tubelet by one linear map, as a ViT does.
        stem_blocks: residual convolutions of a stem after its first strided one, after each inner one, and on the
            finished tokens.
        overlap: share of a tubelet's edge (z, y, x) that it has in common with the next one; the stride is the rest.
        depth_mm: extent of a fine tubelet along z in mm, whatever the slice thickness; 0 counts slices instead.
    """

    fine: Size = (2, 16, 16)
    mid: Size = (4, 32, 32)
    coarse: Size = (8, 64, 64)
    widths: tuple[int, int, int] = (96, 192, 256)
    stem: int = 32
    stem_blocks: tuple[int, int, int] = (0, 1, 0)
    overlap: tuple[float, float, float] = (0.0, 0.0, 0.0)
    depth_mm: float = 0.0

    @property
    def sizes(self) -> tuple[Size, Size, Size]:
        return self.fine, self.mid, self.coarse

    @property
    def strides(self) -> tuple[Size, Size, Size]:
        """Voxels from one token to the next, per scale."""
        fine, mid, coarse = (
            triple(max(1, round(s * (1 - share))) for s, share in zip(size, self.overlap, strict=True))
            for size in self.sizes
        )
        return fine, mid, coarse

    @property
    def multiple(self) -> Size:
        """Voxels (z, y, x) of which a volume must be a whole multiple; the tokenizer fills it up to that."""
        return triple(math.lcm(*axis) for axis in zip(*self.strides, strict=True))

    def cells(self, shape: Size, spacing: tuple[float, float, float], scale: int = 0) -> Size:
        """Tokens (t, h, w) of a scale for a volume of ``shape`` voxels of ``spacing`` mm (z, y, x)."""
        if self.depth_mm > 0:
            shape = (virtual_slices(shape[0], spacing[0], self.slice_mm), *shape[1:])
        return triple(
            -(-n // m) * m // s for n, m, s in zip(shape, self.multiple, self.strides[scale], strict=True)
        )  # fmt: skip

    @property
    def slice_mm(self) -> float:
        """Thickness to which `adapt_depth` brings every scan."""
        return self.depth_mm / self.fine[0]


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


def token_centres(
    grid: Size, stride: Size, spacing: Float[Tensor, "b 3"], middle: Float[Tensor, "b 3"] | None = None
) -> Float[Tensor, "b n 3"]:
    """Centres (z, y, x) in mm of every tubelet, measured from the centre of the field of view.

    ``middle`` is that centre in voxels from the grid's origin: of the grid itself when not given.
    """
    axes = []
    for cells, voxels in zip(grid, stride, strict=True):
        centre = cells / 2 if middle is None else 0.0
        axes.append((torch.arange(cells, device=spacing.device, dtype=torch.float32) + 0.5 - centre) * voxels)
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 3)
    return (places if middle is None else places - middle[:, None, :]) * spacing[:, None, :].float()


def valid_box(valid: Bool[Tensor, "b z y x"]) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b 3"]]:
    """Edges (z, y, x), in voxels, of the smallest box that holds everything valid; all of the grid if nothing is."""
    low, high = [], []
    for axis in range(3):
        seen = valid.any(dim=[a + 1 for a in range(3) if a != axis])
        cells = seen.shape[1]
        seen = seen | ~seen.any(1, keepdim=True)
        index = torch.arange(cells, device=valid.device, dtype=torch.float32)
        low.append(torch.where(seen, index, float(cells)).amin(1))
        high.append(torch.where(seen, index + 1, 0.0).amax(1))
    return torch.stack(low, 1), torch.stack(high, 1)


def virtual_slices(slices: int, thickness: float, wanted: float) -> int:
    """Slices of ``wanted`` mm that hold ``slices`` of ``thickness`` mm (a hundredth of a slice more is no slice)."""
    return max(1, math.ceil(slices * thickness / wanted - 0.01))


def adapt_depth(volume: VolumeBatch, slice_mm: float) -> VolumeBatch:
    """Bring every scan to slices of ``slice_mm``, so that a tubelet spans the same millimetres in all of them.

    Thin slices are averaged, thick ones repeated, by the share of each that lies in the new one. Scans of different
    thickness may share a batch: the shorter ones are padded. How many slices there will be is decided by the data, so
    this step stands before the network and outside of a compiled graph.
    """
    hu, spacing = volume.hu, volume.spacing
    valid = torch.ones_like(hu, dtype=torch.bool) if volume.valid is None else volume.valid
    counts = [virtual_slices(hu.shape[1], float(z), slice_mm) for z in spacing[:, 0]]
    step = slice_mm / spacing[:, 0]
    weights = axis_weights(hu.shape[1], max(counts), torch.zeros_like(step), step).to(hu.dtype)
    covered = torch.einsum("boz,bzyx->boyx", weights, valid.to(hu.dtype))
    total = torch.einsum("boz,bzyx->boyx", weights, hu * valid)
    seen = covered > 0.01
    thin = torch.cat((torch.full_like(spacing[:, :1], slice_mm), spacing[:, 1:]), dim=1)
    return VolumeBatch(total / covered.clamp_min(0.01), thin, None if bool(seen.all()) else seen)


def fill_up(volume: VolumeBatch, multiple: Size) -> VolumeBatch:
    """Fill a volume up at its end, with invalid voxels, to a whole multiple of ``multiple``."""
    extra = [-n % m for n, m in zip(volume.hu.shape[1:], multiple, strict=True)]
    if not any(extra):
        return volume
    pad = (0, extra[2], 0, extra[1], 0, extra[0])
    valid = torch.ones_like(volume.hu, dtype=torch.bool) if volume.valid is None else volume.valid
    return VolumeBatch(F.pad(volume.hu, pad), volume.spacing, F.pad(valid, pad))


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
        self, x: Float[Tensor, "b w z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b n c"]:
        for conv, blocks, stride in zip(self.convs, self.residuals, self.strides, strict=True):
            x = F.gelu(conv(x if valid is None else x * valid))
            valid = None if valid is None else F.max_pool3d(valid, stride)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, valid)
        return self.norm(rearrange(x, "b c t h w -> b (t h w) c"))


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
        self, x: Float[Tensor, "b w z y x"], valid: Float[Tensor, "b 1 z y x"] | None = None
    ) -> Float[Tensor, "b n c"]:
        # Invalid voxels are zero already and there is one map only: ``valid`` has nothing left to hide.
        if any(self.overlap):
            return self.norm(rearrange(self.embed(x), "b c t h w -> b (t h w) c"))
        kt, kh, kw = self.stride
        # Windows lie last in memory: so they stay beside each other here.
        patches = rearrange(x, "b c (t i) (h j) (w k) -> b (t h w) (i j k c)", i=kt, j=kh, k=kw)
        return self.norm(F.linear(patches, rearrange(self.embed.weight, "o c i j k -> o (i j k c)"), self.embed.bias))


def _stem(size: Size, channels_in: int, width: int, config: TubeletConfig, stride: Size) -> TubeletStem | LinearStem:
    if config.stem == 0:
        return LinearStem(size, channels_in, width, stride)
    return TubeletStem(size, channels_in, width, config.stem, config.stem_blocks, stride)


def _reach(size: int, cell: int, step: int, kernel: int) -> tuple[int, int]:
    """Kernel and padding of the last convolution of an overlapping stem, along one axis."""
    if size == cell:
        return kernel, 1 if kernel == 3 else 0
    wide = max(kernel, -(-size * step // cell))
    wide += (wide - step) % 2
    return wide, (wide - step) // 2


class TubeletTokenizer(nn.Module):
    """Volume -> `VisualTokens` before any attention."""

    def __init__(self, config: TubeletConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.windows = Windows(windows)
        self.pools = [_pool_of(size, stride, config) for size, stride in zip(config.sizes, config.strides, strict=True)]
        self.stems = nn.ModuleList(
            _stem(
                triple(s // p for s, p in zip(size, pool, strict=True)),
                len(windows),
                width,
                config,
                triple(s // p for s, p in zip(stride, pool, strict=True)),
            )
            for size, stride, pool, width in zip(config.sizes, config.strides, self.pools, config.widths, strict=True)
        )
        self.scale_embedding = nn.ParameterList(nn.Parameter(torch.zeros(w)) for w in config.widths)

    def forward(self, volume: VolumeBatch) -> VisualTokens:
        volume = fill_up(volume, self.config.multiple)
        image, seen = self.windows(volume.hu), None
        if volume.valid is not None:
            seen = volume.valid.float().unsqueeze(1)
            image = image * seen
        middle = None
        if volume.valid is not None:
            low, high = valid_box(volume.valid)
            middle = (low + high) / 2
        scales = []
        for stride, pool, stem, mark in zip(
            self.config.strides, self.pools, self.stems, self.scale_embedding, strict=True
        ):
            view, valid = _view(image, seen, pool)
            grid = triple(n // s for n, s in zip(volume.hu.shape[1:], stride, strict=True))
            scales.append(
                ScaleTokens(
                    tokens=stem(view, valid) + mark,
                    grid=grid,
                    centres=token_centres(grid, stride, volume.spacing, middle),
                    valid=pool_valid(volume, stride),
                )
            )
        return VisualTokens(scales[0], scales[1], scales[2])


def _check(config: TubeletConfig) -> None:
    """Refuse sizes and overlaps that make no tubelets."""
    if min(n for size in config.sizes for n in size) < 1:
        raise ConfigError("a tubelet has no voxels", expected="sizes of at least one voxel", got=repr(config.sizes))
    if not all(0 <= share < 1 for share in config.overlap):
        raise ConfigError("tubelets cannot overlap so", expected="shares from 0 to below 1", got=repr(config.overlap))
    if config.stem < 0:
        raise ConfigError("a stem cannot have that many channels", expected="0 or more", got=str(config.stem))
    if config.depth_mm < 0:
        raise ConfigError(
            "a tubelet cannot have that depth", expected="mm, or 0 to count slices", got=f"{config.depth_mm:g}"
        )


def _pool_of(size: Size, stride: Size, config: TubeletConfig) -> Size:
    """How far a scale's view is averaged before its stem: as near to a fine tubelet's voxel count as divides evenly."""
    pools = []
    for whole, step, fine in zip(size, stride, config.fine, strict=True):
        divisors = [p for p in range(1, max(1, whole // fine) + 1) if whole % p == 0 and step % p == 0]
        pools.append(divisors[-1])
    return triple(pools)


def _view(image: Tensor, seen: Tensor | None, pool: Size) -> tuple[Tensor, Tensor | None]:
    """The image as a scale sees it: the mean over the valid voxels of each block, and which blocks have any."""
    if pool == (1, 1, 1):
        return image, seen
    view = F.avg_pool3d(image, pool)
    if seen is None:
        return view, None
    return view / F.avg_pool3d(seen, pool).clamp_min(1e-6), F.max_pool3d(seen, pool)


def pool_valid(volume: VolumeBatch, stride: Size) -> Bool[Tensor, "b n"]:
    """A tubelet is valid when any voxel of its cell is."""
    if volume.valid is None:
        t, h, w = (n // s for n, s in zip(volume.hu.shape[1:], stride, strict=True))
        cells = t * h * w
        return torch.ones(volume.hu.shape[0], cells, dtype=torch.bool, device=volume.hu.device)
    return F.max_pool3d(volume.valid.float().unsqueeze(1), stride).flatten(1) > 0
