"""Files of reports, opened but not yet parsed: a study draws a few cases from files that may hold thousands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ctscribe.evaluation.importers import Role
from ctscribe.evaluation.reading import Row, read_rows, record_of
from ctscribe.evaluation.record import Record
from ctscribe.ontology import Language

Source = Path | str | Sequence[Record]


@runtime_checkable
class Reports(Protocol):
    """Reports by case."""

    notes: tuple[str, ...]

    def languages(self) -> Mapping[str, Language]:
        """Case -> language, in the order of the source."""

    def record(self, case: str) -> Record:
        """The report of one case."""


class _File:
    def __init__(self, path: Path, language: Language | None, role: Role) -> None:
        found = read_rows(path, language=language, role=role)
        self.path, self.notes = path, found.notes
        self.rows: dict[str, Row] = {row.id: row for row in found.rows}

    def languages(self) -> Mapping[str, Language]:
        return {case: row.language for case, row in self.rows.items()}

    def record(self, case: str) -> Record:
        return record_of(self.path, self.rows[case], "given")


class _Given:
    def __init__(self, records: Sequence[Record], language: Language | None) -> None:
        self.notes: tuple[str, ...] = ()
        self.records = {record.id: record for record in records if language in (None, record.language)}

    def languages(self) -> Mapping[str, Language]:
        return {case: record.language for case, record in self.records.items()}

    def record(self, case: str) -> Record:
        return self.records[case]


def opened(source: Source, language: Language | None, role: Role) -> Reports:
    """A source of reports, checked.

    Raises:
        UnreadableInput, InputRefused: see `reading`.
    """
    if isinstance(source, (str, Path)):
        return _File(Path(source), language, role)
    return _Given(source, language)
