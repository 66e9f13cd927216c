"""The key: which system wrote which text. Whoever reads must not see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctscribe.errors import UnreadableInput

FORMAT = "ctscribe-reader-study-key"
VERSION = 1
WARNING = "This file tells which system wrote which text. Keep it from the readers until all answers are in."


@dataclass(frozen=True)
class Item:
    """One text that one reader reads.

    Attributes:
        code: names the item in pages, forms and answers.
        reader: who reads it.
        position: place in the reader's order, from 1.
        case: id of the study.
        system: code of the system that wrote the text.
        repeat_of: code of the first reading, where this is the second one.
    """

    code: str
    reader: str
    position: int
    case: str
    system: str
    repeat_of: str | None = None


@dataclass(frozen=True)
class Scan:
    """One scan that one reader reads without a report, filling in the checklist.

    Attributes:
        code: names it in pages, forms and answers.
        reader: who reads it.
        position: place in the reader's order, from 1.
        case: id of the study.
    """

    code: str
    reader: str
    position: int
    case: str


@dataclass(frozen=True)
class Key:
    """Everything that turns answers into results.

    Attributes:
        study: code of the reading set; pages and answers carry it.
        instrument: version of the questions.
        design: crossed, split or once.
        seed: of the assignment.
        language: of the reports.
        software: version of ctscribe.
        systems: code -> name.
        reference: code under which the reference reports were read, None when they were not.
        clusters: case -> number of its patient (of itself, where patients are not known).
        readers: names of the readers.
        items: every text to be read.
        scans: every scan to be read.
        labels: system code -> case -> finding ids of the checklist that the system reports.
    """

    study: str
    instrument: str
    design: str
    seed: int
    language: str
    software: str
    systems: Mapping[str, str]
    reference: str | None
    clusters: Mapping[str, int]
    readers: tuple[str, ...]
    items: tuple[Item, ...]
    scans: tuple[Scan, ...] = ()
    labels: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)

    def count(self, reader: str) -> int:
        """How many texts and scans a reader reads."""
        return sum(item.reader == reader for item in self.items) + sum(scan.reader == reader for scan in self.scans)

    def name(self, system: str, *, masked: bool) -> str:
        """How results show a system: by its name, or by its code so that whoever analyses stays blinded as well."""
        return f"system {system}" if masked else self.systems[system]

    def to_json(self) -> str:
        """As it is written into key.json."""
        body = {"warning": WARNING, "format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def read_key(path: Path) -> Key:
    """Read key.json.

    Raises:
        UnreadableInput: it is not there or not such a file.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableInput(f"{path}: the key cannot be read", code="not_found", got=error.strerror) from error
    except ValueError as error:
        raise _not_a_key(path, "something that is not JSON") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise _not_a_key(path, "another file")
    if body.get("version") != VERSION:
        raise _not_a_key(path, f"version {body.get('version')!r}; this program reads version {VERSION}")
    try:
        return _key(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_key(path, f"a damaged key: {type(error).__name__} {error}") from error


def _key(body: Mapping[str, Any]) -> Key:
    return Key(
        study=str(body["study"]),
        instrument=str(body["instrument"]),
        design=str(body["design"]),
        seed=int(body["seed"]),
        language=str(body["language"]),
        software=str(body["software"]),
        systems=dict(body["systems"]),
        reference=body["reference"],
        clusters={str(case): int(number) for case, number in body["clusters"].items()},
        readers=tuple(body["readers"]),
        items=tuple(Item(**item) for item in body["items"]),
        scans=tuple(Scan(**scan) for scan in body["scans"]),
        labels={code: dict(by_case) for code, by_case in body["labels"].items()},
    )


def _not_a_key(path: Path, got: str) -> UnreadableInput:
    return UnreadableInput(
        f"{path}: not a key",
        code="not_a_key",
        expected="the key.json that `ctscribe reader-study build` wrote",
        got=got,
    )
