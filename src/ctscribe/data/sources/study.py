"""What every data set looks like once it is read: a `Source` yields `SourceStudy` objects, one for each scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ctscribe.data.manifest import Split
from ctscribe.ontology import Language
from ctscribe.report import Finding

if TYPE_CHECKING:
    from ctscribe.data.study import Study

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Lesion:
    """One lesion in the patient's coordinates.

    Attributes:
        finding: what it is; without regions when nobody said where it lies.
        low, high: corners (x, y, z) of its box, LPS mm.
        points: centres (x, y, z) of the voxels inside it, LPS mm; None when it was boxed, not outlined.
        readers: how many readers marked it.
        point_mm3: volume that each point stands for; point_mm: its extent (x, y, z) where that is known.
    """

    finding: Finding
    low: Point
    high: Point
    points: Float[np.ndarray, "n 3"] | None = None
    readers: int = 1
    point_mm3: float = 1.0
    point_mm: Point | None = None


@runtime_checkable
class Annotation(Protocol):
    """Lesions of one scan, in the patient's coordinates as soon as the scan has been read."""

    def __call__(self, study: Study) -> tuple[Lesion, ...]: ...


@dataclass(frozen=True)
class SourceStudy:
    """One study of a data set, before its scan is read.

    Attributes:
        study: name, unique within the source. Treated as an identifier: it is never written.
        patient: tells patients apart; decides the split. Treated as an identifier.
        where: a place to look it up that identifies nobody ("line 12").
        image: DICOM folder, zip or NIfTI; None for a source of texts.
        series: Series Instance UID to read, where the source names one.
        rescale: (slope, intercept) that may still have to be applied to a NIfTI, see `reading.read_scan`.
        spacing: (z, y, x) mm that the source's tables give; a header that says something else is refused.
        findings, impression: text. `language` is that of both.
        structured: findings of a person or of a table; None when only the text says anything.
        labels: finding kind -> present or absent, from a table of labels.
        exhaustive: True when a kind that nothing mentions counts as absent.
        looked_for: kinds that the annotation's readers searched for: absent where it holds none.
        annotation: finds the lesions once the scan is read; None when there are none.
        regions: label map of the regions, if one comes with the scan; lesions: one of outlined lesions.
        sentences: (region name, sentence) pairs of a report that was split by region.
        prior: `study` of the latest earlier scan of the same patient; `prior_days` lie between them, None if not known.
        dated: False where the source has set the dates in the headers to others, so that no days lie between them.
        history: the clinical history; treated like the report when identifiers are taken out.
        labs: laboratory values by the names of `ctscribe.beside.lab_names`.
        split: fixed by the source, None where it is to be drawn.
        synthetic: True when no radiologist wrote the text: it was made from the annotations.
    """

    study: str
    patient: str
    where: str
    image: Path | None = None
    series: str | None = None
    rescale: tuple[float, float] | None = None
    spacing: Point | None = None
    findings: str = ""
    impression: str = ""
    language: Language = "en"
    structured: tuple[Finding, ...] | None = None
    labels: Mapping[str, bool] = field(default_factory=dict)
    exhaustive: bool = True
    looked_for: tuple[str, ...] = ()
    annotation: Annotation | None = None
    regions: Path | None = None
    lesions: Path | None = None
    sentences: tuple[tuple[str, str], ...] = ()
    prior: str | None = None
    split: Split | None = None
    synthetic: bool = False
    prior_days: float | None = None
    dated: bool = True
    history: str = ""
    labs: tuple[tuple[str, float], ...] = ()


@runtime_checkable
class Source(Protocol):
    """A data set on disk.

    Attributes:
        name: word by which the command line calls it.
        licence: terms under which the data set may be used; printed before anything is prepared.
    """

    name: str
    licence: str

    def studies(self) -> Iterator[SourceStudy]:
        """Every study, in an order that does not depend on the file system.

        Raises:
            UsageError: a table or folder that the data set consists of is missing or has other columns.
        """
        ...
