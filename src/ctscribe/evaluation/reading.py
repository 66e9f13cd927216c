"""Files -> records: rows are checked, and one clear error says whatever is wrong with them.

    {"id": "s1", "text": "...", "language": "en"}
    {"id": "s2", "findings_text": "...", "impression": "...", "language": "zh", "patient": "p7", "findings": [...]}

`findings` holds structured findings in the JSON form of `ctscribe.report.Finding`; without them the text is parsed.
`probabilities`, `boxes` and the fields of the strata are read by `extras`. Other forms are turned into such rows by
`importers`. Every file is checked whole before anything is scored, so an error names all lines that share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctscribe.errors import InputRefused, UnreadableInput
from ctscribe.evaluation import extras
from ctscribe.evaluation.importers import Form, Role, imported
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


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row that is not parsed yet.

    Attributes:
        line: line (or entry) of the file.
        id: names the study.
        language: stated, or told from the script.
        data: the row as it was read.
    """

    line: int
    id: str
    language: Language
    data: Mapping[str, Any]


@dataclass(frozen=True)
class RowSet:
    """Checked rows of one file: ids unique, every text in one known language."""

    path: Path
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def read_reports(
    path: Path,
    *,
    language: Language | None = None,
    findings_from: FindingsFrom = "given",
    role: Role = "references",
    form: Form = "auto",
) -> ReportSet:
    """Read a file of reports.

    Args:
        language: keep only reports in this language; None keeps all.
        findings_from: ``"given"`` uses structured findings where a row has them and parses the text elsewhere;
            ``"text"`` parses every text.
        role: which side is wanted of a file that holds both.
        form: form of the file, see `importers`.

    Raises:
        UnreadableInput: not there, not UTF-8, not of that form, or findings of the wrong shape.
        InputRefused: missing or duplicate ids, empty texts, a text in another language than stated, or in two.
    """
    found = read_rows(path, language=language, role=role, form=form)
    records = tuple(record_of(path, row, findings_from) for row in found.rows)
    parsed = sum(record.parsed for record in records)
    return ReportSet(records, (*found.notes, parsing_note(path.name, parsed, len(records))))


def read_rows(
    path: Path, *, language: Language | None = None, role: Role = "references", form: Form = "auto"
) -> RowSet:
    """Read and check a file without parsing a report.

    Raises:
        UnreadableInput, InputRefused: see `read_reports`.
    """
    source = imported(path, role, form)
    rows = source.rows
    _refuse_lines(path, "missing_ids", "an id in every line", [n for n, row in rows if _id(row) == ""])
    texts = [_text(path, n, row) for n, row in rows]
    empty = [n for (n, _), text in zip(rows, texts, strict=True) if not text.strip()]
    _refuse_lines(path, "empty_texts", "a text in every line", empty)
    broken = [n for (n, _), text in zip(rows, texts, strict=True) if _MOJIBAKE.search(text)]
    _refuse_lines(path, "wrong_encoding", "text saved as UTF-8", broken, "save the file as UTF-8 from its original")

    spoken = [_language(path, n, row, text) for (n, row), text in zip(rows, texts, strict=True)]
    kept = [
        Row(n, _id(row), said, row) for (n, row), said in zip(rows, spoken, strict=True) if language in (None, said)
    ]
    _refuse_duplicates(path, [(row.line, row.id) for row in kept])
    if not kept:
        raise InputRefused(f"{path}: no reports", code="no_reports", expected="at least one report", got="none")
    notes = [*source.notes]
    if guessed := sum(row.get("language") is None for _, row in rows):
        notes.append(f"{path.name}: {guessed} reports do not state a language; it was told from the script.")
    if len(kept) < len(rows):
        notes.append(f"{path.name}: {len(rows) - len(kept)} reports in another language were left out.")
    return RowSet(path, tuple(kept), tuple(notes))


def record_of(path: Path, row: Row, source: FindingsFrom, role: Role | None = None) -> Record:
    """The record of a checked row; its text is parsed here unless it gives findings.

    Args:
        role: which side the row belongs to; detectors' boxes must have scores, the references' need none.

    Raises:
        UnreadableInput: findings, probabilities or boxes of the wrong shape.
        InputRefused: values that cannot be (a probability that is no number of 0..1).
    """
    where = f"{path}, line {row.line}"
    text = _text(path, row.line, row.data)
    patient = _name(row.data.get("patient")) or None
    given = row.data.get("findings") if source == "given" else None
    if given is None:
        findings = findings_of(text, row.language)
    elif isinstance(given, list):
        findings = tuple(from_plain(Finding, item, f"{where}: findings[{i}]") for i, item in enumerate(given))
    else:
        raise UnreadableInput(f"{where}: findings", code="bad_findings", expected="a list", got=type(given).__name__)
    return Record(
        row.id,
        text,
        row.language,
        findings,
        patient,
        parsed=given is None,
        probabilities=extras.probabilities(row.data, where),
        boxes=extras.boxes(row.data, where, scored=role == "predictions"),
        metadata=extras.metadata(row.data, where),
    )


def findings_of(text: str, language: Language) -> tuple[Finding, ...]:
    """Read structured findings out of a text."""
    from ctscribe.report.parse import parse

    return tuple(parse(text, language))


def parsing_note(name: str, parsed: int, total: int) -> str:
    """How the findings of a file came to be."""
    how = f"{parsed} parsed from text, {total - parsed} given as structured findings"
    return f"{name}: findings of {total} reports: {how}."


# --------------------------------------------------------------------------------------------- rows


def _id(row: Mapping[str, Any]) -> str:
    """The id as text, "" when there is none; a number is as good as its digits."""
    return _name(row.get("id"))


def _name(value: Any) -> str:
    """A name as text, "" for what is none: nothing, blanks, NaN, a list."""
    if value is None or isinstance(value, (bool, dict, list)) or value != value:
        return ""
    return str(value).strip()


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


def _language(path: Path, number: int, row: Mapping[str, Any], text: str) -> Language:
    """The stated language, checked against the script; the script's own when none is stated."""
    where, stated = f"{path}, line {number}: language", row.get("language")
    if stated is not None and stated not in LANGUAGES:
        raise InputRefused(where, code="unknown_language", expected=" | ".join(LANGUAGES), got=repr(stated)[:40])
    han = 0 if text.isascii() else len(_HAN.findall(text))
    share = han / (han + len(_LATIN.findall(text))) if han else 0.0
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


# --------------------------------------------------------------------------------------------- refusals


def listed(items: Sequence[Any]) -> str:
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
