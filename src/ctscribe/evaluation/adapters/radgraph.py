"""RadGraph F1: entities and relations a network extracts from both reports.

Jain et al., NeurIPS 2021; rewards "simple", "partial" and "complete" of Delbrouck et al., Findings of EMNLP 2022. Uses
the package `radgraph` for extraction and reward; each text is annotated once. The original model learned from chest
X-ray reports; the xl models also from chest CT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctscribe.errors import UsageError
from ctscribe.evaluation.adapters.base import PairModel, foreign, need, package, score

MODELS = ("radgraph-xl", "modern-radgraph-xl", "radgraph")
LEVELS = ("simple", "partial", "complete")
_FILES = ("config.json", "weights.th", "vocabulary")


class RadGraph(PairModel):
    """RadGraph F1 under local weights, mean of reports.

    Args:
        path: folder that holds the model's folder, as the package's cache does.
        model: which one; None for the first of `MODELS` that is there.
    """

    name = "radgraph"

    def __init__(self, path: Path, model: str | None = None) -> None:
        if model is not None and model not in MODELS:
            raise UsageError("model of radgraph", expected=" | ".join(MODELS), got=model)
        there = [name for name in MODELS if (path / name).is_dir()]
        self.path, self.model = path, model or (there or MODELS)[0]
        hint = "unpack radgraph-xl.tar.gz of the hub's StanfordAIMI/RRG_scorers there"
        need(path / self.model, _FILES, "weights of RadGraph", hint)
        learned = "chest X-ray reports" if self.model == "radgraph" else "reports of chest X-ray, CT and MR"
        self.measures = tuple(
            score(level, f"RadGraph F1 ({level}) by {self.model}, trained on {learned}; mean of reports.")
            for level in LEVELS
        )
        package("radgraph", "radgraph", "metric radgraph")
        with foreign(self.name):
            _annotator(self.path, self.model)

    def scores(self, candidates: list[str], references: list[str]) -> Mapping[str, Sequence[float | None]]:
        """The three rewards; a report without text scores 0, as in the package."""
        reward = package("radgraph.rewards", "radgraph", "metric radgraph").compute_reward
        texts = list(dict.fromkeys(text for text in (*candidates, *references) if text))
        found = _annotator(self.path, self.model)(texts) if texts else {}
        graph = {text: found.get(str(i)) for i, text in enumerate(texts)}
        rows = [
            (0.0, 0.0, 0.0) if not ours or not theirs else _rewarded(reward, graph[ours], graph[theirs])
            for ours, theirs in zip(candidates, references, strict=True)
        ]
        return {level: [row[i] for row in rows] for i, level in enumerate(LEVELS)}


def _rewarded(reward: Any, ours: Any, theirs: Any) -> tuple[float | None, ...]:
    """Undefined where the package gave up on a text."""
    if ours is None or theirs is None:
        return (None, None, None)
    return tuple(reward(ours, theirs, "all"))


@lru_cache(maxsize=1)
def _annotator(path: Path, model: str) -> Any:
    # cuda=-1: on the CPU the package reads its weights without running code from the file.
    return package("radgraph", "radgraph", "metric radgraph").RadGraph(
        model_type=model, model_cache_dir=str(path), tokenizer_cache_dir=str(path), cuda=-1
    )
