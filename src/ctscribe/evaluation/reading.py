"""JSONL -> records: one JSON object a line, and one clear error for whatever is wrong with it.

    {"id": "s1", "text": "...", "language": "en"}
    {"id": "s2", "findings_text": "...", "impression": "...", "language": "zh", "patient": "p7", "findings": [...]}

`findings` holds structured findings in the JSON form of `ctscribe.report.Finding`; without them the text is parsed.
Every file is read whole before anything is scored, so an error names all lines that share it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctscribe.errors import InputRefused, UnreadableInput
from ctscribe.evaluation.record import Record
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding
from ctscribe.report.codec import from_plain

FindingsFrom = Literal["given", "text"]

# Offending lines that an error lists before it says how many more there are.
_LISTED = 5

# UTF-8 read as Latin-1 or Windows-1252 and saved again leaves these behind; U+FFFD is a character already lost.
_MOJIBAKE = re.compile("\ufffd|[ÃÂ][\x80-\xbf]|â€|ï¼|ã€|锟斤拷")

_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_ENGLISH_MOST_HAN = 0.05
_CHINESE_LEAST_HAN = 0.5


@dataclass(frozen=True)
class ReportSet:
    """Reports of one file.

    Attributes:
        records: in file order, ids unique.
        notes: what was assumed, for the scorecard.
    """

    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()


def read_reports(path: Path, *, language: Language | None = None, findings_from: FindingsFrom = "given") -> ReportSet:
    """Read a JSONL file of reports.

    Args:
        language: keep only reports in this language; None keeps all.
        findings_from: ``"given"`` uses structured findings where a row has them and parses the text elsewhere;
            ``"text"`` parses every text.

    Raises:
        UnreadableInput: not there, not UTF-8, not JSON objects line by line, or findings of the wrong shape.
        InputRefused: missing or duplicate ids, empty texts, a text in another language than stated, or in two.
    """
    rows = _rows(path)
    _refuse_lines(path, "missing_ids", "an id in every line", [n for n, row in rows if _id(row) == ""])
    _refuse_lines(
        path, "empty_texts", "a text in every line", [n for n, row in rows if not _text(path, n, row).strip()]
    )
    broken = [n for n, row in rows if _MOJIBAKE.search(_text(path, n, row))]
    _refuse_lines(path, "wrong_encoding", "text saved as UTF-8", broken, "save the file as UTF-8 from its original")

    spoken = [_language(path, n, row) for n, row in rows]
    kept = [(n, row, said) for (n, row), said in zip(rows, spoken, strict=True) if language in (None, said)]
    _refuse_duplicates(path, [(n, _id(row)) for n, row, _ in kept])
    if not kept:
        raise InputRefused(f"{path}: no reports", code="no_reports", expected="at least one report", got="none")
    records = tuple(_record(path, n, row, said, findings_from) for n, row, said in kept)
    return ReportSet(records, tuple(_notes(path, rows, records)))


def findings_of(text: str, language: Language) -> tuple[Finding, ...]:
    """Read structured findings out of a text."""
    from ctscribe.report.parse import parse

    return tuple(parse(text, language))


# --------------------------------------------------------------------------------------------- rows


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"{path}: cannot be read", code="not_found", got=error.strerror) from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableInput(f"{path}: encoding", code="wrong_encoding", expected="UTF-8", got="UTF-16")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableInput(
            f"{path}, line {line}: encoding",
            code="wrong_encoding",
            expected="UTF-8",
            got=f"byte 0x{raw[error.start]:02x}",
            hint="convert it, for example: iconv -f gb18030 -t utf-8 (or -f cp1252)",
        ) from error
    return [(n, _object(path, n, line)) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"{path}, line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UnreadableInput(
            where, code="not_jsonl", expected="one JSON object a line", got=f"{error.msg} at column {error.colno}"
        ) from error
    if not isinstance(row, dict):
        raise UnreadableInput(where, code="not_jsonl", expected="a JSON object", got=type(row).__name__)
    return row


def _id(row: Mapping[str, Any]) -> str:
    """The id as text, "" when there is none; a number is as good as its digits."""
    value = row.get("id")
    return "" if value is None or isinstance(value, (bool, dict, list)) else str(value).strip()


def _text(path: Path, number: int, row: Mapping[str, Any]) -> str:
    """`text`, or else findings text and impression together."""
    parts = [row["text"]] if row.get("text") is not None else [row.get("findings_text"), row.get("impression")]
    given = [part for part in parts if part is not None]
    for part in given:
        if not isinstance(part, str):
            raise UnreadableInput(
                f"{path}, line {number}: text", code="not_jsonl", expected="a string", got=type(part).__name__
            )
    return "\n".join(given)


def _language(path: Path, number: int, row: Mapping[str, Any]) -> Language:
    """The stated language, checked against the script; the script's own when none is stated."""
    where, stated, text = f"{path}, line {number}: language", row.get("language"), _text(path, number, row)
    if stated is not None and stated not in LANGUAGES:
        raise InputRefused(where, code="unknown_language", expected=" | ".join(LANGUAGES), got=repr(stated)[:40])
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    share = han / max(1, han + latin)
    written: Language | None = "en" if share <= _ENGLISH_MOST_HAN else "zh" if share >= _CHINESE_LEAST_HAN else None
    if written is None or (stated is not None and stated != written):
        raise InputRefused(
            where,
            code="mixed_languages",
            expected=f"a report in one language{f', {stated!r}' if stated else ''}",
            got=f"{share:.0%} of its letters are Chinese characters",
            hint='put each language in a row of its own, "language": "en" or "zh"',
        )
    return written


