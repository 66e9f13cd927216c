"""n-gram counts of many reports at once.

An n-gram is one 64-bit number, built from the hashes of its tokens; counting is then sorting, which numpy
does for a whole block of reports together. Two different n-grams share a number with probability below 1e-4
in a corpus of fifty million of them, and one such accident would move a score in its ninth digit. The hash
is the same in every process, so document frequencies and counts from several shards fit together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from ctscribe.evaluation.record import Pair, Record

MAX_ORDER = 4

# Pairs counted together: large enough that numpy's overhead vanishes, small enough to stay in a few
# megabytes.
BLOCK = 256

# Odd constants of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@lru_cache(maxsize=1 << 18)
def _token_hash(token: str) -> int:
    return int.from_bytes(blake2b(token.encode("utf-8"), digest_size=8).digest(), "little")


def _mixed(keys: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers one to one."""
    keys = (keys ^ (keys >> np.uint64(30))) * _MIX_1
    keys = (keys ^ (keys >> np.uint64(27))) * _MIX_2
    return keys ^ (keys >> np.uint64(31))


@dataclass(frozen=True)
class Grams:
    """All n-grams of a block of reports, one entry per occurrence, for one order.

    Attributes:
        keys: uint64 (occurrences).
        document: int64 (occurrences), index of the report in the block.
    """

    keys: np.ndarray
    document: np.ndarray


def grams(records: Sequence[Record]) -> Iterator[Grams]:
    """The n-grams of order 1, 2, ... `MAX_ORDER` of some reports."""
    lengths = [len(record.tokens) for record in records]
    document = np.repeat(np.arange(len(records), dtype=np.int64), lengths)
    tokens = np.array([_token_hash(token) for record in records for token in record.tokens], dtype=np.uint64)
    keys = _mixed(tokens)
    for order in range(1, MAX_ORDER + 1):
        places = max(0, len(tokens) - order + 1)
        inside = document[:places] == document[order - 1 :][:places]
        yield Grams(keys[inside], document[:places][inside])
        if places:  # the n-gram that starts here, and the token after it
            keys = _mixed(keys[:-1] * _STEP + tokens[order:])


@dataclass(frozen=True)
class Overlap:
    """The n-grams of one order in a block of pairs: one entry per different n-gram of a pair, on either side.

    Attributes:
        key: uint64 (entries), the n-gram.
        pair: int64 (entries), index of the pair in the block.
        candidate: float64 (entries), how often the candidate has it.
        reference: float64 (entries), how often the reference has it.
    """

    key: np.ndarray
    pair: np.ndarray
    candidate: np.ndarray
    reference: np.ndarray

    def per_pair(self, values: np.ndarray, pairs: int) -> np.ndarray:
        """Sum of `values` over the entries of each pair, float64 of shape (pairs,)."""
        return np.bincount(self.pair, weights=values, minlength=pairs)


def overlaps(pairs: Sequence[Pair]) -> Iterator[Overlap]:
    """`Overlap` of order 1, 2, ... `MAX_ORDER` of a block of pairs."""
    both = zip(grams([p.candidate for p in pairs]), grams([p.reference for p in pairs]), strict=True)
    for candidate, reference in both:
        keys = np.concatenate([candidate.keys, reference.keys])
        pair = np.concatenate([candidate.document, reference.document])
        # Scrambling the pair's number into the n-gram's makes one sort do for the whole block.
        own = keys ^ _mixed(pair.astype(np.uint64) * _STEP)
        order = np.argsort(own)
        ranked = own[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(ranked)])
        first = order[starts]
        is_candidate = (order < len(candidate.keys)).astype(np.float64)
        total = np.diff(starts, append=len(ranked)).astype(np.float64)
        ours = np.add.reduceat(is_candidate, starts) if len(starts) else total
        yield Overlap(key=keys[first], pair=pair[first], candidate=ours, reference=total - ours)


def blocks(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    """The pairs in blocks of at most `BLOCK`."""
    for start in range(0, len(pairs), BLOCK):
        yield pairs[start : start + BLOCK]
