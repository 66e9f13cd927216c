"""What became of a finding since an earlier scan: matched by kind and place, measured by diameter or volume.

```
earlier findings ─┐
                  ├─ pairs (same kind, places that touch, nearest size first) ── Change of each
findings now ─────┘
```

The limits are in ``growth.yaml``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.impression.context import Change, Context, Details
from ctscribe.impression.measure import half_up, mean_mm
from ctscribe.report import Finding

DAYS_PER_YEAR = 365.25
DAYS_PER_MONTH = DAYS_PER_YEAR / 12


@dataclass(frozen=True)
class Pair:
    """A finding now and the same one at the earlier scan.

    Attributes:
        now: index among the findings now.
        before: index among the earlier findings.
        larger_by_mm: mean diameter now minus before, in tenths of a mm; None where one was not measured.
        volume_ratio: volume now over volume before; None where one was not measured.
        doubling_days: days in which the volume would double at this pace; None where it is not known or not growing.
        change: None where sizes or, for a large difference, the days between the scans are not known.
    """

    now: int
    before: int
    larger_by_mm: float | None
    volume_ratio: float | None
    doubling_days: float | None
    change: Change | None


def pairs(findings: Sequence[Finding], context: Context) -> tuple[Pair, ...]:
    """Each finding now with the earlier one it continues; each earlier one is used once.

    Only what is stated as present or possible, in both scans, is paired.
    """
    prior = context.prior
    if prior is None:
        return ()
    candidates = [
        (_distance(now, before), i, j)
        for i, now in enumerate(findings)
        for j, before in enumerate(prior.findings)
        if now.kind == before.kind and "absent" not in (now.status, before.status) and touch(now, before)
    ]
    taken: dict[int, int] = {}
    for _, i, j in sorted(candidates):
        if i not in taken and j not in taken.values():
            taken[i] = j
    earlier = {d.finding: d for d in prior.details}
    return tuple(
        _pair(i, j, findings[i], prior.findings[j], context.details_of(i), earlier.get(j, Details(j)), prior.days)
        for i, j in sorted(taken.items())
    )


def _pair(i: int, j: int, now: Finding, before: Finding, facts: Details, earlier: Details, days: int | None) -> Pair:
    sizes = mean_mm(now, 0.1), mean_mm(before, 0.1)
    difference = None if sizes[0] is None or sizes[1] is None else half_up(sizes[0] - sizes[1], 0.1)
    ratio = facts.volume_mm3 / earlier.volume_mm3 if facts.volume_mm3 and earlier.volume_mm3 else None
    doubling = days * math.log(2) / math.log(ratio) if ratio is not None and ratio > 1 and days else None
    change = change_of(difference, ratio, days, limits(now.kind))
    return Pair(i, j, difference, ratio, doubling, change)


def limits(kind: str) -> Mapping[str, float]:
    """What counts as growth of a kind of finding (``growth.yaml``)."""
    return _limits().get(kind, _limits()["any"])


def change_of(
    difference_mm: float | None, ratio: float | None, days: int | None, limit: Mapping[str, float]
) -> Change | None:
    """What two measurements amount to.

    Args:
        difference_mm: mean diameter now minus before.
        ratio: volume now over volume before; decides only where there is no diameter.
        days: between the scans.
        limit: ``more_than_mm`` within ``months``, and ``percent`` for volumes.

    Returns:
        ``"growing"``, ``"slowly_growing"`` (the limit is passed, but not within any such time), ``"stable"``,
        ``"smaller"``, or None where it cannot be said.
    """
    most = limit["more_than_mm"]
    if difference_mm is None:
        if ratio is None:
            return None
        share = limit["percent"] / 100
        return "growing" if ratio >= 1 + share else "smaller" if ratio <= 1 - share else "stable"
    if difference_mm < -most:
        return "smaller"
    if difference_mm <= most:
        return "stable"
    if days is None:
        return None
    span = limit["months"] * DAYS_PER_MONTH
    return "growing" if difference_mm * span / max(days, span) > most else "slowly_growing"


def _distance(now: Finding, before: Finding) -> tuple[float, float]:
    """How badly two findings fit: shared places first, then the difference in size."""
    a, b = mean_mm(now, 0.1), mean_mm(before, 0.1)
    shared = len(set(now.regions) & set(before.regions))
    return -float(shared), abs(a - b) if a is not None and b is not None else math.inf


def touch(a: Finding, b: Finding) -> bool:
    """Whether two findings can be at the same place; an unnamed place can be any."""
    if not a.regions or not b.regions:
        return True
    return any(x in ontology.ancestors(y) or y in ontology.ancestors(x) for x in a.regions for y in b.regions)


@cache
def _limits() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "growth.yaml").read_text(encoding="utf-8"))
