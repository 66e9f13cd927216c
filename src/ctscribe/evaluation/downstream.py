"""What a report is for: nodules found, diseases told, probabilities that can be ranked and believed.

Nodules and diseases are read out of every text. Ranking, calibration and the FROC curve need what few files have
(`extras`: probabilities, boxes), so they join the scorecard only where it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.calibration import Calibration
from ctscribe.evaluation.detection import Detections, cpm, detections, froc, froc_rows
from ctscribe.evaluation.disease import Diseases, diseases
from ctscribe.evaluation.facts import Facts, ranked_names
from ctscribe.evaluation.intervals import Estimate, codes_of, estimate, weight_blocks
from ctscribe.evaluation.nodules import Nodules
from ctscribe.evaluation.ranking import Ranked, auprc, auroc, mean_defined, ranking_row
from ctscribe.evaluation.scorecard import Result
from ctscribe.evaluation.scorer import Measure, Scorer

RANKING: tuple[Measure, ...] = (
    Measure("auroc", "Mean AUROC over those of CT-RATE's 18 labels that have both classes; guessing scores 0.5."),
    Measure("auprc", "Mean average precision over the same labels; guessing scores the share of positives."),
)
CPM = Measure("cpm", "Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan, from boxes.")

# Points of the FROC curve kept for drawing.
_POINTS = 200


def text_scorers() -> tuple[Scorer, ...]:
    """What is read out of every text."""
    return Nodules(), Diseases()


def given_scorers(facts: Facts) -> tuple[Scorer, ...]:
    """Scorers of what this file gives beside its texts."""
    return () if facts.probabilities is None else (Calibration(),)


def ranking_measures() -> tuple[Measure, ...]:
    """The measures of `ranking`, those of the diseases last."""
    own = [
        measure
        for name in diseases()
        for measure in (
            Measure(f"auroc_{name}", f"AUROC of the conclusion {name.replace('_', ' ')}; guessing scores 0.5."),
            Measure(f"auprc_{name}", f"Average precision of the conclusion {name.replace('_', ' ')}."),
        )
    ]
    return (*RANKING, *own)


def measure_names() -> tuple[str, ...]:
    """Every measure this module may add to a scorecard."""
    scorers = (*text_scorers(), Calibration())
    own = [f"{scorer.name}.{measure.name}" for scorer in scorers for measure in scorer.measures]
    return (*own, *(f"ranking.{measure.name}" for measure in ranking_measures()), f"froc.{CPM.name}")


def ranking(
    facts: Facts, *, resamples: int, level: float, seed: int
) -> tuple[list[Result], dict[str, list[dict[str, Any]]]]:
    """AUROC and AUPRC with intervals, and their table; ([], {}) without probabilities."""
    if facts.probabilities is None or facts.truth is None:
        return [], {}
    codes = codes_of(facts.clusters)
    cases = int(codes.max()) + 1
    columns = zip(ranked_names(), facts.probabilities.T, facts.truth.T, strict=True)
    found = {name: Ranked.of(score, truth, codes) for name, score, truth in columns}
    found = {name: ranked for name, ranked in found.items() if len(ranked.truth)}
    rows = [ranking_row(name, ranked, cases) for name, ranked in found.items()]
    values = _areas(found, np.ones((1, cases)))
    parts = [_areas(found, w) for w in weight_blocks(cases, resamples if cases > 1 else 0, seed)]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in values} if parts else {}
    results = [
        _result("ranking", m, estimate(float(values[m.name][0]), drawn.get(m.name), level)) for m in ranking_measures()
    ]
    return [r for r in results if r.estimate.value is not None], {"ranking": rows}


def _areas(found: Mapping[str, Ranked], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure of `ranking_measures` for each row of weights."""
    labels = [kind for kind in ontology.ct_rate_labels().values() if kind in found]
    samples = len(weights)
    values = {
        "auroc": mean_defined((auroc(found[kind], weights) for kind in labels), samples),
        "auprc": mean_defined((auprc(found[kind], weights) for kind in labels), samples),
    }
    for name in diseases():
        missing = np.full(samples, np.nan)
        values[f"auroc_{name}"] = auroc(found[name], weights) if name in found else missing
        values[f"auprc_{name}"] = auprc(found[name], weights) if name in found else missing
    return values


def boxes(
    facts: Facts, *, resamples: int, level: float, seed: int
) -> tuple[list[Result], dict[str, list[dict[str, Any]]], list[str]]:
    """CPM with its interval, the FROC table and notes; ([], {}, []) without boxes."""
    known = [i for i, pair in enumerate(facts.boxes) if pair is not None]
    if not known:
        return [], {}, []
    scans = [pair for pair in facts.boxes if pair is not None]
    found = detections(scans)
    codes = codes_of([facts.clusters[i] for i in known])
    cases = int(codes.max()) + 1
    drawn: np.ndarray | None = None
    if resamples and cases > 1:
        blocks = weight_blocks(cases, resamples, seed)
        drawn = np.array([cpm(found, row[codes]) for block in blocks for row in block])
    result = _result("froc", CPM, estimate(cpm(found), drawn, level))
    notes = (
        []
        if len(known) == len(facts.boxes)
        else [f"froc: boxes are given for {len(known)} of {len(facts.boxes)} scans."]
    )
    return [result], {"froc": froc_rows(found)}, notes


def froc_points(facts: Facts) -> list[tuple[float, float]]:
    """(false positives per scan, sensitivity) along the curve, thinned for drawing; [] without boxes."""
    scans: Sequence[Any] = [pair for pair in facts.boxes if pair is not None]
    found: Detections | None = detections(scans) if scans else None
    if found is None or not found.nodules.sum():
        return []
    rates, sensitivity = froc(found)
    kept = np.unique(np.linspace(0, len(rates) - 1, min(_POINTS, len(rates))).round().astype(int))
    return [(float(rates[i]), float(sensitivity[i])) for i in kept]


def _result(scorer: str, measure: Measure, found: Estimate) -> Result:
    return Result(scorer, measure.name, measure.says, measure.smaller_is_better, found)
