"""The manifest: one row per study, in CSV or JSON Lines.

```
study     name of the study, unique                                                   required
patient   whatever tells patients apart; decides the split, is never written anywhere  required
image     DICOM folder, zip or NIfTI, relative to the manifest                         required
findings  the findings text            impression  the impression text
language  en or zh (default en)        structured  structured findings, as JSON
prior     study name of an earlier scan of the same patient
regions   label map of the regions     lesions     label map of outlined lesions
split     train, validation or test
date, prior_days, history, lab:NAME, labs           see `ctscribe.data.known`
```

Rows are named by their line number in every message: study names and patients are identifiers.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ctscribe.data.known import (
    KNOWN_COLUMNS,
    LAB,
    Labs,
    circles,
    days_between,
    is_lab,
    read_date,
    read_days,
    read_labs_of,
)
from ctscribe.errors import CTScribeError, UsageError
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding
from ctscribe.report.codec import from_plain

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
REQUIRED = ("study", "patient", "image")
COLUMNS = (
    *REQUIRED,
    "findings",
    "impression",
    "language",
    "structured",
    "prior",
    "regions",
    "lesions",
    "split",
    *KNOWN_COLUMNS,
)
PLAIN = ("structured", "labs")
"""Columns that hold more than a text."""
SHOWN = 8
"""Problems named in one message; the rest are counted."""


@dataclass(frozen=True)
class ManifestRow:
    """One study.

    Attributes:
        line: 1-based line of the file it stands on.
        image, regions, lesions: absolute paths.
        structured: None when the manifest has no structured findings for it.
        prior: the `study` of an earlier scan; `prior_days` lie between them, None where not known.
        history: the clinical history; `labs` are known laboratory values.
        date: of the scan, used only to compare scans of one patient.
    """

    line: int
    study: str
    patient: str
    image: Path
    findings: str = ""
    impression: str = ""
    language: str = "en"
    structured: tuple[Finding, ...] | None = None
    prior: str | None = None
    regions: Path | None = None
    lesions: Path | None = None
    split: Split | None = None
    history: str = ""
    labs: Labs = ()
    date: datetime.date | None = None
    prior_days: float | None = None


@dataclass(frozen=True)
class Manifest:
    """All rows, in the order of the file."""

    path: Path
    rows: tuple[ManifestRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    def only(self, split: str) -> Manifest:
        """Rows of one split."""
        return replace(self, rows=tuple(row for row in self.rows if row.split == split))


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a manifest; `lines` name the rows."""

    lines: tuple[int, ...]
    message: str

    def __str__(self) -> str:
        return f"line {' and '.join(map(str, self.lines))}: {self.message}"


