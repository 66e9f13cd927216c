"""How well does the parser read CT-RATE's 18 labels out of real reports, and how fast?

    python benchmarks/parser.py --reports ct_rate_reports_800.csv

The file has a column `report_text` and one column of 0 and 1 for each label (CT-RATE's text classifier set; not part of
this repository). The rules were written on its first 400 reports; the table is of the others, which nobody read. Prints
precision, recall, F1 and support of each label, the macro and micro F1 with 95 % bootstrap intervals over reports, the
same two numbers for the first 400, and reports a second with an empty cache on one core. `--errors` prints instead what
the errors on the first 400 are made of: for each label the ten most frequent kinds, named by the parser's own words.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.labels import confusion, precision_recall_f1
from ctscribe.report.parse import ct_rate_labels
from ctscribe.report.parse.labels import habits
from ctscribe.report.parse.sentence import Reading, read_sentence
from ctscribe.report.parse.topics import pieces

STUDIED = 400
LABELS = tuple(ontology.ct_rate_labels())


def matrices(rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """(truth, read) as boolean matrices (reports, labels)."""
    truth = np.array([[float(row[label]) > 0 for label in LABELS] for row in rows])
    read = np.array([list(ct_rate_labels(row["report_text"], "en").values()) for row in rows])
    return truth, read


def summary(truth: np.ndarray, read: np.ndarray) -> tuple[float, float]:
    """Macro and micro F1."""
    tp, fp, fn, _ = (cell.sum(axis=0) for cell in confusion(truth, read))
    _, _, f1 = precision_recall_f1(tp, fp, fn)
    return float(np.nanmean(f1)), float(2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum()))


def interval(truth: np.ndarray, read: np.ndarray, resamples: int = 2000) -> np.ndarray:
    """95 % bootstrap limits over reports, rows macro and micro."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(truth), len(truth)) for _ in range(resamples))
    return np.percentile([summary(truth[d], read[d]) for d in draws], [2.5, 97.5], axis=0).T


def print_table(truth: np.ndarray, read: np.ndarray) -> None:
    """One row per label, as Markdown."""
    tp, fp, fn, _ = (cell.sum(axis=0) for cell in confusion(truth, read))
    precision, recall, f1 = precision_recall_f1(tp, fp, fn)
    print("| label | support | precision | recall | F1 | too many | missed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for i, label in enumerate(LABELS):
        scores = f"{precision[i]:.3f} | {recall[i]:.3f} | {f1[i]:.3f}"
        print(f"| {label} | {tp[i] + fn[i]:.0f} | {scores} | {fp[i]:.0f} | {fn[i]:.0f} |")


def readings_of(text: str) -> Iterator[tuple[Reading, str]]:
    """Everything a report states, each with its sentence."""
    for piece in pieces(text, "en"):
        for reading in read_sentence(piece.sentence, "en", piece.topic):
            yield reading, piece.sentence


def error_kind(text: str, label: str, truth: bool) -> str:
    """What an error is made of, in words of the parser's vocabulary only."""
    habit = habits()[label]
    mine = [
        (r, s) for r, s in readings_of(text) if r.label == label or (r.label is None and r.finding.kind in habit.kinds)
    ]
    if truth:
        stated = [r for r, _ in mine if r.finding.status != "absent"]
        return f"{name_of(stated[0])} not counted" if stated else ("denied" if mine else "no word for it")
    counted = [r for r, s in mine if habit.counts(r, s)]
    sure = [r for r in counted if r.finding.status == "present"]
    name = Counter(name_of(r) for r in sure or counted).most_common(1)[0][0]
    return name if sure else f"{name}, as possible"


def name_of(reading: Reading) -> str:
    """The words of a reading, two at most."""
    return " ".join(reading.names[0].replace("-", " ").split()[:2])


def print_errors(rows: list[dict[str, str]]) -> None:
    """The ten most frequent kinds of error of each label, as Markdown."""
    truth, read = matrices(rows)
    print("| label | too many | missed |\n| --- | --- | --- |")
    for i, label in enumerate(LABELS):
        cells = []
        for missed in (False, True):
            wrong = np.flatnonzero((read[:, i] != truth[:, i]) & (truth[:, i] == missed))
            kinds = Counter(error_kind(rows[n]["report_text"], label, missed) for n in wrong)
            cells.append("; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(10)))
        print(f"| {label} | {cells[0]} | {cells[1]} |")


def main() -> None:
    """Print the table, the summary and the speed, or the kinds of error."""
    parser = argparse.ArgumentParser(description="CT-RATE labels read from real reports.")
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--studied-only", action="store_true", help="leave the untouched reports alone")
    parser.add_argument("--errors", action="store_true", help="kinds of error on the studied reports, nothing else")
    options = parser.parse_args()
    with options.reports.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if options.errors:
        print_errors(rows[:STUDIED])
        return
    ct_rate_labels(rows[0]["report_text"], "en")  # compiles the lexicon
    start = time.process_time()
    studied = matrices(rows[:STUDIED])
    seconds = time.process_time() - start
    if not options.studied_only:
        untouched = matrices(rows[STUDIED:])
        print_table(*untouched)
        (macro, micro), limits = summary(*untouched), interval(*untouched)
        print(
            f"\nuntouched {len(rows) - STUDIED}: macro F1 {macro:.3f} ({limits[0][0]:.3f} to {limits[0][1]:.3f}), ",
            end="",
        )
        print(f"micro F1 {micro:.3f} ({limits[1][0]:.3f} to {limits[1][1]:.3f})")
    macro, micro = summary(*studied)
    print(f"studied {STUDIED}: macro F1 {macro:.3f}, micro F1 {micro:.3f}")
    print(f"{STUDIED / seconds:.0f} reports a second on one core, nothing cached")


if __name__ == "__main__":
    main()
