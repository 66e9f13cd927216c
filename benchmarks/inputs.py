"""Does each input beside the scan matter? One small network on synthetic phantoms that only the input can explain.

    PYTHONPATH=. python benchmarks/inputs.py [--patients 128] [--heldout 60] [--steps 300]

Phantoms are synthetic, on a grid of 16 x 32 x 32 voxels; the network is that of the recipe ``beside``, trained once
with all three inputs, history and laboratory values each withheld from 3 of 10 studies. Half the patients have two
scans: a nodule is new, unchanged or larger, and its size today does not tell which. The others have one scan that shows
a consolidation or a mass, equal voxel for voxel: only history and laboratory values differ. Printed: accuracy on
held-out patients with an input and without it. Without an earlier scan a model says nothing of change; the scans of
other patients stand in its place.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ctscribe import ontology
from ctscribe.beside import CHANGES, Change
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, Sample
from ctscribe.data.withhold import Withhold
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, GridContract, ModelConfig
from ctscribe.phantom import GridSpec, PhantomStudy
from ctscribe.phantom.follow_up import ambiguous, follow_up
from ctscribe.training.course import HELDOUT_SEED
from ctscribe.training.losses import standard_losses
from recipes import beside

ASKED: tuple[Change, ...] = ("new", "stable", "larger")
WEIGHTS = {"presence": 1.0, "size": 0.3, "change": 1.0}
KINDS = list(ontology.findings())
NODULE, MASS, CONSOLIDATION = (KINDS.index(kind) for kind in ("lung_nodule", "mass", "consolidation"))


def sample(name: str, study: PhantomStudy, config: ModelConfig) -> Sample:
    """A phantom as it was drawn, without region masks."""
    regions, cells = (
        len(ontology.model_regions()),
        config.encoder.tubelets.cells(config.grid.shape, config.grid.spacing),
    )
    nowhere = np.zeros((regions, *cells), np.uint8)
    return Sample(name, study.volume.hu, config.grid.spacing, nowhere, np.zeros(regions, bool), study.findings)


def draw(first: int, number: int, with_prior: bool, config: ModelConfig) -> Sample:
    """A scan with an earlier one, or a scan with a story."""
    grid = GridSpec(config.grid.shape, config.grid.spacing)
    if not with_prior:
        case = ambiguous(first + number, grid)
        return replace(sample(case.kind, case.study, config), history=case.history, labs=case.labs)
    pair = follow_up(first + number, ASKED[number % len(ASKED)], grid)
    before = sample(f"before-{number}", pair.before, config)
    return replace(sample(f"now-{number}", pair.now, config), prior=before, prior_days=float(pair.days))


def patients(first: int, count: int, config: ModelConfig) -> tuple[list[Sample], list[Sample]]:
    """Half of them with an earlier scan, half with a story."""
    half = count // 2
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        kinds = [True] * half + [False] * half
        drawn = list(pool.map(draw, repeat(first), [*range(half)] * 2, kinds, repeat(config)))
    return drawn[:half], drawn[half:]


def learn(config: ModelConfig, followed: Sequence[Sample], told: Sequence[Sample], steps: int) -> CTReportModel:
    """Two steps on scans with an earlier one, then one on scans with a story."""
    torch.manual_seed(0)
    model = CTReportModel(config, ReportTokenizer.train(["A nodule."] * 5, 300)).train()
    losses, collate, transforms = standard_losses(), Collate(), (Augment(forget=0.0), Withhold.of(config.inputs))
    optimizer = torch.optim.AdamW([*model.vision.parameters(), *model.scene.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    for step in range(steps):
        samples = told if step % 3 == 2 else followed
        chosen = [samples[int(i)] for i in rng.integers(0, len(samples), 8)]
        # Some earlier scans are shown on their own: what a scan without a nodule looks like must be learned too.
        chosen = [one.prior if n < 3 and one.prior is not None else one for n, one in enumerate(chosen)]
        for transform in transforms:
            chosen = [transform(one, rng) for one in chosen]
        batch = collate(chosen)
        outputs = model(batch, wants=frozenset())
        values = {name: losses[name](outputs, batch).value for name in WEIGHTS}
        total = sum(WEIGHTS[name] * value for name, value in values.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            print(
                f"step {step + 1}: " + " ".join(f"{n} {float(v.detach()):.3f}" for n, v in values.items()), flush=True
            )
    return model.eval()


@torch.no_grad()
def changes_right(model: CTReportModel, samples: Sequence[Sample], truth: Sequence[Change]) -> int:
    right = 0
    for one, change in zip(samples, truth, strict=True):
        scene = model(Collate()([one]), wants=frozenset()).scene
        right += CHANGES[int(scene.change[0, NODULE].argmax())] == change
    return right


@torch.no_grad()
def kinds_right(model: CTReportModel, samples: Sequence[Sample], **without: Any) -> int:
    right = 0
    for one in samples:
        presence = model(Collate()([replace(one, **without)]), wants=frozenset()).findings.presence[0]
        right += ("mass" if presence[MASS] > presence[CONSOLIDATION] else "consolidation") == one.id
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=128)
    parser.add_argument("--heldout", type=int, default=60)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = beside.config().model
    grid = GridContract((16, 32, 32), (20.0, 11.0, 11.0))
    config = replace(base, grid=grid, inputs=replace(base.inputs, drop=0.3, drop_prior=0.0, drop_history=None))
    started = time.perf_counter()
    followed, told = patients(0, options.patients, config)
    later, stories = patients(HELDOUT_SEED, options.heldout, config)
    print(f"phantoms drawn in {time.perf_counter() - started:.0f} seconds", flush=True)
    started = time.process_time()
    model = learn(config, followed, told, options.steps)
    print(f"{options.steps} steps in {time.process_time() - started:.0f} CPU seconds", flush=True)

    truth = [ASKED[number % len(ASKED)] for number in range(len(later))]
    others = [replace(one, prior=later[(n + 1) % len(later)].prior) for n, one in enumerate(later)]
    rows = [
        ("earlier scan", "new, unchanged or larger", changes_right(model, later, truth), len(later)),
        ("another patient's", "", changes_right(model, others, truth), len(later)),
        ("history and labs", "consolidation or mass", kinds_right(model, stories), len(stories)),
        ("history", "", kinds_right(model, stories, labs=()), len(stories)),
        ("labs", "", kinds_right(model, stories, history=""), len(stories)),
        ("neither", "", kinds_right(model, stories, history="", labs=()), len(stories)),
    ]
    for given, question, right, count in rows:
        print(f"{given:20s} {question:26s} {right:3d} of {count} right ({right / count:.2f})")


if __name__ == "__main__":
    main()
