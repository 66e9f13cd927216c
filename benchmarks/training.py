"""What training costs, and that every objective learns: synthetic phantoms, tiny model, minutes.

    python benchmarks/training.py [--only busy saves memory losses] [--steps 40] [--store DIR] [--figures DIR]

busy     share of a step's time that the model computes, at the preset of the recipe ``demo`` over cached phantoms
saves    seconds to write and to read back a checkpoint of that model with averages and moments
memory   bytes that the encoder keeps for the backward pass, with and without ``encoder.checkpointing``
losses   every pretraining objective for ``--steps`` steps on 16 phantoms; a picture of each curve

One thread. Prints one JSON line per part; nothing here says anything of real patients.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ctscribe.language.sizes import kept_bytes
from ctscribe.model import CTReportModel
from ctscribe.tensors import VolumeBatch
from ctscribe.training import course, plans
from ctscribe.training.loop import train
from ctscribe.training.losses import standard_losses
from ctscribe.training.pretraining.model import with_heads
from ctscribe.vision.build import build_encoder
from recipes import curriculum, demo, tiny

PARTS = ("busy", "saves", "memory", "losses")


def busy(store: Path, steps: int) -> dict[str, float]:
    """Seconds of loading and of computing over a few steps of the demo's detector."""
    config = demo.config()
    config = replace(config, data=replace(config.data, studies=16, processes=1))
    studies = course.open_studies(config, store / "demo", 0, 16)
    model = CTReportModel(config.model, course.tokenizer_of(tiny.config(), store))
    stage = replace(config.train.stages[1], steps=steps)
    batches = course.Sources(config, model.language.tokenizer, studies)(stage)(0, steps)
    losses, loading, computing = standard_losses(), 0.0, 0.0
    for _ in range(steps):
        started = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        outputs = model(batch, wants=frozenset(stage.losses))
        sum(weight * losses[name](outputs, batch).value for name, weight in stage.losses.items()).backward()
        loading, computing = loading + loaded - started, computing + time.perf_counter() - loaded
    return {"busy": computing / (loading + computing), "load_s": loading / steps, "step_s": computing / steps}


def saves(store: Path) -> dict[str, float]:
    """Seconds for weights, averages and two moments of the demo model."""
    model = CTReportModel(demo.config().model, course.tokenizer_of(tiny.config(), store))
    tensors = {n: p.detach().contiguous() for n, p in model.named_parameters()}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for part in range(4):
            save_file(tensors, Path(folder) / f"{part}.safetensors")
        written = time.perf_counter()
        for part in range(4):
            load_file(Path(folder) / f"{part}.safetensors")
        read = time.perf_counter()
    size = 4 * sum(t.numel() * t.element_size() for t in tensors.values())
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


def losses(store: Path, steps: int, figures: Path | None) -> dict[str, Any]:
    """First and last mean loss of every pretraining objective."""
    base = tiny.config()
    scene = curriculum.supervised(base.model.scene)
    base = replace(base, model=replace(base.model, scene=scene), data=replace(base.data, studies=16, processes=1))
    studies = course.open_studies(base, store / "tiny", 0, 16)
    found: dict[str, Any] = {}
    for form in ("siglip", "clip"):
        stages = plans.pretraining(steps, steps, steps, form=form, lr=2e-3)
        for stage in stages if form == "siglip" else stages[1:2]:
            name = form if stage.name == "contrast" else stage.name
            torch.manual_seed(0)
            model = CTReportModel(base.model, course.tokenizer_of(base, store))
            learner = with_heads(model, base.pretrain, stage.losses)
            config = replace(base.train, stages=(replace(stage, name=name),), log_every=max(1, steps // 20), ema=0.0)
            source = course.Sources(base, model.language.tokenizer, studies)
            with tempfile.TemporaryDirectory() as folder:
                train(learner, config, source, standard_losses(), Path(folder) / "run")
                lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [row for row in map(json.loads, lines) if "total" in row]
            found[name] = {"first": rows[0]["total"], "last": rows[-1]["total"]}
            if figures is not None:
                draw(name, [r["step"] for r in rows], [r["total"] for r in rows], figures)
    return found


def draw(name: str, steps: list[int], values: list[float], figures: Path) -> None:
    """One small picture of a falling loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values)
    axes.set(title=f"{name} (synthetic phantoms)", xlabel="step", ylabel="loss")
    figures.mkdir(parents=True, exist_ok=True)
    figure.savefig(figures / f"{name}.png", dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--store", type=Path, default=Path("runs") / "benchmark_training")
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arguments.store.mkdir(parents=True, exist_ok=True)
    made = {
        "busy": lambda: busy(arguments.store, min(arguments.steps, 4)),
        "saves": lambda: saves(arguments.store),
        "memory": memory,
        "losses": lambda: losses(arguments.store, arguments.steps, arguments.figures),
    }
    for part in arguments.only:
        print(json.dumps({part: made[part]()}), flush=True)


if __name__ == "__main__":
    main()