def _record(path: Path, number: int, row: Mapping[str, Any], language: Language, source: FindingsFrom) -> Record:
    text = _text(path, number, row)
    patient = None if row.get("patient") is None else str(row["patient"])
    given = row.get("findings") if source == "given" else None
    if given is None:
        return Record(_id(row), text, language, findings_of(text, language), patient, parsed=True)
    where = f"{path}, line {number}: findings"
    if not isinstance(given, list):
        raise UnreadableInput(where, code="bad_findings", expected="a list", got=type(given).__name__)
    findings = tuple(from_plain(Finding, item, f"{where}[{i}]") for i, item in enumerate(given))
    return Record(_id(row), text, language, findings, patient)


# --------------------------------------------------------------------------------------------- refusals


def listed(items: list[Any]) -> str:
    """The first few of them, and how many more."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(str(item) for item in items[:_LISTED]) + more


def _refuse_lines(path: Path, code: str, expected: str, lines: list[int], hint: str | None = None) -> None:
    if lines:
        raise InputRefused(
            f"{path}: {code.replace('_', ' ')}",
            code=code,
            expected=expected,
            got=f"line{'s' if len(lines) > 1 else ''} {listed(lines)}",
            hint=hint,
        )


def _refuse_duplicates(path: Path, ids: list[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    repeats = [f"{name!r} in lines {first[name]} and {n}" for n, name in ids if first.setdefault(name, n) != n]
    if repeats:
        raise InputRefused(
            f"{path}: duplicate ids",
            code="duplicate_ids",
            expected="every id once",
            got=listed(repeats),
            hint="keep one report for each study (and language)",
        )


def _notes(path: Path, rows: list[tuple[int, dict[str, Any]]], records: tuple[Record, ...]) -> list[str]:
    notes = []
    guessed = sum(row.get("language") is None for _, row in rows)
    if guessed:
        notes.append(f"{path.name}: {guessed} reports do not state a language; it was told from the script.")
    if len(records) < len(rows):
        notes.append(f"{path.name}: {len(rows) - len(records)} reports in another language were left out.")
    parsed = sum(record.parsed for record in records)
    how = f"{parsed} parsed from text, {len(records) - parsed} given as structured findings"
    notes.append(f"{path.name}: findings of {len(records)} reports: {how}.")
    return notes
