"""CSV forms with the same items as the pages, for readers who prefer a spreadsheet.

    answers form     study, reader, number, item, case | four scales | error counts | comment, seconds | texts
    findings form    study, reader, number, item, case | one column for each finding of the checklist

Answers come back in the same columns; text columns may be left out. Files are UTF-8 with a byte order mark, which is
what spreadsheets need to show Chinese, and no cell can be taken for a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctscribe.evaluation.reader_study.questions import checklist, error_columns, scales

WHERE = ("study", "reader", "number", "item", "case")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def answer_columns() -> tuple[str, ...]:
    """Columns of an answers file."""
    return (*WHERE, *scales(), *error_columns(), "comment", "seconds")


def finding_columns() -> tuple[str, ...]:
    """Columns of a findings file."""
    return (*WHERE, *checklist(), "comment", "seconds")


def form(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A CSV file; columns that a row lacks stay empty."""
    return csv_text(columns, rows, "\r\n").encode("utf-8-sig")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], end: str = "\n") -> str:
    """A table as CSV whose cells no spreadsheet runs."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(columns), lineterminator=end)
    table.writeheader()
    table.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet does not run: a leading = + - @ is set in quotation."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
