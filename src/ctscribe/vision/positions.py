"""Where a token is, told to the encoder: rotary over millimetres, a learned table over millimetres, or not at all.

```
 rope      queries and keys turn by an angle per axis and wavelength: attention sees z, y, x distances in mm
 learned   a table over the field of view is read at the token's centre and added to the token
 none      a token's place is known only through the window it shares
```

Both kinds count millimetres from the centre of the field of view, so they fit volumes of any size and spacing. Every
scale has its own kind, and beside it the scale embedding of the tokenizer, which tells the scales apart.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PositionKind = Literal["rope", "learned", "none"]
PositionKinds = tuple[PositionKind, PositionKind, PositionKind]


def wavelength(kind: PositionKind, longest_mm: float) -> float | None:
    """What `ctscribe.layers.Attention` takes as ``longest_mm``: None where nothing rotates."""
    return longest_mm if kind == "rope" else None


class PositionTable(nn.Module):
    """A learned vector per place: a coarse table over ``longest_mm`` on each axis, read trilinearly at any centre.

    Beyond the table the border's value holds.
    """

    def __init__(self, width: int, longest_mm: float, knots: int = 9) -> None:
        super().__init__()
        self.half_mm = longest_mm / 2
        self.table = nn.Parameter(torch.randn(1, width, knots, knots, knots) * 0.02)

    def forward(self, centres: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n c"]:
        places = (centres.float() / self.half_mm).flip(-1)[:, :, None, None]
        table = self.table.float().expand(centres.shape[0], -1, -1, -1, -1)
        read = F.grid_sample(table, places, mode="bilinear", padding_mode="border", align_corners=True)
        return read.flatten(2).transpose(1, 2)
