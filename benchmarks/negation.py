"""Which metrics notice a flipped negation, and which cannot tell it from a paraphrase?

    python benchmarks/negation.py [--bert FOLDER]

Scores single sentences against the same sentence with the finding denied or affirmed, and against a sentence that says
the same in other words. A metric that measures truth gives the flip about 0 and the paraphrase about 1. FOLDER holds a
model for BERTScore; without one that row is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ctscribe.evaluation import Pair, Record, Scorer
from ctscribe.evaluation.bertscore import BertScore
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.labels import Labels
from ctscribe.evaluation.meteor import Meteor
from ctscribe.evaluation.relations import Relations
from ctscribe.evaluation.rouge import RougeL
from ctscribe.evaluation.scorer import score_pair
from ctscribe.report.parse import parse

# (reference, the opposite, the same in other words)
TRIPLES = (
    ("There is a pleural effusion.", "There is no pleural effusion.", "Fluid is seen in the pleural space."),
    ("No pneumothorax is seen.", "A pneumothorax is seen.", "The exam is negative for pneumothorax."),
    ("There is consolidation in the lower lobes.", "There is no consolidation in the lower lobes.",
     "Both lower lobes show areas of consolidation."),
    ("The heart is enlarged.", "The heart is not enlarged.", "Cardiomegaly."),
    ("Nodules are present in both lungs.", "Nodules are not present in both lungs.", "Bilateral pulmonary nodules."),
    ("No pericardial effusion.", "Pericardial effusion.", "The pericardium contains no effusion."),
    ("There is emphysema in the upper lobes.", "There is no emphysema in the upper lobes.",
     "Both upper lobes are emphysematous, with emphysema throughout."),
    ("No lymphadenopathy is seen.", "Lymphadenopathy is seen.", "Lymph nodes are not enlarged."),
)  # fmt: skip


def record(text: str) -> Record:
    return Record("s", text, "en", tuple(parse(text, "en")))


def mean(scorer: Scorer, measure: str, column: int) -> float:
    """Mean over the triples, where it is defined, of a measure of one alternative against the reference."""
    values = [score_pair(scorer, Pair(record(t[column]), record(t[0]))).values[measure] for t in TRIPLES]
    return float(np.mean([value for value in values if value is not None]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Flipped negations and paraphrases under each metric.")
    parser.add_argument("--bert", type=Path, help="folder of a model for BERTScore")
    options = parser.parse_args()
    rows: list[tuple[str, Scorer, str]] = [
        ("BLEU-1", Bleu(), "bleu1"),
        ("ROUGE-L", RougeL(), "rouge_l"),
        ("METEOR", Meteor(), "meteor_exact_stem"),
        ("finding F1", Labels("ontology"), "micro_f1"),
        ("relations, complete F1", Relations(), "complete_f1"),
    ]
    if options.bert:
        rows.insert(3, (f"BERTScore F1 ({options.bert.name})", BertScore(options.bert), "f1"))
    print(f"{'metric':32s}  flipped  paraphrase   (mean of {len(TRIPLES)} sentences)")
    for name, scorer, measure in rows:
        print(f"{name:32s}  {mean(scorer, measure, 1):7.2f}  {mean(scorer, measure, 2):10.2f}")


if __name__ == "__main__":
    main()
