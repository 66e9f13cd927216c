"""Does every training objective learn? A small network on synthetic phantoms, one curve each.

    PYTHONPATH=. python benchmarks/objectives.py [--only masked clip siglip supervised routing alignment]
        [--studies 1200] [--heldout 128] [--length 1] [--store DIR] [--figures docs/assets/training]

clip, siglip           the contrasts of `ctscribe.training.plans.pretraining`, each from random weights
masked                 its first stage; a quarter of the phantoms, as for all that follow
supervised             all objectives that need labels, together, end to end, with a routed encoder
routing                balance of a routed encoder all of whose routers start out choosing the fine scale
alignment              slots and regions, alone

The contrasts are also asked to find the report of a scan, and the scan of a report, among phantoms that they never saw
(recall at 1 and 5 against chance). Phantoms lie on a (16, 32, 32) grid of 20 x 11 x 11 mm, twice as crowded as usual;
nothing here says anything of patients. Where a contrast was not asked for, the picture takes its curve from
``benchmarks/contrast.py``, which is quicker. One thread; a stopped run goes on where it was. One JSON line per run.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctscribe.data.augment import Augment
from ctscribe.data.batch import Collate, Sample
from ctscribe.data.store import StudyStore
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.model import CTReportModel, GridContract, ModelConfig
from ctscribe.training import course, plans
from ctscribe.training.loop import train
from ctscribe.training.losses import SPEC_WEIGHTS, standard_losses
from ctscribe.training.losses.clip import centred
from ctscribe.training.order import BatchSource, ordered_batches
from ctscribe.training.pretraining.model import CONTRASTS, with_heads
from ctscribe.training.stages import Stage
from ctscribe.training.wording import Spoken
from ctscribe.vision.routing import LEAN, Router
from ctscribe.vision.tubelets import TubeletConfig
from recipes import curriculum, tiny

ALONE = {"routing": ("vision.*",), "alignment": ("vision.*", "scene.*")}
STEPS = {"masked": 120, "clip": 110, "siglip": 110, "supervised": 120, **dict.fromkeys(ALONE, 60)}
"""Those in `ALONE` are also part of ``supervised``, where others drown them; the picture shows them by themselves."""
SUPERVISED = {
    **SPEC_WEIGHTS,
    "presence": 1.0,
    "where": 0.5,
    "size": 0.3,
    "attributes": 0.2,
    "dense": 1.0,
    "masks": 1.0,
    "routing": 0.1,
}
TITLES = {
    "masked": "masked tubelets",
    "clip": "scan and report, CLIP",
    "siglip": "scan and report, SigLIP",
    "report": "report (cross-entropy)",
    "slots": "slots (Hungarian, box, Dice)",
    "relations": "graph edges",
    "consistency": "scales recognise each other",
    "alignment": "slots within regions",
    "presence": "finding presence",
    "where": "finding's region",
    "size": "size (smooth L1 of log mm)",
    "attributes": "attributes",
    "dense": "lesion tokens (focal)",
    "masks": "region masks (Dice, entropy)",
    "routing": "balance of the router",
}


def config(studies: int) -> course.CourseConfig:
    """The tiny recipe on a coarser grid, with every head that some loss teaches."""
    base = tiny.config()
    tubelets = TubeletConfig((2, 4, 4), (4, 8, 8), (8, 16, 16), widths=(32, 32, 32), stem=8, stem_blocks=(0, 1, 1))
    model: ModelConfig = replace(
        base.model,
        grid=GridContract((16, 32, 32), (20.0, 11.0, 11.0)),
        encoder=replace(base.model.encoder, tubelets=tubelets),
        scene=curriculum.supervised(base.model.scene),
    )
    return replace(base, model=model, data=replace(base.data, studies=studies, crowding=2.0, processes=1))


def stage_of(name: str, steps: int) -> Stage:
    """The stage that teaches one run."""
    if name in ALONE:
        return Stage(name, steps, {name: 1.0}, ALONE[name], lr=1.5e-3, batch_size=8, warmup=0)
    if name == "supervised":
        (stage,) = plans.end_to_end(steps, losses=SUPERVISED, batch_size=8, lr=1.5e-3)
        return replace(stage, name=name, muon=(*plans.INSIDE_ENCODER, "language.decoder.host.model.layers.*"))
    counts = (steps, 0, 0) if name == "masked" else (0, steps, 0)
    form = name if name in CONTRASTS else "siglip"
    (stage,) = plans.pretraining(*counts, batch_size=8, lr=1.5e-3, form=form, muon=plans.INSIDE_ENCODER)
    return replace(stage, name=name)


def told(studies: StudyStore) -> list[Sample]:
    """All phantoms, each with its English report; held in memory."""
    speak = Spoken(languages=("en",))
    return [speak(studies[i], np.random.default_rng(i)) for i in range(len(studies))]


@dataclass(frozen=True)
class Data:
    """Phantoms, shifted by a voxel and made noisier."""

    tokenizer: ReportTokenizer
    samples: list[Sample]

    def __call__(self, stage: Stage) -> BatchSource:
        small = Augment(cells=(0, 0, 0), jitter=(1, 1, 1), noise=30.0)
        collate, seed = Collate(self.tokenizer, 300), (0, stage.name)
        return ordered_batches(self.samples, collate, batch_size=stage.batch_size, seed=seed, transforms=(small,))


def learner_of(name: str, plan: course.CourseConfig, tokenizer: ReportTokenizer) -> nn.Module:
    torch.manual_seed(0)
    model = plan.model
    if name in ("supervised", "routing"):
        model = replace(model, encoder=replace(model.encoder, mapping="routed"))
    built = CTReportModel(model, tokenizer)
    for router in built.modules() if name == "routing" else ():
        if isinstance(router, Router):
            router.score.bias.data = torch.tensor([LEAN, 0.0, 0.0])
    contrast = replace(plan.pretrain.contrast, width=64, layers=1, heads=2, longest=300)
    return with_heads(built, replace(plan.pretrain, contrast=contrast), [name])


@torch.no_grad()
def retrieval(learner: nn.Module, form: str, heldout: list[Sample], tokenizer: ReportTokenizer) -> dict[str, Any]:
    """Recall at 1 and 5, both ways, among all held-out phantoms."""
    learner.eval()
    made = learner(Collate(tokenizer, 300)(heldout), wants=frozenset({form})).contrast
    learner.train()
    everyone = torch.ones(len(heldout), dtype=torch.bool)
    images, texts = (centred(side, everyone) for side in (made.images, made.texts))
    similarity = images @ texts.T
    return {"scan_to_report": recall(similarity), "report_to_scan": recall(similarity.T), "among": len(heldout)}


def recall(similarity: Tensor) -> dict[str, float]:
    """Share of the rows whose own column is among their 1 and 5 most similar ones; the median share that is nearer."""
    own = torch.arange(len(similarity)).unsqueeze(1)
    found = {f"recall_{k}": float((similarity.topk(k, 1).indices == own).any(1).float().mean()) for k in (1, 5)}
    ahead = (similarity > similarity.diagonal().unsqueeze(1)).float().mean(1)
    return {**found, "median_rank": float(ahead.median())}


def learn(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], Mapping[str, tuple[list[int], list[float]]]]:
    """Train one run, or take it up; its numbers, and the curve of each of its losses."""
    count = options.studies if name in CONTRASTS else options.studies // 4
    plan = config(count)
    studies = course.open_studies(plan, options.store / "phantoms", 0, count, plan.data.crowding)
    tokenizer = course.tokenizer_of(plan, options.store)
    learner = learner_of(name, plan, tokenizer)
    stage = stage_of(name, max(1, round(options.length * STEPS[name])))
    settings = replace(
        plan.train, stages=(stage,), ema=0.0, log_every=max(1, stage.steps // 30), checkpoint_every=50, keep=1
    )
    found: dict[str, Any] = {"batch": stage.batch_size, "steps": stage.steps}
    heldout = None
    if name in CONTRASTS:
        unseen = (course.HELDOUT_SEED, options.heldout, plan.data.crowding)
        heldout = told(course.open_studies(plan, options.store / "phantoms", *unseen))
        found["before"] = retrieval(learner, name, heldout, tokenizer)
        found["guessing"] = guessing(name, stage.batch_size)
    folder = options.store / f"{name}-{stage.steps}"
    train(learner, settings, Data(tokenizer, told(studies)), standard_losses(), folder)
    if heldout is not None:
        found["after"] = retrieval(learner, name, heldout, tokenizer)
    curves = curves_of(folder, stage.losses)
    found["losses"] = {loss: {"first": values[0], "last": values[-1]} for loss, (_, values) in curves.items()}
    return found, curves


def curves_of(folder: Path, losses: Iterable[str]) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of each loss of a run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curves = {}
    for loss in losses:
        points = [(r["step"], r["losses"][loss]) for r in rows if r.get("losses", {}).get(loss) is not None]
        curves[loss] = [p[0] for p in points], [p[1] for p in points]
    return curves


def guessing(form: str, batch: int) -> float:
    """What a contrast costs that knows nothing."""
    if form == "clip":
        return math.log(batch)
    return batch * math.log(batch) - (batch - 1) * math.log(batch - 1)


def smoothed(values: list[float], width: int = 5) -> tuple[list[int], list[float]]:
    """Means over neighbouring steps."""
    starts = range(0, len(values) - width + 1, width)
    return [first + width for first in starts], [sum(values[first : first + width]) / width for first in starts]


def draw(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], chance: Mapping[str, float], file: Path) -> None:
    """One small picture per objective, in one file."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "objectives"
    from matplotlib.figure import Figure

    columns = 3
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(9, 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (name, (steps, values)) in zip(panels, curves.items(), strict=False):
        panel.plot(steps, values, color="#1f6f8b", linewidth=1.5)
        if name in chance:
            panel.axhline(chance[name], color="#999999", linewidth=0.8, linestyle="--")
        panel.set_title(TITLES[name], fontsize=9)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    figure.supxlabel("optimiser step (synthetic phantoms; dashed: guessing)", fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), default=tuple(STEPS))
    parser.add_argument("--studies", type=int, default=1200)
    parser.add_argument("--heldout", type=int, default=128)
    parser.add_argument("--length", type=float, default=1.0, help="factor on the steps of every run")
    parser.add_argument("--store", type=Path, default=Path("runs") / "benchmark_objectives")
    parser.add_argument("--figures", type=Path, help="folder for objectives.svg, drawn when every run was asked for")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.store.mkdir(parents=True, exist_ok=True)
    curves: dict[str, tuple[list[int], list[float]]] = {}
    chance: dict[str, float] = {}
    for name in options.only:
        found, made = learn(name, options)
        curves.update(made)
        if "guessing" in found:
            chance[name] = found["guessing"]
        print(json.dumps({name: found}), flush=True)
    for form in sorted(CONTRASTS - set(curves)):
        kept = options.store / f"{form}.json"
        if kept.is_file():
            curves[form], chance[form] = smoothed(json.loads(kept.read_text(encoding="utf-8"))), guessing(form, 32)
    if options.figures is not None:
        draw(curves, chance, options.figures / "objectives.svg")


if __name__ == "__main__":
    main()
