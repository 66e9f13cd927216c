"""How fast are the n-gram metrics, and do they equal the COCO caption evaluation (pycocoevalcap)?

    python benchmarks/evaluation.py [--reports REPORTS.csv] [--pairs N]

Pairs every report with another one, scores them with both, and prints seconds, speed-up and the largest difference.
Reports come from a CSV with a column `report_text`; without one they are rendered from random findings. With Java,
also prints how many texts the tokeniser splits exactly as Stanford's.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.evaluation import Pair, Record, Scorer
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.rouge import RougeL
from ctscribe.evaluation.tokens import english_tokens
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings


def texts_from(path: Path | None, count: int) -> list[str]:
    """The first reports of the CSV, or rendered ones."""
    if path is None:
        return [render_text(sample_findings(np.random.default_rng(i)), "en", seed=i) for i in range(count)]
    with path.open(encoding="utf-8", newline="") as file:
        return [row["report_text"] for row in csv.DictReader(file)][:count]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def ours(scorer: Scorer, pairs: list[Pair]) -> dict[str, float]:
    """Score all pairs."""
    ready = scorer.fitted([pair.reference for pair in pairs])
    return {name: float(value) for name, value in ready.values(ready.tally(pairs).sum(axis=0)).items()}


def coco(module: str) -> Any:
    """A module of pycocoevalcap, which only this comparison and the tests use."""
    try:
        return import_module(f"pycocoevalcap.{module}")
    except ModuleNotFoundError as error:
        raise SystemExit("pycocoevalcap is not installed: pip install pycocoevalcap") from error


def compare_metrics(pairs: list[Pair]) -> None:
    """Print one row per metric."""
    gts = {i: [" ".join(pair.reference.tokens)] for i, pair in enumerate(pairs)}
    res = {i: [" ".join(pair.candidate.tokens)] for i, pair in enumerate(pairs)}
    rows: list[tuple[str, Scorer, Callable[[], Any], list[str]]] = [
        (
            "BLEU-1..4",
            Bleu(),
            lambda: coco("bleu.bleu").Bleu(4).compute_score(gts, res, verbose=0),
            [f"bleu{n}" for n in range(1, 5)],
        ),
        ("ROUGE-L", RougeL(), lambda: coco("rouge.rouge").Rouge().compute_score(gts, res), ["rouge_l"]),
        ("CIDEr-D", Cider(), lambda: coco("cider.cider").Cider().compute_score(gts, res), ["cider_d"]),
    ]
    print("metric      ctscribe s  pycocoevalcap s  speed-up  largest difference")
    total = np.zeros(2)
    for name, scorer, theirs, measures in rows:
        own_s, values = timed(partial(ours, scorer, pairs))
        ref_s, (score, _) = timed(theirs)
        gap = np.abs(np.array([values[m] for m in measures]) - np.atleast_1d(score)).max()
        total += own_s, ref_s
        print(f"{name:10s}  {own_s:10.2f}  {ref_s:15.2f}  {ref_s / own_s:7.1f}x  {gap:.1e}")
    print(f"{'together':10s}  {total[0]:10.2f}  {total[1]:15.2f}  {total[1] / total[0]:7.1f}x")


def compare_tokens(texts: list[str]) -> None:
    """Print how many texts both tokenisers split alike."""
    try:
        theirs = (
            coco("tokenizer.ptbtokenizer")
            .PTBTokenizer()
            .tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
        )
    except FileNotFoundError:
        print("tokens: Java is not installed, not compared")
        return
    alike = sum(" ".join(english_tokens(text)) == theirs[i][0] for i, text in enumerate(texts))
    print(f"tokens: {alike} of {len(texts)} texts split exactly as by Stanford's PTBTokenizer")


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description="n-gram metrics against pycocoevalcap.")
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    options = parser.parse_args()
    texts = texts_from(options.reports, options.pairs)
    records = [Record(str(i), text) for i, text in enumerate(texts)]
    seconds, _ = timed(lambda: [record.tokens for record in records])
    words = sum(len(record.tokens) for record in records) / len(records)
    print(f"{len(records)} pairs, {words:.0f} tokens a report, tokenised in {seconds:.2f} s")
    compare_metrics([Pair(record, records[(i + 1) % len(records)]) for i, record in enumerate(records)])
    compare_tokens(texts)


if __name__ == "__main__":
    main()
