"""``evaluate``: score predictions against references, whoever made them."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate(
    predictions: Path = typer.Argument(..., metavar="PRED.jsonl", help="One JSON object a line: id, text, ..."),
    ref: Path = typer.Option(..., "--ref", metavar="REF.jsonl", help="References, the same form, matched by id."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Write the scorecard here."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Score reports against reference reports."""
    raise NotImplementedError
