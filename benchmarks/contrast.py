"""Do the contrasts carry over to phantoms that they never saw? Heads learn over an encoder that stays as it is.

    PYTHONPATH=. python benchmarks/objectives.py --only supervised --store DIR
    PYTHONPATH=. python benchmarks/contrast.py --store DIR [--steps 120] [--studies 1200] [--heldout 128]

The encoder is that of the run ``supervised``; its view of every scan is computed once, so a step costs the text side
only. Printed for ``clip`` and ``siglip``: the loss at first and at last against that of guessing, and how often the
report of a held-out scan (and the scan of a report) is found among all of them, before and after. Every curve is kept
beside the runs, for the picture of ``benchmarks/objectives.py``. Synthetic; one thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from benchmarks.objectives import STEPS, config, guessing, learner_of, recall, told
from safetensors.torch import load_file
from torch import Tensor

from ctscribe.data.batch import Collate, Sample, StudyBatch
from ctscribe.language.prompt import ReportTokenizer
from ctscribe.training import course
from ctscribe.training.losses import standard_losses
from ctscribe.training.losses.clip import centred
from ctscribe.training.pretraining.contrast import ContrastConfig, ContrastHead, pooled

BATCH = 32


@torch.no_grad()
def seen(encoder: torch.nn.Module, samples: list[Sample], tokenizer: ReportTokenizer) -> tuple[Tensor, StudyBatch]:
    """What the head is given of each scan, and all reports as one batch."""
    collate = Collate(tokenizer, 300)
    parts = [pooled(encoder(collate(samples[i : i + BATCH]).volume)) for i in range(0, len(samples), BATCH)]
    return torch.cat(parts), collate(samples)


@torch.no_grad()
def found(head: ContrastHead, scans: Tensor, batch: StudyBatch) -> dict[str, dict[str, float]]:
    """Retrieval among all of them, both ways."""
    made = head.eval().compared(scans, batch.input_ids, batch.labels)
    head.train()
    images, texts = (centred(side, made.paired) for side in (made.images, made.texts))
    similarity = images @ texts.T
    return {"scan_to_report": recall(similarity), "report_to_scan": recall(similarity.T)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs") / "benchmark_objectives")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--studies", type=int, default=1200)
    parser.add_argument("--heldout", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = config(options.studies)
    tokenizer = course.tokenizer_of(plan, options.store)
    learner = learner_of("supervised", plan, tokenizer).eval()
    weights = load_file(options.store / f"supervised-{STEPS['supervised']}" / "weights.safetensors")
    learner.load_state_dict(weights, strict=False)
    scans, reports = [], []
    for first, count in ((0, options.studies), (course.HELDOUT_SEED, options.heldout)):
        studies = course.open_studies(plan, options.store / "phantoms", first, count, plan.data.crowding)
        views, batch = seen(learner.vision, told(studies), tokenizer)
        scans.append(views)
        reports.append(batch)
    size = ContrastConfig(width=64, layers=1, heads=2, longest=300)
    for form in ("clip", "siglip"):
        torch.manual_seed(0)
        head = ContrastHead(size, plan.model.encoder.tubelets.widths, len(tokenizer))
        result = {"before": found(head, scans[1], reports[1]), "guessing": guessing(form, BATCH)}
        optimizer = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=options.steps, pct_start=0.1)
        losses = []
        for _ in range(options.steps):
            rows = torch.randperm(options.studies)[:BATCH]
            labels = reports[0].labels[rows]
            longest = int((labels != -100).nonzero()[:, 1].max()) + 1
            made = head.compared(scans[0][rows], reports[0].input_ids[rows, :longest], labels[:, :longest])
            value = standard_losses()[form](SimpleNamespace(contrast=made), None).value
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(value.detach()))
            if len(losses) % 50 == 0 and len(losses) < options.steps:
                print(json.dumps({form: {"step": len(losses), **found(head, scans[1], reports[1])}}), flush=True)
        few = max(1, options.steps // 10)
        result["first"], result["last"] = sum(losses[:few]) / few, sum(losses[-few:]) / few
        (options.store / f"{form}.json").write_text(json.dumps(losses), encoding="utf-8")
        print(json.dumps({form: {**result, "after": found(head, scans[1], reports[1])}}), flush=True)


if __name__ == "__main__":
    main()
