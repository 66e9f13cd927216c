"""Every writer of impressions: those of `ctscribe.impression.writers`, and the one that is part of our own model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctscribe.errors import CheckpointError, EndpointError, UsageError
from ctscribe.impression import Context, Statement, lines, writers
from ctscribe.impression.guard import Known, Problem
from ctscribe.impression.writers import Choice, Writer
from ctscribe.ontology import Language

BEAMS = 4
"""Continuations that are followed side by side when a first text was objected to."""


class HeadWriter:
    """An impression head: it reads the findings as facts, so that no prompt can lead it astray.

    Follow-up, comparisons and questions rest on what it does not see (the patient, an earlier scan); the rules' own
    sentences are put below the findings that they are about.

    Args:
        folder: as the recipe ``impression_head`` saves it.
        base: the model folder it belongs to, if not where it lay in training.
        device: a torch device.
    """

    def __init__(self, folder: Path, *, base: Path | None = None, device: str = "cpu") -> None:
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"no impression head in {folder}",
                expected="a folder with config.json, card.json and model.safetensors",
                hint="train one: ctscribe train impression_head",
            )
        self.folder, self.base, self.device = folder, base, device
        self.name = checked_name(folder)
        self._loaded: Any = None

    def draft(
        self, known: Known, language: Language, context: Context, problems: Sequence[Problem] = ()
    ) -> tuple[Statement, ...]:
        """What it writes; when that was objected to, the most probable of several texts.

        Raises:
            EndpointError: it was not taught the language (``language``), or wrote nothing (``bad_reply``).
            CheckpointError: the head or its model folder cannot be read.
        """
        from ctscribe.facts import facts_of

        writer, card = self._model()
        if language not in card.languages:
            raise EndpointError(f"{self.name} was not taught this language", code="language", got=language)
        facts = facts_of([tuple(replace(finding, evidence=()) for finding in known.findings)]).to(self.device)
        (text,) = writer.write(facts, [language], beams=BEAMS if problems else 1)
        try:
            return lines.with_given(lines.read(text, known, language), known)
        except ValueError as error:
            raise EndpointError(f"{self.name} gave no valid answer", code="bad_reply", got=str(error)) from error

    def _model(self) -> Any:
        if self._loaded is None:
            from ctscribe import checkpoint

            self._loaded = checkpoint.load_head(self.folder, base=self.base, device=self.device)
        return self._loaded


def checked_name(folder: Path) -> str:
    """What a head calls itself.

    Raises:
        CheckpointError: its card cannot be read.
    """
    try:
        return str(json.loads((folder / "card.json").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'card.json'}: cannot be read", hint="copy the whole folder") from error


def _head(choice: Choice) -> Writer:
    if choice.folder is None:
        raise UsageError("--writer head", expected="--llm-folder DIR, as the recipe impression_head saves it")
    return HeadWriter(choice.folder, base=choice.base)


writers.WRITERS.setdefault("head", _head)
make = writers.make
"""A writer by name, the head among them."""
