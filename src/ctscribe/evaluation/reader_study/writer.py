"""Summary -> files: JSON for programs, HTML for people, one CSV for each table.

summary.json    everything
summary.html    one self-contained page
*.csv           means, distributions, differences, errors, agreement, pairs, steadiness, readers, findings
ratings.csv     every reading with its system: treat it like the key
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ctscribe.evaluation.reader_study import plots
from ctscribe.evaluation.reader_study.answers import Answers
from ctscribe.evaluation.reader_study.forms import csv_text
from ctscribe.evaluation.reader_study.key import Key
from ctscribe.evaluation.reader_study.questions import error_columns, scales, words
from ctscribe.evaluation.reader_study.summary import Row, Summary


def summary_files(summary: Summary, answers: Answers, key: Key) -> dict[str, bytes]:
    """File name -> content."""
    return {
        "summary.json": summary.to_json().encode(),
        "summary.html": to_html(summary).encode(),
        **{f"{name}.csv": _csv(rows) for name, rows in summary.tables.items()},
        "ratings.csv": _csv(ratings_rows(answers, key, masked=bool(summary.settings.get("masked")))),
    }


def ratings_rows(answers: Answers, key: Key, *, masked: bool = False) -> list[dict[str, Any]]:
    """One row for each reading: who, what, which system, all judgements."""
    rows = []
    for reading in answers.readings:
        item = reading.item
        rows.append(
            {
                "reader": item.reader,
                "position": item.position,
                "item": item.code,
                "case": item.case,
                "system": key.name(item.system, masked=masked),
                "second_reading_of": item.repeat_of or "",
                **{scale: reading.scores.get(scale, "na") for scale in scales()},
                **{column: reading.errors[column] for column in error_columns()},
                "seconds": "" if reading.seconds is None else reading.seconds,
                "comment": reading.comment,
            }
        )
    return rows


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return csv_text(list(rows[0]) if rows else ["reader"], rows).encode()


def to_html(summary: Summary) -> str:
    """One page with inline style and pictures, no script and nothing to fetch."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters.update(number=number, whole=whole, p=p_value, named=named)
    template = (files(__package__) / "templates" / "summary.html.j2").read_text(encoding="utf-8")
    return page.from_string(template).render(
        summary=summary,
        plots=plots,
        coefficients=agreement_table(summary),
        errors=errors_table(summary),
        pairs=[row for row in summary.pairs if row["coefficient"].startswith("Cohen")],
        kappas=[row for row in summary.findings if row["finding"] == "all"],
        words=words(),
    )


def agreement_table(summary: Summary) -> dict[str, dict[str, Row]]:
    """Coefficient -> outcome -> row."""
    found: dict[str, dict[str, Row]] = {}
    for row in summary.agreement:
        found.setdefault(row["coefficient"], {})[row["outcome"]] = row
    return found


def errors_table(summary: Summary) -> dict[tuple[str, str], dict[str, Row]]:
    """(error in words, weight) -> system -> row."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in summary.errors:
        facts = words()["errors"].get(row["error"])
        name = facts["name"]["en"] if facts else {"all": "All errors"}.get(row["error"], row["error"].capitalize())
        found.setdefault((name, row["weight"]), {})[row["system"]] = row
    return found


def named(outcome: str) -> str:
    """An outcome in words."""
    facts = words()["scales"].get(outcome)
    return facts["name"]["en"] if facts else outcome.replace("_", " ").capitalize()


def number(value: float | None, digits: int = 2) -> str:
    """A number, a dash where undefined."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def whole(row: Row, digits: int = 2) -> str:
    """An interval, a dash where there is none."""
    if row["low"] is None or row["high"] is None:
        return "–"
    return f"{number(row['low'], digits)} to {number(row['high'], digits)}"


def p_value(value: float | None) -> str:
    """A p-value as it is printed."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
