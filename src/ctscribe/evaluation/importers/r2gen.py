"""R2Gen and its descendants, two files of JSON.

- results, ``{"study": ["report"], ...}`` or ``{"study": "report", ...}``: what the COCO caption tools take, and what
  R2GenGPT saves as ``test_result.json`` and ``test_refs.json``.
- annotations, ``{"train": [...], "val": [...], "test": [...]}`` with ``{"id": ..., "report": ...}`` in each list: the
  references. The test list is taken where there is one.

Results saved as ``res.csv`` and ``gts.csv`` are the CT2Rep form.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ctscribe.errors import UnreadableInput
from ctscribe.evaluation.importers.jsonl import parsed_json
from ctscribe.evaluation.importers.text import Imported, Role, Rows

SPLITS = ("test", "val", "validation", "train")
_RESULTS = re.compile(r'\s*\{\s*"[^"]*"\s*:\s*(?:\[|")')


def fits(content: str) -> bool:
    """Does it begin like an object of reports or of splits? Tells it from a broken line of JSONL."""
    first = _RESULTS.match(content[:10_000])
    return first is not None and not re.match(r'\s*\{\s*"(?:id|text|findings_text|impression|language)"', content)


def read(path: Path, content: str, role: Role) -> Imported:
    """Reports by id; entries are numbered in the order of the file.

    Raises:
        UnreadableInput: neither of the two files.
    """
    data = parsed_json(path, content)
    if not isinstance(data, dict) or not data:
        raise UnreadableInput(
            f"{path}",
            code="not_r2gen",
            expected="a JSON object of reports by id, or of splits",
            got=type(data).__name__,
        )
    split = next((name for name in SPLITS if isinstance(data.get(name), list)), None)
    if split is not None and all(isinstance(entry, dict) for entry in data[split]):
        rows: Rows = [(n, _annotated(path, n, entry)) for n, entry in enumerate(data[split], 1)]
        return Imported(rows, (f"{path.name}: the split {split!r} of an annotation file.",))
    return Imported([(n, _result(path, n, name, said)) for n, (name, said) in enumerate(data.items(), 1)])


def _annotated(path: Path, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    if "report" not in entry:
        raise UnreadableInput(
            f"{path}, entry {number}", code="not_r2gen", expected="the keys id and report", got=", ".join(entry)[:200]
        )
    patient = entry.get("subject_id")
    row = {"id": entry.get("id"), "text": entry["report"]}
    return row if patient is None else {**row, "patient": patient}


def _result(path: Path, number: int, name: str, said: Any) -> dict[str, Any]:
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, dict) and "caption" in said:
        said = said["caption"]
    if not isinstance(said, str):
        raise UnreadableInput(
            f"{path}, entry {number} ({name[:40]!r})",
            code="not_r2gen",
            expected="one report, as text or as a list of one text",
            got=f"a list of {len(said)}" if isinstance(said, list) else type(said).__name__,
        )
    return {"id": name, "text": said}
