"""The room inside the rib cage, and the diaphragm that closes it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ctscribe.data.anatomy import grid

RIB_REACH_MM = 12.0
"""How far outside the hull of the aerated lungs a rib may lie and still stretch the hull."""
WALL_MM = 10.0
"""The chest wall is nowhere thinner than this (skin, fat, intercostal muscle)."""
HEART_RIGHT_MM, HEART_LEFT_MM = 45.0, 85.0
"""Between these distances from the midline the heart, not the diaphragm, may lie under the lung."""
LEFT_LOWER_MM = 15.0
"""The left dome of the diaphragm is usually one to two centimetres lower than the right."""
ABOVE_DOME_MM = 25.0
"""Lung that ends this much above the domes ends on a mass, a vessel or consolidation."""
DEFICIENT_LOW, DEFICIENT_HIGH = 0.35, 0.1
"""A lung whose cross-section is below this share of the other one is mirrored to find the cavity; in the upper half
of the lungs, where scarring may shrink one apex and its ribs together, only when it is all but gone."""


def find_cavity(
    right: Bool[np.ndarray, "z y x"],
    left: Bool[np.ndarray, "z y x"],
    bone: Bool[np.ndarray, "z y x"],
    body: Bool[np.ndarray, "z y x"],
    midline: Float[np.ndarray, " z"],
    spacing: grid.Spacing,
) -> Bool[np.ndarray, "z y x"]:
    """Convex hull, slice by slice, of both lungs and the ribs beside them.

    The cross-section of the rib cage is nearly convex, so the hull takes in mediastinum, effusion, consolidation
    and masses. Where one lung is missing (collapsed, drowned or outside the image) the other is mirrored at the
    midline. From the widest slice downwards the hull never shrinks: there the lung is only a rim around the liver.
    """
    lungs = _mirrored(right, left, midline, spacing)
    hull = grid.hull_slices(lungs)
    far = (1e3, spacing[1], spacing[2])
    ribs = bone & grid.dilate(hull, RIB_REACH_MM, far) & ~hull
    inner = grid.erode(grid.hull_slices(lungs | ribs), 5.0, far)
    hull = (hull | inner) & body
    inside = grid.erode(body, WALL_MM, far)
    areas = hull.sum(axis=(1, 2))
    for z in range(int(areas.argmax()) - 1, -1, -1):
        hull[z] |= hull[z + 1] & inside[z]
    return hull | (right | left)


def _mirrored(
    right: Bool[np.ndarray, "z y x"],
    left: Bool[np.ndarray, "z y x"],
    midline: Float[np.ndarray, " z"],
    spacing: grid.Spacing,
) -> Bool[np.ndarray, "z y x"]:
    """Both lungs; in slices where one is deficient, also the mirror image of the other."""
    out = right | left
    x = np.arange(out.shape[2])
    held_z = np.flatnonzero(out.any(axis=(1, 2)))
    half = held_z.mean() if held_z.size else 0
    for z in held_z:
        small, big = sorted((int(right[z].sum()), int(left[z].sum())))
        if small >= (DEFICIENT_HIGH if z > half else DEFICIENT_LOW) * big:
            continue
        source = right[z] if right[z].sum() == big else left[z]
        mirror = np.rint(2 * midline[z] - x).astype(int)
        held = (mirror >= 0) & (mirror < out.shape[2])
        out[z][:, held] |= source[:, mirror[held]]
    return out


def diaphragm_height(
    lungs: Bool[np.ndarray, "z y x"], midline: Float[np.ndarray, " z"], spacing: grid.Spacing
) -> Float[np.ndarray, "y x"]:
    """Slice index of the diaphragm for each column: the lowest lung voxel, filled in smoothly between the lungs.

    Over the heart the lowest lung voxel is the heart's upper surface, not the diaphragm: near the midline columns
    above the level of the domes do not count, and the domes beside them give the height.
    """
    held = lungs.any(axis=0)
    bottom = np.where(held, lungs.argmax(axis=0), 0).astype(np.float32)
    if not held.any():
        return bottom
    x = (np.arange(lungs.shape[2]) - float(np.median(midline))) * spacing[2]
    right, left = bottom[:, x < -HEART_RIGHT_MM], bottom[:, x > HEART_LEFT_MM]
    levels = [
        float(np.quantile(side[side > 0], 0.9)) + step / spacing[0]
        for side, step in ((right, 0.0), (left, LEFT_LOWER_MM))
        if (side > 0).sum() > 10
    ]
    if levels:
        core = ((x > -HEART_RIGHT_MM) & (x < HEART_LEFT_MM))[None, :]
        highest = np.where(core, min(levels), max(levels) + ABOVE_DOME_MM / spacing[0])
        held = held & (bottom <= highest)
    filled, weight = np.zeros_like(bottom), np.zeros_like(bottom)
    for sigma_mm, trust in ((12.0, 1.0), (40.0, 1e-3), (120.0, 1e-6)):
        sigma = [sigma_mm / s for s in spacing[1:]]
        filled += trust * ndimage.gaussian_filter(bottom * held, sigma)
        weight += trust * ndimage.gaussian_filter(held.astype(np.float32), sigma)
    smooth = filled / np.maximum(weight, 1e-12)
    return np.where(held, bottom, smooth).astype(np.float32)
