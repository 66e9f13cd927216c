"""What helps slots to find lesions: the scale they look at, outlines instead of cells, supervision of every round.

    PYTHONPATH=. python benchmarks/slots.py            # about 6 CPU minutes; phantoms are drawn into a temporary folder

The model and the phantoms are those of `scene_learning.py` (64 channels, 16 slots, cells of 20 x 44 x 44 mm). Each line
changes one thing; every line is measured against the same truth, the outlines of held-out phantoms. ``chance`` is what
naming the most common kind of the held-out lesions would reach.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.scene_learning import course, look

from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, StudyBatch
from ctscribe.data.store import StudyStore
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, ModelOutputs
from ctscribe.scene.slots import SCALES, SlotAttention, SlotScale, on_grid_of
from ctscribe.training.course import HELDOUT_SEED, open_studies
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.slots import SlotLoss, generalised_iou

WEIGHTS = {"slots": 1.0, "presence": 1.0, "dense": 1.0, "slot_overlap": 0.1}
CELL_MM = 44.0


@dataclass(frozen=True)
class Line:
    """One way of teaching slots."""

    scale: SlotScale
    outlines: bool
    every_round: bool = False


LINES = {
    "mid, cells": Line("mid", False),
    "mid, outlines": Line("mid", True),
    "fine, cells": Line("fine", False),
    "fine, outlines": Line("fine", True),
    "fine, outlines, every round": Line("fine", True, True),
}


def collated(samples: list) -> StudyBatch:
    return Collate(None)(samples)


def cells_only(batch: StudyBatch) -> StudyBatch:
    """The same lesions as connected cells: what slots were taught before outlines."""
    return replace(batch, targets=replace(batch.targets, boxes=None, box_kinds=None, box_masks=None))


def earlier_rounds(model: CTReportModel, outputs: ModelOutputs) -> list[ModelOutputs]:
    """What the slots held after each round but the last: weights are shared, so fewer rounds are a prefix."""
    scene, attention = model.scene, model.scene.slot_attention
    assert isinstance(attention, SlotAttention)
    scale = outputs.visual.scales[SCALES.index(scene.config.slot_scales[0])]
    found, steps = [], attention.steps
    for rounds in range(1, steps):
        attention.steps = rounds
        slots, masks = attention(scale.tokens, scale.valid)
        boxes, kinds = scene.objects(slots, masks, scale.centres)
        masks = on_grid_of(outputs.visual.mid, masks, scale.grid)
        said = replace(outputs.scene, slots=slots, slot_masks=masks, slot_boxes=boxes, slot_kinds=kinds)
        found.append(replace(outputs, scene=said))
    attention.steps = steps
    return found


def learn(line: Line, studies: StudyStore, steps: int) -> CTReportModel:
    torch.manual_seed(0)
    config = course().model
    config = replace(config, scene=replace(config.scene, masks="given", slot_scales=(line.scale,)))
    model = CTReportModel(config, ReportTokenizer.train(["A nodule."] * 5, 300)).train()
    losses, augment = standard_losses(), Augment(cells=(1, 1, 1))
    optimizer = torch.optim.AdamW([*model.vision.parameters(), *model.scene.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(1, steps))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = collated([augment(studies[int(i)], rng) for i in rng.integers(0, len(studies), 4)])
        batch = batch if line.outlines else cells_only(batch)
        outputs = look(model, batch)
        total = torch.stack([weight * losses[name](outputs, batch).value for name, weight in WEIGHTS.items()]).sum()
        if line.every_round:
            total = total + sum(losses["slots"](one, batch).value for one in earlier_rounds(model, outputs)) / 2
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def measure(model: CTReportModel, studies: StudyStore) -> dict[str, float]:
    """Means over the lesions of held-out phantoms, and of the kinds named when each is shown another one's scan."""
    found, slots = defaultdict(list), SlotLoss()
    for first in range(0, len(studies), 4):
        batch = collated([studies[i] for i in range(first, min(first + 4, len(studies)))])
        outputs = look(model, batch)
        scene = outputs.scene
        others = {
            name: value.roll(1, 0)
            for name, value in vars(scene).items()
            if name.startswith("slot_") and value is not None
        }
        for pairs in slots.matches(replace(outputs, scene=replace(scene, **others)), batch):
            kinds = pairs.lesions.kinds[pairs.objects]
            named = (others["slot_kinds"][pairs.row, pairs.slots].argmax(-1) == kinds).float()
            found["kind named, another's scan"] += named.tolist()
        for pairs in slots.matches(outputs, batch):
            kinds, boxes = pairs.lesions.kinds[pairs.objects], pairs.lesions.boxes[pairs.objects]
            named = (scene.slot_kinds[pairs.row, pairs.slots].argmax(-1) == kinds).float()
            large = (boxes[:, 3:] - boxes[:, :3]).amax(-1) > CELL_MM
            found["kind named"] += named.tolist()
            found["kind named, larger than a cell"] += named[large].tolist()
            found["kind named, smaller"] += named[~large].tolist()
            found["GIoU"] += generalised_iou(scene.slot_boxes[pairs.row, pairs.slots], boxes).tolist()
    return {name: float(np.mean(values)) for name, values in found.items()}


def chance(studies: StudyStore) -> float:
    """Share of the most common kind among the lesions."""
    kinds = Counter(x.kind for sample in studies if sample.outlines for x in sample.outlines.sure)
    return kinds.most_common(1)[0][1] / kinds.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=80)
    parser.add_argument("--heldout", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(LINES), help="some lines, by name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        studies = open_studies(course(), Path(folder), 0, options.studies, 2.0)
        heldout = open_studies(course(), Path(folder), HELDOUT_SEED, options.heldout)
        print(f"chance: {chance(heldout):.3f}", flush=True)
        for name in options.only:
            line = LINES[name]
            started = time.process_time()
            model = learn(line, studies, options.steps)
            spent = time.process_time() - started
            told = "  ".join(f"{key} {value:.3f}" for key, value in measure(model, heldout).items())
            print(f"{name}: {told}  ({options.steps} steps, {spent:.0f} CPU seconds)", flush=True)


if __name__ == "__main__":
    main()
