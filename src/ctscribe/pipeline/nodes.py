"""Single lesions in the scan: those that somebody outlined, and those that the model's slots hold.

```
outlines (voxels of the model's grid) ─┐
                                       ├─► box in patient mm, size, slices ─► the deepest region that holds it
slots (boxes in mm, kinds)            ─┘
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ctscribe import ontology
from ctscribe.pipeline.evidence import Box, Placed, clip_to_scan, original_slices
from ctscribe.report import Evidence
from ctscribe.scene.objects import SlotObject


@dataclass(frozen=True)
class LesionNode:
    """One lesion below its region.

    Attributes:
        source: ``"lesion"`` for an outlined one, ``"slot"`` for one that the model found.
        kind: finding kind.
        region: the deepest region that holds at least half of what the regions hold of it; None outside them all.
        box_world: opposite corners (x, y, z), patient mm.
        slices: first and last original slice number.
        size_mm: longest side of its box.
        probability: of a slot's kind; None for what was outlined.
    """

    source: Literal["lesion", "slot"]
    kind: str
    region: str | None
    box_world: Box
    slices: tuple[int, int]
    size_mm: float
    probability: float | None = None

    @property
    def evidence(self) -> Evidence:
        """As a place that a sentence rests on."""
        weight = 1.0 if self.probability is None else round(self.probability, 4)
        return Evidence(self.region, self.box_world, self.slices, weight, self.source)

    def speaks_for(self, kind: str) -> bool:
        """True where a finding of this kind may rest on it."""
        return kind in ontology.implied(self.kind)


def lesion_nodes(placed: Placed, slots: Sequence[SlotObject] = ()) -> tuple[LesionNode, ...]:
    """Outlined lesions, then slots, most probable first; what lies outside the scan is left out."""
    outlines = () if placed.lesions is None else placed.lesions.sure
    half = np.array(placed.volume.shape) / 2
    boxes = [np.array([*x.low, *x.high]) - np.tile(half, 2) for x in outlines]
    boxes += [np.array(slot.box) / np.tile(placed.volume.spacing, 2) for slot in slots]
    if not boxes:
        return ()
    held = np.stack([_cells_of(box + np.tile(half, 2), placed) for box in boxes])
    if outlines and placed.lesions is not None:
        held[: len(outlines)] = placed.lesions.shares(placed.occupancy.shape[1:]) / 255.0
    regions = _regions(held.reshape(len(boxes), -1), placed)
    named: list[tuple[Literal["lesion", "slot"], str, float | None]] = [("lesion", x.kind, None) for x in outlines]
    named += [("slot", slot.kind, slot.probability) for slot in slots]
    found = []
    for (source, kind, chance), region, box in zip(named, regions, boxes, strict=True):
        world = _world(box + np.tile(half, 2), placed)
        if world is not None:
            slices = original_slices(world, placed.original, placed.source)
            size = float(np.max(np.subtract(world[1], world[0])))
            found.append(LesionNode(source, kind, region, world, slices, round(size, 1), chance))
    return tuple(sorted(found, key=lambda node: -(2.0 if node.probability is None else node.probability)))


def _world(edges: Float[np.ndarray, "6"], placed: Placed) -> Box | None:
    """Voxel edges (z, y, x low, high) of the model's grid -> the part of the box inside the scan."""
    corners = placed.volume.affine.to_world(edges.reshape(2, 3) - 0.5)
    low, high = corners.min(0), corners.max(0)
    return clip_to_scan(
        ((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))),
        placed.original,
    )


def _cells_of(edges: Float[np.ndarray, "6"], placed: Placed) -> Float[np.ndarray, "t h w"]:
    """Share of each cell of the token grid that lies inside a box of voxel edges."""
    cells = np.array(placed.occupancy.shape[1:])
    low, high = edges.reshape(2, 3) * cells / np.array(placed.volume.shape)
    shares = []
    for axis, count in enumerate(cells):
        start = np.arange(count)
        shares.append(np.clip(np.minimum(high[axis], start + 1) - np.maximum(low[axis], start), 0, 1))
    return shares[0][:, None, None] * shares[1][None, :, None] * shares[2][None, None, :]


def _regions(held: Float[np.ndarray, "l n"], placed: Placed) -> list[str | None]:
    """The region below which each hangs, by the rule of the model's own tree (`scene.tree.lesion_parents`)."""
    import torch

    from ctscribe.scene.tree import lesion_parents

    regions = placed.occupancy * placed.present[:, None, None, None]
    chosen = lesion_parents(
        torch.from_numpy(held.astype(np.float32))[None],
        torch.from_numpy(regions.reshape(len(placed.regions), -1).astype(np.float32))[None],
        placed.regions,
    )[0]
    return [placed.regions[int(row.int().argmax())] if bool(row.any()) else None for row in chosen]
