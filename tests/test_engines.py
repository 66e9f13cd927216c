"""Two processes equal one: in weights, averages and metrics; and either continues what the other began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import engines_run
from ctscribe.engines import spread
from ctscribe.engines.world import World, connected, here
from ctscribe.errors import ConfigError, TrainingError
from ctscribe.training import loop
from ctscribe.training.loop import train


def together(*jobs: str, succeeds: bool = True) -> str:
    """Run `engines_run` in two processes; what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(engines_run.__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, script, *jobs], capture_output=True, text=True, check=False, timeout=900, env=environment
    )
    assert (done.returncode == 0) is succeeds, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same plans, each trained by one process."""
    folders = {way: tmp_path_factory.mktemp(f"alone-{way}") for way in ("ddp", "fsdp")}
    for way, folder in folders.items():
        engines_run.run(folder, way)
    return folders


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both ways by two processes, whole, broken off and killed; and a run that one process broke off, taken up by two.

    Two processes are killed in the middle of a step, and the same command is given again.
    """
    folder = tmp_path_factory.mktemp("pair")
    with pytest.raises(engines_run.Killed):
        engines_run.run(folder / "one-then-two", "fsdp", 8 + 4 * 4)
    together(f"{folder}/killed:ddp:13:kill", succeeds=False)
    assert not (folder / "killed" / "weights.safetensors").exists()
    jobs = ("ddp:ddp", "fsdp:fsdp", "two-then-one:fsdp:12", "one-then-two:fsdp", "killed:ddp")
    said = together(*(f"{folder}/{job}" for job in jobs))
    assert said.count("continuing after step 7") == 2
    return folder


def assert_equal_runs(one: Path, other: Path) -> None:
    for name in ("weights", "averaged"):
        a, b = load_file(one / f"{name}.safetensors"), load_file(other / f"{name}.safetensors")
        assert a.keys() == b.keys()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-5, atol=1e-6)
    rows, others = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (one, other)
    )
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    assert [row.get("seen") for row in rows] == [row.get("seen") for row in others]
    for row, same in zip(rows, others, strict=True):
        assert row.get("total", 0) == pytest.approx(same.get("total", 0), rel=1e-4)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_equal_one(way: str, alone: dict[str, Path], pair: Path) -> None:
    assert_equal_runs(alone[way], pair / way)
    assert json.loads((pair / way / "environment.json").read_text())["processes"] == 2


def test_the_runs_would_differ_if_the_law_were_broken(alone: dict[str, Path], tmp_path: Path) -> None:
    # Half of each step's passes, as if gradients had not been exchanged.
    plan = engines_run.plans("ddp")
    halved = replace(plan, stages=tuple(replace(s, accumulate=s.accumulate // 2) for s in plan.stages))
    engines_run.run(tmp_path, "ddp", plan=halved)
    with pytest.raises(AssertionError):
        assert_equal_runs(alone["ddp"], tmp_path)


def test_two_killed_processes_started_again_end_in_the_same_bits(pair: Path) -> None:
    whole, killed = pair / "ddp", pair / "killed"
    for name in ("weights.safetensors", "averaged.safetensors", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_one_process_continues_what_two_began(alone: dict[str, Path], pair: Path) -> None:
    folder = pair / "two-then-one"
    assert not (folder / "weights.safetensors").exists()
    assert engines_run.run(folder, "fsdp").resumed_from == 7
    assert_equal_runs(alone["fsdp"], folder)


def test_two_processes_continue_what_one_began(alone: dict[str, Path], pair: Path) -> None:
    assert_equal_runs(alone["fsdp"], pair / "one-then-two")


def test_passes_that_cannot_be_shared_evenly_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "here", lambda: World(0, 3))
    with pytest.raises(ConfigError, match="cannot share 2 forward passes") as caught:
        train(engines_run.Net(), engines_run.plans(), lambda stage: None, engines_run.LOSSES, tmp_path)
    assert "a multiple of 3" in str(caught.value)


def test_a_single_number_cannot_be_sharded() -> None:
    model = torch.nn.ParameterDict({"gate": torch.nn.Parameter(torch.zeros(()))})
    with pytest.raises(TrainingError, match="gate is a single number"):
        spread.shard(model, torch.device("cpu"))


def test_blocks_are_the_repeated_layers() -> None:
    net = engines_run.Net()
    assert set(map(id, spread.blocks(net, 1))) == set(map(id, net.blocks))
    assert spread.blocks(net, 10**9) == []


def test_alone_the_world_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with connected() as world:
        assert world == here() == World(0, 1)
        assert world.main
        assert world.total([1.5, 2]) == [1.5, 2]
        assert world.share("word") == "word"


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match="cannot find the others") as caught, connected():
        pass
    assert "torchrun" in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif("CTSCRIBE_SLOW" not in os.environ, reason="minutes; `make test-slow` runs it")
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_whole_course_is_shared(way: str, tmp_path: Path) -> None:
    from recipes import tiny

    shared = [f"train.stages.{n}.accumulate=2" for n in range(3)]
    words = ["train", "tiny", *shared, f"train.parallel={way}", f"data.store={tmp_path}/store"]
    command = [sys.executable, "-m", "ctscribe.cli", *words, "--out", str(tmp_path / "one")]
    subprocess.run(command, check=True, cwd=Path(tiny.__file__).parents[1])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ctscribe.cli"]
    command = [sys.executable, *launch, *words, "--out", str(tmp_path / "two")]
    subprocess.run(command, check=True, cwd=Path(tiny.__file__).parents[1])
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    worst = max(float((one[key] - two[key]).abs().max()) for key in one)
    assert worst < 1e-4
    assert (tmp_path / "two" / "checkpoint" / "model.safetensors").exists()
