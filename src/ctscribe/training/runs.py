"""The run folder: opened once, and continued only under the plan it was started with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from ctscribe.config import save_resolved
from ctscribe.errors import TrainingError
from ctscribe.training.compare import flat
from ctscribe.training.stages import HOUSEKEEPING, Stage, TrainConfig
from ctscribe.training.track import environment


def open_run(run_dir: Path, config: TrainConfig, *, resume: bool) -> Path:
    """Make the folder and write down configuration and environment.

    Raises:
        TrainingError: the folder is used and `resume` is False.
    """
    used = (run_dir / "metrics.jsonl").exists() or (run_dir / "checkpoints").exists()
    if used and not resume:
        raise TrainingError(f"{run_dir} already holds a run", hint="choose another folder, or resume to continue it")
    (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    _replace(run_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    save_resolved(config, run_dir / "config.yaml")
    return run_dir


def check_same_plan(before: Mapping[str, Any], now: TrainConfig) -> None:
    """A resumed run must be the run that was started.

    Args:
        before: the configuration in the checkpoint; a field that did not exist yet counts as its default.
        now: the configuration asked for.

    Raises:
        TrainingError: they differ in anything that changes what is computed.
    """
    one, other = flat(plain(_with_defaults(before))), flat(plain(asdict(now)))
    missing = object()
    changed = [
        key
        for key in sorted({*one, *other})
        if key.split(".")[0] not in HOUSEKEEPING and one.get(key, missing) != other.get(key, missing)
    ]
    if changed:
        key = changed[0]
        raise TrainingError(
            "this run folder was started with another plan: " + ", ".join(changed),
            expected=f"{key} = {one.get(key, 'not set')}",
            got=f"{key} = {other.get(key, 'not set')}",
            hint="put the old value back to continue it, or train in a new run folder",
        )


def _with_defaults(before: Mapping[str, Any]) -> dict[str, Any]:
    stages = [_defaults(Stage) | stage for stage in before.get("stages", ())]
    return _defaults(TrainConfig) | dict(before) | {"stages": stages}


def _defaults(kind: type[TrainConfig] | type[Stage]) -> dict[str, Any]:
    filled = {f.name: f.default_factory() for f in fields(kind) if f.default_factory is not MISSING}
    return filled | {f.name: f.default for f in fields(kind) if f.default is not MISSING}


def plain(value: Any) -> Any:
    """Tuples as lists all the way down, as JSON and YAML store them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
