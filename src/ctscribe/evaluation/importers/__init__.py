"""Whatever a system wrote -> rows of this project's own form, one file per form.

    jsonl    one JSON object a line, see `reading`
    csv      a table with a header: an id column, a text column, and any of the optional ones
    ct2rep   CT2Rep: one report a row, no header and no id; the row number pairs the two files
    r2gen    R2Gen and its descendants: {id: [report]}, or the annotation file {"train": [...], "test": [...]}
    m3d      M3D-LaMed: one CSV with the columns "Question", "Ground Truth" and "pred"

The form is told from the content; `form` overrides it. Validation is the same for all of them and happens in `reading`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ctscribe.errors import UnreadableInput
from ctscribe.evaluation.importers import ct2rep, jsonl, m3d, r2gen, table
from ctscribe.evaluation.importers.text import Imported, Role, decoded

Form = Literal["auto", "jsonl", "csv", "ct2rep", "r2gen", "m3d"]
FORMS: tuple[Form, ...] = ("auto", "jsonl", "csv", "ct2rep", "r2gen", "m3d")

_READERS: Mapping[str, Callable[[Path, str, Role], Imported]] = {
    "jsonl": jsonl.read,
    "csv": table.read,
    "ct2rep": ct2rep.read,
    "r2gen": r2gen.read,
    "m3d": m3d.read,
}

__all__ = ["FORMS", "Form", "Imported", "Role", "detected", "imported"]


def imported(path: Path, role: Role, form: Form = "auto") -> Imported:
    """Read a file of reports in any of the forms.

    Args:
        role: a file may hold both sides; this says which is wanted.
        form: ``"auto"`` tells it from the content.

    Raises:
        UnreadableInput: not there, not UTF-8, or not of that form.
    """
    content = decoded(path)
    chosen = detected(path, content) if form == "auto" else form
    found = _READERS[chosen](path, content, role)
    if chosen == "jsonl":
        return found
    return Imported(found.rows, (f"{path.name}: read as {chosen}.", *found.notes))


def detected(path: Path, content: str) -> str:
    """The form of a file, from its first characters.

    Raises:
        UnreadableInput: it looks like none of them.
    """
    start = content.lstrip()[:1]
    if start in ("", "[", "{", "'", '"') and path.suffix.lower() in (".jsonl", ".ndjson", ""):
        return "jsonl"
    if start == "{":
        return "jsonl" if _is_row(content) else "r2gen"
    if start == "[":
        return "jsonl"
    header = _header(content)
    if m3d.fits(header):
        return "m3d"
    if table.fits(header):
        return "csv"
    if path.suffix.lower() in (".csv", ".txt"):
        if len(header) == 1:
            return "ct2rep"
        raise UnreadableInput(
            f"{path}: columns",
            code="unknown_columns",
            expected=f"an id column ({', '.join(table.ID[:4])}) and a text column ({', '.join(table.TEXT[:4])})",
            got=", ".join(header)[:200],
            hint="rename the columns, or say which form it is with --format",
        )
    return "jsonl"  # whose reader says what is wrong with the first line


def _is_row(content: str) -> bool:
    """Is the first line an object of its own, with the keys of a row? A JSON file of {id: report} is not."""
    line = content.lstrip().split("\n", 1)[0]
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return not r2gen.fits(content)
    return isinstance(row, dict) and bool({"id", "text", "findings_text", "impression"} & row.keys())


def _header(content: str) -> list[str]:
    first: list[Any] = next(csv.reader(io.StringIO(content[:100_000])), [])
    return [str(cell).strip() for cell in first]
