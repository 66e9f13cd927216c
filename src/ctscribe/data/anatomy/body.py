"""Body and the air inside it, apart from the room, the table and the clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ctscribe.data.anatomy import grid

SOLID_HU = -350.0
"""Half way between lung (about -850) and soft tissue, a little on the tissue side: see `AIR_HU`."""
AIR_HU = -400.0
"""Aerated lung is below this; half way between lung at -850 and soft tissue at +50 HU."""
REGROWN_MM = 12.0
ROOM_HU = -940.0
"""Room air is -1000; even severe emphysema rarely has most of its voxels below -940."""


@dataclass(frozen=True)
class Body:
    """``whole``: body with the air in it; ``inner_air``: air (below `AIR_HU`) inside the body;
    ``solid``: the largest connected piece of tissue; ``touches``: share of the slices that hold the body
    where it reaches the left, right, front or back border of the image."""

    whole: Bool[np.ndarray, "z y x"]
    solid: Bool[np.ndarray, "z y x"]
    inner_air: Bool[np.ndarray, "z y x"]
    touches: dict[str, float]


def find_body(hu: Float[np.ndarray, "z y x"], spacing: grid.Spacing) -> Body:
    """Split the image into body, air inside the body, and everything else.

    Air counts as outside when, in its own axial slice, it reaches a side of the image and is room air.
    Lung cut off by a narrow field of view reaches the side too, but it is not as empty as room air and lies within
    the convex hull of the tissue around it; air under the table does not.
    """
    solid = _solid(hu, spacing)
    parts, count = ndimage.label(~solid, structure=grid.IN_PLANE)
    size = np.bincount(parts.ravel(), minlength=count + 1)
    empty = np.bincount(parts.ravel(), weights=(hu < ROOM_HU).ravel(), minlength=count + 1)
    dense = np.bincount(parts.ravel(), weights=(hu > SOLID_HU).ravel(), minlength=count + 1)
    at_side = np.zeros(count + 1, dtype=bool)
    for edge in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        at_side[np.unique(edge)] = True
    air = np.maximum(size - dense, 1)
    held = np.bincount(parts.ravel(), weights=grid.hull_slices(solid).ravel(), minlength=count + 1)
    outside = at_side & ((empty / air > 0.5) | (dense > 0.5 * size) | ((held < 0.5 * size) & (empty > 0.2 * air)))
    outside[0] = False
    whole = ~outside[parts]
    inner_air = whole & ~solid & (hu < AIR_HU)
    return Body(whole, solid, inner_air, _touches(whole))


def _solid(hu: Float[np.ndarray, "z y x"], spacing: grid.Spacing) -> Bool[np.ndarray, "z y x"]:
    """Tissue of the patient: the largest piece after thin horizontal sheets (table, blanket) are cut off.

    Only front to back, so that a thin chest wall at the side survives on a coarse grid; growing back farther than was
    cut closes it in front.
    """
    tissue = hu > SOLID_HU
    opened = grid.open_(tissue, 4.0, (1e3, spacing[1], 1e3))
    return grid.dilate(grid.largest(opened), REGROWN_MM, spacing) & tissue


def _touches(whole: Bool[np.ndarray, "z y x"]) -> dict[str, float]:
    """Share of body slices in which the body reaches each in-plane side of the image."""
    held = np.maximum(whole.any(axis=(1, 2)).sum(), 1)
    sides = {"front": whole[:, 0], "back": whole[:, -1], "right": whole[:, :, 0], "left": whole[:, :, -1]}
    return {side: float(edge.any(axis=1).sum() / held) for side, edge in sides.items()}
