"""ROUGE-L: the longest common subsequence of words, as an F-measure leaning to recall.

Lin, ACL workshop 2004, with beta = 1.2 as in the COCO caption evaluation, whose values it equals. The score
of a set is the mean over its reports.

The subsequence is found with one big integer per report, one bit per word (Hyyro, "Bit-parallel LCS-length
computation revisited", AWOCA 2004): as many steps as the candidate has words, instead of the product of both
lengths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, ratio

BETA = 1.2


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token sequences."""
    where: dict[str, int] = {}
    for place, token in enumerate(first):
        where[token] = where.get(token, 0) | (1 << place)
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        hits = row & where.get(token, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(first) - row.bit_count()


def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F-measure of one pair; 0 when either is empty or nothing is shared."""
    common = common_subsequence(reference, candidate)
    if not common:
        return 0.0
    precision, recall = common / len(candidate), common / len(reference)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


class RougeL(Scorer):
    """Mean ROUGE-L."""

    name = "rouge"
    measures = (Measure("rouge_l", "F-measure of the longest common subsequence of words, mean of reports."),)

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: score, one."""
        scores = [rouge_l(pair.candidate.tokens, pair.reference.tokens) for pair in pairs]
        return np.stack([np.array(scores, dtype=np.float64), np.ones(len(scores))], axis=1)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The mean."""
        return {"rouge_l": ratio(totals[..., 0], totals[..., 1])}
