"""What the commands share that need regions: the choice of who outlines them."""

from __future__ import annotations

from pathlib import Path

import typer

from ctscribe.errors import UsageError

SEGMENTER = typer.Option(
    "classical",
    "--segmenter",
    metavar="WORD",
    help="Who outlines the regions: classical, labelmap:FILE, totalsegmentator, lungmask, nnunet:FOLDER, own or none.",
)
SCHEME = typer.Option(
    "", "--regions-scheme", metavar="NAME", help="What a label map's values mean: a scheme, or a JSON file of names."
)
LESIONS = typer.Option(
    None, "--lesions", metavar="FILE", help="Label map of outlined lesions, for models with nodes for them."
)
LESIONS_SCHEME = typer.Option(
    "", "--lesions-scheme", metavar="NAME", help="What the values of a map of lesions mean: a scheme, or a JSON file."
)


OWN_MODEL = typer.Option(None, "--model", metavar="DIR", help="Model folder, for --segmenter own.")


def check_own_model(word: str, model: Path | None) -> None:
    """A model folder is read for its own masks only."""
    if model is not None and word != "own":
        raise UsageError("--model without --segmenter own", expected="--segmenter own", got=f"--segmenter {word}")


def tell_licence(word: str) -> None:
    """The terms of the program that is about to run, on stderr."""
    from ctscribe.cli import screen
    from ctscribe.data.anatomy import TOOLS

    tool = TOOLS.get(word.partition(":")[0])
    if tool is not None:
        screen.console(stderr=True).print(f"{word.partition(':')[0]}: {tool.licence}", markup=False, soft_wrap=True)
