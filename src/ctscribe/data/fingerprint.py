"""Recognising the same scan under another name: a short description of how a prepared scan looks, and its neighbours.

Byte-equal copies are found by `manifest.image_digest`. This finds the others: another reconstruction, another export
or a lightly changed copy of the same acquisition, which a random split may put on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

GRID = (8, 16, 16)
LIMITS = (-1000.0, 400.0)
ALIKE = 0.98
"""Correlation from which on two prepared scans are called near-duplicates; measured in ``benchmarks/data.py``."""


def fingerprint(hu: Shaped[np.ndarray, "z y x"]) -> str:
    """A scan averaged to 8 x 16 x 16 cells, a byte each, as hexadecimal text."""
    values = np.clip(hu.astype(np.float32), *LIMITS)
    for axis, cells in enumerate(GRID):
        edges = np.linspace(0, values.shape[axis], cells + 1).astype(int)[:-1]
        sizes = np.diff([*edges, values.shape[axis]])
        shape = [1, 1, 1]
        shape[axis] = cells
        values = (np.add.reduceat(values, edges, axis=axis) / sizes.reshape(shape)).astype(np.float32)
    scaled = (values - LIMITS[0]) / (LIMITS[1] - LIMITS[0]) * 255
    return np.rint(scaled).astype(np.uint8).tobytes().hex()


def vector(print_: str) -> Float[np.ndarray, " n"]:
    """A fingerprint as a centred vector of length one, so that a product of two is their correlation."""
    values = np.frombuffer(bytes.fromhex(print_), np.uint8).astype(np.float32)
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length else values


@dataclass(frozen=True)
class Twins:
    """Two studies that look alike."""

    a: str
    b: str
    likeness: float


def near_duplicates(
    prints: Mapping[str, str], groups: Mapping[str, str], splits: Mapping[str, str], alike: float = ALIKE
) -> tuple[Twins, ...]:
    """Pairs in different splits that look alike although nothing says they are of one patient, most alike first.

    Args:
        prints: study -> fingerprint.
        groups: study -> patient's pseudonym; pairs of one patient lie in one split anyway.
        splits: study -> split.
        alike: least correlation.
    """
    names: Sequence[str] = sorted(prints)
    if len(names) < 2:
        return ()
    table = np.stack([vector(prints[name]) for name in names])
    found = []
    block = 512
    for start in range(0, len(names), block):
        likeness = table[start : start + block] @ table.T
        for row, column in zip(*np.nonzero(likeness >= alike), strict=True):
            a, b = names[start + int(row)], names[int(column)]
            if a < b and splits[a] != splits[b] and groups[a] != groups[b]:
                found.append(Twins(a, b, float(likeness[row, column])))
    return tuple(sorted(found, key=lambda twins: -twins.likeness))
