"""Hallucination and omission: what the candidate invents, and what it leaves out.

Counted in finding kinds as said, once per report:

- hallucinated: the candidate says present; the reference neither says it, nor implies it, nor leaves it open.
- contradicted: a hallucination that the reference denies in so many words.
- omitted: the reference says present; the candidate neither says it, nor implies it, nor leaves it open.

An uncertain statement on either side is given the benefit of the doubt, and counted as hedged. A kind that
another implies is satisfied by it (a reported consolidation answers for "lung opacity"), so one mistake is
counted once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ctscribe.evaluation.record import Pair, Record, closure
from ctscribe.evaluation.scorer import Measure, Scorer, counts_row, ratio
from ctscribe.report import Status


def hallucinated(pair: Pair) -> tuple[str, ...]:
    """Kinds the candidate says are present without support, sorted."""
    return tuple(sorted(pair.candidate.present - closure(pair.reference.possible)))


def omitted(pair: Pair) -> tuple[str, ...]:
    """Kinds the reference says are present and the candidate does not mention as possible, sorted."""
    return tuple(sorted(pair.reference.present - closure(pair.candidate.possible)))


def contradicted(pair: Pair) -> tuple[str, ...]:
    """Hallucinated kinds that the reference explicitly denies, sorted."""
    return tuple(kind for kind in hallucinated(pair) if pair.reference.statuses.get(kind) == "absent")


def hedged(pair: Pair) -> tuple[str, ...]:
    """Kinds present on one side and only uncertain on the other, sorted."""
    both = pair.candidate.possible & pair.reference.possible
    return tuple(sorted(k for k in both if pair.candidate.statuses[k] != pair.reference.statuses[k]))


def sentences_stating(record: Record, kinds: Collection[str], status: Status = "present") -> dict[str, str]:
    """Finding id -> the first sentence of the report that says so; kinds that no sentence speaks of are left out."""
    if not kinds:
        return {}
    stated: dict[str, str] = {}
    for statement in record.statements:
        for finding in statement.findings:
            if finding.kind in kinds and finding.status == status:
                stated.setdefault(finding.kind, statement.sentence)
    return stated


class Faithfulness(Scorer):
    """Rates of invented, contradicted and missing findings."""

    name = "faithfulness"
    measures = (
        Measure("hallucination", "Share of the candidate's present findings without support.", 1.0, 0.0),
        Measure("contradiction", "Share of the candidate's present findings that the reference denies.", 1.0, 0.0),
        Measure("omission", "Share of the reference's present findings the candidate leaves out.", 1.0, 0.0),
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: said by candidate, hallucinated, contradicted, said by reference, omitted, hedged."""
        rows = [
            (
                len(pair.candidate.present),
                len(hallucinated(pair)),
                len(contradicted(pair)),
                len(pair.reference.present),
                len(omitted(pair)),
                len(hedged(pair)),
            )
            for pair in pairs
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 6)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Rates; NaN when nothing was said on the side that is counted."""
        said, invented, denied, truth, missing, _ = np.moveaxis(totals, -1, 0)
        return {
            "hallucination": ratio(invented, said),
            "contradiction": ratio(denied, said),
            "omission": ratio(missing, truth),
        }

    def explain(self, pair: Pair) -> dict[str, Any]:
        """The offending kinds, with the sentences that state them where the parser finds them."""
        invented, missing, denied = hallucinated(pair), omitted(pair), contradicted(pair)
        return {
            "hallucinated": list(invented),
            "contradicted": list(denied),
            "omitted": list(missing),
            "hedged": list(hedged(pair)),
            "invented_sentences": sentences_stating(pair.candidate, invented),
            "missing_sentences": sentences_stating(pair.reference, missing),
            "denying_sentences": sentences_stating(pair.reference, denied, "absent"),
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """The counts behind the rates."""
        names = (
            "candidate_present",
            "hallucinated",
            "contradicted",
            "reference_present",
            "omitted",
            "hedged",
        )
        return counts_row(names, totals)
