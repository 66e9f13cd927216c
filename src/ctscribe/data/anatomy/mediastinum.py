"""Rough places of the organs between the lungs.

Nothing here is a boundary a surgeon would accept: each organ is a smooth shape placed by landmarks (spine, carina,
diaphragm) and cut by what the image shows beyond doubt (lung, bone, bright contrast). The offsets are rounded
proportions of supine adult anatomy, checked by eye on contrast CT; they are not measurements of any patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ctscribe.data.anatomy import grid

CONTRAST_HU = 140.0
"""Blood brighter than this holds contrast medium; unenhanced blood is 30 to 60 HU."""


@dataclass(frozen=True)
class Landmarks:
    """Voxel indices on the working grid.

    ``spine``: (y, x) of the vertebral bodies per slice; ``carina``: (z, y, x), measured or estimated.
    """

    spine: Float[np.ndarray, "z 2"]
    carina: tuple[float, float, float]
    carina_seen: bool


class _Frame:
    """Millimetre coordinates from the spine (y, x; per slice) and from the carina (z, y, x)."""

    def __init__(self, shape: tuple[int, ...], spacing: grid.Spacing, marks: Landmarks) -> None:
        z, y, x = (np.arange(n, dtype=np.float32) for n in shape)
        self.z = ((z - marks.carina[0]) * spacing[0])[:, None, None]
        self.y = ((y - marks.carina[1]) * spacing[1])[None, :, None]
        self.x = ((x - marks.carina[2]) * spacing[2])[None, None, :]
        self.sy = (y[None, :, None] - marks.spine[:, 0, None, None].astype(np.float32)) * spacing[1]
        self.sx = (x[None, None, :] - marks.spine[:, 1, None, None].astype(np.float32)) * spacing[2]

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        """Ellipsoid around a point given from the carina, mm (z, y, x)."""
        z, y, x = ((axis - c) / r for axis, c, r in zip((self.z, self.y, self.x), centre, radii, strict=True))
        return z**2 + y**2 + x**2 < 1


def descending_aorta(
    hu: Float[np.ndarray, "z y x"],
    tissue: Bool[np.ndarray, "z y x"],
    spacing: grid.Spacing,
    marks: Landmarks,
) -> Bool[np.ndarray, "z y x"]:
    """A tube of 13 mm radius at the densest round spot in front and left of the spine, below the arch."""
    frame = _Frame(hu.shape, spacing, marks)
    weight = tissue * np.clip(hu + 50.0, 0.0, 350.0) / 100.0
    spot = ndimage.gaussian_filter(weight.astype(np.float32), [8 / spacing[0], 7 / spacing[1], 7 / spacing[2]])
    prior = ((frame.sx - 20.0) / 12.0) ** 2 + ((frame.sy + 20.0) / 12.0) ** 2
    score = (spot * np.exp(-prior / 2)).reshape(hu.shape[0], -1)
    y, x = np.unravel_index(score.argmax(axis=1), hu.shape[1:])
    line = np.stack([y, x], 1).astype(float)
    line = ndimage.gaussian_filter1d(ndimage.median_filter(line, (5, 1), mode="nearest"), 2.0, axis=0)
    dy = (np.arange(hu.shape[1])[None, :, None] - line[:, 0, None, None]) * spacing[1]
    dx = (np.arange(hu.shape[2])[None, None, :] - line[:, 1, None, None]) * spacing[2]
    radius = dy**2 + dx**2
    tube = tissue & (radius < 13.0**2) & (frame.z < 32.0)
    bright = tissue & (hu > CONTRAST_HU) & (radius < 20.0**2) & (frame.z < 32.0)
    inside = hu[tube]
    return tube | bright if inside.size and np.median(inside) > CONTRAST_HU else tube


def arch_and_ascending(frame: _Frame) -> np.ndarray:
    """Ascending aorta right and in front of the carina, and the arch over its left side."""
    ascending = ((frame.x + 12.0) / 17.0) ** 2 + ((frame.y + 48.0) / 17.0) ** 2 < 1
    ascending = ascending & (frame.z > -32.0) & (frame.z < 18.0)
    t = np.clip((frame.y + 45.0) / 50.0, -0.2, 1.1)  # 0 at the ascending, 1 at the descending end
    arch = (np.abs(frame.x - (-6.0 + 30.0 * t)) < 13.0) & (frame.z > 10.0) & (frame.z < 32.0)
    return ascending | (arch & (t > -0.2) & (t < 1.1))


def pulmonary_trunk(frame: _Frame) -> np.ndarray:
    """Main pulmonary artery left and in front of the carina, right branch in front of it, left branch beside it."""
    trunk = frame.ellipsoid((-20.0, -34.0, 24.0), (24.0, 19.0, 16.0))
    right = frame.ellipsoid((-18.0, -18.0, -10.0), (12.0, 11.0, 40.0))
    left = frame.ellipsoid((-8.0, -10.0, 34.0), (13.0, 18.0, 14.0))
    return trunk | right | left


def place_organs(
    hu: Float[np.ndarray, "z y x"],
    mediastinum: Bool[np.ndarray, "z y x"],
    spacing: grid.Spacing,
    marks: Landmarks,
) -> dict[str, Bool[np.ndarray, "z y x"]]:
    """Organ masks inside the mediastinum, in the order in which later ones give way to earlier ones."""
    frame = _Frame(hu.shape, spacing, marks)
    tissue = mediastinum & (hu > -150)
    descending = descending_aorta(hu, tissue, spacing, marks)
    oesophagus = tissue & ((frame.sx - 2.0) ** 2 + (frame.sy + 27.0) ** 2 < 9.0**2) & ~descending
    artery = tissue & pulmonary_trunk(frame) & ~descending
    enhanced = hu[artery] > CONTRAST_HU
    if enhanced.size and enhanced.mean() > 0.5:
        artery &= hu > CONTRAST_HU
    aorta = (descending | (tissue & arch_and_ascending(frame))) & ~artery
    heart = _heart(tissue & ~aorta & ~artery & ~oesophagus, spacing, frame)
    return {"oesophagus": oesophagus, "aorta": aorta, "pulmonary_artery": artery, "heart": heart}


def _heart(tissue: np.ndarray, spacing: grid.Spacing, frame: _Frame) -> Bool[np.ndarray, "z y x"]:
    """The thick part of the mediastinum below the pulmonary trunk and in front of the oesophagus."""
    region = tissue & (frame.z < -26.0) & (frame.sy < -30.0)
    return grid.largest(grid.open_(region, 11.0, spacing))


def thyroid_box(
    tissue: Bool[np.ndarray, "z y x"],
    trachea: Bool[np.ndarray, "z y x"],
    apex: int,
    spacing: grid.Spacing,
) -> Bool[np.ndarray, "z y x"]:
    """Tissue beside and in front of the trachea, from the lung apex to 55 mm above it."""
    out = np.zeros_like(tissue)
    for z in range(apex, min(tissue.shape[0], apex + round(55 / spacing[0]))):
        ys, xs = np.nonzero(trachea[z])
        if ys.size == 0:
            continue
        y = (np.arange(tissue.shape[1])[:, None] - ys.mean()) * spacing[1]
        x = (np.arange(tissue.shape[2])[None, :] - xs.mean()) * spacing[2]
        out[z] = (np.abs(x) < 32) & (y > -22) & (y < 14)
    return out & tissue & ~trachea
