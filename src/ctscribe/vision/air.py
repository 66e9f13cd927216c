"""Which tubelets lie outside the body: they carry nothing, and windows of them need no computing.

```
 . . . . . . .      A cell is inside when its slice has tissue on all four sides of it, or is tissue itself.
 . # # # # # .      Lungs and airways are closed in by the chest wall, the room around the patient is not.
 . # o o o # .      (. outside   # tissue   o air inside)
 . # # # # # .
```
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ctscribe.tensors import ScaleTokens, VisualTokens, VolumeBatch
from ctscribe.vision.resample import Size, over_blocks, regrid

#: HU halfway between air (-1000) and water (0): what is above it anywhere in a cell is tissue (or bedding: kept too).
TISSUE_HU = -500.0


def body_cells(volume: VolumeBatch, stride: Size) -> Bool[Tensor, "b t h w"]:
    """Cells of ``stride`` voxels that are tissue or have tissue on all four sides within their slice.

    ``volume`` must be a whole number of cells. A study without any tissue is kept whole.
    """
    hu = volume.hu if volume.valid is None else torch.where(volume.valid, volume.hu, -1000.0)
    tissue = over_blocks(torch.maximum, hu, stride) > TISSUE_HU
    inside = torch.ones_like(tissue)
    for axis in (2, 3):
        before = tissue.int().cumsum(axis) > 0
        after = tissue.flip(axis).int().cumsum(axis).flip(axis) > 0
        inside = inside & before & after
    return inside | ~inside.flatten(1).any(1)[:, None, None, None]


def without_air(volume: VolumeBatch, tubelets: VisualTokens, stride: Size) -> VisualTokens:
    """The same tokens, those outside the body invalid; ``stride`` is that of the fine scale."""
    fine = tubelets.fine
    inside = body_cells(volume, stride).flatten(1)
    marks = fine.map(inside.unsqueeze(-1).float())
    scales = []
    for scale in tubelets.scales:
        held = regrid(marks, scale.grid, masked=False).squeeze(-1) > 0
        scales.append(ScaleTokens(scale.tokens, scale.grid, scale.centres, scale.valid & held))
    return VisualTokens(scales[0], scales[1], scales[2])
