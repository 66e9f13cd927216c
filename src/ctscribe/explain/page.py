"""What the report page shows, as data: every sentence with its places, every place with three pictures.

No HTML here; `html` turns a `Page` into one file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import yaml

from ctscribe import ontology
from ctscribe.explain import planes
from ctscribe.explain.planes import Frame, Plane
from ctscribe.explain.tree import TreeRow, tree_rows
from ctscribe.ontology import LANGUAGES, Language
from ctscribe.report import SECTION_NAMES, Evidence, Finding, Sentence

if TYPE_CHECKING:
    from ctscribe.pipeline import ReportResult
    from ctscribe.pipeline.nodes import LesionNode

OUTLINED: Mapping[str, str] = {
    "right_upper_lobe": "lung-a",
    "right_middle_lobe": "lung-b",
    "right_lower_lobe": "lung-c",
    "left_upper_lobe": "lung-a",
    "left_lower_lobe": "lung-c",
    "trachea": "airway",
    "heart": "heart",
    "aorta": "vessel",
    "pulmonary_artery": "vessel",
    "spine": "bone",
}
"""Region -> style of its outline; bands and whole lungs would only clutter the pictures."""
LUNG_SECTIONS = ("lungs", "airways", "pleura")
MAX_PLACES = 3
"""Places shown for one sentence; the report's JSON holds them all."""


@dataclass(frozen=True)
class Image:
    """Pixels, embedded once however many places show them."""

    id: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """One plane of one place; ``image`` and ``heat`` are ids of the page's `Image`s."""

    plane: Plane
    width: int
    height: int
    image: str
    heat: str | None
    outlines: tuple[tuple[str, str], ...]
    target: str
    box: tuple[float, float, float, float] | None
    caption: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """One place in the scan: what it is called and its three pictures."""

    id: str
    label: Mapping[str, str]
    source: str
    weight: float
    window: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ShownSentence:
    """One sentence, the ids of its places and of the references it follows."""

    text: str
    status: str
    places: tuple[str, ...]
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One structured finding, in words; `confidence` is the word for its probability, "" where none is calibrated."""

    kind: Mapping[str, str]
    status: str
    regions: Mapping[str, str]
    size: str
    attributes: Mapping[str, str]
    certainty: float | None
    confidence: str
    slices: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Everything the template needs."""

    languages: tuple[Language, ...]
    sections: Mapping[str, Mapping[str, tuple[ShownSentence, ...]]]
    images: tuple[Image, ...]
    places: tuple[Place, ...]
    rows: tuple[Row, ...]
    facts: Mapping[str, str]
    tree: tuple[TreeRow, ...] = ()


