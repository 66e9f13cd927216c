"""The training loop. There is one; stages are data handed to it.

```
for stage in stages:                 what learns, with which losses, on which data
    for step in stage:               seed(step) -> batches -> forward -> losses -> backward -> AdamW -> EMA
        every so often:              metrics, validation, checkpoint
```

The loop knows nothing of CT. It asks three things of its guests: ``model(batch, wants=names) -> outputs``,
``loss(outputs, batch) -> LossValue`` and ``data(stage)(first, stop) -> iterator of batches``.

Several processes divide the forward passes of a step among themselves: with ``accumulate=4``, two processes make two
each. Pass n reads batch n and draws from seed n wherever it is made, so the plan says what is computed and the number
of processes only how fast.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ctscribe.engines.shards import gathered, whole
from ctscribe.engines.world import World, here
from ctscribe.errors import ConfigError, TrainingError
from ctscribe.training.ema import WeightAverage
from ctscribe.training.failures import check_disk, clear_failures, surviving_a_full_disk
from ctscribe.training.losses import Loss
from ctscribe.training.objective import Objective
from ctscribe.training.optim import (
    build_optimizer,
    freeze_all_but,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from ctscribe.training.order import BatchSource
from ctscribe.training.runs import check_same_plan, open_run
from ctscribe.training.saves import (
    Saved,
    load_own_state,
    newest_checkpoint,
    own_state,
    save_checkpoint,
    write_tensors,
)
from ctscribe.training.seeds import seed_everything
from ctscribe.training.stages import Stage, TrainConfig, check_train, trainable_names
from ctscribe.training.track import Tracker, Window, plot_losses

DataFactory = Callable[[Stage], BatchSource]
Validate = Callable[[nn.Module, Stage], Mapping[str, float]]

PATIENCE = 20
"""Steps in a row without a finite gradient after which a run is given up."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves behind.

    Attributes:
        run_dir: the run folder.
        weights: the last step's weights, safetensors by parameter name.
        averaged: the EMA weights over the same names (None when `ema` is 0): usually the ones to ship.
        steps: optimiser steps over all stages.
        resumed_from: the step this call continued after, None when it started afresh.
        scores: the last validation's.
    """

    run_dir: Path
    weights: Path
    averaged: Path | None
    steps: int
    resumed_from: int | None
    scores: dict[str, float]


@dataclass
class _Run:
    """The moving parts of one run, together."""

    model: nn.Module
    config: TrainConfig
    losses: Mapping[str, Loss]
    validate: Validate | None
    folder: Path
    tracker: Tracker
    average: WeightAverage | None
    unsaved: frozenset[str]
    world: World
    step: int = 0
    bad_in_a_row: int = 0
    scores: dict[str, float] | None = None


def train(
    model: nn.Module,
    config: TrainConfig,
    data: DataFactory,
    losses: Mapping[str, Loss],
    run_dir: Path | str,
    *,
    resume: bool = True,
    validate: Validate | None = None,
) -> TrainResult:
    """Train `model` through all stages; afterwards it holds the last step's weights.

    Under torchrun (see `engines.world.connected`) every process calls this with the same arguments and an equally
    built model; with ``parallel="fsdp"`` the model is left sharded.

    Args:
        model: called as ``model(batch, wants=frozenset_of_loss_names)``; moved to ``config.device``.
        config: stages and everything else that decides the run.
        data: stage -> ``source(first, stop)``, an iterator over the forward passes numbered first .. stop-1,
            a function of its arguments only (see `ordered_batches`). Batches with ``.to(device)`` are moved.
            Several processes call ``source(first, stop, stride)``, as `range` would be called.
        losses: by name.
        run_dir: made if needed; see `track` for what it holds.
        resume: continue from the newest whole checkpoint in `run_dir`; False wants an unused folder.
        validate: ``validate(model, stage) -> scores``, called with the averaged weights in evaluation mode.

    Raises:
        ConfigError: the plan cannot run.
        TrainingError: not resumable, memory or disk exhausted, the loss stopped being finite.
        KeyboardInterrupt: after a checkpoint was written, when interrupted or terminated.
    """
    world = here()
    check_train(config, losses)
    _check_shares(config, world)
    learned = frozenset(n for stage in config.stages for n in trainable_names(model, stage))
    model.to(config.device)
    with clear_failures(Path(run_dir)), _kernels(config):
        folder = Path(run_dir)
        warnings: list[str] = []
        saved = None
        if world.main:
            open_run(folder, config, resume=resume)
            check_disk(folder, _checkpoint_bytes(model, learned, config) * (config.keep + 1))
            saved = newest_checkpoint(folder / "checkpoints", warnings.append)
        # The main process decides which checkpoint counts; all read it from the folder they share.
        saved = world.share(saved)
        if world.size > 1 and config.parallel == "fsdp":
            from ctscribe.engines.spread import shard

            shard(model, torch.device(config.device))
        tracker = Tracker(folder, saved.state["step"] if saved else 0, config.trackers, muted=not world.main)
        for text in warnings:
            tracker.warn(text)
        run = _Run(
            model=model,
            config=config,
            losses=losses,
            validate=validate,
            folder=folder,
            tracker=tracker,
            average=WeightAverage(model, config.ema, sorted(learned)) if config.ema else None,
            unsaved=frozenset() if config.save_frozen else _names(model) - learned,
            world=world,
        )
        try:
            if saved:
                check_same_plan(saved.state["config"], config)
                _restore(run, saved)
            _train_stages(run, data, saved)
        finally:
            tracker.close()
        return _finish(run, saved)


def _train_stages(run: _Run, data: DataFactory, saved: Saved | None) -> None:
    first_stage = saved.state["stage"] if saved else 0
    for index, stage in enumerate(run.config.stages):
        if index == first_stage and saved and saved.state["stage_step"]:
            _train_stage(run, index, stage, data(stage), saved)
        elif index >= first_stage:
            _train_stage(run, index, stage, data(stage), None)


def _train_stage(run: _Run, index: int, stage: Stage, source: BatchSource, saved: Saved | None) -> None:
    config, tracker, world = run.config, run.tracker, run.world
    freeze_all_but(run.model, stage)
    optimizer = build_optimizer(run.model, stage, config.betas)
    first, window = 0, Window()
    if saved:
        load_optimizer_tensors(optimizer, run.model, saved.tensors("optimizer"))
        first, window = saved.state["stage_step"], Window(**saved.state["window"])
    tracker.start_stage(stage, run.model, first)
    objective = _objective(run, stage)
    begin, end = first * stage.accumulate, stage.steps * stage.accumulate
    batches = source(begin, end) if world.size == 1 else source(begin + world.rank, end, world.size)
    run.model.train()
    with _interruptible() as interrupted:
        for step in range(first, stage.steps):
            lr = learning_rate(stage, step)
            set_learning_rate(optimizer, lr)
            total, stop = _one_step(run, stage, step, batches, objective, optimizer, window, interrupted)
            run.step += 1
            done = step + 1
            tracker.advance(done, total)
            if done % config.log_every == 0 or done == stage.steps:
                tracker.log(stage, run.step, done, lr, window)
                window = Window()
            last = done == stage.steps
            if run.validate and (last or _due(done, config.validate_every)):
                _validate(run, stage)
            if last:
                _save(run, index + 1, 0, None, Window())
            elif stop:
                _save(run, index, done, optimizer, window)
            elif _due(done, config.checkpoint_every):
                with surviving_a_full_disk(run.folder, tracker.warn):
                    _save(run, index, done, optimizer, window)
            if stop:
                tracker.say(f"interrupted at step {run.step}; run again to continue from there")
                raise KeyboardInterrupt
    tracker.end_stage()


def _one_step(
    run: _Run,
    stage: Stage,
    step: int,
    batches: Iterator[Any],
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Window,
    interrupted: threading.Event,
) -> tuple[float, bool]:
    """Forward, backward and update; an update that is not finite is left out.

    Returns:
        the weighted loss, and whether any process was asked to stop.
    """
    config, world = run.config, run.world
    sums: dict[str, tuple[float, int]] = dict.fromkeys(stage.losses, (0.0, 0))
    total = 0.0
    optimizer.zero_grad(set_to_none=True)
    # Gradients are averaged over the processes, hence divided by the passes of one of them only.
    own = range(world.rank, stage.accumulate, world.size)
    for part in own:
        batch = _next(batches, stage)
        seed_everything(config.seed, stage.name, step, part)
        with _passing(run, objective, last=part == own[-1]):
            loss, values = objective(batch)
            if loss.requires_grad:
                (loss / len(own)).backward()
        total += loss.item() / stage.accumulate
        for name, (value, seen) in values.items():
            before = sums[name]
            sums[name] = (before[0] + value * seen, before[1] + seen)
    total, sums, stop = _over_all(world, total, sums, interrupted.is_set())
    norm = _clip(optimizer, config.clip)
    good = math.isfinite(norm) and math.isfinite(total) and norm > 0
    if good:
        optimizer.step()
        if run.average is not None:
            run.average.update()
    window.add(total, norm, not good, sums)
    run.bad_in_a_row = 0 if good else run.bad_in_a_row + 1
    if run.bad_in_a_row >= PATIENCE:
        raise _no_progress(stage, step, total, sums)
    return total, stop


def _over_all(
    world: World, total: float, sums: Mapping[str, tuple[float, int]], interrupted: bool
) -> tuple[float, dict[str, tuple[float, int]], bool]:
    """The numbers of a step over all processes, so that all of them decide alike."""
    values = [total, float(interrupted), *(float(number) for pair in sums.values() for number in pair)]
    total, stop, *rest = world.total(values)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return total, {name: (value, int(seen)) for name, (value, seen) in zip(sums, pairs, strict=True)}, stop > 0


def _objective(run: _Run, stage: Stage) -> nn.Module:
    """What one forward pass of this stage computes, spread over the processes."""
    config, many = run.config, run.world.size > 1
    objective = Objective(run.model, stage, run.losses, config, joint=config.parallel if many else None)
    if not many or config.parallel == "fsdp":
        return objective
    from ctscribe.engines.spread import replicate

    return replicate(objective)


def _passing(run: _Run, objective: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    if run.world.size == 1:
        return nullcontext()
    from ctscribe.engines.spread import passing

    return passing(objective, last)


def _check_shares(config: TrainConfig, world: World) -> None:
    """Every process must make the same number of forward passes in each step."""
    for stage in config.stages:
        if stage.accumulate % world.size:
            raise ConfigError(
                f"stage {stage.name!r}: {world.size} processes cannot share {stage.accumulate} forward passes evenly",
                expected=f"accumulate as a multiple of {world.size}",
                got=f"accumulate = {stage.accumulate}, batch_size = {stage.batch_size}",
                hint="a step sees accumulate x batch_size studies: raise one and lower the other, "
                "or start fewer processes",
            )


def _clip(optimizer: torch.optim.Optimizer, limit: float) -> float:
    """Gradient norm before clipping; 0 when no parameter has a gradient."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not parameters:
        return 0.0
    return float(whole(nn.utils.clip_grad_norm_(parameters, limit or math.inf)))


