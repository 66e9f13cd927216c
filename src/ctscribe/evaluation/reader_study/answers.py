"""Answers that came back, checked against the key: one clear error for whatever is wrong with them.

Read are the CSV and JSON files of one folder (or files given one by one). All files are read before anything is
refused, so an error names every place that shares it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ctscribe.errors import InputRefused, UnreadableInput, UsageError
from ctscribe.evaluation.reader_study import key as keys
from ctscribe.evaluation.reader_study.key import Item, Key, Scan
from ctscribe.evaluation.reader_study.questions import (
    CANNOT_JUDGE,
    MARKS,
    MOST_ERRORS,
    SCORES,
    checklist,
    error_columns,
    scales,
)
from ctscribe.evaluation.reading import listed

FORMAT = "ctscribe-reader-study-answers"

_LISTED = 5
_NUMBER = re.compile(r"(\d+)(?:[.,]0*)?")  # a spreadsheet may write 4 as 4.0 or 4,0
_MOJIBAKE = re.compile("\ufffd|[ÃÂ][\x80-\xbf]|â€|ï¼|ã€|锟斤拷")


@dataclass(frozen=True)
class Reading:
    """What one reader said of one text.

    Attributes:
        item: which reading it is.
        scores: scale -> 1 to 5; a scale that could not be judged has no entry.
        errors: error column -> count; all columns are there.
        comment: free text.
        seconds: time spent, None where it was not measured.
    """

    item: Item
    scores: Mapping[str, int]
    errors: Mapping[str, int]
    comment: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class ScanReading:
    """What one reader saw in one scan.

    Attributes:
        scan: which scan it is.
        marks: finding id -> present, absent or unsure.
    """

    scan: Scan
    marks: Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """All answers of a study.

    Attributes:
        readings: of texts, in the order of the key.
        scans: of scans, in the order of the key.
        notes: what is missing or was passed over.
    """

    readings: tuple[Reading, ...]
    scans: tuple[ScanReading, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    """One answered row of a file, and where it stands."""

    file: str
    line: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"{self.file} line {self.line}"

    def cell(self, name: str) -> str:
        return self.cells.get(name, "").strip()


@dataclass
class _Found:
    """Problems of one kind, collected over all files."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, code: str, place: str) -> None:
        self.places.setdefault(code, []).append(place)


def read_answers(paths: Sequence[Path], key: Key, *, partial: bool = False) -> Answers:
    """Read and check answers.

    Args:
        paths: files, or folders whose .csv and .json files are read.
        partial: allow items without an answer.

    Raises:
        UsageError: no file given.
        UnreadableInput: a file that cannot be read, or whose encoding was damaged.
        InputRefused: rows that are not of this study, unknown or repeated items, another reader's items, values out of
            range, items without an answer (unless `partial`).
    """
    rows, notes = _all_rows(paths, key)
    known: dict[str, Item | Scan] = {item.code: item for item in key.items}
    known.update({scan.code: scan for scan in key.scans})
    if not rows:
        raise InputRefused("no answers", code="no_answers", expected="answered items", got="blank forms only")
    _check_rows(rows, key, known)
    by_code = {row.cell("item"): row for row in rows}
    answered = [(entry, by_code[code]) for code, entry in known.items() if code in by_code]
    problems = _Found()
    readings = [_reading(entry, row, problems) for entry, row in answered if isinstance(entry, Item)]
    scans = [_scan(entry, row, problems) for entry, row in answered if isinstance(entry, Scan)]
    _refuse(problems)
    notes += _completeness(key, known, by_code, problems, partial)
    return Answers(tuple(readings), tuple(scans), tuple(notes))


