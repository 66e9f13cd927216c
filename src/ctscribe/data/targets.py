"""What a detector should answer, from structured findings: presence, place, size, attributes, and which are known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ctscribe import ontology
from ctscribe.facts import attribute_table, pooled, reachable
from ctscribe.report import Finding


@dataclass(frozen=True)
class Targets:
    """Labels of a batch, each with a mask of where it is known.

    Axis f follows ``ontology.findings()``, axis r ``ontology.model_regions()``.

    Attributes:
        presence: 1 present, 0 absent; uncertain findings are not known.
        where: 1 for every model region that holds or encloses the finding.
        where_known: False for absent findings, findings without a place, and for what lies *inside* a
            named region (a finding "in the mediastinum" may or may not be at the aorta).
        size: log(1 + long axis in mm) of the largest finding of the kind.
        attributes: attribute name -> index into ``facts.attribute_table()[name]``, -1 where not said.
        dense: 1 for fine tokens that hold lesion voxels, 0.5 where readers disagree (nothing is learned there), None
            when no study of the batch has them.
        dense_known: studies whose lesions were outlined.
        dense_kinds: kinds that were outlined in them; None when all were.
        boxes: boxes of single lesions: (z, y, x) of the low, then of the high corner, in mm from the middle of the
            grid; None when no study has them.
        box_kinds: index of each box's kind, -1 where there is no box.
        box_masks: share of the cells of the region grid that each of these lesions fills, zeros for one that was only
            boxed; None when no study has outlines.
        change: what became of each kind since the earlier scan, index into ``beside.CHANGES``, -1 where not known.
    """

    presence: Float[Tensor, "b f"]
    presence_known: Bool[Tensor, "b f"]
    where: Float[Tensor, "b f r"]
    where_known: Bool[Tensor, "b f r"]
    size: Float[Tensor, "b f"]
    size_known: Bool[Tensor, "b f"]
    attributes: dict[str, Int[Tensor, "b f"]]
    dense: Float[Tensor, "b f t h w"] | None
    dense_known: Bool[Tensor, " b"]
    boxes: Float[Tensor, "b o 6"] | None = None
    box_kinds: Int[Tensor, "b o"] | None = None
    box_masks: Float[Tensor, "b o t h w"] | None = None
    dense_kinds: Bool[Tensor, "b f"] | None = None
    change: Int[Tensor, "b f"] | None = None

    def to(self, device: torch.device | str) -> Targets:
        """The same labels on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in moved.items():
            if isinstance(value, dict):
                moved[name] = {key: item.to(device) for key, item in value.items()}
            elif value is not None:
                moved[name] = value.to(device)
        return Targets(**moved)


def targets_from_findings(
    studies: Sequence[Iterable[Finding]],
    *,
    exhaustive: Sequence[bool] | bool = True,
    dense: Sequence[Bool[np.ndarray, "f t h w"] | None] | None = None,
) -> Targets:
    """Labels from structured findings.

    Several findings of a kind join: their places add up, size and attributes are those of the largest one.
    Whatever a present finding implies (a consolidation is a lung opacity) is present in the same places.

    Args:
        studies: findings per study.
        exhaustive: True where a kind that is not mentioned is absent (synthetic truth, a complete report);
            False where it is unknown (a report about one question).
        dense: lesion tokens per study, None for a study without outlines.
    """
    complete = [exhaustive] * len(studies) if isinstance(exhaustive, bool) else list(exhaustive)
    table = _Table(len(studies))
    for row, (findings, whole) in enumerate(zip(studies, complete, strict=True)):
        table.fill(row, tuple(findings), whole)
    outlines = list(dense) if dense is not None else [None] * len(studies)
    known = torch.tensor([outline is not None for outline in outlines])
    return Targets(
        presence=torch.from_numpy(table.presence),
        presence_known=torch.from_numpy(table.presence_known),
        where=torch.from_numpy(table.where),
        where_known=torch.from_numpy(table.where_known),
        size=torch.from_numpy(table.size),
        size_known=torch.from_numpy(table.size_known),
        attributes={name: torch.from_numpy(values) for name, values in table.attributes.items()},
        dense=_stack_dense(outlines) if bool(known.any()) else None,
        dense_known=known,
    )


