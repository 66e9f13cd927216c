"""Nodules told apart in text: is each nodule of the reference reported, in its place and with its size?

The funnel asks how far a finding gets; here every nodule counts once, found or not, and so does every invented one.
Present and possible nodules and masses of both reports are matched one to one. Two of them may match when

- the places agree: the same lobe where both name one; else the same side where both name one; else anything;
- the sizes agree (`matching.size_agrees`: the larger of 1 mm and 20 %) where both state one.

The matching is optimal, not greedy: of all matchings with the most matches, the one with the closest places and sizes
(Hungarian algorithm). What one report leaves out cannot contradict the other; `detailed_f1` instead asks the candidate
for every detail that the reference states.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ctscribe.evaluation.matching import best_matching, closeness, lobes, same_size, sides
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, counts_row, ratio
from ctscribe.report import Finding

KINDS = ("lung_nodule", "mass")

# One match more is worth more than any closeness.
_MATCH = 1000.0


def places_agree(reference: Finding, candidate: Finding, *, strict: bool = False) -> bool:
    """Do two findings lie in the same place, as far as both say?

    Args:
        strict: the candidate must name the lobe or side that the reference names.
    """
    if lobes(reference) and (strict or lobes(candidate)):
        return lobes(reference) == lobes(candidate)
    if sides(reference) and (strict or sides(candidate)):
        return sides(reference) == sides(candidate)
    return True


def sizes_agree(reference: Finding, candidate: Finding, *, strict: bool = False) -> bool:
    """Are two findings equally long within the tolerance, as far as both say?"""
    if not reference.size_mm or not (strict or candidate.size_mm):
        return True
    return same_size(reference, candidate)


def matches(pair: Pair, *, strict: bool = False) -> list[tuple[int, int]]:
    """(reference, candidate) indices into `nodules_of` of the nodules that answer one another."""
    wanted, offered = nodules_of(pair.reference.findings), nodules_of(pair.candidate.findings)
    found = best_matching(wanted, offered, partial(_gain, strict=strict))
    return [(i, j) for i, j, gain in found if gain >= _MATCH]


def nodules_of(findings: Sequence[Finding]) -> list[Finding]:
    """The nodules and masses a report says are present or possible."""
    return [f for f in findings if f.kind in KINDS and f.status != "absent"]


def _gain(reference: Finding, candidate: Finding, *, strict: bool) -> float:
    if not (places_agree(reference, candidate, strict=strict) and sizes_agree(reference, candidate, strict=strict)):
        return 0.0
    same_lobe, same_side = bool(lobes(reference) & lobes(candidate)), bool(sides(reference) & sides(candidate))
    return _MATCH + closeness(reference, candidate, first=same_lobe, second=same_side)


class Nodules(Scorer):
    """Detection of single nodules from text."""

    name = "nodules"
    measures = (
        Measure("f1", "F1 over single nodules and masses; place and size must agree where both reports state them."),
        Measure("precision", "Share of the candidate's nodules that are in the reference."),
        Measure("recall", "Share of the reference's nodules that are reported."),
        Measure("detailed_f1", "The same F1 when the candidate must state every place and size the reference states."),
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: nodules of the reference, of the candidate, matched, matched in every detail."""
        rows = np.zeros((len(pairs), 4))
        for row, pair in zip(rows, pairs, strict=True):
            row[0] = len(nodules_of(pair.reference.findings))
            row[1] = len(nodules_of(pair.candidate.findings))
            if row[0] and row[1]:
                row[2] = len(matches(pair))
                row[3] = len(matches(pair, strict=True))
        return rows

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """NaN where no reference has a nodule (precision: where no candidate has one)."""
        true, called, hit, detailed = np.moveaxis(totals, -1, 0)
        known = np.where(true > 0, true + called, 0.0)
        return {
            "f1": ratio(2 * hit, known),
            "precision": ratio(hit, called),
            "recall": ratio(hit, true),
            "detailed_f1": ratio(2 * detailed, known),
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """The counts behind the measures."""
        return counts_row(("reference_nodules", "candidate_nodules", "matched", "matched_in_detail"), totals)
