"""Scorecards and comparisons -> files: JSON for programs, HTML for people, CSV and LaTeX for papers.

scorecard.json        everything but the single reports
scorecard.html        one self-contained page
scorecard.csv         one row per measure
scorecard.tex         the same as a LaTeX table
strata.csv            one row per stratum, where references state any
table_<scorer>.csv    one row per label or stage
reports.jsonl         one row per report: values and reasons

compare.json, compare.html, compare.csv, compare.tex    the same of a comparison of two systems
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.evaluation import latex, plots
from ctscribe.evaluation.compare import Comparison, between, shown_p, signed
from ctscribe.evaluation.differences import marked
from ctscribe.evaluation.scorecard import Result, Scorecard, interval, shown

REPORTS = "reports.jsonl"


def made(out: Path) -> Path:
    """The folder, made when missing.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    return out


def write_scorecard(card: Scorecard, out: Path, *, reports: Path | None = None) -> list[Path]:
    """Write all files into a folder, made when missing; each appears whole or not at all.

    Args:
        reports: a file that holds the lines of reports.jsonl already; None takes them from the scorecard, which
            holds none of a large set.

    Returns:
        the paths written.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    texts = {
        "scorecard.json": card.to_json(),
        "scorecard.html": to_html(card),
        "scorecard.csv": measures_csv(card),
        "scorecard.tex": latex.scorecard_latex(card),
        **({"strata.csv": _csv(card.strata)} if card.strata else {}),
        **{f"table_{name}.csv": _csv(rows) for name, rows in card.tables.items()},
    }
    if reports is None:
        texts[REPORTS] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in card.report_rows())
    written = _write_all(texts, out)
    if reports is not None:
        try:
            shutil.copyfile(reports, out / f".{REPORTS}.part")
            os.replace(out / f".{REPORTS}.part", out / REPORTS)
        except OSError as error:
            raise _unwritable(out, error) from error
        written.append(out / REPORTS)
    return written


def write_comparison(found: Comparison, out: Path) -> list[Path]:
    """Write a comparison into a folder, as `write_scorecard` does.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    texts = {
        "compare.json": found.to_json(),
        "compare.html": comparison_html(found),
        "compare.csv": _csv(found.rows),
        "compare.tex": comparison_latex(found),
    }
    return _write_all(texts, out)


def _write_all(texts: Mapping[str, str], out: Path) -> list[Path]:
    made(out)
    try:
        return [_write(out / name, text) for name, text in texts.items()]
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> UsageError:
    return UsageError(f"{out}: cannot write the scorecard", got=error.strerror, hint="choose another folder")


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


def comparison_latex(found: Comparison) -> str:
    """One row per measure: both values, difference with interval, corrected p-values."""
    head = ["Measure", found.first, found.second, "difference", "95 % interval", "p (Holm)", "p (BH)"]
    rows = [
        [
            row["measure"],
            shown(row["first"]),
            shown(row["second"]),
            signed(row["difference"]),
            between(row),
            shown_p(row["p_holm"]),
            shown_p(row["p_bh"]),
        ]
        for row in found.rows
    ]
    swaps = found.settings["permutations"]
    return latex.table(head, rows, f"{found.reports} reports, {swaps} permutations, ctscribe {found.software}")


# --------------------------------------------------------------------------------------------- pages


def _page(template: str, **values: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("ctscribe.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(shown=shown, interval=interval, percent=_percent, signed=signed, p=shown_p)
    style = (files("ctscribe.evaluation") / "page.css").read_text(encoding="utf-8")
    return page.get_template(template).render(style=style, plots=plots, **values)


def to_html(card: Scorecard) -> str:
    """One page with inline style and pictures, no script and nothing to fetch."""
    return _page(
        "scorecard.html.j2",
        card=card,
        place=_place,
        worst=[(report, *marked(report)) for report in card.worst],
        label_tables={n: rows for n, rows in card.tables.items() if rows and {"f1", "in_macro"} <= rows[0].keys()},
        other_tables={n: rows for n, rows in card.tables.items() if n in ("disease", "nodules", "ranking", "froc")},
        measures=_measures_of(card.strata),
    )


def comparison_html(found: Comparison) -> str:
    """The comparison as one page of its own."""
    return _page("compare.html.j2", found=found, between=between)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _measures_of(strata: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measures the strata are described by."""
    return [key for key in strata[0] if "." in key and not key.endswith((" low", " high"))] if strata else []


def _place(result: Result, value: float | None) -> str | None:
    """Where a value sits on the measure's bar, in per cent from its smaller end; None when it cannot be drawn."""
    if value is None or result.worst is None or result.best is None:
        return None
    low, high = sorted((result.worst, result.best))
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.1f}"