@dataclass
class _Gallery:
    """Draws each place once and hands out its id."""

    result: ReportResult
    crop: planes.Crop
    places: dict[tuple, Place] = field(default_factory=dict)
    images: dict[bytes, Image] = field(default_factory=dict)

    def of_sentence(self, sentence: Sentence) -> tuple[str, ...]:
        findings = [self.result.report.findings[i] for i in sentence.findings]
        wanted = [(item, _owner(item, findings)) for item in sentence.evidence]
        return tuple(dict.fromkeys(self._id(item, owner) for item, owner in wanted[:MAX_PLACES] if item.box_world))

    def of_finding(self, finding: Finding) -> tuple[str, ...]:
        return tuple(self._id(item, finding) for item in finding.evidence[:MAX_PLACES] if item.box_world)

    def of_node(self, node: LesionNode) -> tuple[str, ...]:
        return (self._of_kind(node.evidence, node.kind),)

    def _id(self, evidence: Evidence, owner: Finding | None) -> str:
        return self._of_kind(evidence, owner.kind if owner is not None else None)

    def _of_kind(self, evidence: Evidence, kind: str | None) -> str:
        heat_kind = kind if evidence.source == "detector" else None
        key = (evidence.region, evidence.box_world, evidence.source, heat_kind, _window(kind))
        if key not in self.places:
            self.places[key] = self._draw(f"place-{len(self.places) + 1}", evidence, heat_kind, _window(kind))
        return self.places[key].id

    def overview(self) -> None:
        """The middle of the chest, with no evidence, in the lung and the soft-tissue window."""
        centre = (np.asarray(self.crop[0]) + np.asarray(self.crop[1]) - 1) // 2
        for window in ("lung", "soft"):
            pictures = tuple(self._picture(plane, centre, None, None, window) for plane in planes.PLANES)
            label: dict[str, str] = {
                code: f"{words()['overview'][code]} · {words()[window][code]}" for code in LANGUAGES
            }
            self.places[("overview", window)] = Place(f"overview-{window}", label, "overview", 0.0, window, pictures)

    def _draw(self, name: str, evidence: Evidence, heat_kind: str | None, window: str) -> Place:
        low, high = planes.box_indices(self.result.study.volume, evidence.box_world or ())
        centre = np.round((low + high) / 2).astype(int)
        heat = next((d.heat for d in self.result.detections if d.kind == heat_kind), None)
        if heat is not None:
            centre = self._hottest(heat, low, high, centre)
        pictures = tuple(self._picture(plane, centre, evidence, heat, window) for plane in planes.PLANES)
        return Place(name, _label(evidence), evidence.source, evidence.weight, window, pictures)

    def _hottest(self, heat: np.ndarray, low: np.ndarray, high: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """Middle of the hottest cell inside a box, in voxels of the scan."""
        grid, scan = self.result.placed.volume, self.result.study.volume
        cells = np.argwhere(np.ones(heat.shape, dtype=bool))
        step = np.asarray(grid.shape) / np.asarray(heat.shape)
        index = scan.affine.to_index(grid.affine.to_world((cells + 0.5) * step - 0.5))
        inside = np.all((index >= low) & (index <= high), axis=1)
        if not inside.any():
            return centre
        best = np.flatnonzero(inside)[int(np.argmax(heat.reshape(-1)[inside]))]
        return np.round(index[best]).astype(int)

    def _picture(
        self, plane: Plane, centre: np.ndarray, evidence: Evidence | None, heat: np.ndarray | None, window: str
    ) -> Picture:
        volume = self.result.study.volume
        shown = planes.frame(volume, plane, int(centre[planes.AXES[plane][0]]), self.crop)
        warm = None if heat is None else planes.heat_png(heat, self.result.placed.volume, volume, shown)
        box = evidence.box_world if evidence is not None and evidence.source != "segmentation" else None
        target = evidence.region if evidence is not None and evidence.source == "segmentation" else None
        return Picture(
            plane=plane,
            width=shown.size[1],
            height=shown.size[0],
            image=self._embed(planes.grey_png(volume, shown, window), shown),
            heat=None if warm is None else self._embed(warm, shown),
            outlines=self._outlines(shown),
            target="" if target is None else self._outline(target, shown),
            box=None if box is None else planes.box_rectangle(volume, box, shown),
            caption=self._caption(shown, centre),
        )

    def _embed(self, png: bytes, shown: Frame) -> str:
        """Id of the picture; the same pixels are embedded once."""
        if png not in self.images:
            rows, columns = shown.size
            url = "data:image/png;base64," + b64encode(png).decode("ascii")
            self.images[png] = Image(f"image-{len(self.images) + 1}", url, columns, rows)
        return self.images[png].id

    def _outlines(self, shown: Frame) -> tuple[tuple[str, str], ...]:
        drawn = ((style, self._outline(region, shown)) for region, style in OUTLINED.items())
        return tuple((style, path) for style, path in drawn if path)

    def _outline(self, region: str, shown: Frame) -> str:
        labels = planes.cut(self.result.segmentation.labels, shown)
        return planes.outline_path(np.isin(labels, self.result.segmentation.values(region)), shown)

    def _caption(self, shown: Frame, centre: np.ndarray) -> dict[str, str]:
        """Axial pictures are named by original slice number, the others by their place in patient mm."""
        world = self.result.study.volume.affine.to_world(np.asarray(centre, dtype=float))
        x, y, z = (f"{float(value):.0f}".replace("-", "\u2212") for value in world)
        number = self.result.study.source.locate((float(world[0]), float(world[1]), float(world[2]))).slice_number
        if shown.plane == "axial":
            return {"en": f"slice {number} · z = {z} mm", "zh": f"第 {number} 层 · z = {z} mm"}
        place = f"y = {y} mm" if shown.plane == "coronal" else f"x = {x} mm"
        return dict.fromkeys(LANGUAGES, place)


def build(result: ReportResult) -> Page:
    """All that the page shows of one result."""
    body = result.segmentation.mask("thorax") if result.segmentation.has("thorax") else np.ones(1, dtype=bool)
    crop = (
        planes.crop_around(body, result.study.volume.spacing)
        if body.ndim == 3
        else ((0, 0, 0), result.study.volume.shape)
    )
    gallery = _Gallery(result, crop)
    gallery.overview()
    report = result.report
    sections: dict[str, dict[str, tuple[ShownSentence, ...]]] = {
        code: {name: tuple(_shown(s, gallery, report.findings) for s in text.section(name)) for name in SECTION_NAMES}
        for code, text in report.texts.items()
    }
    rows = tuple(_row(finding, gallery) for finding in report.findings)
    tree = tree_rows(result, gallery.of_finding, gallery.of_node)
    return Page(
        tuple(report.texts),
        sections,
        tuple(gallery.images.values()),
        tuple(gallery.places.values()),
        rows,
        _facts(result),
        tree,
    )


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Labels of the page, by key and language."""
    return yaml.safe_load((files(__package__) / "words.yaml").read_text(encoding="utf-8"))


def _shown(sentence: Sentence, gallery: _Gallery, findings: Sequence[Finding]) -> ShownSentence:
    order = ("present", "uncertain", "absent")
    statuses = [findings[i].status for i in sentence.findings]
    status = min(statuses, key=order.index, default="none")
    return ShownSentence(sentence.text, status, gallery.of_sentence(sentence), sentence.citations)


def _row(finding: Finding, gallery: _Gallery) -> Row:
    from ctscribe.pipeline.certainty import word_beside

    kind = ontology.findings()[finding.kind]
    separator = {"en": ", ", "zh": "、"}
    names: dict[str, str] = {
        code: separator[code].join(ontology.regions()[r].names[code][0] for r in finding.regions) for code in LANGUAGES
    }
    attributes: dict[str, str] = {
        code: separator[code].join(ontology.attributes()[n][v][code][0] for n, v in finding.attributes)
        for code in LANGUAGES
    }
    return Row(
        kind={code: kind.names[code][0] for code in LANGUAGES},
        status=finding.status,
        regions=names,
        size=" × ".join(f"{mm:g}" for mm in finding.size_mm) + (" mm" if finding.size_mm else ""),
        attributes=attributes,
        certainty=finding.certainty,
        confidence=word_beside(finding, gallery.result.report) or "",
        slices="; ".join(_range(e) for e in finding.evidence[:MAX_PLACES] if e.slices),
        places=gallery.of_finding(finding),
    )


def _facts(result: ReportResult) -> dict[str, str]:
    provenance, grid = result.report.provenance, result.placed.volume
    size = " × ".join(map(str, grid.shape))
    facts = {
        "model": provenance.model,
        "checkpoint": provenance.checkpoint_hash,
        "software": provenance.software,
        "series": ", ".join(provenance.series),
        "impression_by": provenance.impression_by,
        "segmentation": result.segmentation.source,
        "grid": f"{size}, {' × '.join(f'{s:g}' for s in grid.spacing)} mm (z, y, x)",
        "created": provenance.created,
    }
    return {key: value for key, value in facts.items() if value}


def _label(evidence: Evidence) -> dict[str, str]:
    region = ontology.regions().get(evidence.region or "")
    label: dict[str, str] = {}
    for code in LANGUAGES:
        name = region.names[code][0] if region is not None else words()["viewer"][code]
        if evidence.source in ("lesion", "slot"):
            name = f"{words()[evidence.source][code]} · {name}"
        label[code] = f"{name} · {words()['slices'][code]} {_range(evidence)}" if evidence.slices else name
    return label


def _range(evidence: Evidence) -> str:
    if evidence.slices is None:
        return ""
    first, last = evidence.slices
    return str(first) if first == last else f"{first}–{last}"


def _owner(evidence: Evidence, findings: Sequence[Finding]) -> Finding | None:
    return next((f for f in findings if evidence in f.evidence), findings[0] if findings else None)


def _window(kind: str | None) -> str:
    section = ontology.findings()[kind].section if kind else "lungs"
    if section in LUNG_SECTIONS:
        return "lung"
    return "bone" if section == "bones" else "soft"
