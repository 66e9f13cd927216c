"""METEOR: words matched one to one, first as they are, then by stem, then by meaning; recall counts nine times.

"METEOR" names a family. This one has the formula and parameters of Lavie and Agarwal, WMT 2007 (the ones of NLTK),
whose values it equals given the same stemmer:

    P = m / candidate words    R = m / reference words    F = P R / (0.9 P + 0.1 R)
    score = F (1 - 0.5 (chunks / m)^3)

m counts matched words, a chunk is a run of them that is contiguous and in the same order on both sides. The score of a
set is the mean over its reports. Within a stage words are matched from the last to the first, each with the last
word of the reference that is still free, as in NLTK.

Which stages ran is part of the measure's name, because it changes the value:

    meteor_exact_stem           exact + Snowball stems: the default, needs no file
    meteor_exact_stem_wordnet   ... + WordNet synonyms, when a WordNet folder is given

Chinese has one stage, exact characters, under either name. Most captioning papers print METEOR 1.5, which weighs
stages and function words and lies lower: `meteor_jar` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.evaluation.record import Pair
from ctscribe.evaluation.scorer import Measure, Scorer, ratio
from ctscribe.evaluation.wordnet import WordNet
from ctscribe.evaluation.wordnet import wordnet as read_wordnet

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5

# What a word of one side is looked up as, and what words of the other side are filed as.
Key = Callable[[str], str]


@cache
def _snowball() -> Any:
    from snowballstemmer import stemmer

    return stemmer("english")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Stem of a lower-case English word (Snowball's "Porter 2", as METEOR 1.5 uses)."""
    return str(_snowball().stemWord(word))


def align(
    candidate: Sequence[str], reference: Sequence[str], keys: Sequence[Key], synonyms: WordNet | None = None
) -> list[tuple[int, int]]:
    """Matched places (in the candidate, in the reference), in the order of the candidate.

    Args:
        keys: one stage each, in order: two words match that have the same key.
        synonyms: a last stage after those.
    """
    ours, theirs = list(range(len(candidate))), list(range(len(reference)))
    found: dict[int, int] = {}
    for key in keys:
        free = _filed(theirs, [key(reference[j]) for j in theirs])
        for place in reversed(ours):
            if there := free.get(key(candidate[place])):
                found[place] = there.pop()
        ours, theirs = _left(ours, theirs, found)
        if not ours or not theirs:
            break
    if synonyms is not None:
        free = _filed(theirs, [reference[j] for j in theirs])
        for place in reversed(ours):
            known = [there for word in synonyms.synonyms(candidate[place]) if (there := free.get(word))]
            if known:
                found[place] = max(known, key=lambda there: there[-1]).pop()
    return sorted(found.items())


def _filed(places: Sequence[int], keys: Sequence[str]) -> dict[str, list[int]]:
    """Key -> its places, the last one on top."""
    free: dict[str, list[int]] = {}
    for place, key in zip(places, keys, strict=True):
        free.setdefault(key, []).append(place)
    return free


def _left(ours: list[int], theirs: list[int], found: Mapping[int, int]) -> tuple[list[int], list[int]]:
    taken = set(found.values())
    return [i for i in ours if i not in found], [j for j in theirs if j not in taken]


def chunks(matches: Sequence[tuple[int, int]]) -> int:
    """Runs of matches that are neighbours on both sides."""
    runs, before, there = 0, -2, -2
    for place, other in matches:
        runs += place != before + 1 or other != there + 1
        before, there = place, other
    return runs


def meteor(
    candidate: Sequence[str], reference: Sequence[str], keys: Sequence[Key], synonyms: WordNet | None = None
) -> float:
    """Score of one pair of token sequences; 0 when nothing matches."""
    matches = align(candidate, reference, keys, synonyms)
    m = len(matches)
    if not m:
        return 0.0
    precision, recall = m / len(candidate), m / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return mean * (1 - GAMMA * (chunks(matches) / m) ** BETA)


def as_written(word: str) -> str:
    """The key of the exact stage."""
    return word


class Meteor(Scorer):
    """Mean METEOR of the 2007 kind.

    Args:
        wordnet: folder of a WordNet installation; None leaves the synonym stage out and says so in the name.

    Raises:
        UnreadableInput: the folder holds no WordNet.
    """

    def __init__(self, wordnet: Path | None = None) -> None:
        self.name = "meteor" if wordnet is None else "meteor_wordnet"
        self.folder = wordnet  # not the words themselves: a scorer travels to other processes
        if wordnet is not None:
            read_wordnet(wordnet)
        stages = "exact words, Snowball stems" + ("" if wordnet is None else " and WordNet synonyms")
        self.measure = "meteor_exact_stem" + ("" if wordnet is None else "_wordnet")
        self.measures = (Measure(self.measure, f"METEOR of 2007 over {stages}, mean of reports."),)

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: score, one."""
        scores = np.array([self._score(pair) for pair in pairs], dtype=np.float64)
        return np.stack([scores, np.ones(len(pairs))], axis=1)

    def _score(self, pair: Pair) -> float:
        ours, theirs = pair.candidate.tokens, pair.reference.tokens
        if pair.reference.language == "zh":
            return meteor(ours, theirs, (as_written,))
        words = None if self.folder is None else read_wordnet(self.folder)
        return meteor(ours, theirs, (as_written, stem), words)

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """The mean."""
        return {self.measure: ratio(totals[..., 0], totals[..., 1])}
