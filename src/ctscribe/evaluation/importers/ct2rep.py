"""CT2Rep: after each epoch it writes ``<epoch>res.csv`` and ``<epoch>gts.csv``, one report a row.

No header and no id, both files in the order of the loader: the row number is the id, so the files must have the same
number of rows. R2Gen's descendants that save ``res.csv`` and ``gts.csv`` through pandas write the same.
"""

from __future__ import annotations

from pathlib import Path

from ctscribe.errors import UnreadableInput
from ctscribe.evaluation.importers.text import Imported, Role, Rows, csv_rows

# First rows that are a name rather than a report.
_HEADERS = [[name] for name in ("report", "reports", "text", "prediction", "pred", "reference", "ground truth", "0")]


def read(path: Path, content: str, role: Role) -> Imported:
    """One row per report, ids ``row-1``, ``row-2``, ...

    Raises:
        UnreadableInput: a row has more than one cell.
    """
    rows: Rows = []
    lines = list(csv_rows(path, content))
    if lines and [cell.strip().lower() for cell in lines[0][1]] in _HEADERS:
        del lines[0]
    for number, (line, cells) in enumerate(lines, 1):
        if len(cells) != 1:
            raise UnreadableInput(
                f"{path}, line {line}",
                code="not_ct2rep",
                expected="one report a row and nothing else",
                got=f"{len(cells)} cells",
                hint="reports that hold commas must be quoted; a table with a header is --format csv",
            )
        rows.append((line, {"id": f"row-{number}", "text": cells[0]}))
    return Imported(rows, (f"{path.name}: no ids in the file, reports are paired by their order.",))
