"""CT-RATE's 18 labels for a whole file of reports: CSV or JSON lines in, the same out with 18 columns of 0 and 1.

Rows are streamed, so a file of any size needs little memory; with several processes, texts are labelled in parallel and
written in the order they came.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ctscribe import ontology
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.report.parse import ct_rate_labels

FORMATS = (".csv", ".jsonl")

# Rows labelled at a time by one process, and such batches waiting for each process.
_BATCH = 256
_WAITING = 3

Row = dict[str, Any]
Tick = Callable[[int], None]


@dataclass
class LabelCount:
    """What was labelled.

    Attributes:
        rows: reports read.
        without_text: rows whose text is empty; all their labels are 0.
        positive: label -> reports it is positive in.
    """

    rows: int = 0
    without_text: int = 0
    positive: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ontology.ct_rate_labels(), 0))


def label_file(
    source: Path,
    out: Path,
    *,
    text_column: str = "report_text",
    keep: Sequence[str] | None = None,
    processes: int = 1,
    tick: Tick = lambda done: None,
) -> LabelCount:
    """Label every report of a file.

    Args:
        source: .csv with a header, or .jsonl with one object a line; UTF-8.
        out: .csv or .jsonl to write; appears whole or not at all.
        text_column: column, or key, that holds the report.
        keep: columns to carry over; None carries all but the text and columns named like a label.
        processes: how many to label with.
        tick: told the bytes of `source` read so far.

    Raises:
        UsageError: another file ending, no process, or a column to keep that is not there.
        UnreadableInput: not there, empty, not UTF-8, no such column, or rows that do not fit the header.
    """
    for path in (source, out):
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path}: file type", expected=" or ".join(FORMATS), got=path.suffix or "no ending")
    if processes < 1:
        raise UsageError("--processes", expected="at least 1", got=str(processes))
    count = LabelCount()
    with _opened(source) as (file, position):
        rows = _csv_rows(source, file, text_column) if source.suffix.lower() == ".csv" else _json_rows(source, file)
        checked = _checked(source, rows, text_column, keep)
        labelled = _labelled(checked, text_column, processes)
        _write(out, _counted(labelled, text_column, keep, count, lambda: tick(position())))
    return count


# --------------------------------------------------------------------------------------------- reading


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.TextIOWrapper, Callable[[], int]]]:
    """The file as text, and how many of its bytes were read."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise UnreadableInput(f"{path}: cannot be read", code="not_found", got=error.strerror) from error
    with raw:
        if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise UnreadableInput(f"{path}: encoding", code="wrong_encoding", expected="UTF-8", got="UTF-16")
        raw.seek(0)
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            yield text, raw.tell


