"""Does the bundled checkpoint beat saying nothing, on synthetic studies it has never seen?

    python benchmarks/heldout.py [--n 200] [--checkpoint FOLDER] [--language en] [--out DIR]
    python benchmarks/heldout.py PREDICTIONS.jsonl REFERENCES.jsonl [--shuffled SHUFFLED.jsonl] [--out DIR]

The first form draws held-out phantoms (seeds that no training run used), segments and places them as inference does,
lets the checkpoint write about them and scores the text; the second scores files that exist. REFERENCES hold the truth
of the studies, PREDICTIONS the reports written from them, SHUFFLED the reports the same model writes when every study
is given another study's scan. Prints each claim with
its number and interval, and exits with 1 when one is not met. Everything here is synthetic: nothing follows for
patients.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ctscribe.evaluation import Scorecard, evaluate
from ctscribe.evaluation.scorecard import interval, shown
from ctscribe.evaluation.writer import write_scorecard
from ctscribe.report import Finding

HELDOUT_SEED = 800_000
"""First seed of the held-out phantoms; the same number as `ctscribe.training.course.HELDOUT_SEED`."""

BATCH = 8
NEEDED_CRG = 0.55
NEEDED_MACRO_F1 = 0.55
NEEDED_DISTINCT = 0.80

# The shuffled run is at chance when luck reaches its score more often than this.
CHANCE_P = 0.05


@dataclass(frozen=True)
class Claim:
    """One line of the verdict: what was measured, what is needed, and whether it is met."""

    says: str
    measured: str
    needed: str
    met: bool


def claims(card: Scorecard, shuffled: Scorecard | None = None) -> list[Claim]:
    """The claims on a held-out set.

    Args:
        card: predictions against their own references.
        shuffled: predictions from other studies' scans against the same references.
    """
    crg, f1 = card["crg.crg"], card["findings.macro_f1"]
    distinct = card.diversity["system"].distinct
    control = card["findings.micro_f1"].control
    found = [
        Claim(
            f"CRG over 18 labels (always normal: {shown(crg.baselines['always normal'])})",
            f"{shown(crg.estimate.value)} ({interval(crg.estimate)})",
            f">= {NEEDED_CRG}",
            (crg.estimate.value or 0.0) >= NEEDED_CRG,
        ),
        Claim(
            "macro F1 over findings",
            f"{shown(f1.estimate.value)} ({interval(f1.estimate)})",
            f">= {NEEDED_MACRO_F1}",
            (f1.estimate.value or 0.0) >= NEEDED_MACRO_F1,
        ),
        Claim("distinct reports", f"{distinct:.0%}", f">= {NEEDED_DISTINCT:.0%}", distinct >= NEEDED_DISTINCT),
    ]
    if control is not None and control.p is not None:
        found.append(
            Claim("luck reaches the micro F1 of the reports", f"p = {control.p:.3f}", "< 0.05", control.p < CHANCE_P)
        )
    if shuffled is not None:
        found.append(_at_chance(shuffled))
    return found


def _at_chance(shuffled: Scorecard) -> Claim:
    result = shuffled["findings.micro_f1"]
    control = result.control
    if control is None or control.p is None:
        return Claim("reports from other studies' scans are at chance", "undefined", f"p > {CHANCE_P}", False)
    measured = f"micro F1 {shown(result.estimate.value)}, chance {shown(control.shuffled)}, p = {control.p:.3f}"
    return Claim("reports from other studies' scans are at chance", measured, f"p > {CHANCE_P}", control.p > CHANCE_P)


def write_about(seeds: range, checkpoint: Path | None, language: str, out: Path) -> tuple[Path, Path, Path]:
    """Predictions, references and shuffled predictions (each study's report written from the next study's scan)."""
    import torch
    from rich.progress import track

    from ctscribe.checkpoint import load
    from ctscribe.data.batch import Collate
    from ctscribe.model import decide
    from ctscribe.report.codec import to_plain
    from ctscribe.report.render import render_text
    from ctscribe.training.phantoms import PhantomPlan, phantom_id, phantom_sample

    loaded, plan, collate = load(checkpoint), PhantomPlan(len(seeds), seeds.start), Collate(None)
    texts, truths = [], []
    for first in track(range(0, len(seeds), BATCH), "writing", transient=True):
        samples = [phantom_sample(seed, plan)[0] for seed in seeds[first : first + BATCH]]
        batch = collate(samples)
        with torch.no_grad():
            visual, scene = loaded.model.see(batch.volume, batch.regions)
            facts = decide(scene.findings, loaded.thresholds)
            texts += loaded.model.language.write(facts, [language] * len(samples), visual, scene)
        truths += [sample.findings for sample in samples]
    ids = [phantom_id(seed) for seed in seeds]
    out.mkdir(parents=True, exist_ok=True)
    predictions = [{"id": i, "text": t, "language": language} for i, t in zip(ids, texts, strict=True)]
    shuffled = [{**p, "text": t} for p, t in zip(predictions, texts[1:] + texts[:1], strict=True)]
    references = [
        {**p, "text": render_text(f, language, seed=n), "findings": to_plain(f, tuple[Finding, ...])}
        for n, (p, f) in enumerate(zip(predictions, truths, strict=True))
    ]
    return tuple(
        _write(out / f"{name}.jsonl", rows)
        for name, rows in (("predictions", predictions), ("references", references), ("shuffled", shuffled))
    )


def _write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def main() -> int:
    """Score and print; 0 when every claim is met."""
    parser = argparse.ArgumentParser(description="Score reports of held-out synthetic studies.")
    parser.add_argument("predictions", type=Path, nargs="?")
    parser.add_argument("references", type=Path, nargs="?")
    parser.add_argument("--shuffled", type=Path)
    parser.add_argument("--n", type=int, default=200, help="held-out phantoms to write about")
    parser.add_argument("--checkpoint", type=Path, help="model folder; the bundled one by default")
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--out", type=Path, help="write the reports and the whole scorecard here")
    parser.add_argument("--permutations", type=int, default=200)
    options = parser.parse_args()
    if (options.predictions is None) != (options.references is None):
        parser.error("give both PREDICTIONS and REFERENCES, or neither")
    if options.predictions is None:
        place = options.out or Path(tempfile.mkdtemp(prefix="ctscribe-heldout-"))
        seeds = range(HELDOUT_SEED, HELDOUT_SEED + options.n)
        written = write_about(seeds, options.checkpoint, options.language, place)
        options.predictions, options.references, options.shuffled = written

    def score(path: Path) -> Scorecard:
        # Predictions should carry text alone: the text is what a reader gets, so findings are read back from it.
        return evaluate(path, options.references, system=path.stem, permutations=options.permutations)

    card = score(options.predictions)
    if options.out:
        write_scorecard(card, options.out)
    verdict = claims(card, score(options.shuffled) if options.shuffled else None)
    print(f"{card.reports} held-out synthetic studies, {card.language}")
    for claim in verdict:
        print(f"{'met    ' if claim.met else 'NOT MET'}  {claim.says}: {claim.measured}, needed {claim.needed}")
    return 0 if all(claim.met for claim in verdict) else 1


if __name__ == "__main__":
    sys.exit(main())
