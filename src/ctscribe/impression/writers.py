"""Who writes an impression: one protocol, and a registry of writers by name.

| name | what it is | needs |
| --- | --- | --- |
| ``rules`` | the rule writer, no language model | nothing |
| ``openai`` | a hosted model through the Responses API | a key, the extra ``api`` |
| ``server`` | any OpenAI-compatible server | its address, the extra ``api`` |
| ``local`` | a causal language model in a folder, in this process | its folder |
| ``tuned`` | the same with adapters that were taught to write impressions | their folder, the extra ``llm`` |
| ``head`` | layers on the report writer of a model folder, see `ctscribe.pipeline.writers` | their folder |

A writer only proposes; what becomes of its text is decided in `writing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ctscribe.errors import UsageError
from ctscribe.impression.client import Answer, Client
from ctscribe.impression.context import Context
from ctscribe.impression.drafts import question, schema, statements_of
from ctscribe.impression.endpoint import OPENAI_URL, EndpointConfig
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.local import LocalWriter, TunedWriter
from ctscribe.impression.result import Statement
from ctscribe.impression.wording import prompts
from ctscribe.ontology import Language

__all__ = [
    "WRITERS",
    "Choice",
    "EndpointWriter",
    "LocalWriter",
    "TunedWriter",
    "Writer",
    "make",
    "prompts",
    "question",
    "schema",
    "statements_of",
]


@runtime_checkable
class Writer(Protocol):
    """Proposes the statements of an impression."""

    name: str

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """Statements for one study.

        Args:
            known: findings, guidelines and sources it may use.
            language: to write in.
            context: of the patient.
            problems: what was wrong with its last proposal.

        Raises:
            EndpointError: the model gave no usable answer.
        """
        ...


class EndpointWriter:
    """A language model behind an endpoint.

    Args:
        client: how to ask it.
        name: for notes and provenance.
    """

    def __init__(self, client: Client, name: str = "") -> None:
        self.client, self.name = client, name or client.config.model
        self.last: Answer | None = None

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """One question to the endpoint; the answer is validated."""
        asked = question(known, language, context, problems)
        made, self.last = self.client.ask(asked, lambda data: statements_of(data, len(known.findings)))
        return made


@dataclass(frozen=True)
class Choice:
    """What was chosen beside a writer's name.

    Attributes:
        config: endpoint and limits.
        folder: of a model in this process.
        base: where the model lies that adapters or a head belong to; None for where it lay when they were taught.
        constrained: decode with the grammar of what the findings support.
    """

    config: EndpointConfig | None = None
    folder: Path | None = None
    base: Path | None = None
    constrained: bool = False


Factory = Callable[[Choice], Writer | None]


def _rules(choice: Choice) -> None:
    return None


def _hosted(choice: Choice) -> Writer:
    if choice.config is None:
        raise UsageError("--writer openai without a model", expected="--llm NAME, such as gpt-5.1")
    base_url = choice.config.base_url or OPENAI_URL
    return EndpointWriter(Client(replace(choice.config, base_url=base_url, api="responses")))


def _server(choice: Choice) -> Writer:
    if choice.config is None or not (choice.config.base_url or choice.config.offline):
        raise UsageError("--writer server", expected="--llm NAME and --endpoint URL")
    return EndpointWriter(Client(choice.config))


def _local(choice: Choice) -> Writer:
    if choice.folder is None:
        raise UsageError("--writer local", expected="--llm-folder DIR, a language model as transformers saves it")
    return LocalWriter(choice.folder, constrained=choice.constrained)


def _tuned(choice: Choice) -> Writer:
    if choice.folder is None:
        raise UsageError(
            "--writer tuned", expected="--llm-folder DIR, adapters as the recipe impression_lora saves them"
        )
    return TunedWriter(choice.folder, constrained=choice.constrained, base=choice.base)


WRITERS: dict[str, Factory] = {
    "rules": _rules,
    "openai": _hosted,
    "server": _server,
    "local": _local,
    "tuned": _tuned,
}
"""Name -> how it is made; a site adds its own here."""
READERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "config": ("--llm", ("openai", "server")),
    "folder": ("--llm-folder", ("local", "tuned", "head")),
    "base": ("--llm-base", ("tuned", "head")),
    "constrained": ("--grammar", ("local", "tuned")),
}
"""Part of a choice -> the option it comes from, and the shipped writers that read it; a site's own may read all."""
SHIPPED = ("rules", "openai", "server", "local", "tuned", "head")


def make(name: str, choice: Choice | None = None) -> Writer | None:
    """A writer by name; None stands for the rule writer, which needs no other.

    Raises:
        UsageError: no such writer, it lacks what it needs, or it would not read what was chosen.
    """
    choice = choice or Choice()
    if name not in WRITERS:
        raise UsageError(f"--writer {name}", expected=" | ".join(WRITERS))
    for part, (option, readers) in READERS.items():
        if getattr(choice, part) and name in SHIPPED and name not in readers:
            raise UsageError(f"{option} with --writer {name}", expected=f"--writer {' or '.join(readers)}")
    return WRITERS[name](choice)