# ------------------------------------------------------------------------------------------ files
def _all_rows(paths: Sequence[Path], key: Key) -> tuple[list[_Row], list[str]]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in (".csv", ".json") and p.is_file())
        else:
            files.append(path)
    if not paths:
        raise UsageError("no answers given", expected="a folder or files with answers")
    rows: list[_Row] = []
    notes: list[str] = []
    for path in files:
        found = _rows(path, key)
        if found is None:
            notes.append(f"{path.name}: the key lies among the answers; it was not read as answers.")
            continue
        filled = [row for row in found if _is_answered(row)]
        if not filled:
            notes.append(f"{path.name}: a blank form; nothing was read from it.")
        rows += filled
    if not files:
        raise InputRefused(
            f"{paths[0]}: no answers", code="no_answers", expected="CSV or JSON files that readers saved", got="none"
        )
    return rows, notes


def _rows(path: Path, key: Key) -> list[_Row] | None:
    """All rows of a file; None for a key."""
    text = _text(path)
    if path.suffix.lower() == ".json":
        return _json_rows(path, text, key)
    return _csv_rows(path, text)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"{path}: cannot be read", code="not_found", got=error.strerror) from error
    if raw.startswith(b"PK\x03\x04"):
        _wrong_encoding(path, "CSV text", "a spreadsheet workbook (xlsx)")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        _wrong_encoding(path, "UTF-8", "UTF-16")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _wrong_encoding(path, "UTF-8", f"byte 0x{raw[error.start]:02x} in line {line}")
    if broken := _MOJIBAKE.search(text):
        line = text.count("\n", 0, broken.start()) + 1
        _wrong_encoding(path, "UTF-8", f"text that was saved twice through another encoding, line {line}")
    return text


def _wrong_encoding(path: Path, expected: str, got: str) -> NoReturn:
    raise UnreadableInput(
        f"{path}: encoding",
        code="wrong_encoding",
        expected=expected,
        got=got,
        hint="in the spreadsheet choose `CSV UTF-8`, or use the files that the page saves",
    )


def _json_rows(path: Path, text: str, key: Key) -> list[_Row] | None:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        _not_answers(path, f"{error.msg} at line {error.lineno}")
    if isinstance(body, dict) and body.get("format") == keys.FORMAT:
        return None
    if not isinstance(body, dict) or body.get("format") != FORMAT or not isinstance(body.get("items"), list):
        _not_answers(path, "another JSON file")
    if body.get("instrument", key.instrument) != key.instrument:
        raise InputRefused(
            f"{path}: other questions",
            code="wrong_instrument",
            expected=f"answers to version {key.instrument} of the questions",
            got=f"version {body.get('instrument')}",
        )
    rows = []
    for number, entry in enumerate(body["items"], 1):
        if not isinstance(entry, dict):
            _not_answers(path, f"entry {number} is no object")
        rows.append(_Row(path.name, number, {name: "" if v is None else str(v) for name, v in entry.items()}))
    return rows


def _csv_rows(path: Path, text: str) -> list[_Row]:
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)  # spreadsheets write the separator of their own language
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [name.strip() for name in lines.fieldnames or ()]
        lines.fieldnames = columns
        rows = [
            _Row(path.name, lines.line_num, {name: value or "" for name, value in row.items() if isinstance(name, str)})
            for row in lines
        ]
    except csv.Error as error:
        _not_answers(path, str(error))
    texts, scans = {"item", *scales()}, {"item", *checklist()}
    if not (texts <= set(columns) or scans <= set(columns)):
        lacking = sorted((scans if scans & set(columns) > {"item"} else texts) - set(columns))
        _not_answers(path, f"no column {', '.join(lacking[:_LISTED])}")
    return rows


def _not_answers(path: Path, got: str) -> NoReturn:
    raise UnreadableInput(
        f"{path}: not answers",
        code="not_answers",
        expected="a file that a reading page saved, or a filled form with all its columns",
        got=got,
        hint="take files that are not answers out of the folder",
    )


def _is_answered(row: _Row) -> bool:
    return any(row.cell(name) for name in (*scales(), *error_columns(), *checklist(), "comment"))


