"""Run folders side by side: how far each got, what it scored, and where their settings differ. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ctscribe.errors import UsageError


@dataclass(frozen=True)
class RunSummary:
    """One run folder in a line.

    Attributes:
        run: its path.
        step: optimiser steps logged.
        of: steps of the whole plan.
        stage: the stage of the last one.
        finished: the final weights were written.
        loss: the last logged weighted loss, None before the first line.
        scores: the last validation's.
        seconds_per_step: of the last logged step's stage.
        processes: that computed it last.
        commit: of the source tree it ran from.
        settings: every value of its recipe or plan, by dotted name.
    """

    run: str
    step: int
    of: int
    stage: str | None
    finished: bool
    loss: float | None
    scores: dict[str, float]
    seconds_per_step: float | None
    processes: int | None
    commit: str | None
    settings: dict[str, Any]


def find_runs(places: Sequence[Path]) -> tuple[Path, ...]:
    """Run folders among `places` and directly or one level below them, by name.

    Raises:
        UsageError: a place does not exist, or none of them holds a run.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise UsageError(f"runs {place}", expected="a folder", got="no such folder")
        for folder in (place, *sorted(place.glob("*")), *sorted(place.glob("*/*"))):
            if (folder / "metrics.jsonl").is_file():
                found[folder] = None
    if not found:
        raise UsageError(
            "no run was found in " + ", ".join(map(str, places)),
            expected="folders with a metrics.jsonl",
            hint="ctscribe train RECIPE --out runs/NAME",
        )
    return tuple(found)


def read_run(folder: Path) -> RunSummary:
    """Summarise one run folder, be it finished, running or broken off."""
    rows = _lines(folder / "metrics.jsonl")
    logged = [row for row in rows if "total" in row]
    scored = [row["validation"] for row in rows if row.get("validation")]
    speed = _lines(folder / "speed.jsonl")
    plan = _document(folder / "config.yaml")
    environment = _document(folder / "environment.json")
    last = logged[-1] if logged else {}
    return RunSummary(
        run=str(folder),
        step=last.get("step", 0),
        of=sum(stage["steps"] for stage in plan.get("stages", ())),
        stage=last.get("stage"),
        finished=(folder / "weights.safetensors").is_file(),
        loss=last.get("total"),
        scores=scored[-1] if scored else {},
        seconds_per_step=speed[-1]["seconds_per_step"] if speed else None,
        processes=environment.get("processes"),
        commit=environment.get("git_commit"),
        settings=flat(_document(folder / "recipe.yaml") or plan),
    )


def differences(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """Dotted name -> value in each run, for the settings that all have and that are not the same in all of them.

    What only some runs name is younger than the others, or belongs to another recipe: it cannot be compared.
    """
    names = [name for name in (runs[0].settings if runs else ()) if all(name in run.settings for run in runs)]
    table = {name: [run.settings[name] for run in runs] for name in names}
    return {name: values for name, values in table.items() if any(value != values[0] for value in values)}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings, and sequences of mappings, as dotted names."""
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [(str(n), item) for n, item in enumerate(value)]
    else:
        return {prefix: value}
    table: dict[str, Any] = {}
    for key, item in items:
        table |= flat(item, f"{prefix}.{key}" if prefix else key)
    return table


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a JSON Lines file; the run may be writing the last one."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _document(path: Path) -> dict[str, Any]:
    """A YAML or JSON document, empty where there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}
