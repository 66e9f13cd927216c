"""The room inside the rib cage, and the diaphragm that closes it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.draw import polygon

from ctscribe.data.anatomy import grid

RIB_REACH_MM = 18.0
"""How far outside the hull of the aerated lungs a rib may lie and still stretch the hull."""
WALL_MM = 10.0
"""The chest wall is nowhere thinner than this (skin, fat, intercostal muscle)."""
DEFICIENT = 0.35
"""A lung whose cross-section is below this share of the other one is mirrored to find the cavity."""


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
    hull = _hulls(lungs)
    far = (1e3, spacing[1], spacing[2])
    ribs = bone & grid.dilate(hull, RIB_REACH_MM, far) & ~hull
    inner = grid.erode(_hulls(lungs | ribs), 5.0, far)
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
    for z in np.flatnonzero(out.any(axis=(1, 2))):
        small, big = sorted((int(right[z].sum()), int(left[z].sum())))
        if small >= DEFICIENT * big:
            continue
        source = right[z] if right[z].sum() == big else left[z]
        mirror = np.rint(2 * midline[z] - x).astype(int)
        held = (mirror >= 0) & (mirror < out.shape[2])
        out[z][:, held] |= source[:, mirror[held]]
    return out


def _hulls(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Convex hull of every axial slice; only the ends of each row are handed to Qhull."""
    out = mask.copy()
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        rows = np.flatnonzero(mask[z].any(axis=1))
        first = mask[z, rows].argmax(axis=1)
        last = mask.shape[2] - 1 - mask[z, rows, ::-1].argmax(axis=1)
        points = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:  # fewer than three points that are not on one line: the slice is its own hull
            continue
        ys, xs = polygon(corners[:, 0], corners[:, 1], mask.shape[1:])
        out[z, ys, xs] = True
    return out


def diaphragm_height(
    lungs: Bool[np.ndarray, "z y x"], cavity: Bool[np.ndarray, "z y x"], spacing: grid.Spacing
) -> Float[np.ndarray, "y x"]:
    """Slice index of the lowest lung voxel for each column of the cavity, filled in smoothly between the lungs.

    The heart rests on the diaphragm between the two domes, so their neighbourhood gives its height.
    """
    held = lungs.any(axis=0)
    bottom = np.where(held, lungs.argmax(axis=0), 0).astype(np.float32)
    if not held.any():
        return bottom
    filled, weight = np.zeros_like(bottom), np.zeros_like(bottom)
    for sigma_mm, trust in ((12.0, 1.0), (40.0, 1e-3), (120.0, 1e-6)):
        sigma = [sigma_mm / s for s in spacing[1:]]
        share = ndimage.gaussian_filter(held.astype(np.float32), sigma)
        filled += trust * ndimage.gaussian_filter(bottom * held, sigma)
        weight += trust * share
    smooth = filled / np.maximum(weight, 1e-12)
    return np.where(held, bottom, smooth).astype(np.float32)
