"""Withholding what is known beside a scan, at random, so that a model learns to do without.

A sample from which a part is withheld is the sample that never had it: no other code path, no other number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctscribe.beside import InputsConfig
from ctscribe.data.batch import Sample

_NOTHING: dict[str, dict[str, Any]] = {
    "prior": {"prior": None, "prior_days": None},
    "history": {"history": ""},
    "labs": {"labs": ()},
}


@dataclass(frozen=True)
class Withhold:
    """``withhold(sample, rng) -> sample``; a chance for each part, drawn for each study on its own."""

    prior: float = 0.3
    history: float = 0.3
    labs: float = 0.3

    @classmethod
    def of(cls, config: InputsConfig) -> Withhold:
        """The chances a model's configuration asks for."""
        return cls(**{name: config.chance_of_drop(name) for name in _NOTHING})

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw first, then apply; a chance of 1 withholds always, one of 0 never."""
        draws = dict(zip(_NOTHING, rng.random(len(_NOTHING)), strict=True))
        changes: dict[str, Any] = {}
        for name, nothing in _NOTHING.items():
            if draws[name] < getattr(self, name):
                changes |= nothing
        return replace(sample, **changes) if changes else sample
