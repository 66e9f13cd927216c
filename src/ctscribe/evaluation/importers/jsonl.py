"""One JSON object a line: the form everything else is turned into. A JSON array of such objects is read too."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from ctscribe.errors import InputRefused, UnreadableInput
from ctscribe.evaluation.importers.text import Imported, Role


def read(path: Path, content: str, role: Role) -> Imported:
    """Rows as they stand.

    Raises:
        UnreadableInput: a line is not a JSON object.
    """
    if content.lstrip().startswith("[") and "\n" in content.strip() and path.suffix.lower() == ".json":
        return _array(path, content)
    return Imported([(n, _object(path, n, line)) for n, line in enumerate(content.split("\n"), 1) if line.strip()])


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UnreadableInput(
            where, code="not_jsonl", expected="one JSON object a line", got=f"{error.msg} at column {error.colno}"
        ) from error
    except RecursionError as error:
        raise UnreadableInput(where, code="not_jsonl", expected="one JSON object a line", got="deep nesting") from error
    if not isinstance(row, dict):
        raise UnreadableInput(where, code="not_jsonl", expected="a JSON object", got=type(row).__name__)
    return row


def _array(path: Path, content: str) -> Imported:
    rows = parsed_json(path, content)
    wrong = [n for n, row in enumerate(rows, 1) if not isinstance(row, dict)]
    if wrong:
        raise UnreadableInput(
            f"{path}, entry {wrong[0]}",
            code="not_jsonl",
            expected="a JSON object",
            got=type(rows[wrong[0] - 1]).__name__,
        )
    return Imported(list(enumerate(rows, 1)), (f"{path.name}: entries of a JSON array, numbered as lines.",))


def parsed_json(path: Path, content: str) -> Any:
    """A whole JSON file.

    Raises:
        UnreadableInput: it is not JSON; names line and column.
        InputRefused: a name that an object has twice, of which JSON would keep the last.
    """
    try:
        return json.loads(content, object_pairs_hook=partial(_once, path))
    except json.JSONDecodeError as error:
        raise UnreadableInput(
            f"{path}, line {error.lineno}",
            code="not_json",
            expected="a JSON file",
            got=f"{error.msg} at column {error.colno}",
        ) from error
    except RecursionError as error:
        raise UnreadableInput(f"{path}", code="not_json", expected="a JSON file", got="deep nesting") from error


def _once(path: Path, entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        repeats = [repr(name) for name, count in Counter(name for name, _ in entries).items() if count > 1]
        raise InputRefused(
            f"{path}: duplicate ids", code="duplicate_ids", expected="every name once", got=", ".join(repeats)[:200]
        )
    return found