# ------------------------------------------------------------------------------------------ checks
def _check_rows(rows: Sequence[_Row], key: Key, known: Mapping[str, Item | Scan]) -> None:
    """Is every row of this study, of a known item, of the reader it was given to, and there once?"""
    found = _Found()
    first: dict[str, _Row] = {}
    for row in rows:
        code, study, reader = row.cell("item"), row.cell("study"), row.cell("reader")
        if study and study != key.study:
            found.add("wrong_study", f"{row.place} ({study})")
        elif code not in known:
            found.add("unknown_items", f"{row.place} ({code or 'empty'})")
        elif reader and reader != known[code].reader:
            found.add("wrong_reader", f"{row.place} ({code} of {known[code].reader} from {reader})")
        elif code in first:
            found.add("duplicate_items", f"{code} in {first[code].place} and {row.place}")
        else:
            first[code] = row
    _refuse(found, study=key.study)


_REFUSALS: Mapping[str, tuple[str, str, str | None]] = {
    "wrong_study": ("answers of another study", "answers to study {study}", "check the key and the folder"),
    "unknown_items": ("items that are not in the key", "items of this study", "was the item column edited or sorted?"),
    "wrong_reader": (
        "items of another reader",
        "each reader's own items",
        "two readers may have used one page: ask them, then correct the reader column",
    ),
    "duplicate_items": ("items answered twice", "one answer for each item", "keep one file of each reader"),
    "out_of_range": ("values out of range", "1 to 5 or na; error counts 0 to {most}; present, absent or unsure", None),
}


def _refuse(found: _Found, study: str = "") -> None:
    for code, places in found.places.items():
        if code in _REFUSALS:
            what, expected, hint = _REFUSALS[code]
            raise InputRefused(
                what, code=code, expected=expected.format(study=study, most=MOST_ERRORS), got=listed(places), hint=hint
            )


def _whole(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else None


def _reading(item: Item, row: _Row, problems: _Found) -> Reading:
    scores: dict[str, int] = {}
    for name in scales():
        text = row.cell(name)
        value = _whole(text)
        if text == "":
            problems.add("missing", f"{item.code} ({name})")
        elif value in SCORES and value is not None:
            scores[name] = value
        elif text.lower() not in (CANNOT_JUDGE, "n/a"):
            problems.add("out_of_range", f"{row.place}: {name} {text[:20]!r}")
    counts: dict[str, int] = {}
    for name in error_columns():
        text = row.cell(name)
        value = _whole(text or "0")
        if value is None or value > MOST_ERRORS:
            problems.add("out_of_range", f"{row.place}: {name} {text[:20]!r}")
        else:
            counts[name] = value
    seconds = _whole(row.cell("seconds"))
    comment = row.cell("comment").removeprefix("'")
    return Reading(item, scores, counts, comment, None if seconds is None else float(seconds))


def _scan(scan: Scan, row: _Row, problems: _Found) -> ScanReading:
    marks: dict[str, str] = {}
    for name in checklist():
        text = row.cell(name).lower()
        if text in MARKS:
            marks[name] = text
        elif text:
            problems.add("out_of_range", f"{row.place}: {name} {text[:20]!r}")
        else:
            problems.add("missing", f"{scan.code} ({name})")
    return ScanReading(scan, marks)


def _completeness(
    key: Key, known: Mapping[str, Item | Scan], answered: Container[str], problems: _Found, partial: bool
) -> list[str]:
    """Refuse what is missing, or note it."""
    unread = [code for code in known if code not in answered]
    holes = problems.places.get("missing", [])
    if not unread and not holes:
        return []
    counts = Counter(known[code].reader for code in unread)
    what = [f"{counts[reader]} items of {reader}" for reader in key.readers if counts[reader]]
    what += [f"single questions: {listed(holes)}"] if holes else []
    if not partial:
        raise InputRefused(
            "answers are missing",
            code="missing_answers",
            expected="every question answered (na where it cannot be judged)",
            got="; ".join(what),
            hint="ask the readers for the rest, or allow it with --partial",
        )
    return [f"Not answered, left out: {'; '.join(what)}."]
