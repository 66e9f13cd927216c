"""Measuring as the guidelines do: the mean of two axes, rounded half up."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from ctscribe.report import Finding


class Size(NamedTuple):
    """How large a nodule is, in the two ways that guidelines know; None where not measured."""

    mm: float | None = None
    mm3: float | None = None


def half_up(value: float, step: float = 1.0) -> float:
    """`value` to the nearest multiple of `step` (a power of ten); halves go up: 5.5 -> 6, 8.45 -> 8.5 in tenths.

    Python's own ``round`` goes to the even neighbour (8.5 -> 8), which would move a nodule into another size class.
    """
    unit = Decimal(str(step))
    return float((Decimal(str(value)) / unit).quantize(Decimal(1), ROUND_HALF_UP) * unit)


def mean_mm(finding: Finding, step: float = 1.0) -> float | None:
    """Mean of long and short axis in mm, rounded half up to `step`; the only axis where just one is known."""
    if not finding.size_mm:
        return None
    axes = [Decimal(str(axis)) for axis in finding.size_mm]
    return half_up(float(sum(axes) / len(axes)), step)