class _Table:
    """The arrays being filled, one row per study."""

    def __init__(self, rows: int) -> None:
        self.kinds = {kind: column for column, kind in enumerate(ontology.findings())}
        shape = rows, len(self.kinds)
        places = *shape, len(ontology.model_regions())
        self.presence, self.presence_known = np.zeros(shape, np.float32), np.zeros(shape, bool)
        self.where, self.where_known = np.zeros(places, np.float32), np.zeros(places, bool)
        self.size, self.size_known = np.zeros(shape, np.float32), np.zeros(shape, bool)
        self.attributes = {name: np.full(shape, -1, np.int64) for name in attribute_table()}

    def fill(self, row: int, findings: tuple[Finding, ...], exhaustive: bool) -> None:
        if exhaustive:
            self.presence_known[row] = True
        for finding in findings:
            if finding.status == "absent" and not finding.regions:
                self.presence_known[row, self.kinds[finding.kind]] = True
            elif finding.status == "uncertain":
                for kind in ontology.implied(finding.kind):
                    self.presence_known[row, self.kinds[kind]] = False
        # Present findings last: what was seen outweighs a sentence that denies it or doubts it.
        for finding in sorted(findings, key=lambda f: f.size_mm[:1]):
            if finding.status == "present":
                self._present(row, finding)

    def _present(self, row: int, finding: Finding) -> None:
        for kind in ontology.implied(finding.kind):
            column = self.kinds[kind]
            self.presence[row, column], self.presence_known[row, column] = 1, True
            self._place(row, column, kind, finding.regions)
        column = self.kinds[finding.kind]
        if finding.size_mm:
            self.size[row, column], self.size_known[row, column] = math.log1p(finding.size_mm[0]), True
        for name, value in finding.attributes:
            self.attributes[name][row, column] = attribute_table()[name].index(value)

    def _place(self, row: int, column: int, kind: str, regions: tuple[str, ...]) -> None:
        """Mark the regions; columns no longer open (inside what was named) stay unknown unless marked."""
        if not regions:
            return
        inside, unsure = _marks(kind, regions)
        first = not self.where_known[row, column].any()
        self.where_known[row, column] = ~unsure if first else self.where_known[row, column] & ~unsure
        self.where[row, column] = np.maximum(self.where[row, column], inside)
        marked = self.where[row, column] > 0
        self.where_known[row, column] |= marked & np.array(reachable(kind))


@cache
def _marks(kind: str, regions: tuple[str, ...]) -> tuple[Float[np.ndarray, " r"], Bool[np.ndarray, " r"]]:
    """(1 for each model region that holds the finding, True for each that may or may not)."""
    names = ontology.model_regions()
    holding: set[str] = set()
    below: set[str] = set()
    for region in regions:
        # A finding "in the right lung" is taken to be in all its lobes, as `facts.pooled` says.
        for place in (region, *pooled(region)):
            holding |= set(ontology.ancestors(place))
            below |= set(ontology.descendants(place))
    inside = np.array([name in holding for name in names])
    reach = np.array(reachable(kind))
    unsure = (np.array([name in below for name in names]) & ~inside) | (inside & ~reach)
    return (inside & reach).astype(np.float32), unsure


def _stack_dense(outlines: Sequence[Bool[np.ndarray, "f t h w"] | None]) -> Float[Tensor, "b f t h w"]:
    """Outlines of the studies that have them, zeros for the others."""
    shape = next(outline.shape for outline in outlines if outline is not None)
    whole = np.zeros((len(outlines), *shape), np.float32)
    for row, outline in enumerate(outlines):
        if outline is not None:
            whole[row] = outline
    return torch.from_numpy(whole)
