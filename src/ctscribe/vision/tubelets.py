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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ctscribe.errors import ConfigError
from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.blocks import ClippedSlabs
from ctscribe.vision.resample import Size, axis_weights, filled_shape, over_blocks, triple
from ctscribe.vision.stems import LinearStem, TubeletStem


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
        low, width = (edge.reshape(-1, 1, 1, 1) for edge in (self.low, self.width))
        return (hu.unsqueeze(1) - low).div_(width).clamp_(0, 1)


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
    flat = valid.view(torch.uint8).amax(1)  # (b, y, x)
    for seen in (valid.view(torch.uint8).amax(2).amax(2), flat.amax(2), flat.amax(1)):
        cells = seen.shape[1]
        inside = (seen > 0) | ~(seen > 0).any(1, keepdim=True)
        index = torch.arange(cells, device=valid.device, dtype=torch.float32)
        low.append(torch.where(inside, index, float(cells)).amin(1))
        high.append(torch.where(inside, index + 1, 0.0).amax(1))
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


class TubeletTokenizer(nn.Module):
    """Volume -> `VisualTokens` before any attention."""

    def __init__(self, config: TubeletConfig, windows: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.windows = Windows(windows)
        self.pools = [_pool_of(size, stride, config) for size, stride in zip(config.sizes, config.strides, strict=True)]
        self.stems = nn.ModuleList(
            self._stem(
                len(windows),
                width,
                triple(s // p for s, p in zip(size, pool, strict=True)),
                triple(s // p for s, p in zip(stride, pool, strict=True)),
            )
            for size, stride, pool, width in zip(config.sizes, config.strides, self.pools, config.widths, strict=True)
        )
        self.scale_embedding = nn.ParameterList(nn.Parameter(torch.zeros(w)) for w in config.widths)

    def _stem(self, channels: int, width: int, size: Size, stride: Size) -> TubeletStem | LinearStem:
        if self.config.stem == 0:
            return LinearStem(size, channels, width, stride)
        return TubeletStem(size, channels, width, self.config.stem, self.config.stem_blocks, stride)

    def forward(self, volume: VolumeBatch) -> VisualTokens:
        """Tokens of the volume filled up to whole tubelets."""
        whole = filled_shape(volume.hu.shape[1:], self.config.multiple)
        if self._apart() and volume.hu.device.type == "cpu" and not torch.compiler.is_compiling():
            made = self._in_blocks(volume, whole)
        else:
            volume = fill_up(volume, self.config.multiple)
            made = self._look(volume)
        middle, scales = _middle(volume, whole), []
        for stride, tokens in zip(self.config.strides, made, strict=True):
            grid = triple(n // s for n, s in zip(whole, stride, strict=True))
            centres = token_centres(grid, stride, volume.spacing, middle)
            scales.append(ScaleTokens(tokens.flatten(1, 3), grid, centres, pool_valid(volume, stride, whole)))
        return VisualTokens(scales[0], scales[1], scales[2])

    def _apart(self) -> bool:
        """Whether no tubelet needs more than the voxels of the largest one around it."""
        return self.config.stem == 0 and not any(self.config.overlap)

    def _in_blocks(self, volume: VolumeBatch, whole: Size) -> list[Float[Tensor, "b gt gh gw c"]]:
        """A block as large as the largest tubelet and as wide as the scan after the other: on a CPU its windows stay in
        the cache, where those of a whole volume travel through memory many times."""
        deep, tall, _ = self.config.multiple
        clipped = self._clipped((len(volume.hu), deep, *whole[1:]), tall) if _plain(self, volume.hu) else None
        slabs = []
        for z in range(0, whole[0], deep):
            slab = _part(volume, slice(z, z + deep))
            tokens = None if clipped is None else clipped(slab)
            if tokens is None:
                bands = [_part(slab, slice(None), slice(y, y + tall)) for y in range(0, whole[1], tall)]
                seen = [self._look(fill_up(band, self.config.multiple)) for band in bands]
                tokens = [torch.cat(scale, dim=2) for scale in zip(*seen, strict=True)]
            slabs.append(tokens)
        return [torch.cat(scale, dim=1) for scale in zip(*slabs, strict=True)]

    def _clipped(self, shape: tuple[int, int, int, int], tall: int) -> ClippedSlabs:
        stems = zip(cast(Iterable[LinearStem], self.stems), self.scale_embedding, strict=True)

        def views(image: Tensor) -> Iterator[Tensor]:
            return (view for view, _ in self._views(image, None))

        return ClippedSlabs(shape, tall, self.windows.low, self.windows.width, stems, views, self.pools)

    def _look(self, block: VolumeBatch) -> list[Float[Tensor, "b gt gh gw c"]]:
        """Tokens of the three scales for a block of voxels, a whole number of the largest tubelets."""
        hu, share = block.hu, None
        if block.valid is not None:
            hu = torch.where(block.valid, hu, self.windows.low.amin())  # zero in every window
            share = block.valid.to(hu.dtype).unsqueeze(1)
        looks = zip(self.stems, self._views(self.windows(hu), share), self.scale_embedding, strict=True)
        return [stem(*view) + mark for stem, view, mark in looks]

    def _views(self, image: Tensor, seen: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The image as each scale sees it: the mean over the valid voxels of each block, and which blocks have any."""
        total, share, done = image, seen, (1, 1, 1)
        for pool in self.pools:
            if any(p % d for p, d in zip(pool, done, strict=True)):
                total, share, done = image, seen, (1, 1, 1)
            step = triple(p // d for p, d in zip(pool, done, strict=True))
            total, done = _mean(total, step), pool
            share = None if share is None else _mean(share, step)
            if share is None or pool == (1, 1, 1):
                yield total, share
            else:
                yield total / share.clamp_min(1e-6), (share > 0).to(share.dtype)


def _middle(volume: VolumeBatch, whole: Size) -> Float[Tensor, "b 3"] | None:
    """Centre of the field of view in voxels from the origin, where it is not that of the filled volume."""
    if volume.valid is not None:
        low, high = valid_box(volume.valid)
        return (low + high) / 2
    shape = volume.hu.shape[1:]
    if tuple(shape) == whole:
        return None
    return torch.tensor([shape], device=volume.hu.device, dtype=torch.float32).expand(len(volume.hu), -1) / 2


def _part(volume: VolumeBatch, z: slice, y: slice = slice(None)) -> VolumeBatch:
    valid = None if volume.valid is None else volume.valid[:, z, y]
    return VolumeBatch(volume.hu[:, z, y], volume.spacing, valid)


def _plain(tokenizer: TubeletTokenizer, hu: Tensor) -> bool:
    """Whether nobody learns, and in the precision of the weights."""
    same = hu.dtype == torch.float32 == tokenizer.scale_embedding[0].dtype
    return same and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def _mean(x: Float[Tensor, "b c z y x"], size: Size) -> Float[Tensor, "b c t h w"]:
    """Mean over blocks of ``size``."""
    return x if size == (1, 1, 1) else over_blocks(torch.add, x, size) / math.prod(size)


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


def pool_valid(volume: VolumeBatch, stride: Size, whole: Size | None = None) -> Bool[Tensor, "b n"]:
    """A tubelet is valid when any voxel of its cell is; ``whole`` is the shape that the volume is filled up to."""
    shape, device = triple(volume.hu.shape[1:]), volume.hu.device
    whole = shape if whole is None else whole
    if volume.valid is not None:
        pad = [cells for n, w in zip(shape[::-1], whole[::-1], strict=True) for cells in (0, w - n)]
        return over_blocks(torch.bitwise_or, F.pad(volume.valid, pad) if any(pad) else volume.valid, stride).flatten(1)
    begun = [torch.arange(0, w, s, device=device) < n for n, w, s in zip(shape, whole, stride, strict=True)]
    cells = begun[0][:, None, None] & begun[1][:, None] & begun[2]
    return cells.flatten().repeat(len(volume.hu), 1)