@contextmanager
def _decoding(path: Path, line: Callable[[], int]) -> Iterator[None]:
    """Say where a file stops being UTF-8 or CSV."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UnreadableInput(
            f"{path}, after line {line()}: encoding",
            code="wrong_encoding",
            expected="UTF-8",
            got=f"byte 0x{error.object[error.start]:02x}",
            hint="convert it, for example: iconv -f gb18030 -t utf-8 (or -f cp1252)",
        ) from error
    except csv.Error as error:
        raise UnreadableInput(f"{path}, line {line()}", code="not_csv", expected="CSV", got=str(error)) from error


def _csv_rows(path: Path, file: io.TextIOWrapper, text_column: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(file)
    with _decoding(path, lambda: reader.line_num):
        header = next(reader, None)
        if not header:
            raise UnreadableInput(f"{path}: empty", code="empty_file", expected="a header and rows", got="nothing")
        if text_column not in header:
            raise _no_column(f"{path}: header", text_column, header)
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise UnreadableInput(
                f"{path}: header",
                code="bad_header",
                expected="every column once",
                got=f"repeated: {', '.join(repeated)}",
            )
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise UnreadableInput(
                    f"{path}, line {reader.line_num}",
                    code="bad_row",
                    expected=f"{len(header)} fields as in the header",
                    got=f"{len(row)}",
                    hint="quote fields that hold commas or line breaks",
                )
            yield reader.line_num, dict(zip(header, row, strict=True))


def _json_rows(path: Path, file: io.TextIOWrapper) -> Iterator[tuple[int, Row]]:
    number = 0
    with _decoding(path, lambda: number):
        for line in file:
            number += 1
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UnreadableInput(
                    where,
                    code="not_jsonl",
                    expected="one JSON object a line",
                    got=f"{error.msg} at column {error.colno}",
                ) from error
            if not isinstance(row, dict):
                raise UnreadableInput(where, code="not_jsonl", expected="a JSON object", got=type(row).__name__)
            yield number, row


def _checked(
    path: Path, rows: Iterable[tuple[int, Row]], text_column: str, keep: Sequence[str] | None
) -> Iterator[Row]:
    """Rows that hold a text and the columns to keep; at least one."""
    empty = True
    for number, row in rows:
        for column in (text_column, *(keep or ())):
            if column not in row:
                raise _no_column(f"{path}, line {number}", column, list(row))
        if row[text_column] is not None and not isinstance(row[text_column], str):
            got = type(row[text_column]).__name__
            raise UnreadableInput(f"{path}, line {number}: {text_column}", code="bad_row", expected="a text", got=got)
        empty = False
        yield row
    if empty:
        raise UnreadableInput(f"{path}: no reports", code="empty_file", expected="at least one row", got="none")


def _no_column(where: str, column: str, there: Sequence[str]) -> UnreadableInput:
    return UnreadableInput(
        f"{where}: no column {column!r}",
        code="missing_column",
        expected="the column that holds the report (--text-column) and those to keep (--id-column)",
        got=", ".join(there)[:200],
    )


# --------------------------------------------------------------------------------------------- labelling


def label_texts(texts: Sequence[str]) -> list[tuple[bool, ...]]:
    """The 18 labels of each text, in CT-RATE's column order."""
    return [tuple(ct_rate_labels(text).values()) for text in texts]


def _labelled(rows: Iterator[Row], text_column: str, processes: int) -> Iterator[tuple[Row, tuple[bool, ...]]]:
    def texts(batch: list[Row]) -> list[str]:
        return [row[text_column] or "" for row in batch]

    batches = iter(lambda: list(islice(rows, _BATCH)), [])
    if processes == 1:
        for batch in batches:
            yield from zip(batch, label_texts(texts(batch)), strict=True)
        return
    waiting: deque[tuple[list[Row], Future[list[tuple[bool, ...]]]]] = deque()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(label_texts, texts(batch))))
            if len(waiting) >= _WAITING * processes:
                done, result = waiting.popleft()
                yield from zip(done, result.result(), strict=True)
        for done, result in waiting:
            yield from zip(done, result.result(), strict=True)


def _counted(
    labelled: Iterable[tuple[Row, tuple[bool, ...]]],
    text_column: str,
    keep: Sequence[str] | None,
    count: LabelCount,
    tick: Callable[[], None],
) -> Iterator[Row]:
    """Output rows; counts them on the way."""
    names = tuple(ontology.ct_rate_labels())
    dropped = {text_column, *names}
    for row, labels in labelled:
        count.rows += 1
        count.without_text += not (row[text_column] or "").strip()
        for name, positive in zip(names, labels, strict=True):
            count.positive[name] += positive
        kept = {k: row[k] for k in keep} if keep is not None else {k: v for k, v in row.items() if k not in dropped}
        yield kept | {name: int(positive) for name, positive in zip(names, labels, strict=True)}
        tick()


# --------------------------------------------------------------------------------------------- writing


def _write(out: Path, rows: Iterator[Row]) -> None:
    """Write under a temporary name, then rename."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            _write_rows(file, rows, out.suffix.lower())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_rows(file: io.TextIOWrapper, rows: Iterator[Row], ending: str) -> None:
    if ending == ".jsonl":
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    first = next(rows)
    writer = csv.DictWriter(file, list(first), extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerow(_flat(first))
    for row in rows:
        writer.writerow(_flat(row))


def _flat(row: Mapping[str, Any]) -> Row:
    """Nested values as JSON, so that a CSV cell holds them."""
    return {k: json.dumps(v, ensure_ascii=False) if isinstance(v, (dict, list)) else v for k, v in row.items()}