def read_manifest(path: Path | str, *, check_files: bool = True) -> Manifest:
    """Read and check a manifest; every problem is found before any is reported.

    Args:
        path: a ``.csv`` or ``.jsonl`` file, UTF-8.
        check_files: also refuse rows whose image or label map is not there.

    Raises:
        UsageError: names the file, and line and column of what is wrong.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Iterable[tuple[int, Mapping[str, Any]]]]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
    }
    if path.suffix.lower() not in readers:
        raise UsageError(f"manifest {path}", expected="a .csv or .jsonl file", got=path.suffix or "no suffix")
    if not path.is_file():
        raise UsageError(f"manifest {path}", expected="a file", got="nothing there")
    rows: list[ManifestRow] = []
    problems: list[Problem] = []
    for line, values in readers[path.suffix.lower()](path):
        try:
            row = _row(line, values, path.parent)
        except CTScribeError as error:
            problems.append(Problem((line,), _one_line(error)))
            continue
        rows.append(row)
        if check_files:
            problems += _missing_files(row)
    problems += _relations(rows)
    dated, disordered = _dated(rows)
    _refuse(path, problems + disordered)
    if not rows:
        raise UsageError(f"manifest {path}", expected="at least one study", got="none")
    return Manifest(path, dated)


def assign_splits(
    manifest: Manifest, fractions: Mapping[str, float] | None = None, *, salt: str = "ctscribe"
) -> Manifest:
    """Give every row without a split one, by patient.

    A patient's split is a function of (salt, patient) alone: it stays when studies are added, removed or
    reordered, and all studies of a patient share it. A split written in the manifest is kept, and holds for
    the patient's other studies too.

    Args:
        manifest: rows to split.
        fractions: share of patients per split, by default 0.8 / 0.1 / 0.1.
        salt: another word gives another split.
    """
    shares = dict(fractions or {"train": 0.8, "validation": 0.1, "test": 0.1})
    unknown = sorted(set(shares) - set(SPLITS))
    if unknown or abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise UsageError(
            "fractions of the splits", expected=f"shares of {', '.join(SPLITS)} adding up to 1", got=str(shares)
        )
    written = {row.patient: row.split for row in manifest if row.split}
    return replace(
        manifest,
        rows=tuple(
            replace(row, split=row.split or written.get(row.patient) or draw_split(row.patient, shares, salt))
            for row in manifest
        ),
    )


def check_leakage(manifest: Manifest, *, hash_images: bool = True, name_studies: bool = False) -> tuple[Problem, ...]:
    """Refuse a manifest in which train and test share a patient or an image.

    Args:
        manifest: with splits.
        hash_images: compare the content of the images too (reads every file once).
        name_studies: put study names into the message, not only line numbers.

    Returns:
        Harmless repetitions: the same image more than once within one split.

    Raises:
        UsageError: a patient or an identical image lies in two splits, or a row has no split.
    """
    bare = [row.line for row in manifest if row.split is None]
    if bare:
        raise UsageError(
            f"manifest {manifest.path}: {len(bare)} rows have no split, the first on line {bare[0]}",
            hint="call assign_splits first",
        )
    repeats: list[Problem] = []
    problems, _ = _shared(manifest.rows, lambda row: row.patient, "the same patient")
    if hash_images:
        crossing, repeats = _shared(manifest.rows, lambda row: image_digest(row.image), "the same image")
        problems += crossing
    if name_studies:
        names = {row.line: row.study for row in manifest}
        problems = [replace(p, message=f"{p.message} ({', '.join(names[n] for n in p.lines)})") for p in problems]
    _refuse(manifest.path, problems, hint="put all studies of a patient into one split (assign_splits does)")
    return tuple(repeats)


def image_digest(path: Path) -> str:
    """SHA-256 of what an image holds: a ``.gz`` is unpacked, a folder is the sorted set of its files.

    So renamed, recompressed and differently sorted copies are recognised.
    """
    if path.is_dir():
        parts = sorted(image_digest(file) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def csv_table(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Columns of a CSV file in UTF-8, and its rows with the lines on which they start.

    Raises:
        UsageError: it is not UTF-8, or, when the rows are read, no CSV.
    """
    # Reports are long; the reader's default limit of 128 KiB a cell is too small for structured findings.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    return list(reader.fieldnames or ()), _csv_rows(path, reader)


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str]]]:
    start = reader.line_num + 1
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(
                    f"manifest {path}, line {start}",
                    expected=f"{len(reader.fieldnames or ())} cells",
                    got="more" if None in row else "fewer",
                    hint="put quotes around text with commas",
                )
            yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"manifest {path}, line {start}", expected="CSV", got=str(error)) from error


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    names, rows = csv_table(path)
    _check_columns(path, names)
    for line, row in rows:
        yield line, {key: value for key, value in row.items() if value.strip()}


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UsageError(f"manifest {path}, line {number}", expected="a JSON object", got=str(error)) from error
        if not isinstance(values, dict):
            raise UsageError(f"manifest {path}, line {number}", expected="a JSON object", got=type(values).__name__)
        _check_columns(path, tuple(values), required=(), line=number)
        yield number, {key: value for key, value in values.items() if value not in (None, "")}


