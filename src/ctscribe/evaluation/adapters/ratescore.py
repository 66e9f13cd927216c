"""RaTEScore: entities a network extracts from both reports, compared by meaning, with negation weighed in.

Zhao et al., EMNLP 2024. Uses the package `RaTEScore`. Its extraction model learned from reports of several modalities,
CT among them. A pair in which one side has no entity scores 0.5, as the package has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctscribe.evaluation.adapters.base import PairModel, foreign, need, package, score

NER, EMBEDDING = "RaTE-NER-Deberta", "BioLORD-2023-C"


class RateScore(PairModel):
    """RaTEScore under local weights, mean of reports.

    Args:
        path: folder with the two models' folders.
    """

    name = "ratescore"
    measures = (score("ratescore", "RaTEScore, trained on reports of several modalities; mean of reports."),)

    def __init__(self, path: Path) -> None:
        needed = (f"{NER}/config.json", f"{EMBEDDING}/config.json")
        need(path, needed, "weights of RaTEScore", f"copy Angelakeke/{NER} and FremyCompany/{EMBEDDING} there")
        self.path = path
        package("RaTEScore", "RaTEScore", "metric ratescore")
        with foreign(self.name):
            _scorer(path)

    def scores(self, candidates: list[str], references: list[str]) -> Mapping[str, Sequence[float | None]]:
        """One score a pair."""
        return {"ratescore": _scorer(self.path).compute_score(candidates, references)}


@lru_cache(maxsize=1)
def _scorer(path: Path) -> Any:
    module = package("RaTEScore", "RaTEScore", "metric ratescore")
    return module.RaTEScore(bert_model=str(path / NER), eval_model=str(path / EMBEDDING), use_gpu=False)
