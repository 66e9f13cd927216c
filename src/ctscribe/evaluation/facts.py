"""What an evaluation must know of every pair at once, small enough to keep for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from ctscribe import ontology
from ctscribe.evaluation.disease import disease_matrix, diseases
from ctscribe.evaluation.record import Box, Pair, Record

Cluster = tuple[str, str]


@dataclass(frozen=True)
class Facts:
    """Facts of some pairs, one entry each.

    Attributes:
        ids: of the studies.
        clusters: whom each belongs to, see `Record.cluster`.
        known_patients: does the reference name a patient?
        parsed: bool (pairs, 2): were the candidate's and the reference's findings read out of the text?
        texts: int64 (pairs, 2): a hash of the tokens of the candidate and of the reference.
        metadata: of the reference.
        boxes: (detected, annotated) boxes, None where either file does not speak of boxes.
        probabilities: float64 (pairs, names of `ranked_names`), NaN where none is given; None when no pair has any.
        truth: bool of the same shape, what the reference says; None with `probabilities`.
    """

    ids: list[str]
    clusters: list[Cluster]
    known_patients: list[bool]
    parsed: np.ndarray
    texts: np.ndarray
    metadata: list[tuple[tuple[str, str | float], ...]]
    boxes: list[tuple[tuple[Box, ...], tuple[Box, ...]] | None]
    probabilities: np.ndarray | None = None
    truth: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: Sequence[Facts]) -> Facts:
        """The facts of all parts, in order."""
        width = len(ranked_names())
        with_any = any(part.probabilities is not None for part in parts)
        return cls(
            ids=[name for part in parts for name in part.ids],
            clusters=[cluster for part in parts for cluster in part.clusters],
            known_patients=[known for part in parts for known in part.known_patients],
            parsed=np.concatenate([part.parsed for part in parts]),
            texts=np.concatenate([part.texts for part in parts]),
            metadata=[fields for part in parts for fields in part.metadata],
            boxes=[pair for part in parts for pair in part.boxes],
            probabilities=np.concatenate([_or(part.probabilities, part, width, np.nan) for part in parts])
            if with_any
            else None,
            truth=np.concatenate([_or(part.truth, part, width, False) for part in parts]) if with_any else None,
        )


def _or(matrix: np.ndarray | None, part: Facts, width: int, empty: float | bool) -> np.ndarray:
    return np.full((len(part.ids), width), empty) if matrix is None else matrix


def ranked_names() -> tuple[str, ...]:
    """Everything that may have a probability: finding ids, then disease ids."""
    return (*ontology.findings(), *diseases())


def facts_of(pairs: Sequence[Pair]) -> Facts:
    """The facts of some pairs; tokenises both sides."""
    ranked = any(pair.candidate.probabilities for pair in pairs)
    return Facts(
        ids=[pair.reference.id for pair in pairs],
        clusters=[pair.reference.cluster for pair in pairs],
        known_patients=[pair.reference.patient is not None for pair in pairs],
        parsed=np.array([(p.candidate.parsed, p.reference.parsed) for p in pairs], dtype=bool).reshape(-1, 2),
        texts=np.array([(_hash(p.candidate), _hash(p.reference)) for p in pairs], dtype=np.int64).reshape(-1, 2),
        metadata=[pair.reference.metadata for pair in pairs],
        boxes=[
            None
            if pair.candidate.boxes is None or pair.reference.boxes is None
            else (pair.candidate.boxes, pair.reference.boxes)
            for pair in pairs
        ],
        probabilities=np.array([_probabilities(pair.candidate) for pair in pairs]) if ranked else None,
        truth=_truth([pair.reference for pair in pairs]) if ranked else None,
    )


def _hash(record: Record) -> int:
    content = "\x1f".join(record.tokens).encode("utf-8")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little", signed=True)


def _probabilities(record: Record) -> list[float]:
    """Given probabilities; a disease without one of its own has the score of its rule."""
    given = dict(record.probabilities)
    for name, rule in diseases().items():
        score = None if name in given else rule.score(given)
        if score is not None:
            given[name] = score
    return [given.get(name, np.nan) for name in ranked_names()]


def _truth(references: Sequence[Record]) -> np.ndarray:
    kinds = list(ontology.findings())
    said = [record.implied for record in references]
    findings = np.array([[kind in own for kind in kinds] for own in said], dtype=bool).reshape(-1, len(kinds))
    return np.concatenate([findings, disease_matrix(references)], axis=1)
