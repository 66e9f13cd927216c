"""What is scored: one report as every metric sees it, and a candidate paired with its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from ctscribe import ontology
from ctscribe.evaluation.statements import Statement, statements
from ctscribe.evaluation.tokens import Segmentation, tokenise
from ctscribe.ontology import Language
from ctscribe.report import Finding, Status

Point = tuple[float, float, float]

# A kind said several times in one report takes its strongest status: a left effusion is an effusion
# although the same report denies one on the right.
_STRENGTH: Mapping[str, int] = {"absent": 0, "uncertain": 1, "present": 2}


def status_by_kind(findings: Iterable[Finding]) -> dict[str, Status]:
    """Finding id -> its strongest status (present over uncertain over absent); silence has no entry."""
    said: dict[str, Status] = {}
    for finding in findings:
        known = said.get(finding.kind)
        if known is None or _STRENGTH[finding.status] > _STRENGTH[known]:
            said[finding.kind] = finding.status
    return said


def closure(kinds: Iterable[str]) -> frozenset[str]:
    """All kinds that hold when these do (a consolidation is a lung opacity)."""
    return frozenset().union(*(ontology.implied(kind) for kind in kinds))


@dataclass(frozen=True)
class Box:
    """One detected or annotated nodule, as a ball in patient millimetres.

    Attributes:
        centre_mm: (x, y, z) in any coordinates that predictions and references share.
        diameter_mm: long axis; of a box, the mean of its edges.
        score: how sure the detector is, any number that grows with it; None in references.
    """

    centre_mm: Point
    diameter_mm: float
    score: float | None = None


@dataclass(frozen=True)
class Record:
    """One report.

    Attributes:
        id: names the study; pairs a candidate with its reference.
        text: findings and impression as one text.
        language: language of the text.
        findings: what the report says, structured.
        patient: groups studies for the bootstrap; never written to any output.
        parsed: True when `findings` was read out of the text, False when it was given.
        probabilities: (finding or disease id, probability that it is present) pairs a system gave beside its text.
        boxes: nodules as boxes; None when nobody looked, () when none were found.
        metadata: (field, value) pairs the strata are taken from: scanner, thickness_mm, sex, age, ...
        segmentation: how Chinese text becomes tokens, see `tokens`.
    """

    id: str
    text: str
    language: Language = "en"
    findings: tuple[Finding, ...] = ()
    patient: str | None = None
    parsed: bool = False
    probabilities: tuple[tuple[str, float], ...] = ()
    boxes: tuple[Box, ...] | None = None
    metadata: tuple[tuple[str, str | float], ...] = ()
    segmentation: Segmentation = "standard"

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The text under this language's convention, see `tokens`."""
        return tokenise(self.text, self.language, self.segmentation)

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """Finding id -> strongest status said."""
        return status_by_kind(self.findings)

    @cached_property
    def present(self) -> frozenset[str]:
        """Kinds said to be present, exactly as said."""
        return frozenset(kind for kind, status in self.statuses.items() if status == "present")

    @cached_property
    def possible(self) -> frozenset[str]:
        """Kinds said to be present or uncertain."""
        return frozenset(kind for kind, status in self.statuses.items() if status != "absent")

    @cached_property
    def implied(self) -> frozenset[str]:
        """Kinds said to be present or uncertain, and all that hold when these do."""
        return closure(self.possible)

    @cached_property
    def ct_rate(self) -> tuple[str, ...]:
        """CT-RATE's labels, as its annotators give them: from the text where the findings were read from it."""
        from ctscribe.report.parse import ct_rate_labels, ct_rate_labels_of

        given = ct_rate_labels(self.text, self.language) if self.parsed else ct_rate_labels_of(self.findings)
        return tuple(label for label, true in given.items() if true)

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """The report sentence by sentence."""
        return statements(self.text, self.language)

    @cached_property
    def contradictions(self) -> tuple[int, ...]:
        """How often the report contradicts itself, by rule, see `contradiction.RULES`."""
        from ctscribe.evaluation.contradiction import counted

        return counted(self)

    @cached_property
    def cluster(self) -> tuple[str, str]:
        """What resampling must not tear apart and shuffling not re-pair: the patient, or else the study."""
        return ("study", self.id) if self.patient is None else ("patient", self.patient)


@dataclass(frozen=True)
class Pair:
    """One candidate report and the reference report of the same study."""

    candidate: Record
    reference: Record


class Records(Sequence[Record]):
    """Records that are loaded or made as they are read.

    Args:
        length: how many there are.
        at: the records at ascending places.
    """

    # Records made together while one runs through all of them.
    BLOCK = 1000

    def __init__(self, length: int, at: Callable[[range], list[Record]]) -> None:
        self._length, self._at = length, at

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), self.BLOCK):
            yield from self[start : start + self.BLOCK]

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return self._at(places)
        return self._at(range(places, places + 1))[0]
