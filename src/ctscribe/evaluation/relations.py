"""Does the report say the right thing of the right thing? Agreement of relations between entities.

A report is a small graph: findings, each with a status, point to where they lie and to what is said about them.

    lung_nodule (present) --located_at--> right_upper_lobe
                          --modified_by-> density=ground_glass

Two F1 in the manner of RadGraph F1 (Jain et al., NeurIPS 2021; Delbrouck et al., Findings of EMNLP 2022), over sets of
items:

    partial    every finding with its status and whether it points to anything; every region; every attribute
    complete   every relation whole (finding, status, relation, target); findings that point to nothing; every region;
               every attribute

taken for each report and averaged over reports, as there; a report without any item on one side scores 0, a pair
without any item at all is left out. The graph comes from our parser instead of a network trained on X-ray reports, so
these values do not compare with published RadGraph F1.

And the relations alone, pooled over reports: precision, recall and F1 of `located_at` and `modified_by` triples, each
with the finding's status. "No effusion on the left" is a relation too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe.evaluation.entities import hits, rate_row, rates, said_regions
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, ratio

RELATIONS = ("located_at", "modified_by")

# (finding kind, status, relation, target)
Triple = tuple[str, str, str, str]
Item = tuple[str, ...]


def triples(record: Record) -> frozenset[Triple]:
    """All relations of a report."""
    found: list[Triple] = []
    for f in record.findings:
        found += [(f.kind, f.status, "located_at", region) for region in said_regions(f)]
        found += [(f.kind, f.status, "modified_by", f"{name}={value}") for name, value in f.attributes]
    return frozenset(found)


def items(record: Record) -> tuple[frozenset[Item], frozenset[Item], frozenset[Triple]]:
    """Items of the partial F1, items of the complete F1, and the relations."""
    relations = triples(record)
    pointing = {(kind, status) for kind, status, _, _ in relations}
    targets: set[Item] = {(relation, target) for _, _, relation, target in relations}
    said = {(f.kind, f.status) for f in record.findings}
    partial = targets | {(kind, status, "points" if (kind, status) in pointing else "") for kind, status in said}
    complete = targets | relations | {(kind, status) for kind, status in said - pointing}
    return frozenset(partial), frozenset(complete), relations


def f1(candidate: frozenset[Item], reference: frozenset[Item]) -> float:
    """F1 of two sets, NaN when both are empty."""
    total = len(candidate) + len(reference)
    return 2 * len(candidate & reference) / total if total else float("nan")


class Relations(Scorer):
    """Agreement of relations."""

    name = "relations"
    measures = (
        Measure("partial_f1", "F1 of findings, places and attributes, relations only by existence; mean of reports."),
        Measure("complete_f1", "F1 of whole relations, places and attributes; mean of reports."),
        *(
            Measure(f"{relation}_{rate}", f"{rate.capitalize()} of (finding, {relation}, ...) triples, pooled.")
            for relation in RELATIONS
            for rate in ("precision", "recall", "f1")
        ),
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: partial, complete, one (or none); then shared, offered and wanted triples of each relation."""
        return np.array([self._row(pair) for pair in pairs], dtype=np.float64).reshape(-1, 3 + 3 * len(RELATIONS))

    def _row(self, pair: Pair) -> list[float]:
        ours, theirs = items(pair.candidate), items(pair.reference)
        whole = bool(ours[0] or theirs[0])
        row: list[float] = [f1(ours[0], theirs[0]), f1(ours[1], theirs[1]), 1.0] if whole else [0.0, 0.0, 0.0]
        for relation in RELATIONS:
            row += hits(*(frozenset(t for t in side[2] if t[2] == relation) for side in (ours, theirs)))
        return row

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Means of reports and pooled rates."""
        found = {
            "partial_f1": ratio(totals[..., 0], totals[..., 2]),
            "complete_f1": ratio(totals[..., 1], totals[..., 2]),
        }
        for i, relation in enumerate(RELATIONS):
            counts = totals[..., 3 + 3 * i : 6 + 3 * i]
            for rate, value in zip(("precision", "recall", "f1"), rates(counts), strict=True):
                found[f"{relation}_{rate}"] = value
        return found

    def explain(self, pair: Pair) -> dict[str, Any]:
        """Relations invented and missed, spelt "finding (status) relation target"."""
        ours, theirs = triples(pair.candidate), triples(pair.reference)
        return {
            "invented": [_spelt(triple) for triple in sorted(ours - theirs)],
            "missed": [_spelt(triple) for triple in sorted(theirs - ours)],
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per relation: counts and rates."""
        return [rate_row(name, totals[3 + 3 * i : 6 + 3 * i]) for i, name in enumerate(RELATIONS)]


def _spelt(triple: Triple) -> str:
    kind, status, relation, target = triple
    return f"{kind} ({status}) {relation} {target}"
