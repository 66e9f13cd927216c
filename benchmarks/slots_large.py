"""Do slots look at the scan, on synthetic phantoms with few large lesions, when the detector has learned first?

    PYTHONPATH=. python benchmarks/slots_large.py [--studies 240] [--heldout 60]

Phantoms are synthetic, on a grid of 16 x 32 x 32 voxels of 20 x 11 x 11 mm (cells of 40 x 44 x 44 mm), with one or two
of mass, consolidation, pleural effusion and pneumothorax. The detector is trained once. Then slots learn on its tokens,
which no longer move. Slots are assigned to lesions by their boxes alone: an
assignment that may choose by kind flatters. Printed for held-out phantoms: share of lesions whose kind the assigned
slot names, and GIoU of the boxes, on the right scan and where every phantom is shown the slots of another one;
``chance`` is the share of the most common kind, ``detector`` how many of the four kinds it judges rightly.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat

import numpy as np
import torch
from benchmarks.inputs import model_config, outlined
from benchmarks.scene_learning import look

from ctscribe import ontology
from ctscribe.beside import InputsConfig
from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, Sample, StudyBatch
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, ModelConfig, ModelOutputs
from ctscribe.phantom import GridSpec, LesionPrior, generate
from ctscribe.tensors import VisualTokens
from ctscribe.training.course import HELDOUT_SEED
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.slots import SlotLoss, generalised_iou

LESIONS = LesionPrior(
    prevalence={"mass": 0.5, "consolidation": 0.45, "pleural_effusion": 0.45, "pneumothorax": 0.3},
    normal_rate=0.05,
    max_kinds=2,
)
DETECTOR = {"presence": 2.0, "dense": 20.0}
SLOTS = {"slots": 1.0, "slot_overlap": 0.1}
WIDTH = 64
AUGMENT = Augment(cells=(0, 0, 0), jitter=(0, 1, 1), forget=0.0)


def network() -> ModelConfig:
    """The network of `inputs.py` without its inputs, wider, with slots that name objects."""
    base = model_config(4)
    encoder = replace(base.encoder, tubelets=replace(base.encoder.tubelets, widths=(WIDTH,) * 3))
    scene = replace(base.scene, dim=WIDTH, slots=8, slot_objects=True, slot_scales=("fine",))
    return replace(base, encoder=encoder, scene=scene, inputs=InputsConfig())


def draw(seed: int, config: ModelConfig) -> Sample:
    grid = GridSpec(config.grid.shape, config.grid.spacing)
    return outlined(f"phantom-{seed}", generate(seed, grid, lesions=LESIONS), config)


def phantoms(first: int, count: int) -> list[Sample]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(draw, range(first, first + count), repeat(network()), chunksize=10))


def built() -> CTReportModel:
    torch.manual_seed(0)
    return CTReportModel(network(), ReportTokenizer.train(["A nodule."] * 5, 300)).train()


def descend(parameters: list[torch.nn.Parameter], rate: float, steps: int, cost: Callable[[], torch.Tensor]) -> None:
    """AdamW on one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        total = cost()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()


def weighed(weights: dict[str, float], outputs: ModelOutputs, batch: StudyBatch) -> torch.Tensor:
    losses = standard_losses()
    return torch.stack([weight * losses[name](outputs, batch).value for name, weight in weights.items()]).sum()


def detector(studies: Sequence[Sample], steps: int) -> CTReportModel:
    """The network without slots worth the name."""
    model, rng = built(), np.random.default_rng(0)

    def cost() -> torch.Tensor:
        batch = Collate()([AUGMENT(studies[int(i)], rng) for i in rng.integers(0, len(studies), 4)])
        return weighed(DETECTOR, look(model, batch), batch)

    descend([*model.vision.parameters(), *model.scene.parameters()], 4e-3, steps, cost)
    return model.eval()


@torch.no_grad()
def seen_by(model: CTReportModel, studies: Sequence[Sample], views: int) -> list[tuple[VisualTokens, StudyBatch]]:
    """What the encoder makes of every study, moved a little in each of its views, in batches."""
    rng = np.random.default_rng(1)
    moved = [AUGMENT(studies[int(i)], rng) for _ in range(views) for i in rng.permutation(len(studies))]
    batches = [Collate()(moved[first : first + 12]) for first in range(0, len(moved), 12)]
    return [(model.vision(batch.volume), batch) for batch in batches]


def teach(trained: CTReportModel, seen: Sequence[tuple[VisualTokens, StudyBatch]], steps: int) -> CTReportModel:
    """Slots and what names them, on tokens that do not move."""
    model, rng = built(), np.random.default_rng(2)
    model.load_state_dict(trained.state_dict())
    scene = model.scene

    def cost() -> torch.Tensor:
        visual, batch = seen[int(rng.integers(len(seen)))]
        return weighed(SLOTS, ModelOutputs(visual, scene(visual, batch.regions)), batch)

    descend([*scene.slot_attention.parameters(), *scene.objects.parameters()], 3e-3, steps, cost)
    return model.eval()


@torch.no_grad()
def judged(model: CTReportModel, studies: Sequence[Sample]) -> float:
    """Share of the kinds that may be drawn of which it is said rightly whether they are there."""
    batch, order = Collate()(studies), list(ontology.findings())
    columns = [order.index(kind) for kind in LESIONS.prevalence]
    said = look(model, batch).findings.presence[:, columns] > 0
    return float((said == (batch.targets.presence[:, columns] > 0)).float().mean())


@torch.no_grad()
def measure(model: CTReportModel, studies: Sequence[Sample]) -> dict[str, float]:
    """Means over the lesions, on the right scan and on another one's."""
    found, by_place = defaultdict(list), SlotLoss(kind=0.0, mask=0.0)
    for first in range(0, len(studies), 10):
        batch = Collate()(studies[first : first + 10])
        outputs = look(model, batch)
        said = {n: v for n, v in vars(outputs.scene).items() if n.startswith("slot_") and v is not None}
        for whose, by in (("", 0), (", another's scan", 1)):
            scene = replace(outputs.scene, **{name: value.roll(by, 0) for name, value in said.items()})
            for pairs in by_place.matches(replace(outputs, scene=scene), batch):
                kinds, boxes = pairs.lesions.kinds[pairs.objects], pairs.lesions.boxes[pairs.objects]
                named = scene.slot_kinds[pairs.row, pairs.slots].argmax(-1) == kinds
                found["kind named" + whose] += named.float().tolist()
                found["GIoU" + whose] += generalised_iou(scene.slot_boxes[pairs.row, pairs.slots], boxes).tolist()
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=240)
    parser.add_argument("--heldout", type=int, default=60)
    parser.add_argument("--detector-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=1200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    studies, heldout = phantoms(0, options.studies), phantoms(HELDOUT_SEED, options.heldout)
    kinds = Counter(lesion.kind for one in heldout if one.outlines for lesion in one.outlines.sure)
    print(f"{kinds.total()} lesions, chance: {kinds.most_common(1)[0][1] / kinds.total():.2f}", flush=True)
    started = time.process_time()
    trained = detector(studies, options.detector_steps)
    seen = seen_by(trained, studies, 3)
    print(f"detector: {judged(trained, heldout):.2f} ({time.process_time() - started:.0f} CPU seconds)", flush=True)
    started = time.process_time()
    model = teach(trained, seen, options.steps)
    print(f"slots: {options.steps} steps, {time.process_time() - started:.0f} CPU seconds")
    for name, value in measure(model, heldout).items():
        print(f"{name:30s} {value:.2f}")


if __name__ == "__main__":
    main()
