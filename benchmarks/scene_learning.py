"""Do the parts of the scene learn what they are taught? Small networks on small phantoms, measured on held-out ones.

    PYTHONPATH=. python benchmarks/scene_learning.py [--studies 160] [--heldout 100] [--steps 300]

Phantoms are synthetic, on a (32, 64, 64) grid; the network is the tiny recipe's with 64 channels and 16 slots. It is
trained with the losses masks, slots and alignment together, and once more without supervision of the slots. Printed for
held-out phantoms: Dice of the model's own masks against those of the classical rules (soft, in cells of 20 x 44 x
44 mm), how well slots tell regions and lesions apart, and whether they collapsed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ctscribe import ontology
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, StudyBatch
from ctscribe.data.store import StudyStore
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, ModelOutputs
from ctscribe.scene.collapse import slot_health
from ctscribe.scene.regions import occupancy_on
from ctscribe.scene.station import SceneConfig
from ctscribe.training.course import HELDOUT_SEED, CourseConfig, open_studies
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.slots import SlotLoss, generalised_iou
from recipes import tiny

PLANS = {
    "taught": {"masks": 1.0, "slots": 1.0, "alignment": 1.0, "presence": 1.0, "dense": 1.0, "slot_overlap": 0.1},
    "slots left alone": {"masks": 1.0, "presence": 1.0, "dense": 1.0},
}


def course() -> CourseConfig:
    base = tiny.config()
    tubelets = replace(base.model.encoder.tubelets, widths=(64, 64, 64))
    scene = SceneConfig(dim=64, slots=16, graph_layers=1, heads=2, masks="own", slot_objects=True)
    model = replace(base.model, encoder=replace(base.model.encoder, tubelets=tubelets), scene=scene)
    return replace(base, model=model)


def learn(config: CourseConfig, studies: StudyStore, weights: dict[str, float], steps: int) -> CTReportModel:
    torch.manual_seed(0)
    model = CTReportModel(config.model, ReportTokenizer.train(["A nodule."] * 5, 300)).train()
    losses, collate, augment = standard_losses(), Collate(None), Augment(cells=(1, 1, 1))
    optimizer = torch.optim.AdamW([*model.vision.parameters(), *model.scene.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(1, steps))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(0, len(studies), 4)
        batch = collate([augment(studies[int(i)], rng) for i in chosen])
        outputs = look(model, batch)
        total = sum(weight * losses[name](outputs, batch).value for name, weight in weights.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def look(model: CTReportModel, batch: StudyBatch) -> ModelOutputs:
    visual, scene = model.see(batch.volume, batch.regions)
    return ModelOutputs(visual, scene, scene.findings)


@torch.no_grad()
def measure(model: CTReportModel, studies: StudyStore) -> dict[str, float]:
    """Means over held-out phantoms."""
    names, found = ontology.model_regions(), defaultdict(list)
    losses, collate, slots = standard_losses(), Collate(None), SlotLoss()
    for first in range(0, len(studies), 4):
        batch = collate([studies[i] for i in range(first, min(first + 4, len(studies)))])
        outputs = look(model, batch)
        scene, grid = outputs.scene, outputs.visual.fine.grid
        truth, own = occupancy_on(batch.regions, grid), scene.mask_logits.sigmoid()
        dice = 2 * (truth * own).sum(-1) / (truth.square().sum(-1) + own.square().sum(-1)).clamp_min(1e-6)
        for row, column in batch.regions.present.nonzero().tolist():
            found["Dice of all regions"].append(float(dice[row, column]))
            if names[column].endswith(("_lobe", "_lung")) or names[column] in ("heart", "trachea"):
                found[f"Dice {names[column]}"].append(float(dice[row, column]))
        health = slot_health(scene.slot_masks)
        found["effective slots of 16"] += health.effective.tolist()
        found["overlap of slot masks"] += health.overlap.tolist()
        found["alignment (0 best, 1 chance)"].append(float(losses["alignment"](outputs, batch).value))
        for pairs in slots.matches(outputs, batch):
            kinds, boxes = pairs.lesions.kinds[pairs.objects], pairs.lesions.boxes[pairs.objects]
            named = scene.slot_kinds[pairs.row, pairs.slots].argmax(-1) == kinds
            found["lesions whose kind the slot names"] += named.float().tolist()
            giou = generalised_iou(scene.slot_boxes[pairs.row, pairs.slots], boxes)
            found["GIoU of slot and lesion boxes"] += giou.tolist()
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=160)
    parser.add_argument("--heldout", type=int, default=100)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = course()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        studies = open_studies(config, Path(folder), 0, options.studies, 2.0)
        heldout = open_studies(config, Path(folder), HELDOUT_SEED, options.heldout)
        print(f"phantoms drawn in {time.process_time() - started:.0f} CPU seconds", flush=True)
        columns = {"untrained": measure(learn(config, studies, PLANS["taught"], 0), heldout)}
        for name, weights in PLANS.items():
            started = time.process_time()
            columns[name] = measure(learn(config, studies, weights, options.steps), heldout)
            print(f"{name}: {options.steps} steps in {time.process_time() - started:.0f} CPU seconds", flush=True)
    print(f"{'':36s} " + " ".join(f"{name:>18s}" for name in columns))
    for name in columns["untrained"]:
        print(f"{name:36s} " + " ".join(f"{column[name]:18.3f}" for column in columns.values()))


if __name__ == "__main__":
    main()
