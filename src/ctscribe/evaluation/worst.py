"""The reports with most invented and omitted findings, with what a reader must see to judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctscribe.evaluation.faithfulness import contradicted, hallucinated, omitted, sentences_stating
from ctscribe.evaluation.record import Pair
from ctscribe.ontology import Language

# Reports listed as the worst.
LISTED = 15


@dataclass(frozen=True)
class Worst:
    """One report with mistakes.

    Attributes:
        id: of the study.
        hallucinated: finding kinds invented.
        contradicted: those of them that the reference denies.
        omitted: finding kinds missing.
        candidate: text of the system.
        reference: text of the reference.
        language: of both.
        invented_sentences: finding kind -> the candidate's sentence that states it, where one is found.
        missing_sentences: finding kind -> the reference's sentence.
    """

    id: str
    hallucinated: tuple[str, ...]
    contradicted: tuple[str, ...]
    omitted: tuple[str, ...]
    candidate: str
    reference: str
    language: Language
    invented_sentences: Mapping[str, str]
    missing_sentences: Mapping[str, str]

    @property
    def mistakes(self) -> int:
        """Invented and missing findings."""
        return len(self.hallucinated) + len(self.omitted)


def worst_of(pairs: Sequence[Pair], found: Sequence[Worst] = ()) -> list[Worst]:
    """The worst of some pairs and of what was found before, worst first; reports without a mistake never."""
    counted = [(len(hallucinated(pair)) + len(omitted(pair)), pair) for pair in pairs]
    ranked = sorted((c for c in counted if c[0]), key=lambda c: (-c[0], c[1].reference.id))[:LISTED]
    return sorted([*found, *(_described(pair) for _, pair in ranked)], key=lambda w: (-w.mistakes, w.id))[:LISTED]


def _described(pair: Pair) -> Worst:
    invented, missing = hallucinated(pair), omitted(pair)
    return Worst(
        id=pair.reference.id,
        hallucinated=invented,
        contradicted=contradicted(pair),
        omitted=missing,
        candidate=pair.candidate.text,
        reference=pair.reference.text,
        language=pair.reference.language,
        invented_sentences=sentences_stating(pair.candidate, invented),
        missing_sentences=sentences_stating(pair.reference, missing),
    )
