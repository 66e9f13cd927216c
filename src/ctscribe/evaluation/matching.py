"""Findings of two reports laid against each other: places, sizes, and which answers which.

Sizes are the same within a tolerance. It is a convention of this project, of the order of what two readers of the same
nodule differ by (Revel et al., Radiology 2004;231:453-458: limits of agreement between one and two millimetres on
small nodules).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ctscribe import ontology
from ctscribe.report import Finding

SIZE_TOLERANCE_MM = 1.0
SIZE_TOLERANCE_SHARE = 0.2


def sides(finding: Finding) -> frozenset[str]:
    """Sides the finding names; "both lungs" names both; a midline place names none."""
    named: set[str] = set()
    for region in finding.regions:
        own = ontology.regions()[region].side
        if own is not None:
            named.add(own)
        elif region == "lungs":
            named.update(("left", "right"))
    return frozenset(named)


def lobes(finding: Finding) -> frozenset[str]:
    """Lobes the finding names, itself or by a segment of them."""
    known = ontology.regions()
    places = {place for region in finding.regions for place in ontology.ancestors(region)}
    return frozenset(place for place in places if known[place].level == "lobe")


def size_agrees(reference_mm: float, candidate_mm: float) -> bool:
    """Are two long axes in mm the same within the measurement tolerance?"""
    return abs(reference_mm - candidate_mm) <= max(SIZE_TOLERANCE_MM, SIZE_TOLERANCE_SHARE * reference_mm) + 1e-9


def same_size(reference: Finding, candidate: Finding) -> bool:
    """Do both findings state a long axis, and the same one?"""
    if not reference.size_mm or not candidate.size_mm:
        return False
    return size_agrees(float(reference.size_mm[0]), float(candidate.size_mm[0]))


def closeness(reference: Finding, candidate: Finding, *, first: bool, second: bool) -> float:
    """How well two findings go together: 4 and 2 for what the caller asks first and second, up to 1 for the size."""
    score = 4.0 * first + 2.0 * second
    if reference.size_mm and candidate.size_mm:
        score += 1.0 / (1.0 + abs(reference.size_mm[0] - candidate.size_mm[0]))
    return score


def best_matching(
    references: Sequence[Finding], candidates: Sequence[Finding], gain: Callable[[Finding, Finding], float]
) -> Iterator[tuple[int, int, float]]:
    """(reference, candidate, gain) of the one-to-one matching with the largest total gain (Hungarian algorithm)."""
    if not references or not candidates:
        return
    from scipy.optimize import linear_sum_assignment  # a third of a second to import

    gains = np.array([[gain(reference, candidate) for candidate in candidates] for reference in references])
    for row, column in zip(*linear_sum_assignment(gains, maximize=True), strict=True):
        yield int(row), int(column), float(gains[row, column])
