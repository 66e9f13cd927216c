"""The loop: equal runs are equal to the bit, however often they are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ctscribe.errors import ConfigError, TrainingError, UsageError
from ctscribe.training.loop import PATIENCE, train
from ctscribe.training.losses import LossValue
from ctscribe.training.order import ordered_batches
from ctscribe.training.stages import Stage, TrainConfig, trainable_names


@dataclass(frozen=True)
class Points:
    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Points:
        return Points(self.x.to(device), self.y.to(device))


class Tied(nn.Module):
    """Dropout (randomness), a buffer, a tied weight and two parts to freeze: what real models have."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        self.alias = nn.Linear(4, 4, bias=False)
        self.alias.weight = self.body.weight
        self.norm = nn.BatchNorm1d(4)
        self.asked: set[frozenset[str]] = set()

    def forward(self, batch: Points, *, wants: frozenset[str]) -> Tensor:
        self.asked.add(wants)
        hidden = nn.functional.dropout(self.norm(torch.tanh(self.body(batch.x))), 0.2, self.training)
        return self.head(self.alias(hidden))


def squared(outputs: Tensor, batch: Points) -> LossValue:
    return LossValue((outputs.float().sum(dim=1) - batch.y).square().mean(), len(batch.y))


def small(outputs: Tensor, batch: Points) -> LossValue:
    return LossValue(outputs.float().square().mean(), len(batch.y))


def blind(outputs: Tensor, batch: Points) -> LossValue:
    return LossValue.nothing(outputs)


LOSSES = {"squared": squared, "small": small, "blind": blind}


class Line:
    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> tuple[np.ndarray, float]:
        x = np.random.default_rng(index).normal(size=4).astype(np.float32)
        return x, float(x.sum())


def jitter(sample: tuple[np.ndarray, float], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    return sample[0] + rng.normal(scale=0.01, size=4).astype(np.float32), sample[1]


def stack(samples: list[tuple[np.ndarray, float]]) -> Points:
    return Points(torch.from_numpy(np.stack([s[0] for s in samples])), torch.tensor([s[1] for s in samples]))


def plan(**changes: object) -> TrainConfig:
    config = TrainConfig(
        stages=(
            Stage("first", 7, {"squared": 1.0}, trainable=("head.*",), lr=1e-2, batch_size=4, warmup=2),
            Stage(
                "second",
                12,
                {"squared": 1.0, "small": 0.1},
                lr=1e-2,
                batch_size=4,
                accumulate=2,
                warmup=3,
                muon=("body.weight",),
            ),
        ),
        seed=5,
        ema=0.9,
        log_every=3,
        checkpoint_every=4,
    )
    return replace(config, **changes)


def source(stage: Stage, workers: int = 0):
    return ordered_batches(
        Line(),
        stack,
        batch_size=stage.batch_size,
        seed=(5, stage.name),
        transforms=(jitter,),
        workers=workers,
    )


class Killed(Exception):
    pass


def stopping(after: int):
    """A data factory whose stream breaks off after so many batches over the whole call."""
    left = [after]

    def data(stage: Stage):
        whole = source(stage)

        def broken(first: int, stop: int):
            for batch in whole(first, stop):
                if not left[0]:
                    raise Killed
                left[0] -= 1
                yield batch

        return broken

    return data


def traces(folder: Path) -> tuple[bytes, dict[str, Tensor], dict[str, Tensor]]:
    return (
        (folder / "metrics.jsonl").read_bytes(),
        load_file(folder / "weights.safetensors"),
        load_file(folder / "averaged.safetensors"),
    )


def assert_same_run(one: Path, other: Path) -> None:
    (lines, weights, averages), (lines2, weights2, averages2) = traces(one), traces(other)
    assert lines == lines2
    for tensors, tensors2 in ((weights, weights2), (averages, averages2)):
        assert tensors.keys() == tensors2.keys()
        assert all(torch.equal(tensors[k], tensors2[k]) for k in tensors)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    train(Tied(), plan(), source, LOSSES, folder)
    return folder


def test_a_run_leaves_everything_a_reader_needs(straight: Path) -> None:
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "weights.safetensors",
        "plots/losses.png",
    ):
        assert (straight / name).stat().st_size > 0, name
    rows = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [3, 6, 7, 10, 13, 16, 19]
    assert rows[0]["seen"] == {"squared": 12}
    assert rows[-1]["seen"] == {"squared": 24, "small": 24}
    assert not list(straight.rglob("*.p*kl"))
    assert not list(straight.rglob("*.partial"))


def test_learning_happens_and_only_where_asked(tmp_path: Path) -> None:
    model = Tied()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    only_head = replace(plan(), stages=plan().stages[:1])
    train(model, only_head, source, LOSSES, tmp_path)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert model.asked == {frozenset({"squared"})}


