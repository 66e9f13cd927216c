"""GREEN: a language model lists matched findings and errors of a candidate, and a formula makes a score of them.

Ostmeier et al., Findings of EMNLP 2024: matched / (matched + clinically significant errors). Uses the package
`green_score`, or the copy inside `radeval` where that is not installed. The model (7 B parameters) was trained on pairs
of chest X-ray reports and asks nothing about what only CT shows; a pair takes seconds on a GPU and minutes on a CPU.
Answers the package cannot read are left out of the mean and counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ctscribe.errors import DependencyMissing
from ctscribe.evaluation.adapters.base import PairModel, foreign, need, package, score

_PACKAGES = (("green_score", "green-score"), ("radeval.metrics.green_score", "RadEval"))


class Green(PairModel):
    """GREEN under local weights, mean of reports.

    Args:
        path: folder of the model.
        cpu: compute on the CPU even where there is a GPU.
    """

    name = "green"
    measures = (score("green", "GREEN, trained on pairs of chest X-ray reports; mean of reports."),)

    def __init__(self, path: Path, cpu: bool = False) -> None:
        need(path, ("config.json",), "weights of GREEN", "copy StanfordAIMI/GREEN-radllama2-7b there")
        self.path, self.cpu = path, cpu
        _package()
        with foreign(self.name):
            _scorer(path, cpu)

    def scores(self, candidates: list[str], references: list[str]) -> Mapping[str, Sequence[float | None]]:
        """One score a pair, None where the model's answer could not be read."""
        _mean, _spread, each, *_ = _scorer(self.path, self.cpu)(references, candidates)
        return {"green": each}


def _package() -> Any:
    """The module that has GREEN."""
    for module, install in _PACKAGES:
        try:
            return package(module, install, "metric green")
        except DependencyMissing as error:
            missing = error
    raise DependencyMissing(
        "metric green",
        expected="the package green_score or radeval",
        got=missing.got,
        hint=" or ".join(f"pip install {install}" for _, install in _PACKAGES),
    ) from missing


@lru_cache(maxsize=1)
def _scorer(path: Path, cpu: bool) -> Any:
    return _package().GREEN(str(path), output_dir=tempfile.gettempdir(), cpu=cpu)
