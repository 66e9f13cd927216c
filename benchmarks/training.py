"""What training costs: synthetic phantoms, the preset of the recipe ``demo``, minutes.

    PYTHONPATH=. python benchmarks/training.py [--only busy saves memory pair] [--steps 3] [--store DIR]

busy     share of a step's processor time that the model computes, its scans read from the store
saves    seconds to write a checkpoint with averages and moments, and to find, check and read it again
memory   bytes that the encoder keeps for the backward pass, with and without ``encoder.checkpointing``
pair     samples a second of two processes against one, at the tiny preset; both cores must be free

One thread. Prints one JSON line per part; what learning brings is measured by ``benchmarks/objectives.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from ctscribe.language.sizes import kept_bytes
from ctscribe.model import CTReportModel
from ctscribe.tensors import VolumeBatch
from ctscribe.training import course
from ctscribe.training.losses import standard_losses
from ctscribe.training.saves import newest_checkpoint, own_state, save_checkpoint
from ctscribe.vision.build import build_encoder
from recipes import demo, tiny

PARTS = ("busy", "saves", "memory", "pair")


def busy(store: Path, steps: int) -> dict[str, float]:
    """Processor seconds of loading and of computing over a few steps of the demo's detector."""
    config = demo.config()
    config = replace(config, data=replace(config.data, studies=16, processes=1))
    studies = course.open_studies(config, store / "demo", 0, 16)
    model = CTReportModel(config.model, course.tokenizer_of(tiny.config(), store))
    stage = replace(config.train.stages[1], steps=steps)
    batches = course.Sources(config, model.language.tokenizer, studies)(stage)(0, steps)
    losses, loading, computing = standard_losses(), 0.0, 0.0
    for _ in range(steps):
        started = time.process_time()
        batch = next(batches)
        loaded = time.process_time()
        outputs = model(batch, wants=frozenset(stage.losses))
        sum(weight * losses[name](outputs, batch).value for name, weight in stage.losses.items()).backward()
        loading, computing = loading + loaded - started, computing + time.process_time() - loaded
    return {"busy": computing / (loading + computing), "load_s": loading / steps, "step_s": computing / steps}


def saves(store: Path) -> dict[str, float]:
    """Seconds for weights, averages and AdamW's two moments of the demo model, hashed and flushed as a run does it."""
    model = CTReportModel(demo.config().model, course.tokenizer_of(tiny.config(), store))
    weights = own_state(model)
    moments = {f"{name}|{part}": tensor.clone() for name, tensor in weights.items() for part in ("one", "two")}
    tensors = {"weights": weights, "ema": weights, "optimizer": moments}
    with tempfile.TemporaryDirectory(dir=store) as folder:
        started = time.perf_counter()
        path = save_checkpoint(Path(folder), 1, tensors, {}, keep=1)
        written = time.perf_counter()
        found = newest_checkpoint(Path(folder), print)
        if found is None:
            raise SystemExit("the checkpoint was not whole")
        for name in tensors:
            found.tensors(name)
        read = time.perf_counter()
        size = sum(file.stat().st_size for file in path.iterdir())
    return {"mib": size / 2**20, "save_s": written - started, "load_s": read - written}


def memory() -> dict[str, float]:
    """Bytes kept for the backward pass of the demo's encoder, one scan."""
    config = demo.config().model
    volume = VolumeBatch(torch.zeros(1, *config.grid.shape), torch.tensor([config.grid.spacing]))
    kept = {}
    for name, again in (("kept_mib", False), ("recomputed_mib", True)):
        encoder = build_encoder(replace(config.encoder, checkpointing=again), config.windows)
        kept[name] = kept_bytes(lambda e=encoder: e(volume).coarse.tokens, encoder)[0] / 2**20
    return kept


def pair(store: Path, steps: int) -> dict[str, float]:
    """Samples a second of the tiny recipe's detector, made by one process and by two; start and end left out."""
    steps *= 10
    words = [f"train.stages.{n}.accumulate=2" for n in range(3)]
    words += ["train.stages.0.steps=1", f"train.stages.1.steps={steps}", "train.stages.2.steps=1", "train.threads=1"]
    words += ["train.log_every=10", "data.studies=16", f"data.store={(store / 'pair').resolve()}"]
    rates = []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory(dir=store) as folder:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            run = Path(folder).resolve() / "run"
            command = [sys.executable, *launch, "-m", "ctscribe.cli", "train", "tiny", *words, "--out", str(run)]
            subprocess.run(command, check=True, capture_output=True)
            rows = [json.loads(line) for line in (run / "speed.jsonl").read_text(encoding="utf-8").splitlines()]
        rates.append(2 * 2 / min(row["seconds_per_step"] for row in rows if 1 < row["step"] <= 1 + steps))
    return {"one": rates[0], "two": rates[1], "times": rates[1] / rates[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path("runs") / "benchmark_training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arguments.store.mkdir(parents=True, exist_ok=True)
    made = {
        "busy": lambda: busy(arguments.store, arguments.steps),
        "saves": lambda: saves(arguments.store),
        "memory": memory,
        "pair": lambda: pair(arguments.store, arguments.steps),
    }
    for part in arguments.only:
        print(json.dumps({part: made[part]()}), flush=True)


if __name__ == "__main__":
    main()