def test_loss_falls(tmp_path: Path) -> None:
    long = replace(plan(), stages=(replace(plan().stages[1], steps=150),), log_every=50)
    train(Tied(), long, source, LOSSES, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["losses"]["squared"] < 0.5 * rows[0]["losses"]["squared"]


@pytest.mark.parametrize("after", [1, 5, 7, 14, 29])
def test_a_broken_run_resumes_to_the_same_bits(after: int, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(Tied(), plan(), stopping(after), LOSSES, tmp_path)
    result = train(Tied(), plan(), source, LOSSES, tmp_path)
    assert_same_run(straight, tmp_path)
    assert result.steps == 19


def test_a_run_broken_at_every_turn_resumes_to_the_same_bits(straight: Path, tmp_path: Path) -> None:
    for _ in range(20):
        try:
            train(Tied(), plan(checkpoint_every=1), stopping(3), LOSSES, tmp_path)
        except Killed:
            continue
        break
    assert_same_run(straight, tmp_path)


def test_workers_do_not_change_a_run(straight: Path, tmp_path: Path) -> None:
    train(Tied(), plan(), lambda stage: source(stage, workers=1), LOSSES, tmp_path)
    assert_same_run(straight, tmp_path)


def test_killed_by_the_system_and_resumed(straight: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_training_loop import LOSSES, Tied, plan, source, train
        def slow(stage):
            whole = source(stage)
            def paused(first, stop):
                for batch in whole(first, stop):
                    time.sleep(0.05)
                    yield batch
            return paused
        train(Tied(), plan(checkpoint_every=2), slow, LOSSES, {str(tmp_path / "run")!r})
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run" / "checkpoints").glob("step-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    result = train(Tied(), plan(checkpoint_every=2), source, LOSSES, tmp_path / "run")
    assert result.resumed_from is not None
    assert result.resumed_from >= 2
    assert_same_run(straight, tmp_path / "run")


def test_an_interrupt_saves_first(straight: Path, tmp_path: Path) -> None:
    def data(stage: Stage):
        def interrupting(first: int, stop: int):
            for n, batch in enumerate(source(stage)(first, stop)):
                if n == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return interrupting

    with pytest.raises(KeyboardInterrupt):
        train(Tied(), plan(checkpoint_every=1000), data, LOSSES, tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    train(Tied(), plan(checkpoint_every=1000), source, LOSSES, tmp_path)
    assert_same_run(straight, tmp_path)


@pytest.mark.parametrize("damage", ["weights.safetensors", "state.json", "optimizer.safetensors"])
def test_a_truncated_checkpoint_is_skipped_aloud(
    damage: str, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed):
        train(Tied(), plan(checkpoint_every=2), stopping(6), LOSSES, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    content = (newest / damage).read_bytes()
    (newest / damage).write_bytes(content[: len(content) // 2])
    result = train(Tied(), plan(checkpoint_every=2), source, LOSSES, tmp_path)
    assert f"checkpoint {newest.name} is skipped" in capsys.readouterr().err
    assert result.resumed_from == 4
    assert_same_run(straight, tmp_path)


def test_a_flipped_byte_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Killed):
        train(Tied(), plan(checkpoint_every=2), stopping(5), LOSSES, tmp_path)
    file = sorted((tmp_path / "checkpoints").iterdir())[-1] / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert train(Tied(), plan(checkpoint_every=2), source, LOSSES, tmp_path).resumed_from == 2
    assert "has changed since it was written" in capsys.readouterr().err


def test_only_the_newest_checkpoints_stay(straight: Path) -> None:
    assert sorted(p.name for p in (straight / "checkpoints").iterdir()) == ["step-00000015", "step-00000019"]


def test_another_plan_is_not_resumed(straight: Path) -> None:
    changed = replace(plan(), stages=(plan().stages[0], replace(plan().stages[1], lr=1e-3)))
    with pytest.raises(TrainingError, match=r"stages\.1\.lr"):
        train(Tied(), changed, source, LOSSES, straight)


def test_housekeeping_may_change(straight: Path) -> None:
    assert train(Tied(), plan(keep=5), source, LOSSES, straight).resumed_from == 19


def test_a_used_folder_is_refused_without_resume(straight: Path) -> None:
    with pytest.raises(TrainingError, match="already holds a run"):
        train(Tied(), plan(), source, LOSSES, straight, resume=False)


def test_validation_wears_the_average_and_takes_it_off(tmp_path: Path, straight: Path) -> None:
    worn: list[Tensor] = []

    def validate(model: nn.Module, stage: Stage) -> dict[str, float]:
        assert not model.training
        torch.rand(3)  # draws from the global generator must not disturb the run
        worn.append(model.get_parameter("head.weight").detach().clone())
        return {"score": float(len(worn))}

    result = train(Tied(), plan(validate_every=5), source, LOSSES, tmp_path, validate=validate)
    _, weights, averages = traces(tmp_path)
    assert torch.equal(worn[-1], averages["head.weight"])
    assert not torch.equal(worn[-1], weights["head.weight"])
    assert torch.equal(weights["head.weight"], load_file(straight / "weights.safetensors")["head.weight"])
    assert result.scores == {"score": 5.0}


def test_bfloat16_trains_in_float32_weights(tmp_path: Path) -> None:
    model = Tied()
    train(model, plan(precision="bfloat16"), source, LOSSES, tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_frozen_weights_can_stay_out_of_checkpoints(tmp_path: Path) -> None:
    config = replace(plan(save_frozen=False), stages=plan().stages[:1])
    train(Tied(), config, source, LOSSES, tmp_path)
    assert {"head.weight", "head.bias"} <= load_file(tmp_path / "weights.safetensors").keys()
    assert "body.weight" not in load_file(tmp_path / "weights.safetensors")


def test_a_loss_without_labels_is_null_not_zero(tmp_path: Path) -> None:
    stages = (Stage("only", 2, {"squared": 1.0, "blind": 1.0}, batch_size=4),)
    train(Tied(), plan(stages=stages), source, LOSSES, tmp_path)
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["losses"]["blind"] is None
    assert row["seen"]["blind"] == 0


def test_a_run_that_learns_nothing_is_given_up(tmp_path: Path) -> None:
    stages = (Stage("only", PATIENCE + 5, {"blind": 1.0}, batch_size=4),)
    with pytest.raises(TrainingError, match="changed nothing") as caught:
        train(Tied(), plan(stages=stages), source, LOSSES, tmp_path)
    assert "blind" in str(caught.value)


def test_a_step_that_is_not_finite_leaves_the_weights_alone(tmp_path: Path) -> None:
    calls = [0]

    def sometimes_nan(outputs: Tensor, batch: Points) -> LossValue:
        calls[0] += 1
        return LossValue(outputs.sum() * (float("nan") if calls[0] == 2 else 1.0), 4)

    model = Tied()
    stages = (Stage("only", 3, {"nan": 1.0}, batch_size=4),)
    train(model, plan(stages=stages), source, {"nan": sometimes_nan}, tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["skipped"] == 1


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((), "no stages"),
        ((Stage("a", 1, {"nosuch": 1.0}),), "unknown loss 'nosuch'"),
        ((Stage("a", 1, {"small": 1.0}, trainable=("vision.*",)),), "no parameter matches 'vision.*'"),
        ((Stage("a", 1, {"small": 1.0}, frozen=("*",)),), "trains nothing"),
        ((Stage("a", 1, {"small": 1.0}), Stage("a", 1, {"small": 1.0})), "names repeat"),
        ((Stage("a", 0, {"small": 1.0}),), "steps is 0"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_at_once(stages: tuple[Stage, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(Tied(), plan(stages=stages), source, LOSSES, tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"log_every": 0}, "train.log_every"),
        ({"keep": 0}, "train.keep"),
        ({"threads": -3}, "train.threads"),
        ({"ema": 1.5}, "train.ema"),
        ({"betas": (0.9, 1.0)}, "train.betas"),
        ({"clip": -1.0}, "train.clip"),
        ({"checkpoint_every": -1}, "train.checkpoint_every"),
        ({"validate_every": -1}, "train.validate_every"),
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"stages": (Stage("a", 1, {"small": 1.0}, final_lr=2.0),)}, "final_lr"),
        ({"stages": (Stage("a", 1, {"small": 1.0}, weight_decay=-1.0),)}, "weight_decay"),
        ({"stages": (Stage("a", 1, {"small": 1.0}, muon=("nowhere.*",)),)}, "no parameter matches 'nowhere.*'"),
    ],
)
def test_numbers_and_devices_that_cannot_be_are_refused_at_once(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        train(Tied(), plan(**changes), source, LOSSES, tmp_path)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_patterns_of_muon_for_parts_that_are_not_there_are_passed_over() -> None:
    stage = Stage("a", 1, {"small": 1.0}, muon=("body.weight", "nowhere.*"))
    assert set(trainable_names(Tied(), stage)) == {name for name, _ in Tied().named_parameters()}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "disk is full"),
        (MemoryError(), "does not fit into memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
            "does not fit into memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "does not fit into memory"),
    ],
)
def test_the_machine_running_out_is_said_clearly(error: Exception, words: str, tmp_path: Path) -> None:
    def failing(outputs: Tensor, batch: Points) -> LossValue:
        raise error

    with pytest.raises(TrainingError, match=words):
        train(Tied(), plan(), source, {**LOSSES, "squared": failing}, tmp_path)


def test_too_small_a_disk_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("ctscribe.training.failures.shutil.disk_usage", lambda path: usage)
    with pytest.raises(TrainingError, match="not enough disk space"):
        train(Tied(), plan(), source, LOSSES, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
