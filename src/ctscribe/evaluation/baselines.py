"""What no system at all would score: printed beside every number, because most numbers look good alone.

- always normal: the same normal report for everybody.
- most frequent: the report whose set of findings is the most common one, for everybody.
- random other: each study gets the report of another patient.
- retrieval: each study gets the report of another patient that is most like what the system wrote (cosine of TF-IDF
  vectors). It sees the system's text, never the reference. A system that does not beat it has chosen a report that
  exists rather than written one for this scan.

Reports are drawn from a pool (the training set, say). Without one the references themselves are the pool, never a
patient's own: those baselines are then in the reference's very style, which makes them hard to beat on n-grams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.record import Record
from ctscribe.evaluation.shuffle import other_study
from ctscribe.ontology import Language
from ctscribe.report import Finding

# (references, pool, seed) -> one report for each reference, or None when the pool cannot provide them.
Baseline = Callable[[Sequence[Record], Sequence[Record], int], list[Record] | None]


def written_normal(language: Language) -> Record:
    """A normal report written from the ontology: each of the 18 CT-RATE findings denied."""
    from ctscribe.report.render import render_text

    findings = tuple(Finding(kind, "absent") for kind in ontology.ct_rate_labels().values())
    return Record("normal", render_text(findings, language), language, findings)


def always_normal(references: Sequence[Record], pool: Sequence[Record], seed: int) -> list[Record] | None:
    """The most common report of the pool that mentions no finding as present or possible, else a written one."""
    normal = [record for record in pool if not record.possible]
    chosen = _most_common(normal) or [written_normal(references[0].language)]
    return _for_everybody(references, chosen)


def most_frequent(references: Sequence[Record], pool: Sequence[Record], seed: int) -> list[Record] | None:
    """The most common text among the reports that have the most common set of findings."""
    return _for_everybody(references, _most_common(pool))


def random_other(references: Sequence[Record], pool: Sequence[Record], seed: int) -> list[Record] | None:
    """A random report of another patient."""
    rng = np.random.default_rng(seed)
    if pool is not references:
        return [pool[i] for i in rng.integers(0, len(pool), len(references)).tolist()] if pool else None
    partner = other_study([record.cluster for record in references], rng)
    return None if partner is None else [references[i] for i in partner.tolist()]


def retrieval(
    candidates: Sequence[Record], references: Sequence[Record], pool: Sequence[Record]
) -> list[Record] | None:
    """The pool's report of another patient that is most like each candidate; the first of equals."""
    if not pool or len({record.cluster for record in pool}) < 2:
        return None
    vectors = TfIdf(pool)
    clusters: dict[Hashable, int] = {}
    own = np.array([clusters.setdefault(record.cluster, len(clusters)) for record in pool])
    chosen: list[Record] = []
    for start in range(0, len(candidates), _QUERIES):
        alike = vectors.alike(candidates[start : start + _QUERIES])
        for row, reference in zip(alike, references[start : start + _QUERIES], strict=True):
            row[own == clusters.get(reference.cluster, -1)] = -1.0
            chosen.append(pool[int(row.argmax())])
    return chosen


class TfIdf:
    """Texts as unit vectors: (1 + log count) * (1 + log((1 + N) / (1 + reports with the token)))."""

    def __init__(self, pool: Sequence[Record]) -> None:
        self._columns: dict[str, int] = {}
        for record in pool:
            for token in record.tokens:
                self._columns.setdefault(token, len(self._columns))
        counts = self._counts(pool)
        frequency = np.bincount(counts.indices, minlength=len(self._columns))
        self._idf = 1.0 + np.log((1 + len(pool)) / (1 + frequency))
        self._pool = self._weighted(counts).T.tocsr()

    def alike(self, queries: Sequence[Record]) -> np.ndarray:
        """Cosine with each report of the pool, float64 (queries, pool)."""
        cosines: np.ndarray = (self._weighted(self._counts(queries)) @ self._pool).toarray()
        return cosines

    def _counts(self, records: Sequence[Record]) -> Any:
        from scipy.sparse import csr_matrix  # a third of a second to import

        rows = [Counter(t for t in record.tokens if t in self._columns) for record in records]
        ends = np.cumsum([0, *(len(row) for row in rows)])
        columns = [self._columns[token] for row in rows for token in row]
        values = [float(count) for row in rows for count in row.values()]
        return csr_matrix((values, columns, ends), shape=(len(records), len(self._columns)))

    def _weighted(self, counts: Any) -> Any:
        from scipy.sparse import diags_array

        weighted = counts.copy()
        weighted.data = (1.0 + np.log(weighted.data)) * self._idf[weighted.indices]
        norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        return diags_array(1.0 / np.where(norm > 0, norm, 1.0)) @ weighted


# The baselines that see nothing of the system; `retrieval` sees its text and comes after them.
BASELINES: Mapping[str, Baseline] = {
    "always normal": always_normal,
    "most frequent": most_frequent,
    "random other": random_other,
}

RETRIEVAL = "retrieval"
BASELINE_NAMES = (*BASELINES, RETRIEVAL)

# Candidates compared with the whole pool at a time.
_QUERIES = 256


def drawn(
    candidates: Sequence[Record], references: Sequence[Record], pool: Sequence[Record], seed: int
) -> dict[str, list[Record]]:
    """Every baseline that the pool can provide, one report for each reference.

    Args:
        candidates: what the system wrote, in the order of the references.
        pool: the references themselves, or other reports.
    """
    found = {name: build(references, pool, seed) for name, build in BASELINES.items()}
    found[RETRIEVAL] = retrieval(candidates, references, pool)
    return {name: records for name, records in found.items() if records is not None}


def _most_common(pool: Sequence[Record]) -> list[Record]:
    """The pool, reports with the most common findings first, the most common text first among those."""
    kinds = Counter(record.present for record in pool)
    texts = Counter(record.tokens for record in pool)
    return sorted(pool, key=lambda r: (-kinds[r.present], sorted(r.present), -texts[r.tokens], r.tokens))


def _for_everybody(references: Sequence[Record], ranked: Sequence[Record]) -> list[Record] | None:
    """The first report for each reference; the next one of another patient where it would be their own."""
    if not ranked:
        return None
    first = ranked[0]
    second = next((record for record in ranked if record.cluster != first.cluster), first)
    return [second if reference.cluster == first.cluster else first for reference in references]
