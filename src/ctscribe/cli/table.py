"""The command table, and the one place where an exception becomes an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from ctscribe.cli.data import inspect, segment
from ctscribe.cli.demo import demo
from ctscribe.cli.evaluate import evaluate
from ctscribe.cli.impression import impression
from ctscribe.cli.info import info
from ctscribe.cli.label import label
from ctscribe.cli.models import models
from ctscribe.cli.phantom import phantom
from ctscribe.cli.prepare import deidentify, prepare
from ctscribe.cli.reader_study import app as reader_study
from ctscribe.cli.report import report
from ctscribe.cli.reword import reword
from ctscribe.cli.runs import runs
from ctscribe.cli.train import train
from ctscribe.errors import CTScribeError

EPILOG = """
Exit codes: 0 done, 2 wrong use, 3 input refused, 1 anything else.
Results go to stdout, progress and errors to stderr.
`--debug` before the command shows tracebacks.
"""

USAGE_ERROR: Any = typer.BadParameter.__base__
COMMAND_LINE_ERROR: Any = USAGE_ERROR.__base__
"""What the command-line parser raises; found through typer, which brings a parser of its own from 0.29 on."""

app = typer.Typer(
    name="ctscribe",
    help="Writes chest-CT reports: a scan goes in; findings, text (English or Chinese) and an impression come out.\n\n"
    "Start with `ctscribe demo`, then `ctscribe report SCAN --out REPORT`.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("report")(report)
app.command("impression")(impression)
app.command("demo")(demo)
app.command("inspect")(inspect)
app.command("segment")(segment)
app.command("phantom")(phantom)
app.command("deidentify")(deidentify)
app.command("prepare")(prepare)
app.command("reword")(reword)
app.command("train")(train)
app.command("runs")(runs)
app.command("evaluate")(evaluate)
app.command("label")(label)
app.add_typer(reader_study, name="reader-study")
app.command("models")(models)
app.command("info")(info)


def _version(show: bool) -> bool:
    if show:
        from ctscribe import __version__

        print(__version__)
        raise typer.Exit
    return show


@app.callback()
def root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an unexpected error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that stand before the command."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with the contract's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code instead of leaving the process."""
    as_json, debug = "--json" in words, "--debug" in words
    try:
        outcome = app(args=list(words), standalone_mode=False)
    except CTScribeError as error:
        return _say(error_body(error), str(error), error.exit_code, as_json, debug)
    except COMMAND_LINE_ERROR as error:
        if not as_json and isinstance(error, USAGE_ERROR):
            error.show(sys.stderr)
            return error.exit_code
        body = {"kind": "usage", "code": "usage", "what": error.format_message(), "exit_code": error.exit_code}
        return _say(body, error.format_message(), error.exit_code, as_json, debug)
    except (typer.Abort, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except MemoryError:
        text = "Not enough memory.\n  try:      close other programs, or use a machine with more memory"
        return _say({"kind": "MemoryError", "code": "memory", "what": "Not enough memory."}, text, 1, as_json, debug)
    except Exception as error:  # the last fence: a person sees one line, not a traceback
        text = f"Unexpected error: {type(error).__name__}: {error}\n  try:      run again as `ctscribe --debug ...`"
        text += " and report the traceback"
        body = {"kind": type(error).__name__, "code": "unexpected", "what": str(error)}
        return _say(body, text, 1, as_json, debug)
    return outcome if isinstance(outcome, int) else 0


def error_body(error: CTScribeError) -> dict[str, object]:
    """What a machine is told about a refusal; ``code`` is stable, the other words are for people."""
    return {
        "kind": type(error).__name__,
        "code": getattr(error, "code", _snake(type(error).__name__)),
        "what": error.what,
        "expected": error.expected,
        "got": error.got,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _say(body: dict[str, object], text: str, code: int, as_json: bool, debug: bool) -> int:
    """One error, on stderr, in the form that was asked for."""
    if debug:
        traceback.print_exc()
    if as_json:
        print(json.dumps({"error": {**body, "exit_code": code}}, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"Error: {text}", file=sys.stderr)
    return code


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
