"""What a run writes down and shows: the run folder, metrics, progress.

```
run/config.yaml        the resolved configuration
run/environment.json   versions, machine, processes, git commit and whether files differed from it
run/metrics.jsonl      one line per logged step; holds no time, so equal runs give equal bytes
run/speed.jsonl        seconds, which no two runs share
run/tensorboard/       the same numbers, where tensorboard is installed (boards.py: MLflow and Weights & Biases)
run/plots/losses.png   where matplotlib is installed
run/checkpoints/       see saves.py
```
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from ctscribe.engines.world import here
from ctscribe.training.boards import open_boards
from ctscribe.training.stages import Stage


@dataclass
class Window:
    """Sums since the last logged line; part of a checkpoint, so that a resumed run logs the same means."""

    steps: int = 0
    total: float = 0.0
    norm: float = 0.0
    skipped: int = 0
    values: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, total: float, norm: float, skipped: bool, values: Mapping[str, tuple[float, int]]) -> None:
        """Count one optimiser step; `values` maps a loss to (sum over studies, studies).

        A skipped step counts, but its numbers, which may not be finite, stay out of the means.
        """
        self.steps += 1
        self.skipped += skipped
        if not skipped:
            self.total += total
            self.norm += norm
        for name, (value, seen) in values.items():
            self.values[name] = self.values.get(name, 0.0) + (0.0 if skipped else value)
            self.seen[name] = self.seen.get(name, 0) + (0 if skipped else seen)

    def means(self) -> dict[str, Any]:
        """The numbers of one log line; a loss that saw no label is null, not zero."""
        taken = max(1, self.steps - self.skipped)
        losses = {k: (v / self.seen[k] if self.seen[k] else None) for k, v in self.values.items()}
        return {
            "total": self.total / taken,
            "grad_norm": self.norm / taken,
            "skipped": self.skipped,
            "losses": losses,
            "seen": dict(self.seen),
        }


class JsonLines:
    """An append-only file of JSON objects, flushed line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        self._handle.write(json.dumps(row) + "\n")
        self._handle.flush()

    def close(self) -> None:
        self._handle.close()


