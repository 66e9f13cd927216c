"""What no system at all would score: printed beside every number, because most numbers look good alone.

- always normal: the same normal report for everybody.
- most frequent: the report whose set of findings is the most common one, for everybody.
- random other: each study gets the report of another patient.

Reports are drawn from a pool (the training set, say). Without one the references themselves are the pool, never a
patient's own: those baselines are then in the reference's very style, which makes them hard to beat on n-grams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

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


BASELINES: Mapping[str, Baseline] = {
    "always normal": always_normal,
    "most frequent": most_frequent,
    "random other": random_other,
}


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
