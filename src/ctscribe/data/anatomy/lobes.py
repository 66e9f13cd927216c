"""Approximate lobes: flat fissures at the places where they usually lie."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from ctscribe.data.anatomy import grid

LOWER_SHARE = {"right": 0.47, "left": 0.47}
"""Share of the lung's volume in its lower lobe."""
MIDDLE_SHARE = 0.16
"""Share of the right lung's volume in the middle lobe. Both shares are rounded textbook proportions of healthy
adult lungs in full inspiration; disease changes them, which is why the lobes are called approximate."""
OBLIQUE_SLOPE = {"right": 1.15, "left": 1.30}
"""Fall of the oblique fissure towards the front: mm down per mm forward."""
HILUM_MM = 50.0
"""How far below the carina the fissures cross the middle of the lung."""
HORIZONTAL_FALL = 0.25
"""The horizontal fissure falls forward by this much per mm, and is otherwise level."""


def split_lobes(
    lung: Bool[np.ndarray, "z y x"], side: str, spacing: grid.Spacing, whole: bool, hilum_z: float
) -> UInt8[np.ndarray, "z y x"]:
    """Label a lung 1 upper, 2 middle (right only), 3 lower.

    Each fissure is a plane of fixed tilt. When the lung is seen whole, the plane is moved until the lobes have
    their usual shares of the volume; when part of it is cut off, the plane passes at a fixed distance below the
    carina (slice ``hilum_z``) instead.
    """
    out = np.zeros(lung.shape, dtype=np.uint8)
    z, y, x = np.nonzero(lung)
    if z.size == 0:
        return out
    up, back = z * spacing[0], y * spacing[1]
    oblique = up - OBLIQUE_SLOPE[side] * (back - back.mean())
    cut = np.quantile(oblique, LOWER_SHARE[side]) if whole else hilum_z * spacing[0] - HILUM_MM
    lower = oblique < cut
    label = np.where(lower, 3, 1)
    if side == "right" and not lower.all():
        level = up - HORIZONTAL_FALL * (back - back.mean())
        rest = MIDDLE_SHARE / (1 - LOWER_SHARE["right"])
        cut = np.quantile(level[~lower], rest) if whole else hilum_z * spacing[0] - HILUM_MM
        label[~lower & (level < cut)] = 2
    out[z, y, x] = label
    return out
