"""CIDEr and CIDEr-D: cosine of n-gram vectors that weigh rare phrases more.

Vedantam et al., CVPR 2015. With N references, an n-gram that h times occurs in a report and in df references
weighs h * (log N - log max(1, df)); the score is ten times the mean over orders 1..4 of the cosine of the
two vectors.

- `cider_d` is what the COCO caption evaluation (pycocoevalcap) calls CIDEr and nearly every paper reports:
  each candidate weight is clipped to the reference's, and a Gaussian of width 6 punishes a difference in
  length (counted, as there, in bigrams). On long reports that Gaussian rules: 15 words too many leave 4 % of
  the score.
- `cider` is the plain cosine, without clipping and without the Gaussian.

Document frequencies come from the references being scored, so values from different test sets do not
compare, and a set of one report has no score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctscribe.errors import UsageError
from ctscribe.evaluation.ngrams import MAX_ORDER, Overlap, blocks, grams, overlaps
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, ratio

SIGMA = 6.0
SCALE = 10.0

# Reports whose n-grams are sorted at a time while documents are counted.
_FIT_BLOCK = 2048


class DocumentFrequency:
    """In how many references each n-gram occurs, per order."""

    def __init__(self, references: Sequence[Record]) -> None:
        self.documents = len(references)
        parts: list[list[np.ndarray]] = [[] for _ in range(MAX_ORDER)]
        for start in range(0, len(references), _FIT_BLOCK):
            for order, found in enumerate(grams(references[start : start + _FIT_BLOCK])):
                ranked = np.lexsort((found.document, found.keys))
                keys, document = found.keys[ranked], found.document[ranked]
                fresh = np.ones(len(keys), dtype=bool)
                fresh[1:] = (keys[1:] != keys[:-1]) | (document[1:] != document[:-1])
                parts[order].append(keys[fresh])
        self._tables = [np.unique(np.concatenate(part), return_counts=True) for part in parts]

    def idf(self, order: int, keys: np.ndarray) -> np.ndarray:
        """log N - log max(1, df) of n-grams of order `order` + 1, float64 of the shape of `keys`."""
        known, counts = self._tables[order]
        frequency = np.ones(len(keys))
        if len(known):
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            frequency = np.where(known[place] == keys, counts[place], 1)
        return np.log(self.documents) - np.log(frequency)


class Cider(Scorer):
    """CIDEr-D and CIDEr."""

    name = "cider"
    measures = (
        Measure("cider_d", "tf-idf n-gram agreement, clipped, with length penalty: what papers call CIDEr.", 0.0, 10.0),
        Measure("cider", "tf-idf n-gram cosine without clipping and length penalty.", 0.0, 10.0),
    )

    def __init__(self, frequency: DocumentFrequency | None = None) -> None:
        self.frequency = frequency

    def fitted(self, references: Sequence[Record]) -> Cider:
        """With the document frequencies of these references."""
        return Cider(DocumentFrequency(references))

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: CIDEr-D, CIDEr, one.

        Raises:
            UsageError: before `fitted`.
        """
        if self.frequency is None:
            raise UsageError("CIDEr without document frequencies", hint="Cider().fitted(references).tally(pairs)")
        scores = [self._block(block, self.frequency) for block in blocks(pairs)]
        return np.concatenate(scores) if scores else np.zeros((0, 3))

    def _block(self, pairs: Sequence[Pair], frequency: DocumentFrequency) -> np.ndarray:
        if frequency.documents < 2:  # every weight is zero
            return np.tile([np.nan, np.nan, 1.0], (len(pairs), 1))
        rows = np.zeros((len(pairs), 3))
        lengths = np.array([(len(p.candidate.tokens), len(p.reference.tokens)) for p in pairs], dtype=float)
        bigrams = np.maximum(lengths - 1.0, 0.0)
        penalty = np.exp(-((bigrams[:, 0] - bigrams[:, 1]) ** 2) / (2 * SIGMA**2))
        for order, overlap in enumerate(overlaps(pairs)):
            clipped, plain = _cosines(overlap, frequency.idf(order, overlap.key), len(pairs))
            rows[:, 0] += clipped * penalty
            rows[:, 1] += plain
        rows[:, :2] *= SCALE / MAX_ORDER
        rows[:, 2] = 1.0
        return rows

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Means over reports; NaN when there was a single reference."""
        return {"cider_d": ratio(totals[..., 0], totals[..., 2]), "cider": ratio(totals[..., 1], totals[..., 2])}


def _cosines(overlap: Overlap, idf: np.ndarray, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Clipped and plain cosine of each pair for one order, zero where a vector is."""
    ours, theirs = overlap.candidate * idf, overlap.reference * idf
    norm = np.sqrt(overlap.per_pair(ours * ours, pairs) * overlap.per_pair(theirs * theirs, pairs))
    clipped = ratio(overlap.per_pair(np.minimum(ours, theirs) * theirs, pairs), norm)
    plain = ratio(overlap.per_pair(ours * theirs, pairs), norm)
    return np.nan_to_num(clipped), np.nan_to_num(plain)
