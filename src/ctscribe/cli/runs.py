"""``runs``: training runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ctscribe.training.compare import RunSummary


def runs(
    folders: list[Path] | None = typer.Argument(
        None, metavar="[FOLDER]...", help="Run folders, or folders that hold some; default runs/."
    ),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable table on stdout."),
) -> None:
    """Compare training runs: how far each got, its loss and scores, and where their settings differ.

    Examples:

    * `ctscribe runs`
    * `ctscribe runs runs/first runs/second --json`
    """
    from ctscribe.cli import screen
    from ctscribe.training.compare import differences, find_runs, read_run

    found = [read_run(folder) for folder in find_runs(folders or [Path("runs")])]
    changed = differences(found)
    if as_json:
        screen.print_json({"runs": [_row(run) for run in found], "differences": changed})
        return
    _show(found, changed)


def _row(run: RunSummary) -> dict[str, Any]:
    from dataclasses import asdict

    return {key: value for key, value in asdict(run).items() if key != "settings"}


def _show(found: list[RunSummary], changed: dict[str, list[Any]]) -> None:
    from rich.table import Table

    from ctscribe.cli import screen

    scores = list(dict.fromkeys(name for run in found for name in run.scores))
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in ("steps", "stage", "loss", *scores, "s/step", "processes", "commit"):
        table.add_column(name, no_wrap=True)
    for run in found:
        table.add_row(
            run.run,
            f"{run.step}/{run.of}" + (" done" if run.finished else ""),
            run.stage or "",
            _number(run.loss),
            *(_number(run.scores.get(name)) for name in scores),
            _number(run.seconds_per_step),
            str(run.processes or ""),
            (run.commit or "")[:8],
        )
    screen.console().print(table)
    if changed:
        apart = Table(
            "setting",
            *(Path(run.run).name for run in found),
            title="what differs",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for name, values in changed.items():
            apart.add_row(name, *("" if value is None else str(value) for value in values))
        screen.console().print(apart)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
