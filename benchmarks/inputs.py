"""Does each input beside the scan matter? One small network on synthetic phantoms that only the input can explain.

    PYTHONPATH=. python benchmarks/inputs.py [--patients 384] [--heldout 120] [--steps 1000]

Phantoms are synthetic, on a grid of 16 x 32 x 32 voxels of 20 x 11 x 11 mm; the network is that of the recipe
``beside`` with cells of 40 x 44 x 44 mm, trained once with all three inputs, history and laboratory values each
withheld from 3 of 10 studies. Half the patients have two scans: a mass is new, unchanged or larger, and its size today
does not tell which. The others have one scan that shows a consolidation or a mass, equal voxel for voxel: only history
and laboratory values differ. Printed: accuracy on held-out patients with an input and without it. Without an earlier
scan a model says nothing of change; those of three other patients in turn stand in its place, one new, one unchanged
and one larger, so that one in three is chance.

``--follow lung_nodule`` asks the same of nodules of 10 to 28 mm, ``--cells 8`` of cells of 40 x 88 x 88 mm.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ctscribe import ontology
from ctscribe.beside import CHANGES, Change
from ctscribe.data.anatomy import Segmentation
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, Sample, with_outlines
from ctscribe.data.withhold import Withhold
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, GridContract, ModelConfig
from ctscribe.phantom import GridSpec, PhantomStudy
from ctscribe.phantom.follow_up import FOLLOWED_MM, ambiguous, follow_up
from ctscribe.training.course import HELDOUT_SEED
from ctscribe.training.losses import standard_losses
from ctscribe.training.phantoms import outlines_of
from recipes import beside

ASKED: tuple[Change, ...] = ("new", "stable", "larger")
SPACING = (20.0, 11.0, 11.0)
WEIGHTS = {"presence": 1.0, "size": 0.3, "dense": 5.0, "change": 0.2}
"""Presence and dense are means over all kinds, change is about the one followed up: it must not drown them."""
ALONE = 0.5
"""Share of the steps in which scans are shown one by one: what is not found cannot be compared."""
KINDS = list(ontology.findings())
MASS, CONSOLIDATION = (KINDS.index(kind) for kind in ("mass", "consolidation"))


def model_config(cell: int) -> ModelConfig:
    """The recipe's network with fine tubelets of 2 x ``cell`` x ``cell`` voxels."""
    base = beside.config().model
    fine, mid, coarse = ((2 * n, cell * n, cell * n) for n in (1, 2, 4))
    tubelets = replace(base.encoder.tubelets, fine=fine, mid=mid, coarse=coarse)
    return replace(
        base,
        grid=GridContract((16, 32, 32), SPACING),
        encoder=replace(base.encoder, tubelets=tubelets),
        inputs=replace(base.inputs, drop=0.3, drop_prior=0.0, drop_history=None),
    )


def sample(name: str, study: PhantomStudy, config: ModelConfig) -> Sample:
    """A phantom as it was drawn, with its regions."""
    cells = config.encoder.tubelets.cells(config.grid.shape, config.grid.spacing)
    drawn = Segmentation(study.regions, study.region_names, "phantom")
    shares, present = drawn.occupancy(ontology.model_regions(), cells)
    occupancy = np.rint(shares * 255).astype(np.uint8)
    return Sample(name, study.volume.hu, config.grid.spacing, occupancy, present, study.findings)


def outlined(name: str, study: PhantomStudy, config: ModelConfig) -> Sample:
    """The same with the outlines of what was drawn."""
    return with_outlines(replace(sample(name, study, config), outlines=outlines_of(study)))


def draw(first: int, number: int, followed: str | None, config: ModelConfig) -> Sample:
    """A scan with an earlier one, or a scan with a story; which finding a story is about cannot be outlined."""
    grid = GridSpec(config.grid.shape, config.grid.spacing)
    if followed is None:
        case = ambiguous(first + number, grid)
        return replace(sample(case.kind, case.study, config), history=case.history, labs=case.labs)
    pair = follow_up(first + number, ASKED[number % len(ASKED)], grid, followed)
    before = outlined(f"before-{number}", pair.before, config)
    return replace(outlined(f"now-{number}", pair.now, config), prior=before, prior_days=float(pair.days))


def patients(first: int, count: int, followed: str, config: ModelConfig) -> tuple[list[Sample], list[Sample]]:
    """Half of them with an earlier scan, half with a story."""
    half = count // 2
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        kinds = [followed] * half + [None] * half
        drawn = list(pool.map(draw, repeat(first), [*range(half)] * 2, kinds, repeat(config)))
    return drawn[:half], drawn[half:]


def alone(one: Sample, number: int) -> Sample:
    """One scan of two: mostly the earlier one, for what a scan without a lesion looks like must be learned too."""
    return replace(one, prior=None, prior_days=None) if one.prior is None or number % 3 == 2 else one.prior