def _next(batches: Iterator[Any], stage: Stage) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise TrainingError(
            f"stage {stage.name!r} ran out of data",
            expected=f"{stage.steps * stage.accumulate} batches",
            hint="data sources repeat for ever, see ctscribe.training.order.ordered_batches",
        ) from None


def _no_progress(stage: Stage, step: int, total: float, sums: Mapping[str, tuple[float, int]]) -> TrainingError:
    blind = [name for name, (_, seen) in sums.items() if seen == 0]
    return TrainingError(
        f"stage {stage.name!r}: {PATIENCE} steps in a row changed nothing (step {step + 1})",
        got=f"loss {total}; losses that saw no label: {', '.join(blind) or 'none'}",
        hint="a loss of nan or inf asks for a lower lr; losses without labels ask for other data",
    )


def _validate(run: _Run, stage: Stage) -> None:
    assert run.validate is not None
    run.model.eval()
    # Every process validates on everything: a sharded model computes only where all of them take part.
    with torch.no_grad():
        if run.average is None:
            scores = run.validate(run.model, stage)
        else:
            with run.average.applied():
                scores = run.validate(run.model, stage)
    run.model.train()
    run.scores = dict(scores)
    run.tracker.validation(stage, run.step, run.scores)


def _save(run: _Run, stage: int, stage_step: int, optimizer: torch.optim.Optimizer | None, window: Window) -> None:
    tensors = {"weights": gathered(own_state(run.model, run.unsaved))}
    if run.average is not None:
        tensors["ema"] = gathered(run.average.averages)
    if optimizer is not None:
        tensors["optimizer"] = gathered(optimizer_tensors(optimizer, run.model))
    if not run.world.main:
        return
    state = {
        "step": run.step,
        "stage": stage,
        "stage_step": stage_step,
        "window": asdict(window),
        "ema_updates": run.average.updates if run.average else 0,
        "bad_in_a_row": run.bad_in_a_row,
        "scores": run.scores,
        "config": asdict(run.config),
    }
    save_checkpoint(run.folder / "checkpoints", run.step, tensors, state, keep=run.config.keep)


