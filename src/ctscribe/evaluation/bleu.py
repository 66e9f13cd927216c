"""BLEU-1 to BLEU-4: clipped n-gram precision with a brevity penalty, pooled over all reports.

Papineni et al., ACL 2002, one reference per report, with the smoothing of the COCO caption evaluation
(pycocoevalcap), whose values it equals: with m matched of g candidate n-grams of order k, summed over
reports,

    BLEU-n = (prod_{k<=n} (m_k + 1e-15) / (g_k + 1e-9)) ^ (1/n) * min(1, exp(1 - reference length / length))

A single report's value uses the same formula on its own counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctscribe.evaluation.ngrams import MAX_ORDER, blocks, overlaps
from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer

# pycocoevalcap's guards against 0/0.
_TINY, _SMALL = 1e-15, 1e-9


class Bleu(Scorer):
    """Corpus BLEU with one reference per report."""

    name = "bleu"
    measures = tuple(
        Measure(f"bleu{n}", f"Clipped precision of 1- to {n}-grams, with brevity penalty.")
        for n in range(1, MAX_ORDER + 1)
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: matched n-grams of order 1..4, candidate n-grams of order 1..4, lengths of both."""
        rows = np.zeros((len(pairs), 2 * MAX_ORDER + 2))
        done = 0
        for block in blocks(pairs):
            here = rows[done : done + len(block)]
            for order, overlap in enumerate(overlaps(block)):
                matched = np.minimum(overlap.candidate, overlap.reference)
                here[:, order] = overlap.per_pair(matched, len(block))
                here[:, MAX_ORDER + order] = overlap.per_pair(overlap.candidate, len(block))
            here[:, -2] = [len(pair.candidate.tokens) for pair in block]
            here[:, -1] = [len(pair.reference.tokens) for pair in block]
            done += len(block)
        return rows

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """BLEU-1..4."""
        matched, offered = totals[..., :MAX_ORDER], totals[..., MAX_ORDER : 2 * MAX_ORDER]
        product = np.cumprod((matched + _TINY) / (offered + _SMALL), axis=-1)
        length_ratio = (totals[..., -2] + _TINY) / (totals[..., -1] + _SMALL)
        brevity = np.exp(np.minimum(0.0, 1.0 - 1.0 / length_ratio))
        return {f"bleu{n}": np.asarray(product[..., n - 1] ** (1.0 / n) * brevity) for n in range(1, MAX_ORDER + 1)}
