"""Hounsfield units: are these numbers HU at all, and how do they become what the model reads.

The scale is fixed by physics: air is -1000, water 0 (by definition of the Hounsfield unit). A chest therefore has one
crowd of voxels near air and lung and one near soft tissue, about a thousand apart; where those crowds lie tells
whether the rescale was applied once, twice or never.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from ctscribe.errors import ConfigError
from ctscribe.tensors import Volume

#: Everything below is outside the field of view or noise; also the value of padding (DICOM's usual smallest HU).
AIR_FLOOR = -1024.0
#: Intercepts seen in practice: what a forgotten or doubled rescale shifts by.
KNOWN_SHIFTS = (1024.0, -1024.0, 1000.0, -1000.0, 8192.0, -8192.0, 2048.0, 32768.0)


#: Likeness to a CT of the body from which values are taken for HU: both crowds together hold at least a tenth.
ENOUGH = 0.1


@dataclass(frozen=True)
class Window:
    """A display window by centre and width in HU, under its usual name."""

    name: str
    centre: float
    width: float

    @property
    def low(self) -> float:
        return self.centre - self.width / 2

    @property
    def high(self) -> float:
        return self.centre + self.width / 2


#: Usual chest display windows (centre, width), as scanners preset them.
LUNG = Window("lung", -600.0, 1500.0)
MEDIASTINUM = Window("mediastinum", 40.0, 400.0)
BONE = Window("bone", 400.0, 1800.0)


@dataclass(frozen=True)
class IntensityContract:
    """How Hounsfield units become the model's channels; stored with the weights and applied by them.

    Attributes:
        windows: one channel each, in this order.
        hu_min, hu_max: values are clipped to this range first; ``hu_min`` is also what padding holds.
    """

    windows: tuple[Window, ...] = (LUNG, MEDIASTINUM, BONE)
    hu_min: float = -1024.0
    hu_max: float = 3071.0

    def __post_init__(self) -> None:
        if not self.windows or any(w.width <= 0 for w in self.windows) or self.hu_min >= self.hu_max:
            raise ConfigError(
                "the intensity contract is not usable",
                expected="at least one window, widths above 0, hu_min below hu_max",
                got=str(asdict(self)),
            )

    @property
    def channels(self) -> int:
        return len(self.windows)

    def apply(self, hu: Shaped[np.ndarray, "z y x"]) -> Float[np.ndarray, "c z y x"]:
        """HU -> one channel for each window, float32 in 0..1 (0 at and below the window, 1 at and above it)."""
        clipped = np.clip(hu.astype(np.float32), self.hu_min, self.hu_max)
        out = np.empty((len(self.windows), *hu.shape), dtype=np.float32)
        for channel, window in zip(out, self.windows, strict=True):
            np.subtract(clipped, window.low, out=channel)
            channel /= window.width
            np.clip(channel, 0.0, 1.0, out=channel)
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary; `from_json` turns it back."""
        return {"windows": [asdict(w) for w in self.windows], "hu_min": self.hu_min, "hu_max": self.hu_max}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> IntensityContract:
        """Raises ConfigError for unknown or missing keys."""
        try:
            windows = tuple(Window(str(w["name"]), float(w["centre"]), float(w["width"])) for w in data["windows"])
            contract = cls(windows, float(data["hu_min"]), float(data["hu_max"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                "the intensity contract cannot be read",
                expected="windows (name, centre, width), hu_min, hu_max",
                got=str(data),
            ) from error
        if unknown := set(data) - {"windows", "hu_min", "hu_max"}:
            raise ConfigError("the intensity contract has unknown keys", got=", ".join(sorted(unknown)))
        return contract


Verdict = Literal["hounsfield", "shifted", "inverted", "normalised", "eight_bit", "flat", "not_hounsfield"]


@dataclass(frozen=True)
class HounsfieldCheck:
    """What the numbers of a volume look like.

    Attributes:
        verdict: ``hounsfield`` means usable as it is; ``shifted`` that adding ``correction`` makes it so;
            ``inverted`` that ``correction - value`` does; the rest cannot be used.
        correction: HU to add (or to subtract from).
        message: the verdict in words.
    """

    verdict: Verdict
    correction: float
    message: str


def check_hounsfield(
    volume: Volume | np.ndarray, *, likely_shift: float | None = None, max_samples: int = 400_000
) -> HounsfieldCheck:
    """Tell HU from a forgotten rescale (+1024), a doubled one (-1024), inverted, normalised and 8-bit values.

    Looks at the values only, at every n-th voxel; the most frequent lowest value is taken for padding and left out.

    Args:
        likely_shift: the intercept in the headers: what a doubled rescale would have added once too often.
    """
    values = _sample(volume.hu if isinstance(volume, Volume) else volume, max_samples)
    if len(values) == 0:
        return HounsfieldCheck("flat", 0.0, "no voxel holds a number")
    low, high = float(values.min()), float(values.max())
    if high == low:
        return HounsfieldCheck("flat", 0.0, "every voxel holds the same value")
    if high - low <= 64:
        return HounsfieldCheck("normalised", 0.0, f"values from {low:g} to {high:g}: normalised, not Hounsfield units")
    if low >= 0 and high <= 255:
        return HounsfieldCheck("eight_bit", 0.0, f"values from {low:g} to {high:g}: an 8-bit picture")
    values = _without_padding(values, low)
    if _likeness(values) >= ENOUGH:
        return HounsfieldCheck("hounsfield", 0.0, "air and soft tissue lie where they should")
    if (shift := _find_shift(values, likely_shift)) is not None:
        return HounsfieldCheck("shifted", -shift, f"all values lie {shift:+g} HU off")
    if (mirrored := _mirror(values)) is not None:
        return HounsfieldCheck("inverted", mirrored, "bright and dark are exchanged")
    got = f"values from {low:g} to {high:g}, median {float(np.median(values)):g}"
    return HounsfieldCheck("not_hounsfield", 0.0, f"{got}, without a crowd of air and one of tissue")


def _find_shift(values: np.ndarray, likely: float | None) -> float | None:
    """The known shift that puts both crowds in place, None when none does. 1000 and 1024 both may: then a narrow crowd
    of air decides, and without one the more usual 1024."""
    tried = KNOWN_SHIFTS if not likely else (likely, *KNOWN_SHIFTS)
    fits = {s: _likeness(values - s) for s in tried if _two_crowds(values - s)}
    good = [s for s in fits if fits[s] >= max(ENOUGH, 0.9 * max(fits.values()))]
    if not good or good[0] == likely:
        return good[0] if good else None
    return min(good, key=lambda s: round(_air_error(values - s) / 12))


def _two_crowds(values: np.ndarray) -> bool:
    """True when air-or-lung and soft tissue are peaks with a valley between; MR can fill both ranges, without one."""
    counts, edges = np.histogram(values, bins=np.arange(-1080.0, 141.0, 20.0))
    at = edges[:-1]
    valley = 2 * float(counts[(at >= -560) & (at < -220)].mean())
    return bool(counts[at < -600].max() > valley and counts[at >= -160].max() > valley)


def _air_error(values: np.ndarray) -> float:
    """Distance of air from -1000 HU where half of it lies within 15 HU of its median; 0 (no say) where it does not."""
    air = values[(values > -1085) & (values < -915)]
    if len(air) < 100:
        return 0.0
    middle = float(np.median(air))
    return abs(middle + 1000.0) if np.mean(np.abs(air - middle) < 15) > 0.5 else 0.0


def _sample(hu: np.ndarray, max_samples: int) -> np.ndarray:
    stride = max(1, int(np.ceil((hu.size / max_samples) ** (1 / 3))))
    values = hu[::stride, ::stride, ::stride].astype(np.float32).ravel()
    return values[np.isfinite(values) & (values > np.iinfo(np.int16).min)]  # that one marks padding


def _without_padding(values: np.ndarray, low: float) -> np.ndarray:
    """Drop the lowest value where so many voxels share it that it is filling, not noise (1 % and more); filling that
    looks like air stays, it is right as it is."""
    if -1080 <= low <= -900:
        return values
    filling = values == low
    return values[~filling] if 0.01 * len(values) < filling.sum() < 0.95 * len(values) else values


def _likeness(values: np.ndarray) -> float:
    """0..1: geometric mean of the shares of air-and-lung (-1080..-600) and soft tissue (-160..140), 0 where many
    voxels (5 %) lie below anything that exists (-1200)."""
    if len(values) == 0 or np.mean(values < -1200) > 0.05:
        return 0.0
    air = float(np.mean((values >= -1080) & (values <= -600)))
    tissue = float(np.mean((values >= -160) & (values <= 140)))
    return float(np.sqrt(air * tissue))


def _mirror(values: np.ndarray) -> float | None:
    """Sum to subtract from that brings the brightest crowd (air, once inverted) to -1000, None if that helps not."""
    counts, edges = np.histogram(values, bins=256)
    upper = edges[:-1] > (edges[0] + edges[-1]) / 2
    if not counts[upper].any():
        return None
    top = edges[:-1][upper][np.argmax(counts[upper])] + (edges[1] - edges[0]) / 2
    total = float(round(top - 1000.0))
    return total if _likeness(total - values) >= ENOUGH and _two_crowds(total - values) else None
