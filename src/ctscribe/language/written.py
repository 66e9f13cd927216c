"""A text with how sure the writer was of it: the probability of every token, kept by sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctscribe.report import split_sentences


@dataclass(frozen=True)
class WrittenSentence:
    """One sentence and the probability of each of its tokens given the scan and all that was written before.

    The probabilities are the model's own, also where decoding was constrained: a word that the model would not have
    chosen says so. A token that reaches into the next sentence is counted there.
    """

    text: str
    probabilities: tuple[float, ...]

    @property
    def certainty(self) -> float:
        """Geometric mean of the probabilities: does not fall with the length of the sentence."""
        logs = [math.log(max(p, 1e-12)) for p in self.probabilities]
        return math.exp(sum(logs) / len(logs)) if logs else 0.0

    @property
    def least(self) -> float:
        """The least probable token's: one wrong word among many obvious ones shows here."""
        return min(self.probabilities, default=0.0)


@dataclass(frozen=True)
class Written:
    """A report text and its sentences."""

    text: str
    sentences: tuple[WrittenSentence, ...]


def by_sentence(text: str, language: str, ends: Sequence[int], probabilities: Sequence[float]) -> Written:
    """Give every sentence its tokens.

    Args:
        text: as decoded, perhaps without an unfinished last sentence.
        ends: characters of the decoded text up to and with each token; those beyond `text` are left out.
        probabilities: of the same tokens.
    """
    found, place, token = [], 0, 0
    for sentence in split_sentences(text, language):
        place = text.index(sentence, place) + len(sentence)
        stop = token
        while stop < len(ends) and ends[stop] <= place:
            stop += 1
        found.append(WrittenSentence(sentence, tuple(probabilities[token:stop])))
        token = stop
    return Written(text, tuple(found))
