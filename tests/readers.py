"""Simulated readers: they fill in forms without seeing more than a form shows, or with the key at hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctscribe.evaluation import Record
from ctscribe.evaluation.reader_study import ReadingSet, build
from ctscribe.evaluation.reader_study.key import Item
from ctscribe.evaluation.reader_study.questions import checklist, error_columns, scales
from ctscribe.evaluation.reading import findings_of

SENTENCES = ("There is a nodule in the right upper lobe.", "No pleural effusion.", "The heart is enlarged.")

Judge = Callable[[Item], dict[str, Any]]


def reports(word: str, count: int, patients: int | None = None) -> list[Record]:
    """Reports of cases c0, c1, ... that all differ."""
    said = [findings_of(sentence, "en") for sentence in SENTENCES]
    return [
        Record(
            f"c{i}",
            f"{SENTENCES[i % 3]} Series {word}, image {i}.",
            findings=said[i % 3],
            patient=None if patients is None else f"person-{i % patients}",
        )
        for i in range(count)
    ]


def reading_set(count: int = 12, systems: int = 2, **options: Any) -> ReadingSet:
    """A set of synthetic reports."""
    names = ("quartz", "basalt", "gneiss")[:systems]
    chosen = {"readers": 3, "repeats": 2, "seed": 1, **options}
    patients = chosen.pop("patients", None)
    return build(
        {name: reports(f"letter {chr(65 + i)}", count) for i, name in enumerate(names)},
        reports("letter Z", count, patients),
        **chosen,
    )


def steady(item: Item) -> dict[str, Any]:
    """Three on every scale."""
    return dict.fromkeys(scales(), 3)


def rows(made: ReadingSet, judge: Judge = steady, reader: str | None = None) -> list[dict[str, Any]]:
    """Answered rows of all items (of one reader)."""
    return [
        {
            "study": made.key.study,
            "reader": item.reader,
            "number": item.position,
            "item": item.code,
            "case": item.case,
            **dict.fromkeys(error_columns(), 0),
            "seconds": 30,
            **judge(item),
        }
        for item in made.key.items
        if reader in (None, item.reader)
    ]


def scan_rows(made: ReadingSet, see: Callable[[str, str], set[str]]) -> list[dict[str, Any]]:
    """Checklists of all scans: `see(reader, case)` gives the findings that are ticked."""
    return [
        {
            "study": made.key.study,
            "reader": scan.reader,
            "item": scan.code,
            "case": scan.case,
            **{kind: "present" if kind in see(scan.reader, scan.case) else "absent" for kind in checklist()},
        }
        for scan in made.key.scans
    ]


def save(path: Path, table: list[dict[str, Any]], *, delimiter: str = ",", encoding: str = "utf-8-sig") -> Path:
    """Rows as a spreadsheet would save them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(table)
    path.write_bytes(text.getvalue().encode(encoding))
    return path