def cut_metrics(path: Path, last_step: int) -> None:
    """Drop the lines after `last_step` and any half line: the steps after the checkpoint are run again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if row["step"] > last_step:
            break
        kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


class Tracker:
    """Everything a person or a plot sees of a run.

    Args:
        run_dir: the run folder, existing.
        last_step: the step a resumed run continues after, 0 for a fresh one.
        boards: services that are to see the metrics as well.
        console: where to show progress; a live bar on a terminal, one plain line per logged step elsewhere.
        muted: write and show nothing, as every process but the main one.

    Raises:
        DependencyMissing: a board's package is not installed.
    """

    def __init__(
        self,
        run_dir: Path,
        last_step: int,
        boards: Sequence[str] = (),
        console: Console | None = None,
        *,
        muted: bool = False,
    ) -> None:
        self.run_dir = run_dir
        self.console = console or Console(stderr=True, quiet=muted)
        self._boards = () if muted else open_boards(boards, run_dir, last_step)
        files = ["metrics.jsonl", "speed.jsonl"]
        if not muted:
            for name in files:
                cut_metrics(run_dir / name, last_step)
        self._metrics, self._speed = (JsonLines(Path(os.devnull) if muted else run_dir / name) for name in files)
        self._bar: Progress | None = None
        self._task: Any = None
        self._started, self._first, self._count = time.monotonic(), 0, 0

    def say(self, text: str) -> None:
        """One line for the person watching."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One warning line."""
        self.say(f"warning: {text}")

    def start_stage(self, stage: Stage, model: nn.Module, first: int) -> None:
        """Show what learns in this stage and start its progress bar at step `first`."""
        self.console.print(trainable_table(model, stage))
        self._started, self._first = time.monotonic(), first
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task(stage.name, total=stage.steps, completed=first, loss="")
            self._bar.start()

    def advance(self, done: int, total: float) -> None:
        """Move the bar to `done` steps of the stage."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, loss=f"loss {total:.4f}")

    def log(self, stage: Stage, step: int, done: int, lr: float, window: Window) -> None:
        """Write one line of metrics. `step` counts over all stages, `done` within this one."""
        means = window.means()
        self._metrics.write({"step": step, "stage": stage.name, "stage_step": done, "lr": lr, **means})
        seconds = (time.monotonic() - self._started) / max(1, done - self._first)
        self._speed.write({"step": step, "seconds_per_step": round(seconds, 4)})
        scalars = {f"loss/{k}": v for k, v in means["losses"].items() if v is not None}
        self._to_boards(step, {"total": means["total"], "lr": lr, "grad_norm": means["grad_norm"], **scalars})
        if self._bar is None:
            left = seconds * (stage.steps - done)
            parts = " ".join(f"{k} {v:.4f}" for k, v in means["losses"].items() if v is not None)
            self.say(
                f"{stage.name} {done}/{stage.steps} loss {means['total']:.4f} ({parts}) "
                f"lr {lr:.2e} {seconds:.2f} s/step {_clock(left)} left"
            )

    def validation(self, stage: Stage, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of one validation."""
        self._metrics.write({"step": step, "stage": stage.name, "validation": dict(scores)})
        self._to_boards(step, {f"validation/{k}": v for k, v in scores.items()})
        self.say(f"{stage.name} validation " + " ".join(f"{k} {v:.4f}" for k, v in scores.items()))

    def end_stage(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def close(self) -> None:
        self.end_stage()
        self._metrics.close()
        self._speed.close()
        for board in self._boards:
            board.close()

    def _to_boards(self, step: int, scalars: Mapping[str, float]) -> None:
        for board in self._boards:
            board.add(step, scalars)


def trainable_table(model: nn.Module, stage: Stage) -> Table:
    """Top-level part -> parameters that learn / all, with the stage's losses in the title."""
    losses = ", ".join(f"{weight:g} {name}" for name, weight in stage.losses.items())
    table = Table(title=f"stage {stage.name}: {stage.steps} steps, losses {losses}", title_justify="left")
    table.add_column("part")
    table.add_column("learns", justify="right")
    table.add_column("of", justify="right")
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        row = counts.setdefault(".".join(name.split(".")[:2]), [0, 0])
        row[0] += parameter.numel() * parameter.requires_grad
        row[1] += parameter.numel()
    for part, (learns, size) in counts.items():
        table.add_row(part, f"{learns:,}", f"{size:,}")
    table.add_row("all", f"{sum(c[0] for c in counts.values()):,}", f"{sum(c[1] for c in counts.values()):,}")
    return table


def environment() -> dict[str, Any]:
    """Versions and machine, for whoever has to reproduce the run. No host or user name."""
    versions: dict[str, str | None] = {}
    for name in ("ctscribe", "torch", "numpy", "transformers", "safetensors"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": here().size,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": (_git("status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def plot_losses(run_dir: Path) -> Path | None:
    """Draw metrics.jsonl as ``plots/losses.png``; None where matplotlib is missing or nothing was logged."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "losses" in row]
    if not rows:
        return None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([r["step"] for r in rows], [r["total"] for r in rows], color="black", label="total (weighted)")
    positive = all(r["total"] > 0 and min(filter(None, r["losses"].values()), default=1) > 0 for r in rows)
    for name in dict.fromkeys(name for row in rows for name in row["losses"]):
        points = [(r["step"], r["losses"][name]) for r in rows if r["losses"].get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1, label=name)
    for before, after in itertools.pairwise(rows):
        if before["stage"] != after["stage"]:
            axes.axvline(before["step"], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="optimiser step", ylabel="loss", yscale="log" if positive else "linear")
    axes.legend()
    path = run_dir / "plots" / "losses.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _git(*words: str) -> str | None:
    """What git says of the source tree the package runs from, None outside of one."""
    try:
        answer = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
