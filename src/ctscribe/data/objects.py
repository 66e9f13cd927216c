"""Single lesions as objects: what slots are taught to find one by one.

Objects are the connected pieces of every finding kind's lesion tokens. A piece that consists of a more specific kind
(a consolidation is also a lung opacity) counts once, under the specific one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from ctscribe import ontology
from ctscribe.data.targets import Targets

_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class ObjectTargets:
    """Objects of a batch, largest first, padded to the longest list.

    Attributes:
        kind: index into ``ontology.findings()``, -1 for padding.
        masks: 1 for fine tokens that belong to the object.
        boxes: (z, y, x) of the low, then of the high corner, in cell edges of the fine grid.
        known: studies whose lesions were outlined: only there is a slot without an object known to be empty.
    """

    kind: Int[Tensor, "b o"]
    masks: Float[Tensor, "b o t h w"]
    boxes: Float[Tensor, "b o 6"]
    known: Bool[Tensor, " b"]


def objects_of(targets: Targets, most: int = 16) -> ObjectTargets | None:
    """The objects of each outlined study, at most ``most`` of them; None when no study has outlines."""
    if targets.dense is None:
        return None
    dense = targets.dense.detach().cpu().numpy() > 0.5
    found = [_pieces(flags)[:most] if known else [] for flags, known in zip(dense, targets.dense_known, strict=True)]
    longest = max(1, *(len(pieces) for pieces in found))
    rows, grid = len(found), dense.shape[2:]
    kind = torch.full((rows, longest), -1, dtype=torch.long)
    masks, boxes = torch.zeros(rows, longest, *grid), torch.zeros(rows, longest, 6)
    for row, pieces in enumerate(found):
        for place, (column, mask) in enumerate(pieces):
            kind[row, place] = column
            masks[row, place] = torch.from_numpy(mask.astype(np.float32))
            cells = np.argwhere(mask)
            boxes[row, place] = torch.tensor([*cells.min(0), *(cells.max(0) + 1)], dtype=torch.float32)
    device = targets.dense.device
    return ObjectTargets(kind.to(device), masks.to(device), boxes.to(device), targets.dense_known.to(device))


def _pieces(flags: Bool[np.ndarray, "f t h w"]) -> list[tuple[int, Bool[np.ndarray, "t h w"]]]:
    """(kind column, mask) of every connected piece of one study, largest first."""
    kinds = list(ontology.findings())
    drawn = [column for column in range(len(kinds)) if flags[column].any()]
    pieces = []
    for column in drawn:
        specific = [c for c in drawn if c != column and kinds[column] in ontology.implied(kinds[c])]
        covered = flags[specific].any(0) if specific else np.zeros(flags.shape[1:], bool)
        labels, count = ndimage.label(flags[column], structure=_TOUCHING)
        for number in range(1, count + 1):
            mask = labels == number
            if 2 * int((mask & covered).sum()) < int(mask.sum()):
                pieces.append((column, mask))
    return sorted(pieces, key=lambda piece: -int(piece[1].sum()))
