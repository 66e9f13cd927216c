"""The options that choose who writes an impression and from what; the same for ``impression`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctscribe.cli import screen
from ctscribe.errors import UsageError

if TYPE_CHECKING:
    from ctscribe.impression.station import Station
    from ctscribe.impression.writers import Writer

WRITER = typer.Option(
    "rules",
    "--writer",
    metavar="NAME",
    help="Who writes: rules; openai (--llm), server (--llm, --endpoint); local, tuned, head (--llm-folder).",
)
LLM = typer.Option("", "--llm", metavar="NAME", help="Model at the endpoint, such as gpt-5.1.")
ENDPOINT = typer.Option("", "--endpoint", metavar="URL", help="OpenAI-compatible server, ending in /v1.")
LLM_FOLDER = typer.Option(
    None, "--llm-folder", metavar="DIR", help="Folder of the language model (local), its adapters (tuned) or the head."
)
LLM_BASE = typer.Option(
    None, "--llm-base", metavar="DIR", help="Where the model lies that adapters or a head belong to, if it has moved."
)
GRAMMAR = typer.Option(
    False, "--grammar", help="Local and tuned models can write nothing but what the findings support."
)
LLM_SET = typer.Option(
    None,
    "--llm-set",
    metavar="KEY=VALUE",
    help="Limits of the endpoint, such as retries=1; several times; a wrong key lists all.",
)
DOCUMENTS = typer.Option(
    None,
    "--documents",
    metavar="DIR",
    help="Your own documents: used and cited by a language model, else shown beside.",
)
EMBEDDINGS = typer.Option(
    None, "--embeddings", metavar="DIR", help="Text encoder in a folder: your documents are found by meaning as well."
)
GUIDELINES = typer.Option(None, "--guidelines", metavar="DIR", help="Folder with your own guideline tables (YAML).")
USE = typer.Option(
    None, "--use", metavar="ID", help="Use only this guideline (fleischner_2017, ...); may be given several times."
)


def station(
    writer: str,
    llm: str,
    endpoint: str,
    llm_folder: Path | None,
    llm_base: Path | None,
    grammar: bool,
    llm_set: list[str] | None,
    documents: Path | None,
    embeddings: Path | None,
    guidelines: Path | None,
    use: list[str] | None,
) -> Station:
    """What the options ask for; nothing is sent and no language model is loaded yet (a text encoder is).

    Raises:
        UsageError: options that do not go together, or something they name is not there.
    """
    from ctscribe.impression.embeddings import Embedder
    from ctscribe.impression.guidelines import load
    from ctscribe.impression.retrieval import library
    from ctscribe.impression.station import Station

    if embeddings is not None and documents is None:
        raise UsageError("--embeddings without --documents", expected="--documents DIR, which it searches")
    author = _writer(writer, llm, endpoint, (llm_folder, llm_base), grammar, llm_set or [])
    rule_sets = load(guidelines, use or None)
    if documents is None:
        return Station(author, rule_sets)
    books = library(documents, Embedder(embeddings) if embeddings is not None else None)
    for code in sorted(books.unread):
        name = {"en": "English", "zh": "Chinese"}[code]
        told = f"Note: the text encoder does not read {name}; passages in it are found by their words alone."
        screen.console(stderr=True).print(told, markup=False, soft_wrap=True)
    return Station(author, rule_sets, books)


def _writer(
    name: str, llm: str, endpoint: str, folders: tuple[Path | None, Path | None], grammar: bool, limits: list[str]
) -> Writer | None:
    """The writer that was asked for; an option that it would not read is refused."""
    from ctscribe import config
    from ctscribe.impression.endpoint import EndpointConfig
    from ctscribe.impression.writers import Choice
    from ctscribe.pipeline.writers import make

    if (limits or endpoint) and not llm:
        option = "--llm-set" if limits else "--endpoint"
        raise UsageError(f"{option} without --llm", expected="--llm NAME, with --writer openai or server")
    chosen = None
    if llm:
        chosen = config.apply_overrides(EndpointConfig(llm, endpoint), limits)
    return make(name, Choice(chosen, *folders, constrained=grammar))
