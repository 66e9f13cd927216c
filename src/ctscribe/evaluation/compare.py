"""Two systems on the same references: differences with intervals, and p-values corrected for their number.

For every measure: the value of each system, their difference with a paired bootstrap interval, a paired permutation
test (`permutation`), and its p-value corrected over all tested measures (`correction`). Measures of one scorecard move
together, which makes Holm's correction cautious; Benjamini-Hochberg's stays valid where they move alike.
AUROC, AUPRC and the FROC curve are not functions of sums and are not tested here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctscribe.errors import InputRefused, UsageError
from ctscribe.evaluation.correction import benjamini_hochberg, holm
from ctscribe.evaluation.permutation import Difference, differences
from ctscribe.evaluation.reading import listed
from ctscribe.evaluation.run import LEVEL, Evaluation, Settings, evaluated, evaluated_into
from ctscribe.evaluation.scorecard import Scorecard, aligned, shown
from ctscribe.evaluation.scorer import Measure, defined

# Swaps of the permutation test: enough that a hundred measures can still be corrected for; fewer for very many
# patients, where they take long and where small differences are found anyway.
SWAPS = 10_000
_SWAPS_OF_MANY = 2000
_MANY = 20_000


@dataclass(frozen=True)
class Comparison:
    """First against second system.

    Attributes:
        first: name of the first system.
        second: name of the second.
        rows: one per measure: ``measure``, ``says``, ``smaller_is_better``, ``first``, ``second``, ``difference``
            (first minus second) with ``low`` and ``high``, ``p``, ``p_holm``, ``p_bh``, ``better`` (a name, or None
            where Holm's p is not below 0.05), ``gain``, ``gain_low``, ``gain_high`` (signed: larger is better), and
            ``span`` (length of the measure's range, 1 where it has none).
        reports: number of pairs of each.
        patients: number of patients, None when they are not known.
        notes: what was assumed or left out.
        settings: seed, resamples, permutations, level.
        software: version of ctscribe.
    """

    first: str
    second: str
    rows: tuple[dict[str, Any], ...]
    reports: int
    patients: int | None
    notes: tuple[str, ...]
    settings: dict[str, Any]
    software: str

    def __getitem__(self, measure: str) -> dict[str, Any]:
        """The row of one measure.

        Raises:
            UsageError: there is none of that name.
        """
        for row in self.rows:
            if row["measure"] == measure:
                return row
        raise UsageError(f"measure {measure!r}", expected=f"one of {', '.join(r['measure'] for r in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema_version": "1", **vars(self), "rows": list(self.rows), "notes": list(self.notes)}

    def to_json(self) -> str:
        """As JSON; undefined numbers are null."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The table for a terminal."""
        head = ["measure", self.first, self.second, "difference", "95 %", "p", "p (Holm)", "p (BH)", "better"]
        rows = [head]
        for row in self.rows:
            arrow = " (smaller is better)" if row["smaller_is_better"] else ""
            numbers = [shown(row["first"]), shown(row["second"]), signed(row["difference"])]
            tests = [shown_p(row[key]) for key in ("p", "p_holm", "p_bh")]
            rows.append([row["measure"] + arrow, *numbers, between(row), *tests, row["better"] or ""])
        return "\n".join([*aligned(rows), *(f"note: {note}" for note in self.notes)]) + "\n"


def compare(first: Evaluation, second: Evaluation, *, swaps: int | None = None) -> Comparison:
    """Compare two evaluations of the same references.

    Args:
        swaps: permutations of the test; None for 10,000, or 2,000 with more than 20,000 reports.

    Raises:
        InputRefused: they are not of the same references, or the two have no metric in common.
    """
    if first.facts.ids != second.facts.ids:
        strangers = sorted(set(first.facts.ids) ^ set(second.facts.ids))
        raise InputRefused(
            "the two systems are scored on different studies",
            code="missing_ids",
            expected="predictions of the same studies in both files",
            got=listed(strangers) or "another order",
            hint="leave out of both files what one of them lacks",
        )
    scorers = [scorer for scorer in first.scorers if scorer.name in second.tallies]
    if not scorers:
        raise InputRefused("nothing to compare", code="no_metrics", expected="a metric both systems have", got="none")
    swaps = swaps or (SWAPS if len(first.facts.ids) <= _MANY else _SWAPS_OF_MANY)
    settings = {**first.card.settings, "permutations": swaps}
    rows: list[dict[str, Any]] = []
    for scorer in scorers:
        a, b = first.tallies[scorer.name], second.tallies[scorer.name]
        found = differences(
            scorer,
            a,
            b,
            first.facts.clusters,
            permutations=swaps,
            resamples=int(settings["resamples"]),
            level=LEVEL,
            seed=int(settings["seed"]),
        )
        values = [scorer.values(tally.sum(axis=0)) for tally in (a, b)]
        for measure in scorer.measures:
            own = [defined(float(value[measure.name])) for value in values]
            row = {"measure": f"{scorer.name}.{measure.name}", "says": measure.says}
            rows.append({**row, **_row(own, found[measure.name], measure)})
    names = _names(first.card, second.card)
    _correct(rows, names)
    left_out = sorted({s.name for s in (*first.scorers, *second.scorers)} - {s.name for s in scorers})
    notes = [f"Not compared, because one system lacks them: {', '.join(left_out)}."] if left_out else []
    notes += ["p-values are corrected over all measures of this table that have one."]
    if first.card.patients is None:
        notes.append("Patients are not stated for every reference: each report changes sides by itself.")
    return Comparison(
        *names, tuple(rows), first.card.reports, first.card.patients, tuple(notes), settings, first.card.software
    )


def run_compare(
    first: Path, second: Path, references: Path, out: Path | None = None, *, swaps: int | None = None, **settings: Any
) -> tuple[Comparison, tuple[Scorecard, Scorecard]]:
    """Compare two files of predictions and write everything into a folder: what the command line calls.

    Args:
        out: folder for ``compare.*`` and one folder for each system's scorecard; None writes nothing.
        settings: see `evaluation.evaluate`.

    Returns:
        the comparison, and both scorecards.

    Raises:
        UnreadableInput, InputRefused: see `evaluation.evaluate` and `compare`.
    """
    from ctscribe.evaluation.writer import write_comparison

    chosen = Settings(**settings)
    names = (first.stem, second.stem) if first.stem != second.stem else (f"{first.stem} A", f"{second.stem} B")
    if out is None:
        found = [evaluated(p, references, name, chosen) for p, name in zip((first, second), names, strict=True)]
    else:
        found = [
            evaluated_into(p, references, out / folder, name, chosen)
            for p, folder, name in zip((first, second), ("a", "b"), names, strict=True)
        ]
    comparison = compare(found[0], found[1], swaps=swaps)
    if out is not None:
        write_comparison(comparison, out)
    return comparison, (found[0].card, found[1].card)


def signed(value: float | None) -> str:
    """Three decimals with sign, a dash where undefined."""
    return "-" if value is None else f"{value + 0.0:+.3f}".replace("-0.000", "+0.000")


def shown_p(value: float | None) -> str:
    """A p-value; those below a thousandth as a bound."""
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def between(row: dict[str, Any]) -> str:
    """The interval of a difference as text, a dash where there is none."""
    return "-" if row["low"] is None or row["high"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"


def _names(first: Scorecard, second: Scorecard) -> tuple[str, str]:
    return (
        (first.system, second.system) if first.system != second.system else (f"{first.system} A", f"{second.system} B")
    )


def _row(own: Sequence[float | None], found: Difference, measure: Measure) -> dict[str, Any]:
    ends = [found.value, found.low, found.high]
    bounded = measure.low is not None and measure.high is not None
    gain = ends if not measure.smaller_is_better else [None if x is None else -x for x in (ends[0], ends[2], ends[1])]
    return {
        "smaller_is_better": measure.smaller_is_better,
        "span": abs(measure.high - measure.low) if bounded else 1.0,  # type: ignore[operator]
        "first": own[0],
        "second": own[1],
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "gain": gain[0],
        "gain_low": gain[1],
        "gain_high": gain[2],
    }


def _correct(rows: list[dict[str, Any]], names: tuple[str, str]) -> None:
    """Add corrected p-values over all rows that have one, and who is better."""
    tested = [row for row in rows if row["p"] is not None]
    p = [row["p"] for row in tested]
    for row in rows:
        row.update(p_holm=None, p_bh=None, better=None)
    for row, strict, loose in zip(tested, holm(p), benjamini_hochberg(p), strict=True):
        row.update(p_holm=strict, p_bh=loose)
        if strict < 1 - LEVEL and row["gain"]:
            row["better"] = names[0] if row["gain"] > 0 else names[1]
