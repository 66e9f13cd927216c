"""Does the report name the same things? Precision, recall and F1 of four kinds of entity.

Each is a set per report; hits, inventions and omissions are summed over reports (micro average).

    entity      what is in the set
    finding     kinds said to be present or possible
    location    regions such a finding is said to lie in
    attribute   what is said about one: (severity, mild), (density, ground_glass), ...
    negation    kinds denied, and nowhere said to be present or possible

Entities stand alone here: a report that swaps the places of two findings loses nothing. `relations` ties them together.
A region that a kind always has (cardiomegaly: the heart) is nobody's statement and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.record import Pair, Record
from ctscribe.evaluation.scorer import Measure, Scorer, defined, ratio
from ctscribe.report import Finding


def said_regions(finding: Finding) -> tuple[str, ...]:
    """The regions of a finding that a text must have named."""
    only = ontology.findings()[finding.kind].only_place
    return tuple(region for region in finding.regions if region != only)


def locations(record: Record) -> frozenset[str]:
    """Regions of present and possible findings."""
    return frozenset(region for f in record.findings if f.status != "absent" for region in said_regions(f))


def attributes(record: Record) -> frozenset[tuple[str, str]]:
    """(attribute, value) pairs of present and possible findings."""
    return frozenset(pair for f in record.findings if f.status != "absent" for pair in f.attributes)


def negations(record: Record) -> frozenset[str]:
    """Kinds whose strongest status is absent."""
    return frozenset(kind for kind, status in record.statuses.items() if status == "absent")


ENTITIES: Mapping[str, Callable[[Record], frozenset]] = {
    "finding": lambda record: record.possible,
    "location": locations,
    "attribute": attributes,
    "negation": negations,
}


def hits(candidate: frozenset, reference: frozenset) -> tuple[int, int, int]:
    """Shared, offered and wanted items."""
    return len(candidate & reference), len(candidate), len(reference)


def rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 from (..., 3) sums of shared, offered and wanted; NaN where nothing was."""
    shared, offered, wanted = np.moveaxis(counts, -1, 0)
    return ratio(shared, offered), ratio(shared, wanted), ratio(2 * shared, offered + wanted)


class Entities(Scorer):
    """Entity-level agreement."""

    name = "entities"
    measures = tuple(
        Measure(f"{entity}_{rate}", f"{rate.capitalize() if rate != 'f1' else 'F1'} of {entity} entities, pooled.")
        for entity in ENTITIES
        for rate in ("precision", "recall", "f1")
    )

    def tally(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Columns: shared, offered, wanted; for each entity in turn."""
        rows = [
            [count for of in ENTITIES.values() for count in hits(of(pair.candidate), of(pair.reference))]
            for pair in pairs
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 3 * len(ENTITIES))

    def values(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Precision, recall and F1 of each entity."""
        found: dict[str, np.ndarray] = {}
        for i, entity in enumerate(ENTITIES):
            for rate, value in zip(("precision", "recall", "f1"), rates(totals[..., 3 * i : 3 * i + 3]), strict=True):
                found[f"{entity}_{rate}"] = value
        return found

    def explain(self, pair: Pair) -> dict[str, Any]:
        """Entities invented and missed, of each kind."""
        return {
            entity: {
                "invented": sorted(map(_spelt, of(pair.candidate) - of(pair.reference))),
                "missed": sorted(map(_spelt, of(pair.reference) - of(pair.candidate))),
            }
            for entity, of in ENTITIES.items()
        }

    def table(self, totals: np.ndarray) -> list[dict[str, Any]]:
        """One row per entity: counts and rates."""
        return [rate_row(entity, totals[3 * i : 3 * i + 3]) for i, entity in enumerate(ENTITIES)]


def rate_row(label: str, counts: np.ndarray) -> dict[str, Any]:
    """One row of a table of rates, in the form of `labels`, from sums of shared, offered and wanted."""
    precision, recall, f1 = (defined(value) for value in rates(counts))
    _, offered, wanted = map(int, counts)
    row = {"label": label, "support": wanted, "predicted": offered}
    return row | {"precision": precision, "recall": recall, "f1": f1, "in_macro": wanted > 0}


def _spelt(entity: str | tuple[str, str]) -> str:
    return entity if isinstance(entity, str) else "=".join(entity)