def _restore(run: _Run, saved: Saved) -> None:
    load_own_state(run.model, saved.tensors("weights"), saved.path)
    run.step, run.scores = saved.state["step"], saved.state["scores"]
    run.bad_in_a_row = saved.state["bad_in_a_row"]
    if run.average is not None:
        run.average.load(saved.tensors("ema"), saved.state["ema_updates"])
    run.tracker.say(f"continuing after step {run.step} ({saved.path.name})")


def _finish(run: _Run, saved: Saved | None) -> TrainResult:
    weights = run.folder / "weights.safetensors"
    _write_weights(run, weights)
    averaged = None
    if run.average is not None:
        averaged = run.folder / "averaged.safetensors"
        with run.average.applied():
            _write_weights(run, averaged)
    if run.world.main:
        plot_losses(run.folder)
    run.world.wait()
    resumed = saved.state["step"] if saved else None
    return TrainResult(run.folder, weights, averaged, run.step, resumed, run.scores or {})


def _write_weights(run: _Run, file: Path) -> None:
    tensors = gathered(own_state(run.model, run.unsaved))
    if run.world.main:
        write_tensors(file, tensors)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _names(model: nn.Module) -> frozenset[str]:
    return frozenset(name for name, _ in model.named_parameters())


def _checkpoint_bytes(model: nn.Module, learned: frozenset[str], config: TrainConfig) -> int:
    """Size of one checkpoint: the weights, and for each learned one its average and AdamW's two moments."""
    sizes = {name: p.numel() * p.element_size() for name, p in model.named_parameters()}
    moving = sum(sizes[name] for name in learned)
    whole = sum(sizes.values()) if config.save_frozen else moving
    return whole + moving * (3 if config.ema else 2)


@contextmanager
def _kernels(config: TrainConfig) -> Iterator[None]:
    """Threads and deterministic kernels for the duration of the run."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if config.deterministic:
        # cuBLAS needs this before its first call, or it refuses to be deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Nothing here reads memory before it was written; filling every new tensor costs a tenth of a step on CPU.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if config.threads:
        torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
        torch.set_num_threads(threads)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the step under way ends well; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
