"""Finding passages: by their words, and by their meaning where an embedding model is given.

Words: SQLite's full-text index (BM25), which is part of Python; English as word stems, Chinese as pairs of neighbouring
characters. Meaning: the cosine of sentence embeddings. The two rankings are joined by their places, not by their
scores, which have no common scale (reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009).
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ctscribe import ontology
from ctscribe.errors import DependencyMissing
from ctscribe.impression import passages as texts
from ctscribe.impression.passages import Passage
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import Finding
from ctscribe.report.parse import normalise

RANK_OFFSET = 60
"""The constant of reciprocal rank fusion, as published."""
DEPTH = 20
"""Places of each ranking that take part in the fusion."""
NAME_WEIGHT = 3.0
"""How much more a word counts that is a name of the finding a passage is written for."""
NEAR = 0.3
"""Cosine from which a passage without a common word counts as found."""

MOST_UNKNOWN = 0.2
"""Share of unknown tokens above which a model is not asked about a language: it cannot read it."""


@runtime_checkable
class Embed(Protocol):
    """A text encoder, such as `embeddings.Embedder`."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, one row for each text."""
        ...

    def unknown(self, texts: Sequence[str]) -> float:
        """Share of the tokens for which it has no word."""
        ...


_EMPTY = frozenset(
    ("a", "an", "and", "are", "at", "be", "by", "can", "for", "how", "if", "in", "is", "may", "of", "on", "or", "the")
    + ("to", "what", "when", "where", "which", "who", "why", "with")
)
"""Words of questions that say nothing of their subject."""
_WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]+")


class Library:
    """Passages and their index, in memory.

    Args:
        passages: texts to be found.
        embed: finds by meaning as well, in the languages that it can read (`unread`); None by words alone.
        near: see `NEAR`.

    Raises:
        DependencyMissing: this Python's SQLite was built without full-text search.
    """

    def __init__(self, passages: Iterable[Passage], embed: Embed | None = None, near: float = NEAR) -> None:
        self.passages = {p.id: p for p in passages}
        self.embed, self.near = embed, near
        self._vectors: np.ndarray | None = None
        self._lock = threading.Lock()
        self._base = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._base.execute(
                "CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, language UNINDEXED, names, words)"
            )
        except sqlite3.OperationalError as error:
            raise DependencyMissing(
                "SQLite without full-text search (FTS5)", hint="use another build of Python"
            ) from error
        rows = [(p.id, p.language, _joined(_names(p)), _joined(p.text)) for p in self.passages.values()]
        self._base.executemany("INSERT INTO passages VALUES (?, ?, ?, ?)", rows)

    def search(self, query: str, language: Language, most: int = 5) -> list[Passage]:
        """The passages that fit a query best, best first; [] when none does."""
        by_words = self.by_words(query, language, max(most, DEPTH))
        if self.embed is None or language in self.unread:
            return by_words[:most]
        return fused([by_words, self.by_meaning(query, language, max(most, DEPTH))])[:most]

    def by_words(self, query: str, language: Language, most: int = 5) -> list[Passage]:
        """Ranked by BM25; only passages that share a word with the query."""
        words = " OR ".join(f'"{token}"' for token in dict.fromkeys(tokens(query)) if token not in _EMPTY)
        if not words:
            return []
        ask = """SELECT id FROM passages WHERE passages MATCH ? AND language = ?
                 ORDER BY bm25(passages, 0, 0, ?, 1), id LIMIT ?"""
        with self._lock:
            found = self._base.execute(ask, (words, language, NAME_WEIGHT, most)).fetchall()
        return [self.passages[name] for (name,) in found]

    def by_meaning(self, query: str, language: Language, most: int = 5) -> list[Passage]:
        """Ranked by cosine; only passages at least as near as `near`; [] without a model that reads the language."""
        if self.embed is None or not query.strip() or not self.passages or language in self.unread:
            return []
        listed = list(self.passages.values())
        with self._lock:
            if self._vectors is None:
                self._vectors = self.embed([f"{_names(p)} {p.text}".strip() for p in listed])
            cosines = self._vectors @ self.embed([query])[0]
        order = np.argsort(-cosines, kind="stable")
        near = (listed[i] for i in order if cosines[i] >= self.near and listed[i].language == language)
        return [passage for passage, _ in zip(near, range(most), strict=False)]

    @cached_property
    def unread(self) -> frozenset[Language]:
        """Languages of the passages that the embedding model cannot read; they are searched by words alone."""
        if self.embed is None:
            return frozenset()
        texts = {code: [p.text for p in self.passages.values() if p.language == code] for code in LANGUAGES}
        return frozenset(code for code, some in texts.items() if some and self.embed.unknown(some) > MOST_UNKNOWN)

    def about(
        self, findings: Sequence[Finding], language: Language, most: int = 3, guidelines: Iterable[str] = ()
    ) -> list[Passage]:
        """Passages on the findings of a study.

        Those written for their kinds and for the guidelines that speak about them, then a site's best for each kind.

        Args:
            findings: absent ones are left out.
            most: passages of a site for each kind.
            guidelines: ids of the rule sets that gave advice.
        """
        kinds = dict.fromkeys(f.kind for f in findings if f.status != "absent")
        told = set(guidelines)
        chosen = [
            p
            for p in self.passages.values()
            if p.language == language and (set(p.kinds) & kinds.keys() or p.guideline in told)
        ]
        return list(dict.fromkeys([*chosen, *self.of_the_site(findings, language, most)]))

    def of_the_site(self, findings: Sequence[Finding], language: Language, most: int = 3) -> list[Passage]:
        """A site's own passages on the findings of a study, the best for each kind."""
        own = [p for p in self.passages.values() if not p.shipped]
        if not own:
            return []
        found: list[Passage] = []
        for kind in dict.fromkeys(f.kind for f in findings if f.status != "absent"):
            names = " ".join(ontology.findings()[kind].names[language][:2])
            ranked = self.search(names, language, len(self.passages))
            found += [p for p in ranked if not p.shipped][:most]
        return list(dict.fromkeys(found))

    def __add__(self, other: Library) -> Library:
        return Library([*self.passages.values(), *other.passages.values()], self.embed or other.embed, self.near)


