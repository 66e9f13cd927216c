"""What other programs compute on the tests' own corpus: written once, compared with on every test run.

    python benchmarks/references/metric_references.py --nltk-data FOLDER [--out tests/golden/metric_references.json]

Needs pycocoevalcap (with Java), nltk, rouge-score and bert-score, which are no dependencies of this project: pip
install them beside it. The corpus is `tests/report_like.py`. Every number comes from those programs; only the texts,
the tokens handed to them and the stemmer handed to NLTK are ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctscribe.evaluation.meteor import stem
from ctscribe.evaluation.tokens import chinese_tokens, english_tokens

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "tests"))

# Looked up in WordNet: forms of every kind, irregular ones, words of several parts of speech, and no words.
LOOKED_UP = (
    "nodules",
    "seen",
    "heart",
    "lungs",
    "enlarged",
    "small",
    "large",
    "is",
    "are",
    "was",
    "lobe",
    "opacities",
    "mm",
)


def installed(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{module} is not installed: pip install pycocoevalcap nltk rouge-score bert-score") from error


# Pairs scored with the tiny BERT.
BERT_PAIRS = 12


class Stems:
    """Our stemmer, as NLTK wants one."""

    def stem(self, word: str) -> str:
        return stem(word)


class NoWordNet:
    """A WordNet without a word: leaves NLTK's METEOR its exact and stem stages."""

    def synsets(self, word: str) -> list:
        return []


def tokenised(language: str) -> list[tuple[str, str]]:
    """The pairs as our tokens joined by spaces."""
    cut = english_tokens if language == "en" else chinese_tokens
    texts = import_module("report_like").texts(language)
    return [(" ".join(cut(candidate)), " ".join(cut(reference))) for candidate, reference in texts]


def caption_metrics(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """BLEU, ROUGE-L and CIDEr of pycocoevalcap, for the set and for each pair."""
    res = {i: [candidate] for i, (candidate, _) in enumerate(pairs)}
    gts = {i: [reference] for i, (_, reference) in enumerate(pairs)}
    bleu, bleu_each = installed("pycocoevalcap.bleu.bleu").Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouge_each = installed("pycocoevalcap.rouge.rouge").Rouge().compute_score(gts, res)
    cider, cider_each = installed("pycocoevalcap.cider.cider").Cider().compute_score(gts, res)
    return {
        "bleu": [float(score) for score in bleu],
        "bleu_each": [[float(score) for score in order] for order in bleu_each],
        "rouge_l": float(rouge),
        "rouge_l_each": [float(score) for score in rouge_each],
        "cider_d": float(cider),
        "cider_d_each": [float(score) for score in cider_each],
    }


def meteor_of_nltk(pairs: list[tuple[str, str]], language: str) -> list[float]:
    """NLTK's METEOR of each pair: exact and stem stages, no WordNet; for Chinese without stems."""
    module = installed("nltk.translate.meteor_score")
    stems = Stems() if language == "en" else type("AsWritten", (), {"stem": staticmethod(str)})()
    return [
        module.single_meteor_score(reference.split(), candidate.split(), stemmer=stems, wordnet=NoWordNet())
        for candidate, reference in pairs
    ]


def synonyms_of_nltk(folder: Path) -> dict[str, list[str]]:
    """Single-word synonyms of `LOOKED_UP` as NLTK's reader finds them in WordNet's files.

    NLTK reads WordNet only from ``corpora/wordnet`` of its own data folder and wants a file ``lexnames`` there.
    """
    data, module = installed("nltk.data"), installed("nltk.corpus.reader.wordnet")
    data.path.insert(0, str(folder))

    class Reader(module.WordNetCorpusReader):
        def map_wn(self, version: str = "wordnet") -> dict:
            return {}

    reader = Reader(data.find("corpora/wordnet"), None)
    return {
        word: sorted({name for s in reader.synsets(word) for name in s.lemma_names() if "_" not in name} | {word})
        for word in LOOKED_UP
    }


def bert_score(texts: list[tuple[str, str]]) -> dict[str, list[list[float]]]:
    """Precision, recall and F1 of the authors' program at the second layer of the tests' tiny BERT."""
    with tempfile.TemporaryDirectory() as folder:
        import_module("tiny_bert").save(Path(folder))
        ours, theirs = ([pair[side] for pair in texts] for side in (0, 1))
        found = {
            name: installed("bert_score").score(
                ours, theirs, model_type=folder, num_layers=2, idf=idf, device="cpu", nthreads=0
            )
            for name, idf in (("plain", False), ("idf", True))
        }
    return {name: [column.tolist() for column in columns] for name, columns in found.items()}


def meteor_of_the_jar(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Statistics and scores of METEOR 1.5, run as pycocoevalcap runs it."""
    folder = Path(installed("pycocoevalcap.meteor.meteor").__file__).parent
    command = ["java", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    asked = "".join(f"SCORE ||| {reference} ||| {candidate}\n" for candidate, reference in pairs)
    stats = subprocess.run(command, cwd=folder, input=asked, capture_output=True, text=True, check=True).stdout
    lines = stats.split("\n")[: len(pairs)]
    evaluated = "EVAL ||| " + " ||| ".join(lines) + "\n"
    scores = subprocess.run(command, cwd=folder, input=evaluated, capture_output=True, text=True, check=True).stdout
    *each, whole = (float(line) for line in scores.split())
    return {"statistics": lines, "each": each, "set": whole}


def penn_treebank(sentences: tuple[str, ...]) -> list[str]:
    """Stanford's tokens, joined by spaces."""
    found = (
        installed("pycocoevalcap.tokenizer.ptbtokenizer")
        .PTBTokenizer()
        .tokenize({i: [{"caption": text}] for i, text in enumerate(sentences)})
    )
    return [found[i][0] for i in range(len(sentences))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Numbers of other programs on the tests' corpus.")
    parser.add_argument("--nltk-data", type=Path, required=True, help="NLTK's data folder, with corpora/wordnet")
    parser.add_argument("--out", type=Path, default=GOLDEN / "metric_references.json")
    options = parser.parse_args()
    corpus = import_module("report_like")
    english, chinese = tokenised("en"), tokenised("zh")
    scorer = installed("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    golden = {
        "made_by": {name: version(name) for name in ("pycocoevalcap", "nltk", "rouge-score", "bert-score")},
        "ptb": penn_treebank(corpus.ENGLISH),
        "en": {
            **caption_metrics(english),
            "meteor_exact_stem": meteor_of_nltk(english, "en"),
            "meteor_jar": meteor_of_the_jar(english),
        },
        "zh": {**caption_metrics(chinese), "meteor_exact_stem": meteor_of_nltk(chinese, "zh")},
        "rouge_score_of_identical_chinese": max(scorer.score(t, t)["rougeL"].fmeasure for t in corpus.CHINESE[2:4]),
        "bert_score": bert_score(corpus.texts("en")[:BERT_PAIRS]),
        "synonyms": synonyms_of_nltk(options.nltk_data),
    }
    options.out.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(english)} English and {len(chinese)} Chinese pairs")


if __name__ == "__main__":
    main()
