"""How many reports contradict themselves, by rule, and which sentences do?

    python benchmarks/contradictions.py [--reports REPORTS.csv] [--show N]

Reports come from a CSV with a column `report_text`; without one they are rendered from random findings, which
contradict themselves nowhere. With --show the first N pairs of sentences are printed, to be judged by a reader.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

from ctscribe.evaluation.contradiction import RULES, contradictions
from ctscribe.report.render import render_text
from ctscribe.report.sampler import sample_findings


def main() -> None:
    parser = argparse.ArgumentParser(description="Reports that contradict themselves.")
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--show", type=int, default=0)
    options = parser.parse_args()
    if options.reports is None:
        texts = [render_text(sample_findings(np.random.default_rng(i)), "en", seed=i) for i in range(200)]
    else:
        with options.reports.open(encoding="utf-8", newline="") as file:
            texts = [row["report_text"] for row in csv.DictReader(file)]
    found = [contradictions(text, "en") for text in texts]
    torn = sum(map(bool, found))
    rules = Counter(c.rule for each in found for c in each)
    print(f"{torn} of {len(texts)} reports ({torn / len(texts):.1%}) contradict themselves")
    print(", ".join(f"{rule}: {rules[rule]}" for rule in RULES))
    for shown in [c for each in found for c in each][: options.show]:
        print(f"\n{shown.rule} {shown.kind}\n  {shown.first}\n  {shown.second}")


if __name__ == "__main__":
    main()
