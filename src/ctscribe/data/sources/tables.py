"""Reading the CSV tables of published data sets: columns are checked by name, whatever their order and capitals."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctscribe.errors import UsageError


def read_table(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows of a UTF-8 CSV file as dictionaries with lower-case keys, cells stripped.

    Args:
        path: the table.
        needed: columns that must be there (any capitals).

    Raises:
        UsageError: no such file, a column is missing, or it is no UTF-8 CSV.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    if not path.is_file():
        raise UsageError(f"table {path.name}", expected=f"a file in {path.parent.name}/", got="nothing there")
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        try:
            there = [name.strip().lower() for name in reader.fieldnames or ()]
            missing = [name for name in needed if name.lower() not in there]
            if missing:
                raise UsageError(
                    f"table {path.name}: no column {missing[0]!r}",
                    expected=", ".join(needed),
                    got=", ".join(reader.fieldnames or ()) or "an empty file",
                )
            for row in reader:
                yield {(key or "").strip().lower(): (value or "").strip() for key, value in _cells(row)}
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"table {path.name}", expected="a UTF-8 CSV file", got=str(error)) from error


def _cells(row: dict[str, str]) -> list[tuple[str, str]]:
    """Cells that have a column; a row that is too long has lost a quote mark, but its named cells are still right."""
    return [(key, value) for key, value in row.items() if isinstance(key, str)]


def first_existing(root: Path, *candidates: str) -> Path | None:
    """The first of several places (relative to `root`) that exists, None when none does."""
    return next((root / name for name in candidates if (root / name).exists()), None)


def number(text: str) -> float | None:
    """A cell as a number; None when it is empty or says that it does not apply (``.N``, ``NA``)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None  # NaN is no number
