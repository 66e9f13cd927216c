"""Days between a scan and an earlier one: as given, or by the dates in both headers.

```
acquisition date in both and not the same day ─► their difference      dates shifted together keep it
else series date, else study date             ─► the same
no such pair                                  ─► not known             dates were removed, or the scan is no DICOM
another Patient ID                            ─► not known             the dates may have been shifted apart
```

Dates go no further than this: what is told, stored and cached is a number of days.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ctscribe.data.headers import Frame
from ctscribe.data.manifest import ManifestRow
from ctscribe.data.study import IngestLog, IngestPolicy, ScanDates, hashed
from ctscribe.errors import InputRefused, UsageError

Origin = Literal["given", "acquisition", "series", "study", "unknown"]
Why = Literal["", "no_dates", "same_day", "other_patient"]
KINDS: tuple[Literal["acquisition", "series", "study"], ...] = ("acquisition", "series", "study")


@dataclass(frozen=True)
class Interval:
    """How long before a scan an earlier one was made.

    Attributes:
        days: None where it is not known; below 0 where the headers say that it was made later.
        origin: who says so: people, or one of the three dates of DICOM.
        why: why the headers do not tell, "" where they do.
        by_headers: what they say, also where people have said something else.
    """

    days: float | None
    origin: Origin
    why: Why = ""
    by_headers: float | None = None


def interval(scan: ScanDates, prior: ScanDates, given: float | None = None) -> Interval:
    """What people say, else what the headers say.

    The same day in all dates counts as not known: it is what removed dates look like.
    """
    found = _by_headers(scan, prior)
    if given is None:
        return found
    return Interval(given, "given", found.why, found.days)


def _by_headers(scan: ScanDates, prior: ScanDates) -> Interval:
    if scan.patient and prior.patient and scan.patient != prior.patient:
        return Interval(None, "unknown", "other_patient")
    why: Why = "no_dates"
    for kind in KINDS:
        now, before = getattr(scan, kind), getattr(prior, kind)
        if now is None or before is None:
            continue
        if now != before:
            days = float((now - before).days)
            return Interval(days, kind, "", days)
        why = "same_day"
    return Interval(None, "unknown", why)


def scan_dates(path: Path, series: str | None = None, policy: IngestPolicy = IngestPolicy()) -> ScanDates:  # noqa: B008
    """Dates by the headers alone, of the series that `load_study` would read; none where that is no DICOM."""
    from ctscribe.data.dicom import choose_series
    from ctscribe.data.files import open_blobs

    try:
        with open_blobs(path) as blobs:
            others = [blob for blob in blobs if not blob.is_nifti]
            return dates_of(choose_series(others, series, policy, IngestLog()).frames) if others else ScanDates()
    except InputRefused:
        return ScanDates()


def dates_of(frames: Sequence[Frame]) -> ScanDates:
    """The first readable date of each kind."""
    first = frames[0]
    return ScanDates(
        acquisition=_first(frame.acquisition_date for frame in frames),
        series=_first(frame.series_date for frame in frames),
        study=_first(frame.study_date for frame in frames),
        patient=hashed(first.patient_id),
    )


def _first(texts: Iterable[str]) -> datetime.date | None:
    return next((day for text in texts if (day := _day(text)) is not None), None)


def _day(text: str) -> datetime.date | None:
    """A DICOM date (or the day of a date and time), also in the old form with points; None when it is no day."""
    found = re.match(r"(\d{4})(\.?)(\d\d)\2(\d\d)", text)
    try:
        return None if found is None else datetime.date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None


def with_days(rows: Sequence[ManifestRow]) -> tuple[ManifestRow, ...]:
    """Rows with the days since their priors by the headers, where the manifest does not say them.

    Raises:
        UsageError: a prior was made later than the scan it belongs to; names both lines.
    """
    by_study, seen = {row.study: row for row in rows}, dict[Path, ScanDates]()

    def dates(row: ManifestRow) -> ScanDates:
        if row.image not in seen:
            seen[row.image] = scan_dates(row.image)
        return seen[row.image]

    made = []
    for row in rows:
        prior = by_study.get(row.prior or "")
        if prior is None or row.prior_days is not None:
            made.append(row)
            continue
        found = interval(dates(row), dates(prior))
        if found.days is not None and found.days < 0:
            raise UsageError(
                f"line {row.line}: its prior (line {prior.line}) was made later, by the dates in their headers",
                expected="an earlier scan in column 'prior'",
                got=f"one made {-found.days:g} days later",
                hint="exchange the two, or give prior_days if the headers are wrong",
            )
        made.append(replace(row, prior_days=found.days))
    return tuple(made)
