"""The result of an evaluation: every number with its interval, its baselines and its control."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.evaluation.diversity import Diversity
from ctscribe.evaluation.intervals import Estimate
from ctscribe.evaluation.scorer import PairScore
from ctscribe.evaluation.shuffle import Control
from ctscribe.evaluation.worst import Worst

SCHEMA_VERSION = "1"

# Fields of a scorecard that its JSON writes in another form, or not at all because they quote reports.
_ELSEWHERE = ("per_report", "results", "diversity", "worst")


@dataclass(frozen=True)
class Result:
    """One measure of one scorer.

    Attributes:
        scorer: name of the scorer.
        measure: name of the measure within it.
        says: what it means, one sentence.
        smaller_is_better: True for rates of error.
        estimate: value with interval.
        baselines: baseline name -> its value.
        control: the same candidates under shuffling; None when it was not run.
        worst: value of the worst possible reports, None when unbounded.
        best: value of the best possible reports, None when unbounded.
    """

    scorer: str
    measure: str
    says: str
    smaller_is_better: bool
    estimate: Estimate
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    control: Control | None = None
    worst: float | None = 0.0
    best: float | None = 1.0

    @property
    def name(self) -> str:
        """``scorer.measure``."""
        return f"{self.scorer}.{self.measure}"


@dataclass(frozen=True)
class Scorecard:
    """Everything an evaluation found.

    Attributes:
        system: name of what was scored.
        language: of the reports.
        reports: number of pairs.
        patients: number of patients, None when they are not known.
        tokens: tokenisation convention of the n-gram metrics.
        results: one per measure.
        tables: scorer name -> rows behind its measures (per label, per stage).
        diversity: ``"system"``, ``"references"`` and each baseline -> Diversity.
        per_report: scorer name -> one PairScore per report, in the order of the references.
        notes: what was assumed, left out or undefined.
        settings: seed, resamples, permutations, level.
        software: version of ctscribe.
        strata: one row per stratum, see `strata`.
        worst: the reports with most mistakes; their texts go to the page only.
        curves: name -> points (x, y) to draw, such as the FROC curve.
    """

    system: str
    language: str
    reports: int
    patients: int | None
    tokens: str
    results: tuple[Result, ...]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    diversity: Mapping[str, Diversity]
    per_report: Mapping[str, Sequence[PairScore]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    software: str = ""
    strata: tuple[Mapping[str, Any], ...] = ()
    worst: tuple[Worst, ...] = field(default=(), repr=False)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Result:
        """The result called ``scorer.measure``.

        Raises:
            UsageError: there is none of that name.
        """
        for result in self.results:
            if result.name == name:
                return result
        known = ", ".join(result.name for result in self.results)
        raise UsageError(f"measure {name!r}", expected=f"one of {known}")

    def value(self, name: str) -> float | None:
        """The value of ``scorer.measure``, None where undefined."""
        return self[name].estimate.value

    @property
    def baseline_names(self) -> tuple[str, ...]:
        """Baselines that were computed, in order."""
        return tuple(dict.fromkeys(name for result in self.results for name in result.baselines))

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the per-report part."""
        body = {key: value for key, value in vars(self).items() if key not in _ELSEWHERE}
        return {
            "schema_version": SCHEMA_VERSION,
            **body,
            "results": [{"name": result.name, **asdict(result)} for result in self.results],
            "diversity": {name: asdict(found) for name, found in self.diversity.items()},
        }

    def to_json(self) -> str:
        """The scorecard as JSON; undefined numbers are null."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    def report_rows(self) -> list[dict[str, Any]]:
        """One row per report: id, and for each scorer its values and reasons."""
        return rows_of(self.per_report)

    def to_text(self) -> str:
        """The main table for a terminal."""
        names = self.baseline_names
        head = [
            "measure",
            self.system,
            "95 %" if self.settings.get("level") == 0.95 else "interval",
            *names,
            "shuffled",
        ]
        rows = [head]
        for r in self.results:
            control = shown(r.control.shuffled) if r.control else ""
            baselines = [shown(r.baselines.get(name)) for name in names]
            arrow = " (smaller is better)" if r.smaller_is_better else ""
            rows.append([r.name + arrow, shown(r.estimate.value), interval(r.estimate), *baselines, control])
        lines = aligned(rows)
        ours = self.diversity["system"]
        lines.append(f"distinct reports {ours.distinct:.0%}, template-collapse index {shown(ours.collapse)}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)]) + "\n"


def rows_of(per_report: Mapping[str, Sequence[PairScore]]) -> list[dict[str, Any]]:
    """One row per report: id, and for each scorer its values and reasons."""
    by_scorer = {name: list(scores) for name, scores in per_report.items()}
    first = next(iter(by_scorer.values()), [])
    return [
        {
            "id": first[i].id,
            "values": {f"{s}.{m}": v for s, scores in by_scorer.items() for m, v in scores[i].values.items()},
            "reasons": {s: dict(scores[i].explanation) for s, scores in by_scorer.items() if scores[i].explanation},
        }
        for i in range(len(first))
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a plain table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def shown(value: float | None) -> str:
    """Three decimals, a dash where undefined."""
    return "-" if value is None else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """The interval as text, a dash where there is none."""
    if estimate.low is None or estimate.high is None:
        return "-"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
