"""A CSV table with a header: one row per study, columns found by their usual names.

Names are compared in lower case without spaces, hyphens and underscores; what CT-RATE calls its columns is known too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctscribe.errors import UnreadableInput
from ctscribe.evaluation.importers.text import Imported, Role, Rows, csv_rows

ID = ("id", "study", "study_id", "volumename", "volume", "accession", "image_id", "case_id", "case", "filename")
TEXT = ("text", "report", "report_text", "full_report", "caption")
SIDES: Mapping[Role, tuple[str, ...]] = {
    "predictions": ("prediction", "predicted", "pred", "generated", "generated_report", "candidate", "hypothesis"),
    "references": ("reference", "ground_truth", "gt", "target", "label_text"),
}
FINDINGS = ("findings_text", "findings", "findings_en")
IMPRESSION = ("impression", "impressions", "impressions_en", "impression_text")
OTHERS: Mapping[str, tuple[str, ...]] = {
    "language": ("language", "lang"),
    "patient": ("patient", "patient_id", "subject_id"),
    "scanner": ("scanner", "manufacturer", "manufacturermodelname"),
    "thickness_mm": ("thickness_mm", "slicethickness", "thickness"),
    "sex": ("sex", "patientsex", "gender"),
    "age": ("age", "patientage"),
}


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.lower())


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    places = {_plain(cell): i for i, cell in reversed(list(enumerate(header)))}
    return next((places[_plain(name)] for name in names if _plain(name) in places), None)


def fits(header: Sequence[str]) -> bool:
    """Is there an id column and one with text?"""
    texts = (*TEXT, *FINDINGS, *IMPRESSION, *SIDES["predictions"], *SIDES["references"])
    return _column(header, ID) is not None and _column(header, texts) is not None


def read(path: Path, content: str, role: Role) -> Imported:
    """One row per study; the column of the wanted side first, then a plain text column, then findings and impression.

    Raises:
        UnreadableInput: no id column, no text column, or a row of another length than the header.
    """
    lines = csv_rows(path, content)
    header = [cell.strip() for cell in next(lines, (1, []))[1]]
    ids = _column(header, ID)
    whole = _column(header, SIDES[role])
    whole = _column(header, TEXT) if whole is None else whole
    parts = {"findings_text": _column(header, FINDINGS), "impression": _column(header, IMPRESSION)}
    texts = {"text": whole} if whole is not None else {k: c for k, c in parts.items() if c is not None}
    if ids is None or not texts:
        missing = "an id column, one of " + ", ".join(ID) if ids is None else "a text column, one of " + ", ".join(TEXT)
        raise UnreadableInput(f"{path}: columns", code="unknown_columns", expected=missing, got=", ".join(header)[:200])
    others = {key: column for key, names in OTHERS.items() if (column := _column(header, names)) is not None}
    rows: Rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise UnreadableInput(
                f"{path}, line {line}", code="not_csv", expected=f"{len(header)} cells", got=f"{len(cells)}"
            )
        row: dict[str, Any] = {"id": cells[ids], **{key: cells[column] for key, column in texts.items()}}
        row.update({key: cells[column] for key, column in others.items() if cells[column].strip()})
        rows.append((line, row))
    used = ", ".join(header[column] for column in (ids, *texts.values()))
    return Imported(rows, (f"{path.name}: columns {used}.",))
