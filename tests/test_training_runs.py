"""Runs as folders: what a full disk or a death in the middle of a checkpoint leaves, and how runs are compared."""

from __future__ import annotations

import errno
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from typer.testing import CliRunner

import engines_run
from ctscribe.cli import app
from ctscribe.errors import DependencyMissing, TrainingError
from ctscribe.training import saves
from ctscribe.training.boards import MLflow, WeightsAndBiases
from ctscribe.training.compare import differences, find_runs, read_run
from ctscribe.training.order import BucketOrder, EpochOrder, ordered_batches
from ctscribe.training.runs import check_same_plan, plain

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "straight"
    engines_run.run(folder)
    return folder


def assert_same_bits(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("weights.safetensors", "averaged.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def failing_at(monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException) -> None:
    """Writing tensors into a path that contains `where` fails after half of the bytes."""
    write = saves.save_file

    def half(tensors: dict[str, torch.Tensor], path: Path) -> None:
        write(tensors, path)
        if where in str(path):
            path.write_bytes(path.read_bytes()[:100])
            raise error

    monkeypatch.setattr(saves, "save_file", half)


# ------------------------------------------------------------------------------------- disk and death
@pytest.mark.parametrize("error", [FULL, SafetensorError(f"I/O error: {FULL.strerror} (os error 28)")])
def test_a_full_disk_at_a_checkpoint_between_others_is_survived(
    error: Exception,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing_at(monkeypatch, "step-00000007", error)
    engines_run.run(tmp_path)
    assert "warning: the disk is full, this checkpoint was not written" in capsys.readouterr().err
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000010", "step-00000012"]
    assert_same_bits(straight, tmp_path)


def test_a_full_disk_at_the_end_of_a_stage_stops_the_run_and_leaves_what_was_whole(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing_at(patched, "step-00000004", FULL)
        with pytest.raises(TrainingError, match="disk is full"):
            engines_run.run(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    assert engines_run.run(tmp_path).resumed_from == 3
    assert_same_bits(straight, tmp_path)


@pytest.mark.parametrize("where", ["weights", "ema", "optimizer"])
def test_a_death_in_the_middle_of_a_checkpoint_leaves_the_one_before(
    where: str, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        failing_at(patched, f".step-00000010.partial/.{where}", engines_run.Killed())
        with pytest.raises(engines_run.Killed):
            engines_run.run(tmp_path)
    assert (tmp_path / "checkpoints" / ".step-00000010.partial").exists()
    assert engines_run.run(tmp_path).resumed_from == 7
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert_same_bits(straight, tmp_path)


def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(outputs: object, batch: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setitem(engines_run.LOSSES, "rare", exhausted)
    with pytest.raises(TrainingError) as caught:
        engines_run.run(tmp_path)
    for word in ("batch_size", "accumulate", "checkpointing=true", "bfloat16", "fsdp"):
        assert word in str(caught.value)


def test_a_plan_from_before_a_setting_existed_is_resumed_with_its_default() -> None:
    plan = engines_run.plans()
    before = plain({**vars(plan), "stages": [vars(stage) for stage in plan.stages]})
    del before["trackers"]
    for stage in before["stages"]:
        del stage["bucket"]
    check_same_plan(before, plan)
    changed = replace(plan, stages=(replace(plan.stages[0], bucket=4), *plan.stages[1:]))
    with pytest.raises(TrainingError, match=r"stages\.0\.bucket"):
        check_same_plan(before, changed)


# -------------------------------------------------------------------------------------------- order
def length(index: int) -> float:
    return (index * 7) % 13


def test_buckets_move_samples_within_themselves_and_put_like_lengths_together() -> None:
    plain_order, sorted_order = EpochOrder(13, 1), BucketOrder(13, 1, length, bucket=5)
    spread = {"plain": 0.0, "sorted": 0.0}
    for bucket in (3, 0, 2):  # any bucket is found without those before it
        numbers = range(bucket * 5, bucket * 5 + 5)
        batches = {n: sorted_order.batch(n, 4) for n in numbers}
        loose = {n: plain_order.batch(n, 4) for n in numbers}
        assert Counter(k for keys in batches.values() for k in keys) == Counter(k for v in loose.values() for k in v)
        for name, these in (("plain", loose), ("sorted", batches)):
            for keys in these.values():
                lengths = [length(index) for _, index in keys]
                spread[name] += max(lengths) * len(lengths) - sum(lengths)
    assert spread["sorted"] < spread["plain"] / 2


class Long(engines_run.Line):
    def length_of(self, index: int) -> float:
        return length(index)


@pytest.mark.parametrize("bucket", [0, 3])
def test_processes_divide_one_stream(bucket: int) -> None:
    source = ordered_batches(Long(), engines_run.stack, batch_size=2, seed=1, bucket=bucket)
    whole = [batch.x for batch in source(2, 14)]
    for rank in range(3):
        mine = [batch.x for batch in source(2 + rank, 14, 3)]
        assert all(torch.equal(a, b) for a, b in zip(mine, whole[rank::3], strict=True))


def test_samples_without_lengths_cannot_be_sorted() -> None:
    with pytest.raises(TrainingError, match="Line cannot be sorted by length"):
        ordered_batches(engines_run.Line(), engines_run.stack, batch_size=2, seed=1, bucket=2)


# ------------------------------------------------------------------------------------------ compare
def test_runs_are_compared(straight: Path, tmp_path: Path) -> None:
    other = straight.parent / "other"
    with pytest.raises(engines_run.Killed):
        engines_run.run(other, stop=20, plan=replace(engines_run.plans(), seed=6))
    answer = CliRunner().invoke(app, ["runs", str(straight.parent), "--json"])
    assert answer.exit_code == 0
    told = json.loads(answer.stdout)
    one, two = {Path(run["run"]).name: run for run in told["runs"]}["straight"], told["runs"][0]
    assert (one["step"], one["of"], one["finished"], one["stage"]) == (12, 12, True, "second")
    assert one["scores"]["score"] > 0
    assert (two["step"], two["finished"]) == (6, False)
    assert told["differences"] == {"seed": [6, 5]}
    shown = CliRunner().invoke(app, ["runs", str(straight), str(other)])
    assert "12/12 done" in shown.stdout
    assert "seed" in shown.stdout
    assert CliRunner().invoke(app, ["runs", str(tmp_path)]).exit_code != 0
    assert differences([read_run(folder) for folder in find_runs([straight])]) == {}


# ------------------------------------------------------------------------------------------- boards
def fake_mlflow(calls: list[tuple]) -> SimpleNamespace:
    def start_run(run_id: str | None, run_name: str | None) -> SimpleNamespace:
        calls.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "abc"))

    return SimpleNamespace(
        set_experiment=lambda name: None,
        start_run=start_run,
        log_dict=lambda values, name: calls.append(("settings", values["seed"], name)),
        log_metrics=lambda metrics, step: calls.append(("metrics", step, metrics)),
        end_run=lambda: calls.append(("end",)),
    )


def test_mlflow_continues_the_run_of_a_folder(straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.setitem(sys.modules, "mlflow", fake_mlflow(calls))
    for step in (1, 2):
        board = MLflow(straight)
        board.add(step, {"total": 0.5})
        board.close()
    assert calls == [
        ("start", None, "straight"),
        ("settings", 5, "config.yaml"),
        ("metrics", 1, {"total": 0.5}),
        ("end",),
        ("start", "abc", None),
        ("metrics", 2, {"total": 0.5}),
        ("end",),
    ]


def test_weights_and_biases_continues_the_run_of_a_folder(straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict] = []
    logged: list[tuple] = []
    run = SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)
    fake = SimpleNamespace(init=lambda **words: opened.append(words) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for step in (1, 2):
        board = WeightsAndBiases(straight)
        board.add(step, {"total": 0.5})
        board.close()
    assert opened[0]["id"]
    assert opened[0]["id"] == opened[1]["id"]
    assert opened[0]["config"]["seed"] == 5
    assert logged == [(1, {"total": 0.5}), (2, {"total": 0.5})]


def test_a_board_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(DependencyMissing, match="trackers names mlflow"):
        engines_run.run(tmp_path, plan=replace(engines_run.plans(), trackers=("mlflow",)))
