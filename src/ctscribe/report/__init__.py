"""Words: what a report is, before it is text.

Structured first: a `Report` is a list of `Finding`; text is rendered from findings or parsed back into them.
No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["present", "absent", "uncertain"]


@dataclass(frozen=True)
class Evidence:
    """Where in the scan a finding or sentence comes from.

    Attributes:
        region: ontology id of the region the evidence lies in.
        box_world: two opposite corners ((x, y, z), (x, y, z)) in patient LPS mm.
        slices: original slice numbers (first, last), 1-based, in the order of the source series.
        weight: 0..1, how much this place contributes.
        source: which part says so: ``"detector"``, ``"attention"``, ``"slot"``, ``"segmentation"`` or ``"truth"``.
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

    Attributes:
        kind: ontology id.
        status: negation is data: ``absent`` is said on purpose, not left out.
        regions: ontology ids in ontology order, () when no place is said.
        size_mm: () or (long,) or (long, short) axes in mm.
        attributes: sorted (name, value) pairs from the ontology.
        certainty: probability that it is present, None when nobody measured it.
        evidence: places in the scan; not part of what the sentence says, so ignored by `said`.
    """

    kind: str
    status: Status = "present"
    regions: tuple[str, ...] = ()
    size_mm: tuple[float, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    certainty: float | None = field(default=None, compare=False)
    evidence: tuple[Evidence, ...] = field(default=(), compare=False)
