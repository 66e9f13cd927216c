"""Outlined lesions of one study: which voxels of the model's grid each of them fills.

```
points in the patient, label map, phantom ──► Outlines (boxes + masks, exact) ─┬─► cells of a grid, per lesion   shares
                                                                               ├─► tokens, per finding kind      flags
                                                                               ├─► boxes in mm                   boxes
                                                                               └─► bytes, and back               pack
```
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ctscribe import ontology
from ctscribe.tensors import Volume

Index = tuple[int, int, int]
FINEST = 8
"""Most parts into which the cell around a point is cut along an axis."""


@dataclass(frozen=True)
class Outline:
    """One lesion: a mask over a box of voxels whose first one is `low` (z, y, x).

    ``sure`` is False where readers disagree that it is one: then neither it nor its absence is taught.
    """

    kind: str
    low: Index
    mask: Bool[np.ndarray, "z y x"]
    sure: bool = True

    @property
    def high(self) -> Index:
        """First voxel behind the box."""
        z, y, x = (a + n for a, n in zip(self.low, self.mask.shape, strict=True))
        return z, y, x

    @property
    def where(self) -> tuple[slice, slice, slice]:
        """The box, as slices of the grid."""
        z, y, x = (slice(a, b) for a, b in zip(self.low, self.high, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Outlines:
    """All outlined lesions of a study, largest first.

    Attributes:
        shape: voxels (z, y, x) of the grid.
        lesions: may overlap; none when nobody found any.
        looked_for: kinds that were outlined; of other kinds nothing is known. None when all were.
    """

    shape: Index
    lesions: tuple[Outline, ...] = ()
    looked_for: tuple[str, ...] | None = None

    @property
    def sure(self) -> tuple[Outline, ...]:
        """Lesions that are surely there."""
        return tuple(lesion for lesion in self.lesions if lesion.sure)

    def kinds(self) -> Int[np.ndarray, " l"]:
        """Column of each sure lesion's kind in ``ontology.findings()``."""
        order = list(ontology.findings())
        return np.array([order.index(lesion.kind) for lesion in self.sure], dtype=np.int64)

    def shares(self, grid: Index) -> UInt8[np.ndarray, "l t h w"]:
        """How much of each cell of a coarser grid each sure lesion fills, 255 for all; a lesion never vanishes."""
        cells = np.array(self.shape) / np.array(grid)
        out = np.zeros((len(self.sure), *grid), np.uint8)
        for row, lesion in enumerate(self.sure):
            counts = np.zeros(grid)
            np.add.at(counts, _cells(lesion, cells, grid), 1)
            filled = np.rint(counts * 255 / cells.prod())
            out[row] = np.clip(np.where(counts > 0, np.maximum(filled, 1), 0), 0, 255)
        return out

    def flags(self, grid: Index) -> Bool[np.ndarray, "f t h w"]:
        """Cells that hold a voxel of a sure lesion, per finding kind and whatever it implies."""
        return self._flags(grid, self.sure)

    def doubtful(self, grid: Index) -> Bool[np.ndarray, "f t h w"]:
        """Cells that hold a voxel of a lesion about which readers disagree, and of no sure one of the kind."""
        unsure = self._flags(grid, [lesion for lesion in self.lesions if not lesion.sure])
        return unsure & ~self.flags(grid)

    def _flags(self, grid: Index, lesions: Iterable[Outline]) -> Bool[np.ndarray, "f t h w"]:
        columns = {kind: column for column, kind in enumerate(ontology.findings())}
        out = np.zeros((len(columns), *grid), bool)
        cells = np.array(self.shape) / np.array(grid)
        for lesion in lesions:
            place = _cells(lesion, cells, grid)
            for kind in ontology.implied(lesion.kind):
                out[columns[kind]][place] = True
        return out

    def known(self) -> Bool[np.ndarray, " f"]:
        """Kinds that were outlined, and so are known to be nowhere else."""
        return np.array([self.looked_for is None or kind in self.looked_for for kind in ontology.findings()])

    def boxes(self, spacing: tuple[float, float, float]) -> Float[np.ndarray, "l 6"]:
        """(z, y, x) of the low, then of the high corner of each sure lesion, in mm from the middle of the grid."""
        half = np.array(self.shape) / 2
        corners = [[*(np.array(end) - half) * spacing] for x in self.sure for end in (x.low, x.high)]
        return np.array(corners, np.float32).reshape(-1, 6)

    def shifted(self, steps: Index) -> Outlines:
        """Moved by whole voxels; what leaves the grid is lost."""
        dz, dy, dx = steps
        moved = (replace(x, low=(x.low[0] + dz, x.low[1] + dy, x.low[2] + dx)) for x in self.lesions)
        return replace(self, lesions=tuple(kept for x in moved if (kept := _clipped(x, self.shape)) is not None))

    def mirrored(self) -> Outlines:
        """The last axis turned round."""
        return self.mapped(lambda mask: mask[..., ::-1])

    def mapped(self, change: Callable[[Bool[np.ndarray, "z y x"]], Bool[np.ndarray, "z y x"]]) -> Outlines:
        """Every lesion's mask over the whole grid, changed; lesions that nothing is left of are lost."""
        kept = []
        for lesion in self.lesions:
            whole = np.zeros(self.shape, bool)
            whole[lesion.where] = lesion.mask
            found = outline_of_mask(lesion.kind, change(whole), sure=lesion.sure)
            kept += [found] if found is not None else []
        return replace(self, lesions=tuple(kept))

    def pack(self) -> UInt8[np.ndarray, " n"]:
        """Bytes: a line of JSON with the boxes, then the masks as bits, compressed."""
        head = {
            "shape": self.shape,
            "looked_for": self.looked_for,
            "lesions": [[x.kind, list(x.low), list(x.mask.shape), x.sure] for x in self.lesions],
        }
        bits = b"".join(np.packbits(x.mask.reshape(-1)).tobytes() for x in self.lesions)
        return np.frombuffer(json.dumps(head).encode() + b"\n" + zlib.compress(bits, 6), np.uint8)


