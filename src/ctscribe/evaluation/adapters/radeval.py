"""RadEval: all metrics of that package at once, chosen by its own configuration file.

    metrics: [radgraph, f1radbert_ct]

The package loads its models from the hub's cache on this machine (environment variable HF_HOME); nothing is downloaded.
Metrics that send reports to a service (crimson, mammo_green, radfact_ct) are refused: reports stay here. Most of its
models learned from chest X-ray reports; f1radbert_ct learned from CT-RATE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ctscribe.errors import UsageError
from ctscribe.evaluation.adapters.base import PairModel, foreign, package
from ctscribe.evaluation.scorer import Measure

REMOTE = ("crimson", "mammo_green", "radfact_ct")

# What a metric is asked once to learn the names of its values.
_PROBE = "There is a small left pleural effusion."


class RadEval(PairModel):
    """The metrics a configuration file names, each the mean of its values of single reports.

    Args:
        path: RadEval's configuration, YAML or JSON with a list ``metrics``.

    Raises:
        UsageError: the file cannot be read, names no metric, or one that sends reports away.
    """

    name = "radeval"

    def __init__(self, path: Path) -> None:
        self.metrics = _metrics(path)
        package("radeval", "RadEval", "metric radeval")
        with foreign(self.name):
            probe = _per_report(_evaluator(self.metrics)(refs=[_PROBE], hyps=[_PROBE]), 1)
        if not probe:
            raise UsageError(
                f"{path}: metrics of RadEval", expected="one with a value for each report", got=self.metrics
            )
        self.measures = tuple(
            Measure(
                key, f"{key} as RadEval computes it, mean of reports; most of its models know chest X-ray only.", None
            )
            for key in probe
        )

    def scores(self, candidates: list[str], references: list[str]) -> Mapping[str, Sequence[float | None]]:
        """All values of all metrics."""
        return _per_report(_evaluator(self.metrics)(refs=references, hyps=candidates), len(candidates))


def _metrics(path: Path) -> str:
    """The metrics with their options as JSON: hashable, and the same for files that mean the same."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
        given = told["metrics"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: configuration of RadEval", expected="YAML or JSON with a list 'metrics'", got=str(error)
        ) from error
    table: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
    for item in given if isinstance(given, list) else ():
        table |= {item: {}} if isinstance(item, str) else dict(item)
    if not table:
        raise UsageError(f"{path}: metrics of RadEval", expected="at least one", got=repr(given))
    if sent := [name for name in table if name in REMOTE]:
        raise UsageError(
            f"{path}: metrics of RadEval",
            expected="metrics that run on this machine",
            got=f"{', '.join(sent)}, which would send reports to a service",
            hint="take them out",
        )
    return json.dumps(table, sort_keys=True)


def _per_report(found: Mapping[str, Any], reports: int) -> dict[str, list[float | None]]:
    """The values that are one number a report."""
    lists = {key: list(value) for key, value in found.items() if isinstance(value, (list, tuple))}
    return {
        key: value
        for key, value in lists.items()
        if len(value) == reports and all(v is None or isinstance(v, (int, float)) for v in value)
    }


@lru_cache(maxsize=1)
def _evaluator(metrics: str) -> Any:
    module = package("radeval", "RadEval", "metric radeval")
    return module.RadEval(metrics=json.loads(metrics), per_sample=True, show_progress=False)
