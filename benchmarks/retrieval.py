"""Is the right passage of the knowledge base found?

    python benchmarks/retrieval.py [--embeddings DIR] [--near 0.3]

Own questions in English and Chinese (`retrieval_questions.yaml`), half of which name the finding and half describe it,
are put to the index of words, to a text encoder where one is given, and to both joined. Found first, among the first
three, and the mean of 1 / place are printed; a passage that is not among the first ten counts as not found.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ctscribe.impression.embeddings import Embedder
from ctscribe.impression.passages import Passage, knowledge
from ctscribe.impression.retrieval import NEAR, Library

QUESTIONS = Path(__file__).with_name("retrieval_questions.yaml")
DEPTH = 10

Search = Callable[[str, Any, int], list[Passage]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Is the right passage found?")
    parser.add_argument("--embeddings", type=Path, help="text encoder in a folder")
    parser.add_argument("--near", type=float, default=NEAR, help="cosine from which a passage counts as found")
    options = parser.parse_args()
    library = Library(knowledge(), Embedder(options.embeddings) if options.embeddings else None, options.near)
    searches: dict[str, Search] = {"words": library.by_words}
    if options.embeddings:
        searches |= {"meaning": library.by_meaning, "both": library.search}
    for name, search in searches.items():
        for language in ("en", "zh"):
            for form in ("plain", "described"):
                report(f"{name}, {language}, {form}", places(search, language, form))
        begun = time.process_time()
        count = len(places(search, "en", "plain"))
        print(f"{name}: {1e3 * (time.process_time() - begun) / count:.1f} ms CPU a question")


def places(search: Search, language: str, form: str) -> list[int]:
    """Place of the right passage for each question, from 1; 0 when it is not among the first ten."""
    found = []
    for entry, asked in yaml.safe_load(QUESTIONS.read_text(encoding="utf-8")).items():
        ids = [p.id for p in search(asked[form][language], language, DEPTH)]
        wanted = f"kb:{entry}:{language}"
        found.append(ids.index(wanted) + 1 if wanted in ids else 0)
    return found


def report(name: str, places: list[int]) -> None:
    """One line."""
    total = len(places)
    first, three = sum(p == 1 for p in places), sum(1 <= p <= 3 for p in places)
    mean = sum(1 / p for p in places if p) / total
    print(
        f"{name:24s} first {first / total:.0%}, among three {three / total:.0%}, mean of 1/place {mean:.2f} ({total})"
    )


if __name__ == "__main__":
    main()
