"""What a manifest knows beside the scans: dates and days between them, the history, laboratory values.

```
date        when the scan was made, YYYY-MM-DD; may be shifted, only differences within a patient are used
prior_days  days from the prior to this scan, where there are no dates
history     clinical history, any text
lab:NAME    one column for each laboratory value, in the unit of ontology/labs.yaml; or labs, a JSON object of them
```
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ctscribe.errors import UsageError

KNOWN_COLUMNS = ("date", "prior_days", "history", "labs")
LAB = "lab:"
Labs = tuple[tuple[str, float], ...]


def is_lab(column: str) -> bool:
    """Whether a column holds values of one laboratory test."""
    return column.startswith(LAB)


def read_labs_of(values: Mapping[str, Any]) -> Labs:
    """Laboratory values of one row.

    Raises:
        UsageError: an unknown name, the same value twice, or something that is not a number above 0.
    """
    cells = {name: value for name, value in values.items() if is_lab(name)}
    if not cells and "labs" not in values:
        return ()
    found: dict[str, float] = {}
    for column, table in (
        *_tables(values),
        *((name, {name.removeprefix(LAB): _number(c)}) for name, c in cells.items()),
    ):
        for name, value in _known(column, table):
            if name in found:
                raise UsageError(f"column {column!r}: {name} is given twice", hint="keep one column for each value")
            found[name] = value
    return tuple(sorted(found.items()))


def read_date(text: str | None) -> datetime.date | None:
    """A day as ``YYYY-MM-DD``."""
    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError("column 'date'", expected="a day as YYYY-MM-DD", got=text) from error


def read_days(text: str | None) -> float | None:
    """Days since the prior, above 0: a prior is earlier."""
    if text is None:
        return None
    days = _number(text)
    if not isinstance(days, float) or not math.isfinite(days) or days <= 0:
        raise UsageError("column 'prior_days'", expected="a number of days above 0", got=text)
    return days


def days_between(before: datetime.date | None, now: datetime.date | None, said: float | None) -> float | None:
    """Days from an earlier scan to this one; None where nobody knows.

    Raises:
        UsageError: the prior was not made on an earlier day, or days and dates contradict each other.
    """
    if before is None or now is None:
        return said
    days = (now - before).days
    if days <= 0:
        raise UsageError("column 'prior' names a study that was not made earlier", hint="compare the dates of both")
    if said is not None and abs(said - days) >= 1:
        raise UsageError("column 'prior_days'", expected=f"{days}, as the dates say", got=f"{said:g}")
    return float(days)


def circles(priors: Mapping[str, str]) -> Iterator[str]:
    """Studies that are their own prior's prior; each name of a circle once, in order. ``priors``: study -> prior."""
    for start in priors:
        seen, study = {start}, priors.get(start)
        while study is not None and study not in seen:
            seen.add(study)
            study = priors.get(study)
        if study == start:
            yield start


def _tables(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The JSON object in column ``labs``, if there is one."""
    table = values.get("labs")
    if table is None:
        return []
    if isinstance(table, str):
        try:
            table = json.loads(table)
        except ValueError as error:
            raise UsageError("column 'labs'", expected="a JSON object", got=str(error)) from error
    if not isinstance(table, dict):
        raise UsageError("column 'labs'", expected='a JSON object such as {"crp": 80}', got=type(table).__name__)
    return [("labs", table)]


def _known(column: str, table: Mapping[str, Any]) -> Labs:
    from ctscribe.beside import read_labs

    try:
        return read_labs(table)
    except UsageError as error:
        raise UsageError(f"column {column!r}: {error.what}", expected=error.expected, got=error.got) from error


def _number(cell: Any) -> Any:
    """A cell as a number where it is one; else as it was, to be named in the error."""
    if not isinstance(cell, str):
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell
