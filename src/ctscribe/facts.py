"""Facts: what was decided about every finding kind, as tensors that a writer can read.

The bridge between the detector's logits, the structured findings of a report and the finding tokens in the language
memory. One `Finding` per kind; lungs are spelled as lobes inside, and collapse again when all lobes are meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctscribe import ontology
from ctscribe.report import Finding

STATES = ("absent", "uncertain", "present")
LARGEST_MM = 150
_LOBED = ("lungs", "right_lung", "left_lung")


@dataclass(frozen=True)
class FindingFacts:
    """Per study and kind: index into `STATES`, places among the model regions, long axis in mm (0 = not said),
    and per attribute name the index of its value (-1 = not said)."""

    state: Int[Tensor, "b f"]
    where: Float[Tensor, "b f r"]
    size_mm: Int[Tensor, "b f"]
    attributes: dict[str, Int[Tensor, "b f"]]

    def to(self, device: torch.device | str) -> FindingFacts:
        moved = {name: values.to(device) for name, values in self.attributes.items()}
        return FindingFacts(self.state.to(device), self.where.to(device), self.size_mm.to(device), moved)


@cache
def attribute_table() -> dict[str, tuple[str, ...]]:
    """Attribute name -> every value any kind may take, in ontology order."""
    table: dict[str, list[str]] = {}
    for kind in ontology.findings().values():
        for name, values in kind.attributes.items():
            known = table.setdefault(name, [])
            known += [v for v in values if v not in known]
    return {name: tuple(values) for name, values in table.items()}


@cache
def pooled(region: str) -> tuple[str, ...]:
    """The model regions that stand for a region: its lobes for a lung, else its nearest pooled ancestor."""
    names = ontology.model_regions()
    if region in _LOBED:
        return tuple(r for r in ontology.descendants(region) if r.endswith("_lobe") and r in names)
    return (next(a for a in ontology.ancestors(region) if a in names),)


@cache
def places_of(kind: str) -> tuple[str, ...]:
    """The model regions a kind may be placed in by a detector, finest first level only, in tensor order."""
    reach = {p for region in ontology.findings()[kind].regions for p in pooled(region)}
    return tuple(r for r in ontology.model_regions() if r in reach)


@cache
def reachable(kind: str) -> tuple[bool, ...]:
    """Model regions the medical priors allow for a kind: its regions, what encloses them and what they hold.

    In tensor order. A detector may give the others no evidence at all, so they are never labels either: a lung nodule
    is never inside the mediastinum.
    """
    reach: set[str] = set()
    for region in ontology.findings()[kind].regions:
        reach |= {*ontology.ancestors(region), *ontology.descendants(region)}
    return tuple(name in reach for name in ontology.model_regions())


def collapse(kind: str, places: Iterable[str]) -> tuple[str, ...]:
    """Model regions -> the regions a report would name: whole lungs when all their lobes are meant."""
    left, allowed, named = set(places), ontology.findings()[kind].regions, []
    for region in (r for r in ontology.regions() if r in allowed):
        parts = set(pooled(region))
        if parts <= left and not (region in _LOBED and len(parts) == 1):
            named.append(region)
            left -= parts
    order = list(ontology.regions())
    return tuple(sorted(named, key=order.index))


def canonical(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per kind, in ontology order: places joined, the largest size (long axis, whole mm) kept.

    This is the form in which the network is taught to speak: it has one token per kind.
    """
    best: dict[str, Finding] = {}
    for finding in findings:
        best[finding.kind] = _join(best[finding.kind], finding) if finding.kind in best else finding
    order = list(ontology.findings())
    return tuple(_trim(best[kind]) for kind in order if kind in best)


def _join(a: Finding, b: Finding) -> Finding:
    """Two findings of a kind as one: the stronger status speaks; equals join their places."""
    if a.status != b.status:
        return a if STATES.index(a.status) > STATES.index(b.status) else b
    large = b if b.size_mm[:1] > a.size_mm[:1] else a
    attributes = dict(large.attributes)
    if "number" in ontology.findings()[a.kind].attributes and a.status == "present":
        attributes["number"] = "multiple"
    return Finding(
        kind=a.kind,
        status=a.status,
        regions=tuple(dict.fromkeys(a.regions + b.regions)),
        size_mm=large.size_mm,
        attributes=tuple(sorted(attributes.items())),
    )


def _trim(finding: Finding) -> Finding:
    if finding.status == "absent":
        return Finding(finding.kind, "absent")
    places = {p for region in finding.regions for p in pooled(region)}
    size = tuple(float(min(LARGEST_MM, max(1, round(s)))) for s in finding.size_mm[:1])
    return Finding(
        kind=finding.kind,
        status=finding.status,
        regions=collapse(finding.kind, places),
        size_mm=size,
        attributes=tuple(sorted(finding.attributes)),
    )


def facts_of(studies: Sequence[Iterable[Finding]]) -> FindingFacts:
    """Structured findings of several studies -> facts; a kind that is not mentioned counts as absent."""
    kinds, names = list(ontology.findings()), list(ontology.model_regions())
    table = attribute_table()
    state = torch.zeros(len(studies), len(kinds), dtype=torch.long)
    where = torch.zeros(len(studies), len(kinds), len(names))
    size = torch.zeros(len(studies), len(kinds), dtype=torch.long)
    attributes = {name: torch.full_like(state, -1) for name in table}
    for row, findings in enumerate(studies):
        for finding in canonical(findings):
            column = kinds.index(finding.kind)
            state[row, column] = STATES.index(finding.status)
            for region in finding.regions:
                for place in pooled(region):
                    where[row, column, names.index(place)] = 1
            if finding.size_mm:
                size[row, column] = int(finding.size_mm[0])
            for name, value in finding.attributes:
                attributes[name][row, column] = table[name].index(value)
    return FindingFacts(state, where, size, attributes)


def findings_of(facts: FindingFacts, row: int) -> tuple[Finding, ...]:
    """Facts of one study -> the findings that are present or uncertain."""
    names, table = ontology.model_regions(), attribute_table()
    found = []
    for column, (kind, entry) in enumerate(ontology.findings().items()):
        state = STATES[int(facts.state[row, column])]
        if state == "absent":
            continue
        places = [n for n, w in zip(names, facts.where[row, column].tolist(), strict=True) if w > 0.5]
        mm = int(facts.size_mm[row, column])
        values = {name: int(facts.attributes[name][row, column]) for name in entry.attributes}
        found.append(
            Finding(
                kind=kind,
                status="present" if state == "present" else "uncertain",
                regions=collapse(kind, places),
                size_mm=(float(mm),) if mm else (),
                attributes=tuple(sorted((n, table[n][v]) for n, v in values.items() if v >= 0)),
            )
        )
    return tuple(found)
