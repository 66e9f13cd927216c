"""``label``: CT-RATE's 18 labels for a file of report texts."""

from __future__ import annotations

from pathlib import Path

import typer

from ctscribe.cli import screen


def label(
    reports: Path = typer.Argument(..., metavar="REPORTS.csv", help="Reports: CSV with a header, or JSON lines."),
    out: Path = typer.Option(..., "--out", metavar="OUT.csv", help="Write the labels here (.csv or .jsonl)."),
    text_column: str = typer.Option("report_text", "--text-column", help="Column, or key, that holds the report."),
    id_column: list[str] | None = typer.Option(
        None, "--id-column", help="Carry over only this column; may be given several times. Default: all but the text."
    ),
    processes: int = typer.Option(1, "--processes", min=1, help="Label with this many processes."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable counts on stdout."),
) -> None:
    """Read CT-RATE's 18 abnormality labels out of report texts, English or Chinese.

    The output has the input's other columns and 18 more, named and ordered as in CT-RATE, with 1 where the report says
    the abnormality is present or possible. No model is loaded.

    Examples:

    * `ctscribe label reports.csv --text-column report_text --out labels.csv`
    * `ctscribe label reports.jsonl --text-column text --id-column id --out labels.csv --processes 2`
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from ctscribe.evaluation.labelling import FORMATS, label_file

    screen.output_file(out, FORMATS)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn())
    total = reports.stat().st_size if reports.is_file() else None
    with Progress(*columns, console=screen.console(stderr=True), transient=True) as progress:
        task = progress.add_task("labelling", total=total)
        counts = label_file(
            reports,
            out,
            text_column=text_column,
            keep=id_column or None,
            processes=processes,
            tick=lambda done: progress.update(task, completed=done),
        )
    if as_json:
        positive = counts.positive
        screen.print_json({"out": str(out), "reports": counts.rows, "empty": counts.without_text, "positive": positive})
        return
    for name, number in counts.positive.items():
        print(f"{name:36s} {number:7d}  {number / counts.rows:6.1%}")
    print(f"{counts.rows} reports" + (f", {counts.without_text} of them without text" if counts.without_text else ""))
    print(out)