def _text(path: Path) -> str:
    """The whole file; a byte order mark is dropped."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(
            f"manifest {path}, line {line}",
            expected="UTF-8",
            got=f"byte 0x{content[error.start]:02x}",
            hint="save it again as UTF-8 (spreadsheets call it 'CSV UTF-8')",
        ) from error


def _check_columns(
    path: Path, names: Sequence[str], required: Sequence[str] = REQUIRED, line: int | None = None
) -> None:
    where = f"manifest {path}" + (f", line {line}" if line else "")
    unknown = [name for name in names if name not in COLUMNS and not is_lab(name)]
    missing = [name for name in required if name not in names]
    if unknown or missing:
        raise UsageError(
            f"{where}: " + (f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}"),
            expected=", ".join((*COLUMNS, f"{LAB}NAME")),
            got=", ".join(names) or "an empty file",
        )


def _row(line: int, values: Mapping[str, Any], folder: Path) -> ManifestRow:
    for name in REQUIRED:
        if name not in values:
            raise UsageError(f"column {name!r} is empty")
    for name, value in values.items():
        number = name == "prior_days" and isinstance(value, float)
        if name not in PLAIN and not is_lab(name) and not number and not isinstance(value, str | int):
            raise UsageError(f"column {name!r}", expected="text", got=type(value).__name__)
    text = {name: str(value).strip() for name, value in values.items() if name not in PLAIN}
    _one_of("language", text.get("language", "en"), LANGUAGES)
    if "split" in text:
        _one_of("split", text["split"], SPLITS)
    return ManifestRow(
        line=line,
        study=text["study"],
        patient=text["patient"],
        image=(folder / text["image"]).absolute(),
        findings=text.get("findings", ""),
        impression=text.get("impression", ""),
        language=text.get("language", "en"),
        structured=_structured(values.get("structured")),
        prior=text.get("prior"),
        regions=(folder / text["regions"]).absolute() if "regions" in text else None,
        lesions=(folder / text["lesions"]).absolute() if "lesions" in text else None,
        split=text.get("split"),  # type: ignore[arg-type]
        history=text.get("history", ""),
        labs=read_labs_of(values),
        date=read_date(text.get("date")),
        prior_days=read_days(text.get("prior_days")),
    )


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"column {name!r}", expected=" or ".join(allowed), got=value)


def _structured(value: Any) -> tuple[Finding, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UsageError("column 'structured'", expected="JSON", got=str(error)) from error
    return from_plain(tuple[Finding, ...], value, "column 'structured'")


def _missing_files(row: ManifestRow) -> list[Problem]:
    paths = {"image": row.image, "regions": row.regions, "lesions": row.lesions}
    return [
        Problem((row.line,), f"column {name!r} names a path that does not exist")
        for name, path in paths.items()
        if path is not None and not path.exists()
    ]


def _relations(rows: Sequence[ManifestRow]) -> list[Problem]:
    """Study names are unique; a prior is another study of the same patient."""
    problems, by_study = [], dict[str, ManifestRow]()
    for row in rows:
        first = by_study.setdefault(row.study, row)
        if first is not row:
            problems.append(Problem((first.line, row.line), "the same study name"))
    for row in rows:
        if row.prior is None:
            continue
        prior = by_study.get(row.prior)
        if prior is None or prior is row:
            problems.append(Problem((row.line,), "column 'prior' names no other study of this manifest"))
        elif prior.patient != row.patient:
            problems.append(Problem((row.line, prior.line), "the prior study is of another patient"))
    return problems


def _dated(rows: Sequence[ManifestRow]) -> tuple[tuple[ManifestRow, ...], list[Problem]]:
    """Rows with the days since their priors, and every prior that is not an earlier scan."""
    by_study = {row.study: row for row in rows}
    dated, problems = [], []
    for row in rows:
        prior = by_study.get(row.prior) if row.prior is not None else None
        try:
            if row.prior is None and row.prior_days is not None:
                raise UsageError("column 'prior_days'", expected="column 'prior' to go with it", got="an empty one")
            before = None if prior is None else prior.date
            dated.append(replace(row, prior_days=days_between(before, row.date, row.prior_days)))
        except UsageError as error:
            problems.append(Problem((row.line,) if prior is None else (row.line, prior.line), _one_line(error)))
    if round_ := list(circles({row.study: row.prior for row in rows if row.prior is not None})):
        lines = tuple(by_study[study].line for study in round_)
        problems.append(Problem(lines, "column 'prior' goes round in a circle: a prior is an earlier scan"))
    return tuple(dated), problems


def draw_split(patient: str, shares: Mapping[str, float], salt: str = "ctscribe") -> Split:
    """The split of a patient: a function of (salt, patient) alone."""
    digest = hashlib.sha256(f"{salt}\x1f{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    names: list[Split] = [name for name in SPLITS if shares.get(name, 0) > 0]
    for name in names:
        place -= shares[name]
        if place < 0:
            return name
    return names[-1]


def _shared(
    rows: Sequence[ManifestRow], key: Callable[[ManifestRow], str], what: str
) -> tuple[list[Problem], list[Problem]]:
    """(pairs across splits, repetitions within a split) of rows with equal keys."""
    groups: dict[str, list[ManifestRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    crossing, repeats = [], []
    for group in groups.values():
        others = [row for row in group if row.split != group[0].split]
        if others:
            lines = group[0].line, others[0].line
            crossing.append(Problem(lines, f"{what} in {group[0].split} and in {others[0].split}"))
        elif len(group) > 1:
            repeats.append(Problem(tuple(row.line for row in group), f"{what} in {group[0].split}"))
    return crossing, repeats


def _refuse(path: Path, problems: Sequence[Problem], hint: str | None = None) -> None:
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
    rest = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    raise UsageError(f"manifest {path} has {len(problems)} problem(s):\n{shown}{rest}", hint=hint)


def _one_line(error: CTScribeError) -> str:
    parts = [error.what]
    if error.expected:
        parts.append(f"expected {error.expected}")
    if error.got:
        parts.append(f"got {error.got}")
    return ", ".join(parts)
