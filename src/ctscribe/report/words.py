"""What a report says before it is text: `Finding`, and where it comes from: `Evidence`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from ctscribe import ontology
from ctscribe.errors import UsageError

Status = Literal["present", "absent", "uncertain"]
Confidence = Literal["definite", "likely", "possible"]
STATUSES: tuple[Status, ...] = ("present", "uncertain", "absent")


@dataclass(frozen=True)
class Evidence:
    """Where in the scan a finding or sentence comes from.

    Attributes:
        region: ontology id of the region the evidence lies in.
        box_world: two opposite corners ((x, y, z), (x, y, z)) in patient LPS mm.
        slices: original slice numbers (first, last), 1-based, in the order of the source series.
        weight: 0..1, how much this place contributes.
        source: which part says so: ``"detector"``, ``"attention"``, ``"slot"``, ``"lesion"`` (one that was outlined),
            ``"segmentation"`` or ``"truth"``.
        sop_instance: SOP Instance UID of the middle slice, only if identifiers were asked for.
    """

    region: str | None = None
    box_world: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    slices: tuple[int, int] | None = None
    weight: float = 1.0
    source: str = "detector"
    sop_instance: str | None = None


@dataclass(frozen=True)
class Finding:
    """One statement about the scan.

    Two findings that say the same are equal, however they were built: regions are put in ontology order, attributes
    sorted, the long axis first; a kind that has only one place (cardiomegaly: the heart) always names it unless it is
    absent; and something absent from every place it could be in ("no nodule in either lung") names no place.

    Attributes:
        kind: ontology id.
        status: negation is data: ``absent`` is said on purpose, not left out.
        regions: ontology ids in ontology order, () when no place is said.
        size_mm: () or (long,) or (long, short) axes in mm.
        attributes: sorted (name, value) pairs from the ontology.
        certainty: probability that it is present, None when nobody measured it; not compared.
        evidence: places in the scan; not part of what the sentence says, so not compared.
        confidence: the word for a calibrated probability, where the sentence was written by it; None where it was not.
            A statement that is only likely or possible has the status ``uncertain``. Not compared: both are a hedge.

    Raises:
        UsageError: a kind, status, region or attribute the ontology does not know, or an absent finding with a size.
    """

    kind: str
    status: Status = "present"
    regions: tuple[str, ...] = ()
    size_mm: tuple[float, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    certainty: float | None = field(default=None, compare=False)
    evidence: tuple[Evidence, ...] = field(default=(), compare=False)
    confidence: Confidence | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        pairs = sorted({(str(name), str(value)) for name, value in self.attributes})
        object.__setattr__(self, "attributes", tuple(pairs))
        object.__setattr__(self, "size_mm", tuple(sorted(self.size_mm, reverse=True)))
        object.__setattr__(self, "evidence", tuple(self.evidence))
        object.__setattr__(self, "regions", _places(self.kind, self.status, tuple(self.regions)))

    def value(self, attribute: str) -> str | None:
        """The value of one attribute, None when it is not said."""
        return dict(self.attributes).get(attribute)


def _check(finding: Finding) -> None:
    kind = ontology.findings().get(finding.kind)
    if kind is None:
        raise UsageError(
            f"finding kind {finding.kind!r}",
            expected="a kind of the ontology",
            hint="ctscribe.ontology.findings()",
        )
    if finding.status not in STATUSES:
        raise UsageError(f"status of {finding.kind}", expected=" | ".join(STATUSES), got=str(finding.status))
    for region in finding.regions:
        if region not in ontology.regions():
            raise UsageError(f"region of {finding.kind}", expected="a region of the ontology", got=str(region))
    for name, value in finding.attributes:
        if value not in kind.attributes.get(name, ()):
            known = "; ".join(f"{k}: {', '.join(v)}" for k, v in kind.attributes.items()) or "no attributes"
            raise UsageError(f"attribute of {finding.kind}", expected=known, got=f"{name}: {value}")
    if len(finding.size_mm) > 2 or (finding.size_mm and finding.status == "absent"):
        raise UsageError(
            f"size of {finding.kind} ({finding.status})",
            expected="none, (long,) or (long, short) in mm, and none for what is absent",
            got=str(finding.size_mm),
        )


@cache
def _region_rank(region: str) -> int:
    return list(ontology.regions()).index(region)


@cache
def _places(kind: str, status: Status, named: tuple[str, ...]) -> tuple[str, ...]:
    if status == "absent":
        return () if named and ontology.everywhere(kind, named) else tuple(sorted(set(named), key=_region_rank))
    only = ontology.findings()[kind].only_place
    if not named and only is not None:
        return (only,)
    return tuple(sorted(set(named), key=_region_rank))


@cache
def _kind_rank() -> dict[str, tuple[int, int]]:
    kinds = ontology.findings().values()
    return {k.id: (ontology.SECTIONS.index(k.section), rank) for rank, k in enumerate(kinds)}


def report_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the order in which a report states them.

    By organ section; within a section what is present, then what is uncertain, then what is absent; then by the
    ontology's order of kinds and regions; larger before smaller.
    """
    ranks = _kind_rank()

    def key(finding: Finding) -> tuple:
        section, kind = ranks[finding.kind]
        places = tuple(_region_rank(region) for region in finding.regions)
        largest_first = tuple(-axis for axis in finding.size_mm)
        return section, STATUSES.index(finding.status), kind, places, largest_first, finding.attributes

    return tuple(sorted(findings, key=key))
