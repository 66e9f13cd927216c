"""What every backbone offers: the one thing that the rest of the house knows of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ctscribe.tensors import VisualTokens, VolumeBatch


@runtime_checkable
class Encoder(Protocol):
    """A volume goes in, tokens at three scales come out, on the grids that `TubeletConfig.cells` tells."""

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the fine, mid and coarse tokens."""
        ...

    def __call__(self, volume: VolumeBatch) -> VisualTokens:
        """Tokens, their grids, centres and validity."""
        ...

    def embed_scales(self, visual: VisualTokens) -> Float[Tensor, "b 3 e"]:
        """One vector per scale, for the consistency loss."""
        ...
