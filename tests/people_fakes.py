"""A small synthetic chest with a known lesion, and a model that sees exactly that lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ctscribe import ontology
from ctscribe.checkpoint import ModelInfo
from ctscribe.data.anatomy import Segmentation
from ctscribe.data.outlines import Outlines
from ctscribe.data.study import IngestReport, SourceMap, Study, Technique
from ctscribe.model import Description, Detection, GridContract, Thresholds
from ctscribe.report import Finding
from ctscribe.report.render import render_text
from ctscribe.scene.objects import SlotObject
from ctscribe.tensors import Affine, Volume

SHAPE, SPACING = (48, 64, 64), (5.0, 5.0, 5.0)
LESION_WORLD = (-70.0, 20.0, -40.0)
WATERMARK = {"en": "Synthetic training data. Not for clinical use.", "zh": "合成数据训练，不可用于临床。"}
FINDINGS = (
    Finding("lung_nodule", regions=("right_lower_lobe",), size_mm=(12.0,)),
    Finding("pleural_effusion", "absent"),
)


def chest() -> tuple[Volume, Segmentation]:
    """A box of soft tissue with two boxes of lung, centred on the origin; the right lung is at x < 0."""
    hu = np.full(SHAPE, -1000, np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    hu[:, 10:54, 6:58], labels[:, 10:54, 6:58] = 40, 1
    for low, high, upper, lower in ((10, 28, 2, 3), (36, 54, 4, 5)):
        hu[4:44, 16:48, low:high] = -850
        labels[24:44, 16:48, low:high], labels[4:24, 16:48, low:high] = upper, lower
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(SHAPE[::-1], SPACING[::-1], strict=True))
    volume = Volume(hu, Affine.from_spacing(SPACING, (origin[0], origin[1], origin[2])))
    z, y, x = np.round(volume.affine.to_index(np.array(LESION_WORLD))).astype(int)
    hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 30
    names = dict(
        enumerate(("chest_wall", "right_upper_lobe", "right_lower_lobe", "left_upper_lobe", "left_lower_lobe"), 1)
    )
    return volume, Segmentation(labels, names, source="test")


def source_of(volume: Volume, numbers: Sequence[int] | None = None) -> SourceMap:
    """Axial slices of a volume, numbered from the feet up unless other numbers are given."""
    count = volume.shape[0]
    index = np.zeros((count, 3))
    index[:, 0] = np.arange(count)
    numbers = tuple(numbers or range(1, count + 1))
    return SourceMap(
        origins=volume.affine.to_world(index),
        row_step=np.array([0.0, volume.spacing[1], 0.0]),
        column_step=np.array([volume.spacing[2], 0.0, 0.0]),
        size=volume.shape[1:],
        slice_numbers=numbers,
        instance_numbers=numbers,
        sop_instance_uids=tuple(f"1.2.3.{n}" for n in numbers),
        frame_numbers=(None,) * count,
    )


def study(numbers: Sequence[int] | None = None) -> tuple[Study, Segmentation]:
    """The chest as `load_study` would hand it over."""
    volume, segmentation = chest()
    ingest = IngestReport(
        kind="dicom", n_files=SHAPE[0], series_id="0123456789abcdef", technique=Technique(5.0, 5.0, None, "unknown")
    )
    return Study(volume, source_of(volume, numbers), ingest), segmentation


@dataclass
class FakeModel:
    """Answers like a `LoadedModel`; its heat is a Gaussian blob at ``world``."""

    world: tuple[float, float, float] = LESION_WORLD
    findings: tuple[Finding, ...] = FINDINGS
    probability: dict[str, float] = field(default_factory=lambda: {"lung_nodule": 0.9, "pleural_effusion": 0.1})
    never: tuple[str, ...] = ()
    text: str | None = None
    slots: tuple[SlotObject, ...] = ()
    grid: GridContract = GridContract(shape=(32, 64, 64), spacing=(7.5, 5.5, 5.5))
    cells: tuple[int, int, int] = (16, 16, 16)
    regions: tuple[str, ...] = ontology.model_regions()
    info: ModelInfo = field(default_factory=lambda: ModelInfo("fake", watermark=WATERMARK, checkpoint_hash="f" * 16))
    thresholds: Thresholds = field(default_factory=Thresholds)

    def describe(
        self,
        volume: Volume,
        occupancy: np.ndarray,
        present: np.ndarray,
        languages: Sequence[str],
        lesions: Outlines | None = None,
    ) -> Description:
        assert volume.shape == self.grid.shape
        assert occupancy.shape == (len(self.regions), *self.cells)
        cells = np.moveaxis(np.indices(self.cells), 0, -1) + 0.5
        world = volume.affine.to_world(cells * np.asarray(volume.shape) / np.asarray(self.cells) - 0.5)
        heat = np.exp(-((world - np.asarray(self.world)) ** 2).sum(-1) / (2 * 15.0**2)).astype(np.float32)
        detections = tuple(
            Detection(kind, chance, 1.0 if kind in self.never else 0.5, self._regions(kind), {}, (), (), heat)
            for kind, chance in self.probability.items()
        )
        texts = {code: self.text or render_text(self.findings, code) for code in languages}
        return Description(texts, detections, self.findings, slots=self.slots)

    @property
    def model(self) -> FakeModel:
        return self

    def check_lesions(self) -> None:
        """Takes any."""

    def _regions(self, kind: str) -> tuple[str, ...]:
        named = [f.regions for f in self.findings if f.kind == kind and f.regions]
        return named[0] if named else ontology.findings()[kind].regions[:1]


def install(monkeypatch, numbers: Sequence[int] | None = None) -> None:
    """Put the small chest where the pipeline reads scans, and let every scan be a chest."""
    import ctscribe.data

    scan, segmentation = study(numbers)
    monkeypatch.setattr(ctscribe.data, "load_study", lambda path, series=None: scan, raising=False)
    monkeypatch.setattr("ctscribe.data.anatomy.tools.segment", lambda volume: segmentation)
    monkeypatch.setattr("ctscribe.pipeline.reporter.Reporter._check", lambda self, study, found: ())


def reporter(model: FakeModel | None = None, **options: object):
    """A `Reporter` whose checkpoint is a fake."""
    from ctscribe.pipeline import Reporter

    made = Reporter(Path("nowhere"), **options)
    made._model = model or FakeModel()
    return made
