"""The scene as a tree: regions with their volumes, below them lesions, slots and stated findings with their sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ctscribe import ontology
from ctscribe.ontology import LANGUAGES

if TYPE_CHECKING:
    from ctscribe.pipeline import ReportResult
    from ctscribe.pipeline.nodes import LesionNode
    from ctscribe.report import Finding

What = Literal["region", "lesion", "slot", "finding"]
_Entry = tuple[What, Mapping[str, str], str, float | None, tuple[str, ...], str]


@dataclass(frozen=True)
class TreeRow:
    """One line of the tree.

    Attributes:
        depth: steps below the root.
        what: a region, an outlined lesion, a lesion that a slot holds, or a finding that the report states.
        name: per language.
        measure: volume of a region, longest extent of anything else; "" where nobody measured it.
        probability: None where nobody measured it.
        places: ids of the pictures that show it.
        confidence: the word for the probability of a stated finding, "" where none is calibrated.
    """

    depth: int
    what: What
    name: Mapping[str, str]
    measure: str = ""
    probability: float | None = None
    places: tuple[str, ...] = ()
    confidence: str = ""


def tree_rows(
    result: ReportResult,
    of_finding: Callable[[Finding], tuple[str, ...]],
    of_node: Callable[[LesionNode], tuple[str, ...]],
) -> tuple[TreeRow, ...]:
    """From the root down.

    What lies in a region without a mask hangs below the nearest one around it that has one, else it stands at the end.
    """
    from ctscribe.pipeline.certainty import word_beside

    volumes = _volumes(result)
    below: dict[str | None, list[_Entry]] = defaultdict(list)
    for node in result.nodes:
        name = _first(ontology.findings()[node.kind].names)
        entry: _Entry = (node.source, name, f"{node.size_mm:g} mm", node.probability, of_node(node), "")
        below[_shown(node.region, volumes)].append(entry)
    for finding in result.report.findings:
        if finding.status == "absent":
            continue
        name = _first(ontology.findings()[finding.kind].names)
        size = " × ".join(f"{mm:g}" for mm in finding.size_mm) + (" mm" if finding.size_mm else "")
        for region in dict.fromkeys(_shown(r, volumes) for r in finding.regions or (None,)):
            word = word_beside(finding, result.report) or ""
            below[region].append(("finding", name, size, finding.certainty, of_finding(finding), word))

    def walk(region: str, depth: int) -> Iterator[TreeRow]:
        yield TreeRow(depth, "region", _first(ontology.regions()[region].names), f"{volumes[region]:,.0f} ml")
        for child in ontology.regions().values():
            if child.parent == region and child.id in volumes:
                yield from walk(child.id, depth + 1)
        yield from (TreeRow(depth + 1, *entry) for entry in below[region])

    roots = [r.id for r in ontology.regions().values() if r.parent is None and r.id in volumes]
    rows = [row for root in roots for row in walk(root, 0)]
    return (*rows, *(TreeRow(0, *entry) for entry in below[None]))


def _volumes(result: ReportResult) -> dict[str, float]:
    """Region -> ml, of every region that holds a voxel."""
    counts = np.bincount(result.segmentation.labels.ravel(), minlength=256)
    voxel = float(np.prod(result.study.volume.spacing)) / 1000
    found = {name: counts[list(result.segmentation.values(name))].sum() * voxel for name in ontology.regions()}
    return {name: float(ml) for name, ml in found.items() if ml > 0}


def _shown(region: str | None, volumes: Mapping[str, float]) -> str | None:
    """The region, or the nearest one around it that the tree shows."""
    return None if region is None else next((name for name in ontology.ancestors(region) if name in volumes), None)


def _first(names: Mapping) -> dict[str, str]:
    return {code: names[code][0] for code in LANGUAGES}
