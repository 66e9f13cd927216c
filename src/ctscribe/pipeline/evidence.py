"""From a detection's heat map to places in the scan: boxes in patient mm and original slice numbers.

```
heat (t, h, w) ── inside the finding's region ── above half of its peak ── connected pieces ── box of cells
     box of cells ── model grid's affine ── corners in patient mm ── SourceMap ── original slice numbers
```

A box is never finer than one cell of the token grid: that is the resolution at which the detector looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from ctscribe import ontology
from ctscribe.report import Evidence, Finding
from ctscribe.tensors import Volume

if TYPE_CHECKING:
    from ctscribe.data import SourceMap
    from ctscribe.data.anatomy import Segmentation
    from ctscribe.data.outlines import Outlines

World = tuple[float, float, float]
Box = tuple[World, World]

PIECE_THRESHOLD = 0.5
"""Share of the peak heat a cell needs to belong to a piece (full width at half maximum)."""
MIN_SHARE = 0.25
"""Share of the whole map's peak that the heat inside a region must reach to count as seen there."""
MAX_PIECES = 3
"""More separate places than this are not shown for one finding in one region."""
MIN_OCCUPANCY = 0.05
"""Share of a cell that must lie in a region for the cell to count as inside it; small: lesions sit on borders."""


@runtime_checkable
class DetectionLike(Protocol):
    """What evidence needs to know of a detection."""

    @property
    def regions(self) -> tuple[str, ...]: ...
    @property
    def heat(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Piece:
    """One connected hot place on the token grid: ``low`` inclusive, ``high`` exclusive, ``(t, h, w)`` cells."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]
    weight: float


@dataclass(frozen=True)
class Placed:
    """Where the model looked: its grid volume, regions on the token grid, outlined lesions, the way to the source."""

    volume: Volume
    occupancy: Float[np.ndarray, "r t h w"]
    present: Bool[np.ndarray, " r"]
    regions: tuple[str, ...]
    original: Volume
    source: SourceMap
    lesions: Outlines | None = None


def pieces(
    heat: Float[np.ndarray, "t h w"] | Int[np.ndarray, "t h w"],
    inside: Bool[np.ndarray, "t h w"] | None = None,
    *,
    limit: int = MAX_PIECES,
) -> list[Piece]:
    """Connected hot places, hottest first; none where the map is cold compared with its peak elsewhere."""
    from scipy import ndimage

    hot = np.asarray(heat, dtype=np.float32) if inside is None else np.where(inside, heat, 0.0).astype(np.float32)
    peak = float(hot.max(initial=0.0))
    if peak <= 0.0 or peak < MIN_SHARE * float(np.max(heat)):
        return []
    labels, _ = ndimage.label(hot >= PIECE_THRESHOLD * peak)
    found = []
    for index, where in enumerate(ndimage.find_objects(labels), start=1):
        t, h, w = where
        weight = float(hot[where][labels[where] == index].max())
        found.append(Piece((t.start, h.start, w.start), (t.stop, h.stop, w.stop), min(weight, 1.0)))
    return sorted(found, key=lambda piece: -piece.weight)[:limit]


def piece_to_box(piece: Piece, cells: tuple[int, int, int], volume: Volume) -> Box:
    """Opposite corners (x, y, z) mm of a piece; ``cells`` is the token grid that divides ``volume`` evenly."""
    step = np.asarray(volume.shape) / np.asarray(cells)
    low = np.asarray(piece.low) * step - 0.5
    high = np.asarray(piece.high) * step - 0.5
    return _span(volume.affine.to_world(_corners(low, high)))


def clip_to_scan(box: Box, scan: Volume) -> Box | None:
    """The part of a box inside what was scanned, None when nothing of it was (the model grid pads small scans)."""
    last = np.asarray(scan.shape) - 0.5
    low, high = _span(scan.affine.to_world(_corners(np.full(3, -0.5), last)))
    lower, upper = np.maximum(box[0], low), np.minimum(box[1], high)
    if np.any(upper <= lower):
        return None
    return _world(lower), _world(upper)


def original_slices(box: Box, scan: Volume, source: SourceMap) -> tuple[int, int]:
    """First and last original slice number (1-based) a box touches.

    Corners are moved to the centres of the outermost voxels whose centre lies in the box, so that a box that ends
    between two slices does not claim the next one.
    """
    index = scan.affine.to_index(_corners(np.asarray(box[0]), np.asarray(box[1])))
    low, high = index.min(axis=0), index.max(axis=0)
    first, last = np.ceil(low - 1e-6), np.floor(high + 1e-6)
    middle = np.round((low + high) / 2)
    first, last = np.where(first <= last, first, middle), np.where(first <= last, last, middle)
    limit = np.asarray(scan.shape) - 1
    first, last = np.clip(first, 0, limit), np.clip(last, 0, limit)
    numbers = [source.locate(_world(point)).slice_number for point in scan.affine.to_world(_corners(first, last))]
    return min(numbers), max(numbers)


def evidence_of(detection: DetectionLike, placed: Placed, *, identifiers: bool = False) -> tuple[Evidence, ...]:
    """Places in the scan that made the detector speak, strongest first.

    One search per named region; a region without a mask (or a detection without a region) is searched over the whole
    grid and says so by ``region=None``.
    """
    found: list[Evidence] = []
    regions: Sequence[str | None] = detection.regions or (None,)
    for region in regions:
        inside = _inside(region, placed)
        for piece in pieces(detection.heat, inside):
            evidence = _evidence(piece, region if inside is not None else None, detection, placed, identifiers)
            if evidence is not None and evidence not in found:
                found.append(evidence)
    return tuple(sorted(found, key=lambda item: -item.weight))


class Extents:
    """Where whole regions lie, for sentences that no heat speaks for ("no pleural effusion": both pleurae)."""

    def __init__(self, segmentation: Segmentation, placed: Placed) -> None:
        self._segmentation, self._placed = segmentation, placed
        self._known: dict[str, Evidence | None] = {}

    def of_finding(self, finding: Finding) -> tuple[Evidence, ...]:
        """The regions a finding was looked for in: those it names, else where its kind may lie."""
        regions = finding.regions or looked_in(finding.kind)
        found = (self.of_region(region) for region in regions)
        return tuple(dict.fromkeys(item for item in found if item is not None))

    def of_region(self, region: str) -> Evidence | None:
        """A region's extent, or that of the nearest region around it that was outlined; None when there is none.

        Its weight is 0: the place says where was looked, nothing measured how much it mattered.
        """
        for name in ontology.ancestors(region):
            if name not in self._known:
                self._known[name] = self._measure(name) if self._segmentation.has(name) else None
            if self._known[name] is not None:
                return self._known[name]
        return None

    def _measure(self, region: str) -> Evidence:
        mask, scan = self._segmentation.mask(region), self._placed.original
        ends = []
        for axis in range(3):
            hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
            ends.append((hit[0] - 0.5, hit[-1] + 0.5))
        low, high = (np.asarray(end, dtype=float) for end in zip(*ends, strict=True))
        box = _span(scan.affine.to_world(_corners(low, high)))
        return Evidence(
            region=region,
            box_world=box,
            slices=original_slices(box, scan, self._placed.source),
            weight=0.0,
            source="segmentation",
        )


def looked_in(kind: str) -> tuple[str, ...]:
    """Where a finding of this kind is looked for: the smallest region that holds all it may lie in; where that would be
    the whole thorax (both pleurae, spine and ribs), these regions themselves."""
    regions = ontology.findings()[kind].regions
    around = next(
        candidate
        for candidate in ontology.ancestors(regions[0])
        if all(candidate in ontology.ancestors(other) for other in regions)
    )
    if around in regions or ontology.regions()[around].parent is not None:
        return (around,)
    return tuple(r for r in regions if not any(other in ontology.ancestors(r)[1:] for other in regions))


def _inside(region: str | None, placed: Placed) -> np.ndarray | None:
    """Cells of a region with a mask; of its children's masks when only they exist; None when there is none."""
    if region is None:
        return None
    rows = [placed.regions.index(r) for r in ontology.descendants(region) if r in placed.regions]
    if region in placed.regions and placed.present[placed.regions.index(region)]:
        rows = [placed.regions.index(region)]
    rows = [row for row in rows if placed.present[row]]
    if not rows:
        return None
    return placed.occupancy[rows].max(axis=0) >= MIN_OCCUPANCY


def _evidence(
    piece: Piece, region: str | None, detection: DetectionLike, placed: Placed, identifiers: bool
) -> Evidence | None:
    t, h, w = detection.heat.shape
    box = clip_to_scan(piece_to_box(piece, (t, h, w), placed.volume), placed.original)
    if box is None:
        return None
    instance = None
    if identifiers:
        centre = _world((np.asarray(box[0]) + np.asarray(box[1])) / 2)
        instance = placed.source.locate(centre).sop_instance_uid
    return Evidence(
        region=region,
        box_world=box,
        slices=original_slices(box, placed.original, placed.source),
        weight=round(piece.weight, 4),
        source="detector",
        sop_instance=instance,
    )


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The eight corners (8, 3) of an axis-aligned box."""
    return np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)


def _span(points: np.ndarray) -> Box:
    return _world(points.min(axis=0)), _world(points.max(axis=0))


def _world(point: np.ndarray) -> World:
    x, y, z = (round(float(value), 2) for value in point)
    return x, y, z
