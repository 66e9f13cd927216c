"""The lexical metrics of Chinese cut into words, for comparison with papers that segment.

Characters are the convention of this package (see `tokens`); these values are lower and depend on the segmenter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctscribe.errors import UsageError
from ctscribe.evaluation.bleu import Bleu
from ctscribe.evaluation.cider import Cider
from ctscribe.evaluation.meteor import Meteor
from ctscribe.evaluation.record import Pair, Record, Records
from ctscribe.evaluation.rouge import RougeL
from ctscribe.evaluation.scorer import Measure, Scorer
from ctscribe.evaluation.tokens import chinese_words


def by_words(record: Record) -> Record:
    """The same report, tokenised into words."""
    return replace(record, segmentation="words")


def _all_by_words(records: Sequence[Record]) -> Records:
    """Records by words, converted as they are read."""
    return Records(
        len(records),
        lambda places: [by_words(record) for record in records[places.start : places.stop : places.step]],
    )


class ByWords(Scorer):
    """BLEU, ROUGE-L, METEOR and CIDEr over `jieba`'s words.

    Raises:
        DependencyMissing: `jieba` is not installed.
    """

    name = "words"

    def __init__(self, parts: Sequence[Scorer] | None = None) -> None:
        chinese_words("肺")  # says at once when the segmenter is missing
        self.parts = tuple(parts or (Bleu(), RougeL(), Meteor(), Cider()))
        self.measures = tuple(
            Measure(m.name, f"By words: {m.says}", m.low, m.high) for part in self.parts for m in part.measures
        )

    def fitted(self, references: Sequence[Record]) -> ByWords:
        """Each part fitted on the references by words."""
        return ByWords([part.fitted(_all_by_words(references)) for part in self.parts])

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: those of each part in turn.

        Raises:
            UsageError: reports that are not Chinese.
        """
        if any(pair.reference.language != "zh" for pair in pairs):
            raise UsageError(
                "metric words", expected="Chinese reports", got="English", hint="English is by words already"
            )
        cut = [Pair(by_words(pair.candidate), by_words(pair.reference)) for pair in pairs]
        return np.concatenate([part.tally(cut) for part in self.parts], axis=1)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The measures of each part."""
        found: dict[str, np.ndarray] = {}
        place = 0
        for part in self.parts:
            width = part.tally([]).shape[1]
            found |= part.values(totals[..., place : place + width])
            place += width
        return found
