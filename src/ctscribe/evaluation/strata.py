"""The same numbers for parts of the set: per scanner, slice thickness, sex, age, or another field of the references.

Fields come from the references (`extras.metadata`). Thickness and age are binned; a field with many values keeps the
largest and pools the others. A stratum is described, not tested: with a dozen of them some will look odd by luck, and
the interval of a small one is wide for a reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe.errors import InputRefused
from ctscribe.evaluation.extras import FIELDS
from ctscribe.evaluation.facts import Facts
from ctscribe.evaluation.intervals import all_estimates
from ctscribe.evaluation.scorer import Scorer

# Measures a stratum is described by, those of them that were computed.
HEADLINES = (
    "crg.crg",
    "labels18.macro_f1",
    "labels18.micro_f1",
    "faithfulness.hallucination",
    "faithfulness.omission",
    "funnel.complete",
    "nodules.f1",
    "bleu.bleu4",
    "rouge.rouge_l",
)

THICKNESS_MM = ((1.0, "up to 1 mm"), (2.0, "over 1 to 2 mm"), (3.0, "over 2 to 3 mm"), (5.0, "over 3 to 5 mm"))
AGES = ((40.0, "under 40"), (60.0, "40 to 59"), (80.0, "60 to 79"))
NOT_STATED = "not stated"

_MOST = 12
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def stratum(field: str, value: str | float) -> str:
    """The stratum a value belongs to.

    "045Y" of a DICOM header is an age; a thickness may be text with or without its unit.
    """
    if field == "sex":
        return {"f": "female", "m": "male"}.get(str(value).strip().lower()[:1], str(value))
    if field not in ("age", "thickness_mm"):
        return str(value)
    number = _NUMBER.search(str(value))
    if number is None:
        return NOT_STATED
    x = float(number.group())
    if field == "age":
        return next((name for limit, name in AGES if x < limit), "80 and over")
    return next((name for limit, name in THICKNESS_MM if x <= limit), "over 5 mm")


def grouped(facts: Facts, field: str) -> dict[str, np.ndarray]:
    """Stratum -> places of its pairs, largest first, those that do not state the field last."""
    names = [stratum(field, dict(own)[field]) if field in dict(own) else NOT_STATED for own in facts.metadata]
    sizes = Counter(name for name in names if name != NOT_STATED)
    kept = {name for name, _ in sizes.most_common(_MOST)}
    pooled = [name if name in kept or name == NOT_STATED else "others" for name in names]
    order = [*(name for name, _ in sizes.most_common(_MOST)), "others", NOT_STATED]
    places = {name: np.flatnonzero([own == name for own in pooled]) for name in order}
    return {name: own for name, own in places.items() if len(own)}


def fields_of(facts: Facts, wanted: Sequence[str] = ()) -> list[str]:
    """The fields to stratify by: those wanted, or else the usual ones that some reference states.

    Raises:
        InputRefused: a wanted field that no reference states.
    """
    stated = {key for own in facts.metadata for key, _ in own}
    if unknown := [name for name in wanted if name not in stated]:
        raise InputRefused(
            f"strata by {', '.join(unknown)}",
            code="unknown_field",
            expected="a field that references state",
            got=", ".join(sorted(stated)) or "references without any",
            hint='add it to the reference rows: "metadata": {"scanner": ..., "sex": ...}',
        )
    return list(wanted) or [name for name in FIELDS if name in stated]


def strata_rows(
    scorers: Sequence[Scorer],
    tallies: dict[str, np.ndarray],
    facts: Facts,
    fields: Sequence[str],
    *,
    resamples: int,
    level: float,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per stratum: reports, patients, and value, low and high of each headline measure."""
    known = {f"{scorer.name}.{measure.name}" for scorer in scorers for measure in scorer.measures}
    shown = [name for name in HEADLINES if name in known]
    used = [scorer for scorer in scorers if any(name.startswith(f"{scorer.name}.") for name in shown)]
    rows: list[dict[str, Any]] = []
    for field in fields:
        for name, places in grouped(facts, field).items():
            clusters = [facts.clusters[i] for i in places.tolist()]
            own = {scorer.name: tallies[scorer.name][places] for scorer in used}
            found = all_estimates(used, own, clusters, resamples=resamples, level=level, seed=seed)
            row: dict[str, Any] = {"field": field, "stratum": name, "reports": len(places)}
            row["patients"] = len(set(clusters))
            for measure in shown:
                scorer, short = measure.split(".")
                estimate = found[scorer][short]
                row |= {measure: estimate.value, f"{measure} low": estimate.low, f"{measure} high": estimate.high}
            rows.append(row)
    return rows
