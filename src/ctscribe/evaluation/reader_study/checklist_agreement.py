"""Do model and radiologists see the same in a scan? Cohen's kappa over CT-RATE's 18 findings.

Readers tick the findings on the scan before they see any report; a system's findings are read from its report. One
decision is one finding in one scan. Readers against readers is the yardstick: a system can hardly agree better with
readers than they do with one another. Unsure counts as present, as possible does in reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from ctscribe.evaluation.reader_study.agreement import Cohen, MeanCohen
from ctscribe.evaluation.reader_study.answers import ScanReading
from ctscribe.evaluation.reader_study.key import Key
from ctscribe.evaluation.reader_study.questions import checklist, checklist_names

READERS, MEAN = "readers", "readers, mean"

_COHEN = Cohen((0.0, 1.0))


def rows(
    scans: Sequence[ScanReading], key: Key, names: Mapping[str, str], resamples: int, level: float, seed: int
) -> list[dict[str, Any]]:
    """One row for each system and reader, and each two readers, over all findings; then one for each finding."""
    if not scans:
        return []
    seen = _seen(scans, key)
    said = {names[code]: _said(key, code) for code in names if code in key.labels}
    kinds, cases = checklist(), list(key.clusters)
    clusters = [key.clusters[case] for case in cases for _ in kinds]
    duels = [("system", name, reader, table, seen[reader]) for name, table in said.items() for reader in seen]
    duels += [("readers", a, b, seen[a], seen[b]) for a, b in combinations(seen, 2)]
    found = []
    for name, table in (*said.items(), (READERS, None)):
        raters = [*seen.values()] if table is None else [table, *seen.values()]
        if len(raters) < 2:
            continue
        matrix = np.column_stack([one.ravel() for one in raters])
        mean = MeanCohen((0.0, 1.0), against_first=table is not None)
        estimate = mean.estimate(matrix, clusters, resamples=resamples, level=level, seed=seed)
        decisions = int((~np.isnan(matrix)).all(axis=1).sum())
        row = {"between": "readers" if table is None else "system", "first": name, "second": MEAN, "finding": "all"}
        found.append(
            {**row, "decisions": decisions, "first_positive": None, "second_positive": None, **asdict(estimate)}
        )
    for sort, first, second, left, right in duels:
        pair = np.column_stack([left.ravel(), right.ravel()])
        estimate = _COHEN.estimate(pair, clusters, resamples=resamples, level=level, seed=seed)
        found.append(_row(sort, first, second, "all", pair, asdict(estimate)))
    for column, kind in enumerate(kinds):
        for sort, first, second, left, right in duels:
            pair = np.column_stack([left[:, column], right[:, column]])
            known = pair[~np.isnan(pair).any(axis=1)]
            if known.any():
                value = _COHEN.of(known)
                lone = {"value": None if np.isnan(value) else value, "low": None, "high": None}
                found.append(_row(sort, first, second, checklist_names()[kind]["en"], pair, lone))
    return found


def _row(
    sort: str, first: str, second: str, finding: str, pair: np.ndarray, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    known = pair[~np.isnan(pair).any(axis=1)]
    return {
        "between": sort,
        "first": first,
        "second": second,
        "finding": finding,
        "decisions": len(known),
        "first_positive": int(known[:, 0].sum()),
        "second_positive": int(known[:, 1].sum()),
        **numbers,
    }


def _seen(scans: Sequence[ScanReading], key: Key) -> dict[str, np.ndarray]:
    """Reader -> what was seen, (cases, findings): 1, 0, NaN where not answered."""
    case = {c: i for i, c in enumerate(key.clusters)}
    found: dict[str, np.ndarray] = {}
    for reading in scans:
        table = found.setdefault(reading.scan.reader, np.full((len(case), len(checklist())), np.nan))
        table[case[reading.scan.case]] = [
            np.nan if kind not in reading.marks else float(reading.marks[kind] != "absent") for kind in checklist()
        ]
    return {reader: found[reader] for reader in key.readers if reader in found}


def _said(key: Key, code: str) -> np.ndarray:
    """What a system's reports say, (cases, findings)."""
    return np.array([[float(kind in key.labels[code][case]) for kind in checklist()] for case in key.clusters])
