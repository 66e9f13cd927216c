"""How fast is the evaluation, and do its n-gram metrics equal other programs'?

    python benchmarks/evaluation.py [--reports REPORTS.csv] [--pairs N]
    python benchmarks/evaluation.py --scale --pairs 100000 [--processes 2]

The first pairs every report with another one, scores them with ctscribe, with the COCO caption evaluation
(pycocoevalcap) and with RadEval, and prints seconds, speed-up and the largest difference. Reports come from a CSV with
a column `report_text`; without one they are rendered from random findings. With Java it also prints how many texts the
tokeniser splits exactly as Stanford's. What is not installed is said and left out. RadEval's BLEU and ROUGE need none
of its heavy requirements: `pip install --no-deps RadEval rouge_score nltk absl-py`.

The second writes N pairs to files and runs what `ctscribe evaluate` runs on them: reading, parsing, the clinical and
the n-gram metrics, 1000 bootstrap resamples, baselines, the shuffled control and every output file. It prints wall and
processor seconds, and the largest memory of all processes together, and what 100,000 pairs would take. Pairs are
synthetic, or made of the reports of the CSV: these are repeated, and in every repetition each sentence that occurs once
among them gets an image number of its own, on both sides. Nearly half of all sentences are then new whatever N is, as
they are among the last hundreds of 800 real reports, so that no memory of sentences helps more than it would there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.evaluation import Pair, Record, Scorer
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.meteor import Meteor
from ctscribe.evaluation.rouge import RougeL
from ctscribe.evaluation.tokens import english_tokens
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings

TARGET = 100_000


def texts_from(path: Path | None, count: int) -> list[str]:
    """The first reports of the CSV, or rendered ones."""
    if path is None:
        return [render_text(sample_findings(np.random.default_rng(i)), "en", seed=i) for i in range(count)]
    with path.open(encoding="utf-8", newline="") as file:
        return [row["report_text"] for row in csv.DictReader(file)][:count]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this process (the machine may be shared) and result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def ours(scorer: Scorer, pairs: list[Pair]) -> dict[str, float]:
    """Score all pairs."""
    ready = scorer.fitted([pair.reference for pair in pairs])
    return {name: float(value) for name, value in ready.values(ready.tally(pairs).sum(axis=0)).items()}


def fresh(pairs: list[Pair]) -> list[Pair]:
    """The same pairs, not tokenised yet."""
    again = [[Record(r.id, r.text, r.language) for r in (pair.candidate, pair.reference)] for pair in pairs]
    return [Pair(candidate, reference) for candidate, reference in again]


def installed(module: str) -> Any | None:
    """A module that only this comparison uses, None where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        print(f"{module.split('.')[0]}: not compared, {error.name} is not installed")
        return None


