"""The same chest from another scanner: thicker slices, blur, noise, contrast, a narrower range of values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from ctscribe.data.augment import AIR
from ctscribe.data.batch import Sample


@dataclass(frozen=True)
class Scanner:
    """A transform: what acquisition and reconstruction change, and no label. Each change has a chance of its own.

    Attributes:
        chance: of each change.
        thickness: thickest simulated slice, in slices of the grid.
        blur: largest standard deviation of a Gaussian, voxels.
        noise: largest standard deviation of added noise, HU.
        gain: largest relative change of contrast about 0 HU.
        gamma: largest exponent of a change of contrast that leaves air and bone in place.
        window: narrowest range (low, high) of values that may be kept, HU; what lies outside is set to its edge.
    """

    chance: float = 0.3
    thickness: int = 3
    blur: float = 1.0
    noise: float = 25.0
    gain: float = 0.06
    gamma: float = 1.2
    window: tuple[float, float] = (-1000.0, 400.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw first, then apply."""
        on = rng.random(6) < self.chance
        slices = int(rng.integers(2, max(3, self.thickness + 1)))
        blur, sigma = rng.uniform(0, self.blur), rng.uniform(0, self.noise)
        gain, gamma = 1 + rng.uniform(-self.gain, self.gain), float(self.gamma ** rng.uniform(-1, 1))
        low, high = AIR + rng.random() * (self.window[0] - AIR), self.window[1] + rng.random() * (3000 - self.window[1])
        if not on.any():
            return sample
        hu = sample.hu.astype(np.float32)
        if on[0]:
            hu = thick_slices(hu, slices)
        if on[1]:
            hu = ndimage.gaussian_filter(hu, blur)
        if on[2]:
            hu = hu * np.float32(gain)
        if on[3]:
            hu = change_gamma(hu, gamma)
        if on[4]:
            hu = hu + rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(sigma)
        if on[5]:
            hu = np.clip(hu, low, high)
        return replace(sample, hu=np.clip(np.rint(hu), AIR, 32767).astype(np.int16))


def thick_slices(hu: Float[np.ndarray, "z y x"], slices: int) -> Float[np.ndarray, "z y x"]:
    """What a series of slices `slices` times as thick looks like on the old grid: averaged, then interpolated."""
    count = len(hu) // slices
    if slices < 2 or count < 2:
        return hu
    thick = hu[: count * slices].reshape(count, slices, *hu.shape[1:]).mean(axis=1)
    place = np.clip((np.arange(len(hu)) - (slices - 1) / 2) / slices, 0, count - 1)
    lower = np.minimum(place.astype(int), count - 2)
    share = (place - lower).astype(hu.dtype)[:, None, None]
    return thick[lower] * (1 - share) + thick[lower + 1] * share


def change_gamma(hu: Float[np.ndarray, "z y x"], gamma: float) -> Float[np.ndarray, "z y x"]:
    """Bend the scale between air and 1000 HU; both ends, and what lies outside them, stay."""
    span = 1000.0 - AIR
    inside = np.clip((hu - AIR) / span, 0, 1)
    return np.where((hu > AIR) & (hu < 1000.0), inside**gamma * span + AIR, hu).astype(hu.dtype)
