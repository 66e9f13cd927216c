"""M3D-LaMed: its caption benchmark writes one ``eval_caption.csv`` that holds both sides.

Columns: ``Question``, ``Ground Truth``, ``pred``, then the benchmark's own scores, which are ignored. The same file is
given as predictions and as references; the row number is the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctscribe.errors import UnreadableInput
from ctscribe.evaluation.importers.text import Imported, Role, Rows, csv_rows

COLUMNS = {"predictions": "pred", "references": "Ground Truth"}


def fits(header: Sequence[str]) -> bool:
    """Are these the columns of that benchmark?"""
    return set(COLUMNS.values()) <= set(header)


def read(path: Path, content: str, role: Role) -> Imported:
    """The wanted side of each row.

    Raises:
        UnreadableInput: the column is not there, or a row is too short.
    """
    lines = csv_rows(path, content)
    header = [cell.strip() for cell in next(lines, (1, []))[1]]
    if COLUMNS[role] not in header:
        raise UnreadableInput(
            f"{path}: columns", code="not_m3d", expected=f"a column {COLUMNS[role]!r}", got=", ".join(header)[:200]
        )
    column = header.index(COLUMNS[role])
    rows: Rows = []
    for number, (line, cells) in enumerate(lines, 1):
        if len(cells) <= column:
            raise UnreadableInput(
                f"{path}, line {line}", code="not_m3d", expected=f"{len(header)} cells", got=f"{len(cells)}"
            )
        rows.append((line, {"id": f"row-{number}", "text": cells[column]}))
    return Imported(rows, (f"{path.name}: column {COLUMNS[role]!r}; no ids, reports are paired by their order.",))
