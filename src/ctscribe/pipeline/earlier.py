"""The earlier scan on its way to the model: how long ago it was made, who says so, and what is wrong with that."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctscribe.errors import UsageError
from ctscribe.report import QualityNote

if TYPE_CHECKING:
    from ctscribe.beside import StudyBeside
    from ctscribe.data import Study
    from ctscribe.data.interval import Interval
    from ctscribe.pipeline.evidence import Placed

CONTRADICTS_DAYS = 1.5
"""Days by which a given interval may differ from that of the headers; studies that last over midnight do by one."""


def days_since(study: Study, prior: Study, given: float | None, scan: Path, earlier: Path) -> Interval:
    """Days between two scans: as given, else by their headers.

    Args:
        scan, earlier: their paths, for the error.

    Raises:
        UsageError: by their headers the earlier scan is the later one, and nobody said otherwise.
    """
    from ctscribe.data.interval import interval

    found = interval(study.dates, prior.dates, given)
    if found.days is not None and found.days < 0:
        raise UsageError(
            f"the earlier scan {earlier} was made later than {scan}",
            expected="an earlier scan",
            got=f"one made {-found.days:g} days later, by the {found.origin} dates in both headers",
            hint="exchange the two paths, or give the days between them (--prior-days) if the headers are wrong",
        )
    return found


def notes(found: Interval) -> list[QualityNote]:
    """Where the interval comes from, and whatever speaks against it."""
    from ctscribe.pipeline.framing import note

    told = []
    if found.why == "other_patient":
        told.append(note("prior_other_patient"))
    if found.days is None:
        told.append(note(f"interval_{found.why}"))
    elif found.origin == "given":
        told.append(note("interval_given", value=f"{found.days:g}"))
        if found.by_headers is not None and abs(found.by_headers - found.days) > CONTRADICTS_DAYS:
            told.append(note("interval_contradicts", value=f"{found.by_headers:g}"))
    else:
        told.append(note("interval_by_headers", value=f"{found.days:g}"))
    return told


def with_prior(known: StudyBeside, placed: Placed, days: float | None) -> StudyBeside:
    """An earlier scan, on the model's grid, joins what else is known."""
    import torch

    from ctscribe.model import on_grid

    volume, regions = on_grid(placed.volume, placed.occupancy, placed.present)
    return replace(
        known,
        prior=volume,
        prior_regions=regions,
        prior_given=torch.ones(1, dtype=torch.bool),
        days=torch.tensor([math.nan if days is None else float(days)]),
    )