def learn(config: ModelConfig, followed: Sequence[Sample], told: Sequence[Sample], steps: int) -> CTReportModel:
    """Three steps on scans with an earlier one, then one on scans with a story; first each scan on its own."""
    torch.manual_seed(0)
    model = CTReportModel(config, ReportTokenizer.train(["A nodule."] * 5, 300)).train()
    # A cell of the region grid is 40 mm and more: shifts by whole cells would move lesions out of the picture.
    augment = Augment(cells=(0, 0, 0), jitter=(0, 1, 1), forget=0.0)
    losses, collate, transforms = standard_losses(), Collate(), (augment, Withhold.of(config.inputs))
    optimizer = torch.optim.AdamW([*model.vision.parameters(), *model.scene.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    seen: dict[str, list[float]] = defaultdict(list)
    for step in range(steps):
        samples = told if step % 4 == 3 else followed
        chosen = [samples[int(i)] for i in rng.integers(0, len(samples), 8)]
        chosen = [alone(one, n) if n < (8 if step < ALONE * steps else 3) else one for n, one in enumerate(chosen)]
        for transform in transforms:
            chosen = [transform(one, rng) for one in chosen]
        batch = collate(chosen)
        outputs = model(batch, wants=frozenset())
        values = {name: losses[name](outputs, batch) for name in WEIGHTS}
        total = sum(WEIGHTS[name] * value.value for name, value in values.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, value in values.items():
            seen[name] += [float(value.value.detach())] * bool(value.seen)
        if step % 50 == 49:
            print(f"step {step + 1}: " + " ".join(f"{n} {np.mean(v):.4f}" for n, v in seen.items() if v), flush=True)
            seen.clear()
    return model.eval()


@torch.no_grad()
def changes_right(model: CTReportModel, samples: Sequence[Sample], truth: Sequence[Change], kind: int) -> int:
    right = 0
    for one, change in zip(samples, truth, strict=True):
        scene = model(Collate()([one]), wants=frozenset()).scene
        right += CHANGES[int(scene.change[0, kind].argmax())] == change
    return right


@torch.no_grad()
def kinds_right(model: CTReportModel, samples: Sequence[Sample], **without: Any) -> int:
    right = 0
    for one in samples:
        presence = model(Collate()([replace(one, **without)]), wants=frozenset()).findings.presence[0]
        right += ("mass" if presence[MASS] > presence[CONSOLIDATION] else "consolidation") == one.id
    return right


@torch.no_grad()
def seen_right(model: CTReportModel, samples: Sequence[Sample], kind: int) -> tuple[int, int]:
    """Earlier scans of which it is said rightly whether the finding is there, and how many earlier scans there are."""
    right = 0
    for one in samples:
        assert one.prior is not None
        there = any(f.kind == KINDS[kind] and f.status == "present" for f in one.prior.findings or ())
        said = float(model(Collate()([one.prior]), wants=frozenset()).findings.presence[0, kind]) > 0
        right += said == there
    return right, len(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=384)
    parser.add_argument("--heldout", type=int, default=120)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--follow", choices=list(FOLLOWED_MM), default="mass")
    parser.add_argument("--cells", type=int, choices=(2, 4, 8), default=4, help="voxels across a fine tubelet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, kind = model_config(options.cells), KINDS.index(options.follow)
    started = time.perf_counter()
    followed, told = patients(0, options.patients, options.follow, config)
    later, stories = patients(HELDOUT_SEED, options.heldout, options.follow, config)
    print(f"phantoms drawn in {time.perf_counter() - started:.0f} seconds", flush=True)
    started = time.process_time()
    model = learn(config, followed, told, options.steps)
    print(f"{options.steps} steps in {time.process_time() - started:.0f} CPU seconds", flush=True)

    truth = [ASKED[number % len(ASKED)] for number in range(len(later))]
    others = [replace(one, prior=later[(n + by) % len(later)].prior) for by in (1, 2, 3) for n, one in enumerate(later)]
    rows = [
        ("earlier scan", "new, unchanged or larger", changes_right(model, later, truth, kind), len(later)),
        ("another patient's", "", changes_right(model, others, truth * 3, kind), len(others)),
        ("earlier scan alone", "is it there", *seen_right(model, later, kind)),
        ("history and labs", "consolidation or mass", kinds_right(model, stories), len(stories)),
        ("history", "", kinds_right(model, stories, labs=()), len(stories)),
        ("labs", "", kinds_right(model, stories, history=""), len(stories)),
        ("neither", "", kinds_right(model, stories, history="", labs=()), len(stories)),
    ]
    for given, question, right, count in rows:
        print(f"{given:20s} {question:26s} {right:3d} of {count} right ({right / count:.2f})")


if __name__ == "__main__":
    main()
