"""Where curves can be watched besides the run folder: TensorBoard, MLflow, Weights & Biases.

Scores and settings go there; no report, study name or image ever does. Nothing is sent anywhere unless a run names it
(``trackers``): MLflow writes where ``MLFLOW_TRACKING_URI`` says, Weights & Biases obeys ``WANDB_MODE=offline``.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from ctscribe.errors import DependencyMissing


@runtime_checkable
class Scalars(Protocol):
    """Takes numbers by name and step."""

    def add(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def open_boards(names: Sequence[str], run_dir: Path, last_step: int) -> tuple[Scalars, ...]:
    """TensorBoard where it is installed, and every board that is named.

    Args:
        names: ``"mlflow"``, ``"wandb"``.
        run_dir: the run folder; its name is the run's name there.
        last_step: the step a resumed run continues after.

    Raises:
        DependencyMissing: a named board's package is not installed.
    """
    opened: list[Scalars] = [MLflow(run_dir) if name == "mlflow" else WeightsAndBiases(run_dir) for name in names]
    try:
        opened.append(TensorBoard(run_dir / "tensorboard", last_step))
    except ImportError:
        pass
    return tuple(opened)


def check_boards(names: Sequence[str]) -> None:
    """Refuse boards whose packages are not installed.

    Raises:
        DependencyMissing: names the package.
    """
    for name in names:
        _package(name)


class TensorBoard:
    """Event files in the run folder; what lies after `last_step` is hidden, as those steps are run again."""

    def __init__(self, folder: Path, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1 if last_step else None)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """One MLflow run per run folder, continued when the folder is: its id is kept in ``mlflow.id``."""

    def __init__(self, run_dir: Path) -> None:
        self._api = _package("mlflow")
        note = run_dir / "mlflow.id"
        known = note.read_text(encoding="utf-8").strip() if note.exists() else None
        self._api.set_experiment("ctscribe")
        run = self._api.start_run(run_id=known, run_name=None if known else run_dir.name)
        if known is None:
            note.write_text(run.info.run_id + "\n", encoding="utf-8")
            self._api.log_dict(_settings(run_dir), "config.yaml")

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        self._api.log_metrics(dict(scalars), step=step)

    def close(self) -> None:
        self._api.end_run()


class WeightsAndBiases:
    """One W&B run per run folder, continued when the folder is: its id is kept in ``wandb.id``."""

    def __init__(self, run_dir: Path) -> None:
        api = _package("wandb")
        note = run_dir / "wandb.id"
        if not note.exists():
            note.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        self._run: Any = api.init(
            project="ctscribe",
            name=run_dir.name,
            id=note.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(run_dir),
            config=_settings(run_dir),
        )

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()


def _settings(run_dir: Path) -> dict[str, Any]:
    """The resolved configuration of the run."""
    return yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyMissing(
            f"trackers names {name}, which is not installed", hint=f"pip install 'ctscribe[{name}]', or leave it out"
        ) from error
