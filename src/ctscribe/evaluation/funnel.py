"""The funnel: presence -> laterality -> lobe -> size.

For every finding the reference reports as present: does the candidate report the kind, on the correct side, in
the correct lobe, with the correct size? A stage is asked only of findings that passed the stages before it and
only when the reference states that detail, so each stage has its own denominator:

    stage        asked when                          passed when
    presence     always                              the candidate reports the kind, if only as possible
    laterality   the reference names a side          the same set of sides
    lobe         the reference names a lobe          the same set of lobes
    size         the reference gives a size          long axes differ by at most max(1 mm, 20 % of the
    reference's), see `matching`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe.evaluation.matching import best_matching, closeness, lobes, same_size, sides
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, defined, ratio
from ctscribe.report import Finding

STAGES = ("presence", "laterality", "lobe", "size")


def stages_passed(reference: Finding, candidate: Finding | None) -> tuple[tuple[str, bool], ...]:
    """The stages asked of one reference finding, in order, up to the first that fails."""
    if candidate is None:
        return (("presence", False),)
    checks: list[tuple[str, bool]] = [("presence", True)]
    if sides(reference):
        checks.append(("laterality", sides(reference) == sides(candidate)))
    if lobes(reference):
        checks.append(("lobe", lobes(reference) == lobes(candidate)))
    if reference.size_mm:
        checks.append(("size", same_size(reference, candidate)))
    first_failure = next((i for i, (_, passed) in enumerate(checks) if not passed), len(checks))
    return tuple(checks[: first_failure + 1])


def _closeness(reference: Finding, candidate: Finding) -> float:
    """How well two findings of one kind agree, in the funnel's order: side first, then lobe, then size."""
    same_side, same_lobe = sides(reference) == sides(candidate), lobes(reference) == lobes(candidate)
    return closeness(reference, candidate, first=same_side, second=same_lobe)


def matched(pair: Pair) -> list[tuple[Finding, Finding | None]]:
    """Each present finding of the reference with the candidate's finding that answers it.

    Findings of one kind are matched one to one for the best total agreement. Reference findings left over
    when the candidate reports fewer of that kind are not matched: two nodules and one nodule is one nodule
    missed.
    """
    wanted = [f for f in pair.reference.findings if f.status == "present"]
    offered = [f for f in pair.candidate.findings if f.status != "absent"]
    answers: dict[int, Finding] = {}
    for kind in {f.kind for f in wanted}:
        rows = [i for i, f in enumerate(wanted) if f.kind == kind]
        columns = [f for f in offered if f.kind == kind]
        for row, column, _ in best_matching([wanted[i] for i in rows], columns, _closeness):
            answers[rows[row]] = columns[column]
    return [(finding, answers.get(i)) for i, finding in enumerate(wanted)]


class Funnel(Scorer):
    """How far each true finding gets: presence, laterality, lobe, size."""

    name = "funnel"
    measures = (
        Measure("presence", "Share of true findings whose kind is reported."),
        Measure("laterality", "Of those with a stated side, share on that side."),
        Measure("lobe", "Of those on the correct side with a stated lobe, share in that lobe."),
        Measure("size", "Of those in the correct place with a stated size, share within max(1 mm, 20 %)."),
        Measure("complete", "Share of true findings correct at every stage the reference states."),
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: asked at each stage, passed at each stage, findings right throughout."""
        counts = np.zeros((len(pairs), 2 * len(STAGES) + 1))
        for row, pair in enumerate(pairs):
            for reference, candidate in matched(pair):
                checks = stages_passed(reference, candidate)
                for stage, passed in checks:
                    counts[row, STAGES.index(stage)] += 1
                    counts[row, len(STAGES) + STAGES.index(stage)] += passed
                counts[row, -1] += checks[-1][1]
        return counts

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Pass rate of each stage and the share right throughout; NaN where a stage was never asked."""
        k = len(STAGES)
        rates = {stage: ratio(totals[..., k + i], totals[..., i]) for i, stage in enumerate(STAGES)}
        return {**rates, "complete": ratio(totals[..., -1], totals[..., 0])}

    def explain(self, pair: Pair) -> dict[str, Any]:
        """For each true finding the stage it fell at, None when it is right throughout."""
        rows = []
        for reference, candidate in matched(pair):
            stage, passed = stages_passed(reference, candidate)[-1]
            rows.append({"kind": reference.kind, "fell_at": None if passed else stage})
        return {"findings": rows}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per stage: asked, passed, rate."""
        k = len(STAGES)
        return [
            {
                "stage": stage,
                "asked": int(totals[i]),
                "passed": int(totals[k + i]),
                "rate": defined(ratio(totals[k + i], totals[i])),
            }
            for i, stage in enumerate(STAGES)
        ]
