"""Nodule detection from boxes with scores: FROC curve and CPM, by the rule of the LUNA16 challenge.

A nodule is hit when the centre of a detection lies nearer to its centre than its radius. Of several such detections the
surest counts and the others are ignored; one that lies in two nodules hits both. A detection that lies in no nodule is
a false positive. Lowering the threshold on the score, from nothing at all, gives

    sensitivity = nodules hit / nodules        over        false positives per scan

CPM is the mean of the sensitivities at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan, interpolated linearly
(Setio et al., Med Image Anal 2017;42:1-13). A curve that ends before a rate keeps its last sensitivity there, as in the
challenge's own evaluation. LUNA16's list of findings to ignore is not known
here: nodules that should not count must be left out of both files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctscribe.evaluation.record import Box

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Detections:
    """All detections of a set of scans, sorted by score, largest first.

    Attributes:
        hit: bool (detections): a nodule hit, or else a false positive.
        scan: int64 (detections), index of the scan.
        ends: int64 (distinct scores), index of the last detection of each score.
        nodules: float64 (scans), annotated nodules of each scan.
    """

    hit: np.ndarray
    scan: np.ndarray
    ends: np.ndarray
    nodules: np.ndarray


def judged(detected: Sequence[Box], annotated: Sequence[Box]) -> list[tuple[float, bool]]:
    """(score, is it a hit) of what counts in one scan: each nodule hit, then each false positive."""
    if not detected:
        return []
    score = np.array([box.score or 0.0 for box in detected])
    centres = np.array([box.centre_mm for box in detected])
    inside = np.zeros((len(annotated), len(detected)), dtype=bool)
    for row, nodule in zip(inside, annotated, strict=True):
        row[:] = np.linalg.norm(centres - np.array(nodule.centre_mm), axis=1) < nodule.diameter_mm / 2
    hits = [(float(score[row].max()), True) for row in inside if row.any()]
    return hits + [(float(s), False) for s in score[~inside.any(axis=0)]]


def detections(scans: Sequence[tuple[Sequence[Box], Sequence[Box]]]) -> Detections:
    """Judge all scans.

    Args:
        scans: (detected, annotated) boxes of each scan; a scan without nodules counts for its false positives.
    """
    rows = [(s, hit, i) for i, (found, truth) in enumerate(scans) for s, hit in judged(found, truth)]
    score = np.array([row[0] for row in rows], dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.ones(len(ranked), dtype=bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    return Detections(
        hit=np.array([row[1] for row in rows], dtype=bool)[order],
        scan=np.array([row[2] for row in rows], dtype=np.int64)[order],
        ends=np.flatnonzero(last),
        nodules=np.array([len(truth) for _, truth in scans], dtype=np.float64),
    )


def froc(found: Detections, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """False positives per scan and sensitivity, from (0, 0) on through each distinct score, both (scores + 1).

    Args:
        weights: how often each scan is in the sample, (scans); None for once each.
    """
    w = np.ones(len(found.nodules)) if weights is None else weights
    own = w[found.scan]
    hits = np.concatenate([[0.0], np.cumsum(own * found.hit)[found.ends]])
    false = np.concatenate([[0.0], np.cumsum(own * ~found.hit)[found.ends]])
    nodules = float(w @ found.nodules)
    sensitivity = hits / nodules if nodules else np.full(len(hits), np.nan)
    return false / w.sum(), sensitivity


def sensitivities(found: Detections, weights: np.ndarray | None = None) -> np.ndarray:
    """Sensitivity at each of `RATES`; zeros without a detection, NaN without a nodule."""
    rates, sensitivity = froc(found, weights)
    w = np.ones(len(found.nodules)) if weights is None else weights
    if not w @ found.nodules:
        return np.full(len(RATES), np.nan)
    return np.interp(RATES, rates, sensitivity)


def cpm(found: Detections, weights: np.ndarray | None = None) -> float:
    """Competition performance metric: mean of `sensitivities`."""
    return float(sensitivities(found, weights).mean())


def froc_rows(found: Detections) -> list[dict[str, Any]]:
    """One row per rate of the CPM."""
    return [
        {"false_positives_per_scan": rate, "sensitivity": None if np.isnan(s) else float(s)}
        for rate, s in zip(RATES, sensitivities(found), strict=True)
    ]