def fused(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """One ranking out of several: the sum of 1 / (60 + place), best first; ties by id."""
    scores: dict[Passage, float] = {}
    for ranking in rankings:
        for place, passage in enumerate(ranking, start=1):
            scores[passage] = scores.get(passage, 0.0) + 1 / (RANK_OFFSET + place)
    return sorted(scores, key=lambda passage: (-scores[passage], passage.id))


def tokens(text: str) -> list[str]:
    """Word stems of English, pairs of neighbours (or the single character) of Chinese."""
    found = []
    for run in _WORD.findall(normalise(text).lower()):
        if run[0] < "\u4e00":
            found.append(_stemmer().stemWord(run))
        else:
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
    return found


def _joined(text: str) -> str:
    return " ".join(tokens(text))


def _names(passage: Passage) -> str:
    """What the findings it is written for are called."""
    return ", ".join(name for kind in passage.kinds for name in ontology.findings()[kind].names[passage.language])


@cache
def _stemmer():  # type: ignore[no-untyped-def]
    import snowballstemmer

    return snowballstemmer.stemmer("english")


@cache
def shipped() -> Library:
    """The knowledge base that comes with ctscribe."""
    return Library(texts.knowledge())


def documents(folder: Path) -> Library:
    """A site's own documents, see `passages.documents`."""
    return Library(texts.documents(folder))


def library(folder: Path | None = None, embed: Embed | None = None) -> Library:
    """The knowledge base, with a site's documents where a folder is named, found by meaning too where asked."""
    own = () if folder is None else texts.documents(folder)
    return Library([*texts.knowledge(), *own], embed) if own or embed else shipped()
