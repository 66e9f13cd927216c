"""Many tests at once: Holm's and Benjamini-Hochberg's corrected p-values.

- Holm (Scand J Stat 1979): the chance of even one false claim among those made stays below the level.
- Benjamini-Hochberg (J R Stat Soc B 1995): of the claims made, the expected share that is false stays below the level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p-values in the given order: the k-th smallest of m times (m - k + 1), never falling, at most 1."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    return _restored(np.minimum(np.maximum.accumulate(scaled), 1.0), order)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Corrected p-values in the given order: the k-th smallest of m times m / k, never rising from the top."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    return _restored(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0), order)


def _restored(values: np.ndarray, order: np.ndarray) -> list[float]:
    back = np.empty_like(values)
    back[order] = values
    return [float(value) for value in back]
