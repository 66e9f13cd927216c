"""``evaluate``: score predictions against references, whoever made them."""

from __future__ import annotations

from pathlib import Path

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import Spoken


def evaluate(
    predictions: Path = typer.Argument(..., metavar="PRED.jsonl", help="Predicted reports, one JSON object a line."),
    ref: Path = typer.Option(..., "--ref", metavar="REF.jsonl", help="Reference reports, matched by id."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Write the scorecard here (JSON, HTML, CSV)."),
    lang: Spoken | None = typer.Option(None, "--lang", help="Score only reports in this language."),
    system: str | None = typer.Option(None, "--system", help="Name on the scorecard; default: the file's name."),
    pool: Path | None = typer.Option(
        None, "--pool", metavar="TRAIN.jsonl", help="Reports the baselines are drawn from; default: the references."
    ),
    text_only: bool = typer.Option(
        False, "--text-only", help="Read findings out of every text, even where a line gives structured findings."
    ),
    partial: bool = typer.Option(False, "--partial", help="Allow references without a prediction."),
    resamples: int = typer.Option(1000, "--resamples", min=0, help="Bootstrap samples; 0 leaves intervals out."),
    seed: int = typer.Option(0, "--seed", help="Of the bootstrap, the baselines and the shuffled control."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Score reports against reference reports: clinical labels, text overlap, baselines, intervals.

    A line holds `id` and `text` (or `findings_text` and `impression`), and may hold `language`, `patient` and
    structured `findings`. Any system's output can be scored; no model is loaded.

    Examples:

    * `ctscribe evaluate mine.jsonl --ref truth.jsonl --out scores`
    * `ctscribe evaluate mine.jsonl --ref truth.jsonl --lang zh --text-only --json`
    """
    import json

    from ctscribe.evaluation import run_evaluate

    if out is not None:
        screen.output_folder(out)
    with screen.steps(1) as step:
        step("scoring")
        card = run_evaluate(
            predictions,
            ref,
            out,
            system=system,
            pool=pool,
            language=None if lang is None else lang.value,
            findings_from="text" if text_only else "given",
            partial=partial,
            resamples=resamples,
            seed=seed,
        )
    if as_json:
        screen.print_json(json.loads(card.to_json()))
        return
    print(card.to_text())
    if out is not None:
        print(out)
