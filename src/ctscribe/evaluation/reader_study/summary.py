"""The results of a reader study, as plain rows that become JSON, CSV, a page and a terminal table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = "1"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Everything that a study showed. A row's `value`, `low` and `high` are a number and its interval.

    Attributes:
        study: code of the reading set.
        design: crossed, split or once.
        language: of the reports.
        readers: who answered.
        systems: what was read, by name (by code where the analysis is masked).
        reference: which of them are the reference reports, None when they were not read.
        cases: number of cases read.
        patients: number of patients, or of cases where patients are not known.
        readings: number of readings, second ones included.
        means: outcome, system -> mean.
        distributions: scale, system -> how often each score was given.
        differences: outcome, two systems -> mean difference, p, p adjusted by Holm, interval for other readers.
        errors: category, weight, system -> errors per 100 reports.
        agreement: outcome, coefficient -> agreement of all readers.
        pairs: outcome, two readers, coefficient -> agreement.
        steadiness: outcome, reader, coefficient -> agreement of a reader with himself or herself.
        reader_rows: reader -> readings, median seconds, mean scores.
        findings: two parties, finding -> Cohen's kappa on the checklist.
        notes: what is missing or should be known.
        settings: resamples, permutations, seed, level, masked.
        software: version of ctscribe.
    """

    study: str
    design: str
    language: str
    readers: tuple[str, ...]
    systems: tuple[str, ...]
    reference: str | None
    cases: int
    patients: int
    readings: int
    means: tuple[Row, ...]
    distributions: tuple[Row, ...]
    differences: tuple[Row, ...]
    errors: tuple[Row, ...]
    agreement: tuple[Row, ...]
    pairs: tuple[Row, ...]
    steadiness: tuple[Row, ...]
    reader_rows: tuple[Row, ...]
    findings: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    software: str = ""

    @property
    def tables(self) -> dict[str, tuple[Row, ...]]:
        """File name -> rows, without the empty ones."""
        found = {
            "means": self.means,
            "distributions": self.distributions,
            "differences": self.differences,
            "errors": self.errors,
            "agreement": self.agreement,
            "pairs": self.pairs,
            "steadiness": self.steadiness,
            "readers": self.reader_rows,
            "findings": self.findings,
        }
        return {name: rows for name, rows in found.items() if rows}

    def mean(self, outcome: str, system: str) -> Row:
        """The row of one outcome and system."""
        return next(row for row in self.means if row["outcome"] == outcome and row["system"] == system)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; undefined numbers are None."""
        return {"schema_version": SCHEMA_VERSION, **vars(self)}

    def to_json(self) -> str:
        """The summary as JSON; undefined numbers are null."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
