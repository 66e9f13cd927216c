"""Scorecard -> files: JSON for programs, HTML for people, CSV for papers.

scorecard.json        everything but the single reports
scorecard.html        one self-contained page
scorecard.csv         one row per measure
table_<scorer>.csv    one row per label or stage
reports.jsonl         one row per report: values and reasons
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.evaluation.scorecard import Result, Scorecard, interval, shown

# Reports the page lists as the worst.
_WORST = 15


def write_scorecard(card: Scorecard, out: Path) -> list[Path]:
    """Write all files into a folder, made when missing; each appears whole or not at all.

    Returns:
        the paths written.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    texts = {
        "scorecard.json": card.to_json(),
        "scorecard.html": to_html(card),
        "scorecard.csv": measures_csv(card),
        **{f"table_{name}.csv": _csv(rows) for name, rows in card.tables.items()},
        "reports.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in card.report_rows()),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_write(out / name, text) for name, text in texts.items()]
    except OSError as error:
        raise UsageError(
            f"{out}: cannot write the scorecard", got=error.strerror, hint="choose another folder"
        ) from error


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text, encoding="utf-8", newline="")
    os.replace(unfinished, path)
    return path


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def measures_csv(card: Scorecard) -> str:
    """One row per measure: value, interval, each baseline, shuffled control; empty where undefined."""
    rows = []
    for result in card.results:
        control = result.control
        rows.append(
            {
                "measure": result.name,
                "value": result.estimate.value,
                "low": result.estimate.low,
                "high": result.estimate.high,
                **{f"baseline: {name}": result.baselines.get(name) for name in card.baseline_names},
                "shuffled": control.shuffled if control else None,
                "shuffled_p": control.p if control else None,
                "smaller_is_better": result.smaller_is_better,
            }
        )
    return _csv(rows)


def to_html(card: Scorecard) -> str:
    """One page with inline style, no script and nothing to fetch."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters.update(shown=shown, interval=interval, percent=_percent)
    template = (files("ctscribe.evaluation") / "scorecard.html.j2").read_text(encoding="utf-8")
    return page.from_string(template).render(
        card=card,
        place=_place,
        worst=worst_reports(card),
        label_tables={n: rows for n, rows in card.tables.items() if rows and "f1" in rows[0]},
        funnel=card.tables.get("funnel", []),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _place(result: Result, value: float | None) -> str | None:
    """Where a value sits on the measure's bar, in per cent from its smaller end; None when it cannot be drawn."""
    if value is None or result.worst is None or result.best is None:
        return None
    low, high = sorted((result.worst, result.best))
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.1f}"


def worst_reports(card: Scorecard) -> list[dict[str, Any]]:
    """The reports with most invented and omitted findings, worst first."""
    rows = []
    for score in card.per_report.get("faithfulness", ()):
        why = score.explanation
        mistakes = len(why["hallucinated"]) + len(why["omitted"])
        if mistakes:
            rows.append({"id": score.id, "mistakes": mistakes, **why})
    return sorted(rows, key=lambda row: (-row["mistakes"], row["id"]))[:_WORST]