def unpack(content: UInt8[np.ndarray, " n"]) -> Outlines:
    """What `Outlines.pack` wrote."""
    line, _, rest = content.tobytes().partition(b"\n")
    head, bits = json.loads(line), np.frombuffer(zlib.decompress(rest), np.uint8)
    lesions, start = [], 0
    for kind, low, size, sure in head["lesions"]:
        count = int(np.prod(size))
        part = bits[start : start + (count + 7) // 8]
        start += len(part)
        z, y, x = low
        lesions.append(Outline(kind, (z, y, x), np.unpackbits(part, count=count).reshape(size).astype(bool), sure))
    z, y, x = head["shape"]
    looked = head["looked_for"]
    return Outlines((z, y, x), tuple(lesions), None if looked is None else tuple(looked))


def largest_first(lesions: Iterable[Outline]) -> tuple[Outline, ...]:
    """In the order of `Outlines`."""
    return tuple(sorted(lesions, key=lambda x: -int(x.mask.sum())))


def outline_of_mask(kind: str, mask: Bool[np.ndarray, "z y x"], *, sure: bool = True) -> Outline | None:
    """A mask over the whole grid, cut to its box; None when it is empty."""
    place = np.argwhere(mask)
    if not len(place):
        return None
    low, high = place.min(0), place.max(0) + 1
    cut = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return Outline(kind, (int(low[0]), int(low[1]), int(low[2])), np.ascontiguousarray(cut), sure)


def outline_of_points(
    kind: str,
    points: Float[np.ndarray, "n 3"],
    size_mm: tuple[float, float, float],
    grid: Volume,
    *,
    sure: bool = True,
) -> Outline | None:
    """A lesion given as points in the patient, on a canonical grid.

    Args:
        kind: of finding.
        points: centres (x, y, z) of the cells that lie inside it, LPS mm.
        size_mm: (x, y, z) of such a cell.
        grid: the fullest voxels belong to the lesion, as many as its volume asks for and at least one: small lesions
            would lose most of theirs if a voxel had to be half full.
        sure: see `Outline`.

    Returns:
        None when it lies outside the grid.
    """
    step = np.array(size_mm)[::-1] / np.array(grid.spacing)
    parts = np.clip(np.ceil(2 * step), 1, FINEST).astype(int)
    offsets = [((np.arange(n) + 0.5) / n - 0.5) * s for n, s in zip(parts, step, strict=True)]
    inner = np.stack(np.meshgrid(*offsets, indexing="ij"), -1).reshape(-1, 3)
    place = np.rint((grid.affine.to_index(points)[:, None] + inner).reshape(-1, 3)).astype(int)
    place = place[((place >= 0) & (place < np.array(grid.shape))).all(axis=1)]
    if not len(place):
        return None
    low = place.min(0)
    filled = np.zeros(place.max(0) - low + 1)
    np.add.at(filled, tuple((place - low).T), step.prod() / len(inner))
    count = min(max(1, round(float(filled.sum()))), int((filled > 0).sum()))
    mask = np.zeros(filled.size, bool)
    mask[np.argsort(-filled.reshape(-1), kind="stable")[:count]] = True
    mask = mask.reshape(filled.shape)
    found = outline_of_mask(kind, mask, sure=sure)
    assert found is not None
    a, b, c = (int(start + own) for start, own in zip(low, found.low, strict=True))
    return replace(found, low=(a, b, c))


def joined(parts: Sequence[Outlines]) -> Outlines | None:
    """Several persons' outlines of one scan; None without any. What any of them looked for was looked for."""
    if not parts:
        return None
    looked: tuple[str, ...] | None = ()
    for part in parts:
        looked = None if looked is None or part.looked_for is None else (*looked, *part.looked_for)
    lesions = largest_first(lesion for part in parts for lesion in part.lesions)
    return Outlines(parts[0].shape, lesions, None if looked is None else tuple(dict.fromkeys(looked)))


def _cells(lesion: Outline, cells: np.ndarray, grid: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cell of every voxel of a lesion."""
    place = np.argwhere(lesion.mask) + np.array(lesion.low)
    t, h, w = np.minimum(place // cells, np.array(grid) - 1).astype(int).T
    return t, h, w


def _clipped(lesion: Outline, shape: Index) -> Outline | None:
    """The part inside the grid."""
    low = [max(0, -a) for a in lesion.low]
    high = [min(n, s - a) for a, n, s in zip(lesion.low, lesion.mask.shape, shape, strict=True)]
    if any(b <= a for a, b in zip(low, high, strict=True)):
        return None
    cut = lesion.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    found = outline_of_mask(lesion.kind, cut, sure=lesion.sure)
    if found is None:
        return None
    z, y, x = (start + first + own for start, first, own in zip(lesion.low, low, found.low, strict=True))
    return replace(found, low=(z, y, x))
