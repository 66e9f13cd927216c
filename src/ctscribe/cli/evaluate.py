"""``evaluate``: score predictions against references, whoever made them; compare two systems."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ctscribe.cli import screen
from ctscribe.cli.report import Spoken
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.evaluation import Scorer


class Written(StrEnum):
    """Forms of a file of reports."""

    auto = "auto"
    jsonl = "jsonl"
    csv = "csv"
    ct2rep = "ct2rep"
    r2gen = "r2gen"
    m3d = "m3d"


# Bytes of predictions for which one more process is worth its start.
_PER_PROCESS = 8_000_000


def evaluate(
    predictions: Path | None = typer.Argument(None, metavar="PRED", help="Predicted reports; without --compare."),
    ref: Path = typer.Option(..., "--ref", metavar="REF", help="Reference reports, matched by id."),
    out: Path | None = typer.Option(
        None, "--out", metavar="DIR", help="Write the scorecard here (JSON, HTML, CSV, TeX)."
    ),
    compare: tuple[Path, Path] | None = typer.Option(
        None, "--compare", metavar="A B", help="Compare two files of predictions on the same references."
    ),
    lang: Spoken | None = typer.Option(None, "--lang", help="Score only reports in this language."),
    system: str | None = typer.Option(None, "--system", help="Name on the scorecard; default: the file's name."),
    form: Written = typer.Option(Written.auto, "--format", help="Form of the predictions; told from the content."),
    ref_form: Written = typer.Option(Written.auto, "--ref-format", help="Form of the references."),
    metric: list[str] = typer.Option(
        [],
        "--metric",
        metavar="NAME[=PATH]",
        help="A further metric that needs weights, with where they lie. Repeatable.",
    ),
    by: list[str] = typer.Option(
        [],
        "--by",
        metavar="FIELD",
        help="Strata by this field of the references; default: scanner, thickness, sex, age.",
    ),
    pool: Path | None = typer.Option(
        None, "--pool", metavar="TRAIN", help="Reports the baselines are drawn from; default: the references."
    ),
    no_baselines: bool = typer.Option(
        False, "--no-baselines", help="Leave out the baselines and the shuffled control."
    ),
    text_only: bool = typer.Option(
        False, "--text-only", help="Read findings out of every text, even where a line gives structured findings."
    ),
    partial: bool = typer.Option(False, "--partial", help="Allow references without a prediction."),
    resamples: int = typer.Option(1000, "--resamples", min=0, help="Bootstrap samples; 0 leaves intervals out."),
    permutations: int | None = typer.Option(
        None,
        "--permutations",
        min=1,
        help="Swaps of the test of --compare; default: 10000, fewer for very many reports.",
    ),
    processes: int | None = typer.Option(
        None, "--processes", min=1, help="Worker processes; default: one, and more for large files."
    ),
    seed: int = typer.Option(0, "--seed", help="Of the bootstrap, the baselines and the shuffled control."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable result on stdout."),
) -> None:
    """Score reports against reference reports: clinical labels, text overlap, baselines, intervals.

    A line holds `id` and `text` (or `findings_text` and `impression`), and may hold `language`, `patient` and
    structured `findings`. CSV and the outputs of CT2Rep, R2Gen and M3D are read too. Any system's output can be
    scored; no model is loaded.

    Examples:

    * `ctscribe evaluate mine.jsonl --ref truth.jsonl --out scores`
    * `ctscribe evaluate mine.jsonl --ref truth.jsonl --lang zh --text-only --json`
    * `ctscribe evaluate --ref truth.jsonl --compare mine.jsonl theirs.jsonl --out compared`
    """
    if (predictions is None) == (compare is None):
        raise UsageError(
            "what to score",
            expected="either PRED or --compare A B",
            got="neither" if predictions is None else "both",
            hint="ctscribe evaluate PRED --ref REF",
        )
    _check_read(compare is not None, system, permutations, pool, no_baselines)
    if out is not None:
        screen.output_folder(out)
    first = compare[0] if compare is not None else predictions
    settings: dict[str, Any] = {
        "extra": [_metric(words) for words in metric],
        "pool": pool,
        "language": None if lang is None else lang.value,
        "findings_from": "text" if text_only else "given",
        "partial": partial,
        "baselines": not no_baselines,
        "resamples": resamples,
        "seed": seed,
        "by": by,
        "form": form.value,
        "ref_form": ref_form.value,
        "processes": processes or _processes(first),
    }
    if compare is not None:
        _compare(compare, ref, out, permutations, settings, as_json)
    elif predictions is not None:
        _score(predictions, ref, out, system, settings, as_json)


def _check_read(
    compared: bool, system: str | None, permutations: int | None, pool: Path | None, no_baselines: bool
) -> None:
    """Refuse what would not be read."""
    if compared and system is not None:
        raise UsageError("--system with --compare", expected="the names of the two files", hint="rename the files")
    if not compared and permutations is not None:
        raise UsageError("--permutations without --compare", expected="--compare A B, whose test it is for")
    if pool is not None and no_baselines:
        raise UsageError("--pool with --no-baselines", expected="one of them: baselines are drawn from the pool")


def _score(
    predictions: Path, ref: Path, out: Path | None, system: str | None, settings: dict[str, Any], as_json: bool
) -> None:
    import json

    from ctscribe.cli.scores import show_scorecard
    from ctscribe.evaluation import run_evaluate

    with screen.steps(1) as step:
        step("scoring")
        card = run_evaluate(predictions, ref, out, system=system, **settings)
    if as_json:
        screen.print_json(json.loads(card.to_json()))
        return
    show_scorecard(card)
    if out is not None:
        print(out)


def _compare(
    files: tuple[Path, Path], ref: Path, out: Path | None, swaps: int | None, settings: dict[str, Any], as_json: bool
) -> None:
    import json

    from ctscribe.cli.scores import show_comparison
    from ctscribe.evaluation.compare import run_compare

    with screen.steps(1) as step:
        step("scoring both")
        found, cards = run_compare(*files, ref, out, swaps=swaps, **settings)
    if as_json:
        both = {"comparison": json.loads(found.to_json()), "scorecards": [json.loads(card.to_json()) for card in cards]}
        screen.print_json(both)
        return
    show_comparison(found)
    if out is not None:
        print(out)


def _metric(words: str) -> Scorer:
    """The metric called by ``NAME``, ``NAME=PATH`` or ``NAME=PATH,option=value``.

    Raises:
        UsageError: there is none of that name, or it has no such option.
        DependencyMissing: a package it needs is not installed.
        CheckpointError: a file it needs is not there.
    """
    from ctscribe.evaluation.adapters import from_text

    return from_text(words)


def _processes(path: Path | None) -> int:
    """One process for a small file, up to one per core for a large one."""
    try:
        size = path.stat().st_size if path is not None else 0
    except OSError:  # the reader says it better
        return 1
    return max(1, min(os.cpu_count() or 1, size // _PER_PROCESS))
