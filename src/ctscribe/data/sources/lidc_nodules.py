"""Four readers' outlines -> nodules: which outlines mean the same nodule, what most of them enclose, what it is called.

Outlines are in pixels and slice positions until the scan is read; only then `outlines_in_patient` gives millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.draw import polygon

from ctscribe.data.sources.lidc_database import LidcScan, Reading
from ctscribe.report import Finding
from ctscribe.report.words import Status

READERS = 4
"""Radiologists who read every scan."""
CONSENSUS = 0.5
"""Share of those who outlined a nodule that must enclose a pixel."""
SURE = 2
"""Readers from whom on a nodule counts as present; what one alone drew is uncertain."""


@dataclass(frozen=True)
class Nodule:
    """One nodule on the pixel grid of its scan.

    Attributes:
        voxels: (column, row) pixels and the number of the slice position they lie in, those most readers enclose.
        z: slice positions (mm), which the third column of `voxels` counts.
        axes_mm: longest in-plane diameter and the one perpendicular to it, medians over the readers.
        readings: who drew it.
    """

    voxels: Int[np.ndarray, "n 3"]
    z: tuple[float, ...]
    axes_mm: tuple[float, float]
    readings: tuple[Reading, ...]

    @property
    def finding(self) -> Finding:
        """What it is, without a place: the characteristics of most readers in the words of the ontology."""
        return describe(self.readings, self.axes_mm)


def nodules(scan: LidcScan) -> tuple[Nodule, ...]:
    """Every nodule of a scan, largest first."""
    found = [_nodule(scan, group) for group in cluster(scan)]
    return tuple(sorted(found, key=lambda nodule: -nodule.axes_mm[0]))


def cluster(scan: LidcScan) -> tuple[tuple[Reading, ...], ...]:
    """Outlines that mean the same nodule: nearer to each other than a slice is thick.

    The database does not say who drew what. There were four readers, so where a chain of neighbours holds more than
    four outlines, the distance is lowered until it falls apart; outlines that touch are never parted.
    """
    readings = [r for r in scan.readings if r.contours]
    if not readings:
        return ()
    clouds = [_cloud(scan, reading) for reading in readings]
    distance = np.zeros((len(clouds), len(clouds)))
    trees = [cKDTree(cloud) for cloud in clouds]
    for a in range(len(clouds)):
        for b in range(a + 1, len(clouds)):
            distance[a, b] = distance[b, a] = float(trees[a].query(clouds[b])[0].min())
    return tuple(tuple(readings[i] for i in group) for group in _groups(distance, scan.thickness_mm))


def _groups(distance: Float[np.ndarray, "n n"], tolerance: float) -> list[list[int]]:
    count, label = connected_components(csr_array(distance <= tolerance), directed=False)
    found: list[list[int]] = []
    for number in range(count):
        members = np.flatnonzero(label == number)
        if len(members) <= READERS or tolerance < 0.1:
            found.append([int(i) for i in members])
        else:
            part = _groups(distance[np.ix_(members, members)], tolerance * 0.9)
            found += [[int(members[i]) for i in group] for group in part]
    return found


def _cloud(scan: LidcScan, reading: Reading) -> Float[np.ndarray, "n 3"]:
    """Contour points in mm; the in-plane origin is the scan's first pixel."""
    parts = [np.column_stack((c.points * scan.pixel_mm, np.full(len(c.points), c.z))) for c in reading.contours]
    return np.concatenate(parts)


def _nodule(scan: LidcScan, readings: Sequence[Reading]) -> Nodule:
    heights = sorted({round(c.z, 3) for reading in readings for c in reading.contours})
    every = np.concatenate([_enclosed(reading, heights) for reading in readings])
    voxels, votes = np.unique(every, axis=0, return_counts=True)
    kept = voxels[votes >= CONSENSUS * len(readings)]
    axes = [_axes(scan, reading) for reading in readings]
    size = median(long for long, _ in axes), median(short for _, short in axes)
    return Nodule(kept if len(kept) else voxels, tuple(heights), size, tuple(readings))


def _enclosed(reading: Reading, heights: Sequence[float]) -> Int[np.ndarray, "n 3"]:
    """Pixels one reader encloses. The line itself lies outside, unless nothing else would be left."""
    inside: set[tuple[int, int, int]] = set()
    holes: set[tuple[int, int, int]] = set()
    for contour in reading.contours:
        level = heights.index(round(contour.z, 3))
        columns, rows = polygon(contour.points[:, 0], contour.points[:, 1])
        area = {(int(c), int(r), level) for c, r in zip(columns, rows, strict=True)}
        line = {(int(c), int(r), level) for c, r in contour.points}
        if contour.inside:
            inside |= (area - line) or line
        else:
            holes |= area | line
    return np.array(sorted(inside - holes or inside), dtype=np.int64).reshape(-1, 3)


def _axes(scan: LidcScan, reading: Reading) -> tuple[float, float]:
    """(longest diameter, widest extent across it) in the slice where the longest lies, mm."""
    best = (0.0, 0.0)
    for contour in reading.contours:
        if not contour.inside:
            continue
        points = contour.points * scan.pixel_mm
        apart = points[:, None] - points[None, :]
        lengths = np.linalg.norm(apart, axis=-1)
        long = float(lengths.max())
        if long > best[0]:
            a, b = np.unravel_index(int(lengths.argmax()), lengths.shape)
            direction = (points[a] - points[b]) / long
            across = points @ np.array([-direction[1], direction[0]])
            best = long, float(across.max() - across.min())
    return max(best[0], scan.pixel_mm), max(best[1], scan.pixel_mm)


def describe(readings: Sequence[Reading], axes_mm: tuple[float, float]) -> Finding:
    """Scores of several readers -> a finding.

    A word is used only where the median reader stands at an anchored point of the scale: texture 1 is ground glass, 3
    part solid, 5 solid; spiculation or lobulation 4 and more gives the margin; calcification other than 6 (absent) and
    4 (off centre) is a benign pattern. One reader alone makes the finding uncertain. In the first 399 scans that were
    read, the order of the spiculation and lobulation scales was not the same at all sites (see the data set's page).
    """
    middle = {name: median(r.scores[name] for r in readings) for name in readings[0].scores}
    size = tuple(round(axis, 1) for axis in axes_mm)
    status: Status = "present" if len(readings) >= SURE else "uncertain"
    certainty = min(1.0, len(readings) / READERS)
    benign = sum(r.scores["calcification"] in (1, 2, 3, 5) for r in readings) * 2 > len(readings)
    if benign and size[0] <= 15:
        return Finding("calcified_granuloma", status, size_mm=size, certainty=certainty)
    attributes = []
    if (margin := _margin(middle)) is not None:
        attributes.append(("margin", margin))
    if size[0] >= 30:
        return Finding("mass", status, size_mm=size, attributes=tuple(attributes), certainty=certainty)
    if (density := _density(middle["texture"])) is not None:
        attributes.append(("density", density))
    return Finding("lung_nodule", status, size_mm=size, attributes=tuple(attributes), certainty=certainty)


def _density(texture: float) -> str | None:
    if texture <= 1.5:
        return "ground_glass"
    if 2.5 <= texture <= 3.5:
        return "part_solid"
    return "solid" if texture >= 4.5 else None


def _margin(middle: dict[str, float]) -> str | None:
    if middle["spiculation"] >= 4:
        return "spiculated"
    if middle["lobulation"] >= 4:
        return "lobulated"
    return "smooth" if middle["margin"] >= 4 and max(middle["spiculation"], middle["lobulation"]) <= 2 else None
