"""What the readers share: bytes to text, and the shape of what they return."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctscribe.errors import UnreadableInput

Role = Literal["predictions", "references"]
Rows = list[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Imported:
    """Rows of a file in this project's form.

    Attributes:
        rows: (line or row number in the file, row); see `reading` for the keys.
        notes: what was assumed, for the scorecard.
    """

    rows: Rows
    notes: tuple[str, ...] = ()


def decoded(path: Path) -> str:
    """The file as text.

    Raises:
        UnreadableInput: not there or not UTF-8; names the line and how to convert it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"{path}: cannot be read", code="not_found", got=error.strerror) from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in raw[:4096]:
        raise UnreadableInput(
            f"{path}: encoding",
            code="wrong_encoding",
            expected="UTF-8",
            got="UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "zero bytes, as in UTF-16 or a binary file",
            hint="convert it, for example: iconv -f utf-16 -t utf-8",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableInput(
            f"{path}, line {line}: encoding",
            code="wrong_encoding",
            expected="UTF-8",
            got=f"byte 0x{raw[error.start]:02x}",
            hint="convert it, for example: iconv -f gb18030 -t utf-8 (or -f cp1252)",
        ) from error


def csv_rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """(line number of its end, cells) of each CSV row that is not blank; a quoted report may span lines.

    Raises:
        UnreadableInput: quotes that do not match, or a cell of more than ten million characters.
    """
    csv.field_size_limit(min(sys.maxsize, 10_000_000))
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise UnreadableInput(
            f"{path}, line {reader.line_num}: CSV",
            code="not_csv",
            expected="comma-separated cells, reports in double quotes",
            got=str(error),
        ) from error
