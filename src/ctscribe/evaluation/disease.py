"""Diseases told from findings by the rules of `diseases.yaml`: does the report lead to the same conclusion?

- from text: precision, recall and F1 of each disease over reports (`Diseases`).
- from probabilities: `score` makes one number per report, which `ranking` turns into AUROC and AUPRC.

A rule reads what a report says. It is not a diagnosis, and agreement with it is not diagnostic accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from ctscribe import ontology
from ctscribe.errors import ConfigError
from ctscribe.evaluation.labels import confusion
from ctscribe.evaluation.matching import sides
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, defined, ratio


@dataclass(frozen=True)
class Disease:
    """One rule.

    Attributes:
        says: the rule in words.
        any: one of these finding kinds.
        source: where the rule comes from.
        all: and every one of these.
        both_sides: and these on the left and on the right.
        without: and none of these.
        at_least_mm: kinds of `any` that count only from this long axis on.
    """

    says: str
    any: tuple[str, ...]
    source: str
    all: tuple[str, ...] = ()
    both_sides: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    at_least_mm: Mapping[str, float] = field(default_factory=dict)

    def holds(self, record: Record) -> bool:
        """Does the report say so? Possible findings count, as in the label metrics."""
        said = record.implied
        if not set(self.all) <= said or set(self.without) & said:
            return False
        if not all(self._sides(record, kind) >= {"left", "right"} for kind in self.both_sides):
            return False
        return any(kind in said and self._large_enough(record, kind) for kind in self.any)

    def score(self, probabilities: Mapping[str, float]) -> float | None:
        """Probability-like score of the disease; None when a finding of the rule has no probability."""
        if {*self.any, *self.all, *self.without} - probabilities.keys():
            return None
        largest = max(probabilities[kind] for kind in self.any)
        rest = [probabilities[kind] for kind in self.all] + [1.0 - probabilities[kind] for kind in self.without]
        return min([largest, *rest])

    def _large_enough(self, record: Record, kind: str) -> bool:
        least = self.at_least_mm.get(kind)
        sizes = [f.size_mm[0] for f in record.findings if f.kind == kind and f.status != "absent" and f.size_mm]
        return least is None or any(size >= least for size in sizes)

    @staticmethod
    def _sides(record: Record, kind: str) -> set[str]:
        named = [sides(f) for f in record.findings if f.kind == kind and f.status != "absent"]
        return set().union(*named)


@cache
def diseases() -> Mapping[str, Disease]:
    """Disease id -> rule.

    Raises:
        ConfigError: a rule names a finding the ontology does not know.
    """
    table = yaml.safe_load((files("ctscribe.evaluation") / "diseases.yaml").read_text(encoding="utf-8"))
    return MappingProxyType({name: _rule(name, entry) for name, entry in table.items()})


def _rule(name: str, entry: Mapping[str, Any]) -> Disease:
    lists = {key: tuple(entry.get(key, ())) for key in ("any", "all", "both_sides", "without")}
    sizes = {str(kind): float(mm) for kind, mm in entry.get("at_least_mm", {}).items()}
    unknown = {kind for kinds in (*lists.values(), tuple(sizes)) for kind in kinds} - ontology.findings().keys()
    if unknown:
        raise ConfigError(f"diseases.yaml: {name}", expected="finding kinds", got=", ".join(sorted(unknown)))
    return Disease(says=entry["says"], source=entry["source"], at_least_mm=MappingProxyType(sizes), **lists)


class Diseases(Scorer):
    """F1 of each disease, from what the texts say."""

    name = "disease"

    def __init__(self) -> None:
        self.names = tuple(diseases())
        self.measures = tuple(
            Measure(f"f1_{name}", f"F1 of the conclusion {name.replace('_', ' ')}: {diseases()[name].says}.")
            for name in self.names
        )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: TP of each disease, then FP, then FN."""
        truth = disease_matrix([pair.reference for pair in pairs])
        called = disease_matrix([pair.candidate for pair in pairs])
        return np.concatenate(confusion(truth, called)[:3], axis=1)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """F1; NaN where no reference has the disease."""
        tp, fp, fn = np.split(totals, 3, axis=-1)
        f1 = np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan)
        return {f"f1_{name}": f1[..., i] for i, name in enumerate(self.names)}

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per disease."""
        tp, fp, fn = np.split(totals, 3, axis=-1)
        return [
            {
                "disease": name,
                "support": int(tp[i] + fn[i]),
                "predicted": int(tp[i] + fp[i]),
                "precision": defined(ratio(tp[i], tp[i] + fp[i])),
                "recall": defined(ratio(tp[i], tp[i] + fn[i])),
                "rule": diseases()[name].says,
            }
            for i, name in enumerate(self.names)
        ]


def disease_matrix(records: Sequence[Record]) -> np.ndarray:
    """Boolean matrix (records, diseases): does the report say so?"""
    rules = diseases().values()
    return np.array([[rule.holds(record) for rule in rules] for record in records], dtype=bool).reshape(-1, len(rules))
