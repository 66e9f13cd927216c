"""Linear tubelets of a scan that nobody learns from: clipped, averaged, mapped, and nothing else.

```
 HU ──── cut into fine tubelets ──► clip to each window ──────────────────────┐
  └─► clip to each window ──► mean over 2x, 4x ──► cut into larger tubelets ──┴─► one linear map
```

Clipping is all that happens voxel by voxel. What follows it is linear, ``(clipped - low) / width`` and the tubelet's
map, and becomes one map. Voxels that fill a scan up lie below every window, which is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ctscribe.tensors import VolumeBatch
from ctscribe.vision.resample import Size
from ctscribe.vision.stems import LinearStem


class ClippedSlabs:
    """Tokens of slabs of a volume, a band of them after the other, so that a band's windows stay in the cache.

    Args:
        shape: studies, and voxels (z, y, x) of a slab that is filled up.
        tall: voxels along y of a band.
        low, width: the windows, in Hounsfield units.
        stems: the linear maps of the scales, each with the vector that marks its scale; the first is the fine one's.
        views: an image (b, windows, z, y, x) as each scale sees it, the fine one first.
        pools: how many voxels (z, y, x) the scales average.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        tall: int,
        low: Float[Tensor, " w"],
        width: Float[Tensor, " w"],
        stems: Iterable[tuple[LinearStem, Tensor]],
        views: Callable[[Tensor], Iterator[Tensor]],
        pools: Sequence[Size],
    ) -> None:
        self.ends = list(zip(low.tolist(), (low + width).tolist(), strict=True))
        self.below = float(low.amin())
        self.bands = range(0, shape[2], tall)
        self.band = torch.empty(shape[0], shape[1], tall, shape[3])
        self.image = torch.empty(shape[0], len(self.ends), shape[1], tall, shape[3])
        self.fine = torch.empty_like(self.image)
        self.stems = [(stem, mark, *stem.after_clipping(low, width)) for stem, mark in stems]
        self.views, self.pools = views, pools

    def __call__(self, slab: VolumeBatch) -> list[Float[Tensor, "b gt gh gw c"]] | None:
        """None for a slab that holds invalid voxels, or ends within what a scale averages."""
        ends_within = any(n % p for pool in self.pools for n, p in zip(slab.hu.shape[1:], pool, strict=True))
        if ends_within or not (slab.valid is None or bool(slab.valid.all())):
            return None
        fine, larger = [], []
        for y in self.bands:
            self._fill(slab.hu[:, :, y : y + self.band.shape[2]])
            fine.append(self._embed_fine())
            larger.append(list(self.views(self._clip(self.band, self.image)))[1:])
        tokens = [torch.cat(fine, dim=2)]
        for (stem, mark, weight, bias), bands in zip(self.stems[1:], zip(*larger, strict=True), strict=True):
            tokens.append(stem.embed_cut(stem.cut(torch.cat(bands, dim=3)), weight, bias).add_(mark))
        return tokens

    def _fill(self, hu: Float[Tensor, "b z y x"]) -> None:
        """Write over the band."""
        z, y, x = hu.shape[1:]
        for beyond in (self.band[:, z:], self.band[:, :, y:], self.band[..., x:]):
            beyond.fill_(self.below)
        self.band[:, :z, :y, :x] = hu

    def _embed_fine(self) -> Float[Tensor, "b t h w c"]:
        """The fine tubelets of the band: what is cut first is cut once, not window by window."""
        stem, mark, weight, bias = self.stems[0]
        cut = stem.cut(self.band.unsqueeze(1))
        into = self.fine.view(*cut.shape[:-1], len(self.ends), cut.shape[-1])
        self._clip(cut, into.movedim(-2, 1))
        return stem.embed_cut(into.flatten(-2), weight, bias).add_(mark)

    def _clip(self, hu: Tensor, into: Tensor) -> Tensor:
        """Each window's clipped Hounsfield units, written into axis 1."""
        for channel, (low, high) in enumerate(self.ends):
            torch.clamp(hu, low, high, out=into[:, channel])
        return into