def compare_coco(pairs: list[Pair]) -> None:
    """Print one row per metric of pycocoevalcap; both get tokens."""
    modules = [installed(f"pycocoevalcap.{name}") for name in ("bleu.bleu", "rouge.rouge", "cider.cider")]
    if None in modules:
        return
    bleu, rouge, cider = modules
    gts = {i: [" ".join(pair.reference.tokens)] for i, pair in enumerate(pairs)}
    res = {i: [" ".join(pair.candidate.tokens)] for i, pair in enumerate(pairs)}
    rows: list[tuple[str, Scorer, Callable[[], Any], list[str]]] = [
        (
            "BLEU-1..4",
            Bleu(),
            lambda: bleu.Bleu(4).compute_score(gts, res, verbose=0),
            [f"bleu{n}" for n in range(1, 5)],
        ),
        ("ROUGE-L", RougeL(), lambda: rouge.Rouge().compute_score(gts, res), ["rouge_l"]),
        ("CIDEr-D", Cider(), lambda: cider.Cider().compute_score(gts, res), ["cider_d"]),
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


def compare_meteor(pairs: list[Pair]) -> None:
    """Print processor seconds of both METEORs, Java's start included; they are of different years, so are values."""
    module = installed("pycocoevalcap.meteor.meteor")
    if module is None or shutil.which("java") is None:
        print("METEOR: not compared, pycocoevalcap or Java is not installed")
        return
    gts = {i: [" ".join(pair.reference.tokens)] for i, pair in enumerate(pairs)}
    res = {i: [" ".join(pair.candidate.tokens)] for i, pair in enumerate(pairs)}
    own_s, values = timed(partial(ours, Meteor(), pairs))
    before = sum(os.times()[:4])
    program = module.Meteor()
    score, _ = program.compute_score(gts, res)
    program.meteor_p.stdin.close()
    program.meteor_p.wait()  # only then does the system count what it took
    ref_s = sum(os.times()[:4]) - before
    print(f"{'METEOR':10s}  {own_s:10.2f}  {ref_s:15.2f}  {ref_s / own_s:7.1f}x", end="  ")
    print(f"exact and stem {values['meteor_exact_stem']:.3f}, METEOR 1.5 {score:.3f}")


def compare_radeval(pairs: list[Pair]) -> None:
    """Print seconds of RadEval's lexical metrics; both start from text. Its values are of another tokenisation."""
    module = installed("radeval")
    if module is None:
        return
    refs, hyps = [p.reference.text for p in pairs], [p.candidate.text for p in pairs]
    print("metric      ctscribe s        RadEval s  speed-up")
    total = np.zeros(2)
    rows: list[tuple[str, str, Scorer]] = [("BLEU", "bleu", Bleu()), ("ROUGE", "rouge", RougeL())]
    for name, metric, scorer in rows:
        try:
            theirs = module.RadEval(metrics=[metric], show_progress=False)
        except ModuleNotFoundError as error:
            print(f"radeval: {name} not compared, {error.name} is not installed")
            return
        own_s, _ = timed(partial(ours, scorer, fresh(pairs)))
        ref_s, _ = timed(partial(theirs, refs=refs, hyps=hyps))
        total += own_s, ref_s
        print(f"{name:10s}  {own_s:10.2f}  {ref_s:15.2f}  {ref_s / own_s:7.1f}x")
    print(f"{'together':10s}  {total[0]:10.2f}  {total[1]:15.2f}  {total[1] / total[0]:7.1f}x")


def compare_tokens(texts: list[str]) -> None:
    """Print how many texts both tokenisers split alike."""
    module = installed("pycocoevalcap.tokenizer.ptbtokenizer")
    if module is None:
        return
    try:
        theirs = module.PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    except FileNotFoundError:
        print("tokens: Java is not installed, not compared")
        return
    alike = sum(" ".join(english_tokens(text)) == theirs[i][0] for i, text in enumerate(texts))
    print(f"tokens: {alike} of {len(texts)} texts split exactly as by Stanford's PTBTokenizer")


# ------------------------------------------------------------------------------------------ scale


class Written:
    """Synthetic reports without end."""

    def text(self, i: int, copy: int) -> str:
        """Report of study i, in the words of `copy`."""
        return render_text(sample_findings(np.random.default_rng(i), mean_present=3.0), "en", seed=copy)


class Repeated:
    """Given reports without end: of each repetition, the sentences that occur once have image numbers of their own."""

    def __init__(self, texts: list[str]) -> None:
        self.reports = [re.split(r"(?<=[.;])\s+", text) for text in texts]
        self.seen = Counter(sentence for report in self.reports for sentence in report)

    def text(self, i: int, copy: int) -> str:
        """Report of study i, in the words of `copy`."""
        mark = f" (series {copy // 1000 + 1}, image {copy % 1000 + 1})"
        sentences = self.reports[i % len(self.reports)]
        return " ".join(f"{s[:-1]}{mark}{s[-1:]}" if self.seen[s] == 1 and s[-1:] == "." else s for s in sentences)


def write_pairs(folder: Path, count: int, source: Written | Repeated) -> tuple[Path, Path]:
    """Files of predictions and references: a system that is right in seven of ten studies, two studies a patient."""
    rng = np.random.default_rng(0)
    paths = folder / "predictions.jsonl", folder / "references.jsonl"
    with paths[0].open("w", encoding="utf-8") as mine, paths[1].open("w", encoding="utf-8") as truth:
        for i in range(count):
            row = {"id": f"s{i}", "language": "en"}
            known = {"patient": f"p{i // 2}", "metadata": {"scanner": "ABC"[i % 3], "sex": "FM"[i // 2 % 2]}}
            truth.write(json.dumps({**row, **known, "text": source.text(i, i)}) + "\n")
            study = i if rng.random() < 0.7 else int(rng.integers(count))
            mine.write(json.dumps({**row, "text": source.text(study, i + count)}) + "\n")
    return paths


class Memory:
    """Largest memory of this process and its children together, sampled from /proc: what is shared counts once."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            self.peak = max(self.peak, sum(_proportional(pid) for pid in _family(os.getpid())))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in _family(int(child)))]


def _proportional(pid: int) -> int:
    """Bytes of memory, shared pages divided among those who share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def scale(count: int, processes: int, reports: Path | None) -> None:
    """Run the whole evaluation on N pairs and print what it took."""
    from ctscribe.evaluation import run_evaluate

    with tempfile.TemporaryDirectory() as name:
        source = Written() if reports is None else Repeated(texts_from(reports, count))
        paths = write_pairs(Path(name), count, source)
        size = sum(path.stat().st_size for path in paths) / 2 / count
        begun, before = time.perf_counter(), os.times()
        with Memory() as memory:
            card = run_evaluate(*paths, Path(name) / "out", processes=processes)
        wall, after = time.perf_counter() - begun, os.times()
        files = sum(path.stat().st_size for path in (Path(name) / "out").iterdir())
    main, workers = (sum(after[a:b]) - sum(before[a:b]) for a, b in ((0, 2), (2, 4)))
    used = main + workers
    print(f"{count} pairs, {size:.0f} bytes a report, {processes} processes, {len(card.results)} measures")
    print(f"wall {wall:.1f} s, processor {used:.1f} s, memory {memory.peak / 2**20:.0f} MiB")
    print(f"{main:.1f} s of the processor time in the first process, {workers:.1f} s in workers")
    print(f"wall time if {processes} cores were free, at most: {main + workers / processes:.0f} s")
    print(f"output {files / 2**20:.0f} MiB")
    print(f"processor milliseconds a pair: {1000 * used / count:.2f}")
    if count < TARGET:
        print(f"at this rate {TARGET} pairs take {used * TARGET / count:.0f} processor seconds")


def main() -> None:
    """Run the comparisons, or the scale test."""
    parser = argparse.ArgumentParser(description="Speed and equality of the evaluation.")
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--scale", action="store_true", help="run the whole evaluation on that many pairs")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.scale:
        scale(options.pairs, options.processes, options.reports)
        return
    texts = texts_from(options.reports, options.pairs)
    records = [Record(str(i), text) for i, text in enumerate(texts)]
    seconds, _ = timed(lambda: [record.tokens for record in records])
    words = sum(len(record.tokens) for record in records) / len(records)
    print(f"{len(records)} pairs, {words:.0f} tokens a report, tokenised in {seconds:.2f} s; processor seconds")
    pairs = [Pair(record, records[(i + 1) % len(records)]) for i, record in enumerate(records)]
    compare_coco(pairs)
    compare_meteor(pairs)
    compare_radeval(pairs)
    compare_tokens(texts)


if __name__ == "__main__":
    main()
