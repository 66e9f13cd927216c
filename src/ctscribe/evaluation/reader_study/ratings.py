"""Answers as tables: one row for each text that was read, one column for each reader, NaN where there is no answer.

Second readings are kept apart: they measure how steady a reader is and count nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ctscribe.evaluation.reader_study.answers import Answers, Reading
from ctscribe.evaluation.reader_study.key import Key
from ctscribe.evaluation.reader_study.questions import WEIGHTS, error_kinds, scales

# One binary judgement beside the scales: did the reader count a significant error in the report?
ANY_ERROR = "any_significant_error"

TOTALS = tuple(f"{weight}_errors" for weight in WEIGHTS)


def value(reading: Reading, name: str) -> float:
    """A score, an error count, a total of errors or `ANY_ERROR`; NaN where there is none."""
    if name in reading.errors:
        return float(reading.errors[name])
    if name in TOTALS or name == ANY_ERROR:
        weight = WEIGHTS[0] if name == ANY_ERROR else name.removesuffix("_errors")
        total = sum(reading.errors[f"{kind}_{weight}"] for kind in error_kinds())
        return float(total > 0 if name == ANY_ERROR else total)
    return float(reading.scores.get(name, np.nan))


@dataclass(frozen=True)
class Ratings:
    """The readings of a study.

    Attributes:
        key: who wrote what.
        readings: all of them.
    """

    key: Key
    readings: tuple[Reading, ...]

    @classmethod
    def of(cls, answers: Answers, key: Key) -> Ratings:
        """The ratings in a set of answers."""
        return cls(key, answers.readings)

    @cached_property
    def first(self) -> tuple[Reading, ...]:
        """First readings."""
        return tuple(reading for reading in self.readings if reading.item.repeat_of is None)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Readers who answered, in the order of the key."""
        present = {reading.item.reader for reading in self.readings}
        return tuple(reader for reader in self.key.readers if reader in present)

    @cached_property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """(case, system code) of every text that was read, by case as in the key, then by system."""
        cases = {case: i for i, case in enumerate(self.key.clusters)}
        read = {(reading.item.case, reading.item.system) for reading in self.first}
        return tuple(sorted(read, key=lambda text: (cases[text[0]], text[1])))

    @cached_property
    def clusters(self) -> tuple[int, ...]:
        """The patient of each text."""
        return tuple(self.key.clusters[case] for case, _ in self.texts)

    @cached_property
    def systems(self) -> tuple[str, ...]:
        """Codes of the systems that were read, by name."""
        read = {system for _, system in self.texts}
        return tuple(sorted(read, key=lambda code: self.key.systems[code]))

    def matrix(self, name: str) -> np.ndarray:
        """One outcome, float64 (texts, readers)."""
        row = {text: i for i, text in enumerate(self.texts)}
        column = {reader: i for i, reader in enumerate(self.readers)}
        found = np.full((len(row), len(column)), np.nan)
        for reading in self.first:
            item = reading.item
            found[row[item.case, item.system], column[item.reader]] = value(reading, name)
        return found

    def rows_of(self, system: str) -> np.ndarray:
        """Which texts are of this system: boolean (texts,)."""
        return np.array([code == system for _, code in self.texts])

    def twice(self, name: str, reader: str | None = None) -> tuple[np.ndarray, list[int]]:
        """First and second reading of the texts that were read twice, (readings, 2), and the patient of each."""
        first = {reading.item.code: reading for reading in self.first}
        pairs = [
            (first[reading.item.repeat_of], reading)
            for reading in self.readings
            if reading.item.repeat_of in first and reader in (None, reading.item.reader)
        ]
        table = np.array([[value(a, name), value(b, name)] for a, b in pairs]).reshape(-1, 2)
        return table, [self.key.clusters[a.item.case] for a, _ in pairs]


def outcomes() -> tuple[str, ...]:
    """What systems are compared by: the four scales, and the counted errors of a report."""
    return (*scales(), *TOTALS)


def centred(matrix: np.ndarray) -> np.ndarray:
    """Scores less their reader's mean plus the grand mean: a strict reader no longer counts against a system.

    Where every reader reads every system's texts of the same cases this changes no difference between systems.
    """
    if np.isnan(matrix).all():
        return matrix
    known = ~np.isnan(matrix)
    filled = np.where(known, matrix, 0.0)
    means = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return matrix - means + filled.sum() / known.sum()


def row_means(matrix: np.ndarray) -> np.ndarray:
    """Mean over the readers who answered, NaN where nobody did."""
    known = ~np.isnan(matrix)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, matrix, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def by_case(ratings: Ratings, matrix: np.ndarray) -> np.ndarray:
    """A matrix of `Ratings` as a cube, float64 (cases of the key, readers, systems)."""
    case = {c: i for i, c in enumerate(ratings.key.clusters)}
    system = {code: i for i, code in enumerate(ratings.systems)}
    cube = np.full((len(case), len(ratings.readers), len(system)), np.nan)
    for row, (c, code) in zip(matrix, ratings.texts, strict=True):
        cube[case[c], :, system[code]] = row
    return cube
