"""What reading a scan gives: the volume, the way back to the original slices, and an account of what was done."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ctscribe.errors import InputRefused
from ctscribe.tensors import Volume

Severity = Literal["info", "warning"]


@dataclass(frozen=True)
class IngestPolicy:
    """What is repaired, and up to where; beyond it the scan is refused.

    The defaults are conservative choices of this project, not values from a guideline.

    Attributes:
        max_filled_slices: missing slices that may be interpolated in one series.
        max_gap_mm: longest distance between two neighbouring slices that may be interpolated across.
        mixed_spacing: what to do with a series whose slice step changes part of the way.
        max_mixed_step_mm: largest step of such a series that may still be resampled.
        jitter_fraction: deviation of a slice from its regular place that is tolerated, as a share of the step.
        tilt_degrees: gantry tilt from which a series is resampled to right angles.
        min_slices, min_coverage_mm: less than this is not a chest scan.
        min_spacing_mm, max_spacing_mm: voxel sizes outside are taken for a broken header.
        max_memory_gb: size of the volume in memory above which it is refused.
        allow_unknown_orientation: accept a NIfTI that does not say which side is left (as RAS).
    """

    max_filled_slices: int = 2
    max_gap_mm: float = 7.5
    mixed_spacing: Literal["resample", "refuse"] = "resample"
    max_mixed_step_mm: float = 5.0
    jitter_fraction: float = 0.1
    tilt_degrees: float = 0.5
    min_slices: int = 15
    min_coverage_mm: float = 80.0
    min_spacing_mm: float = 0.1
    max_spacing_mm: float = 10.0
    max_memory_gb: float = 8.0
    allow_unknown_orientation: bool = False


@dataclass(frozen=True)
class Note:
    """One thing the reader of the report should know about the scan."""

    code: str
    severity: Severity
    message: str


@dataclass(frozen=True)
class SeriesSummary:
    """One stack of slices that was found, and whether it could be used.

    Attributes:
        series_id: hashed Series Instance UID; never the UID itself.
        score, components: why it was or was not chosen; the components add up to the score.
        refusal: code of the reason for which it cannot be used, None when it can.
    """

    series_id: str
    series_number: int | None
    n_slices: int
    rows: int
    columns: int
    step_mm: float | None
    thickness_mm: float | None
    coverage_mm: float | None
    plane: str
    kernel: str | None
    kernel_class: str
    image_type: tuple[str, ...]
    score: float
    components: dict[str, float]
    refusal: str | None = None


@dataclass(frozen=True)
class Technique:
    """What the report's technique section may say; every field may be unknown."""

    slice_thickness_mm: float | None = None
    slice_step_mm: float | None = None
    kernel: str | None = None
    kernel_class: str | None = None
    kvp: float | None = None
    contrast: Literal["yes", "no", "unknown"] = "unknown"
    patient_position: str | None = None
    manufacturer: str | None = None


@dataclass(frozen=True)
class IngestReport:
    """Machine-readable account of one reading. No patient identifiers; UIDs only as hashes.

    Attributes:
        kind: what was read.
        n_files: files looked at.
        dropped: (count, reason) of files or frames left out.
        candidates: every stack of slices found, best first; why: how the choice was made.
        gaps: slices missing between the first and the last; filled: how many of them were interpolated.
        duplicates: identical slices dropped.
        tilt_degrees: angle between slice normal and table travel.
        jitter_mm: largest deviation of a slice from its regular place.
        hu_range: smallest and largest value of the volume.
        rescale: ``applied``, ``already_hu``, ``offset_corrected`` or ``none``.
        stored_shape, stored_spacing: of the series as it lay on disk (slice, row, column).
        age_years: whole years, 90 stands for 90 and more; sex: M, F or O.
    """

    kind: Literal["dicom", "nifti"]
    n_files: int = 0
    dropped: tuple[tuple[int, str], ...] = ()
    study_id: str | None = None
    series_id: str | None = None
    candidates: tuple[SeriesSummary, ...] = ()
    why: str = ""
    gaps: int = 0
    filled: int = 0
    duplicates: int = 0
    tilt_degrees: float = 0.0
    jitter_mm: float = 0.0
    transfer_syntaxes: tuple[str, ...] = ()
    hu_range: tuple[float, float] = (0.0, 0.0)
    rescale: str = "applied"
    stored_shape: tuple[int, ...] = ()
    stored_spacing: tuple[float, ...] = ()
    technique: Technique = field(default_factory=Technique)
    body_part_tag: str | None = None
    body_part_contradicts: bool = False
    age_years: int | None = None
    sex: str | None = None
    notes: tuple[Note, ...] = ()

    @property
    def warnings(self) -> tuple[Note, ...]:
        """Only the notes that a reader must see."""
        return tuple(note for note in self.notes if note.severity == "warning")

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary of JSON types."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class SourceLocation:
    """Where a point lies in the series as it was stored.

    Attributes:
        slice_number: 1-based place of the slice, counted as the series counts (by instance number where it has
            one, along the stored axis for NIfTI).
        row, column: 0-based, fractional, in the stored image.
        instance_number: DICOM Instance Number; None where the source has none.
        sop_instance_uid: an identifier: do not write it anywhere unless asked to.
        frame_number: 1-based frame of a multi-frame file.
        inside: False when the point lies outside the stored volume; the rest is then the nearest place.
    """

    slice_number: int
    row: float
    column: float
    instance_number: int | None = None
    sop_instance_uid: str | None = None
    frame_number: int | None = None
    inside: bool = True


@dataclass(frozen=True)
class SourceMap:
    """From world points back to the slices on disk: each slice is a plane of its own, so gaps, tilt and uneven
    steps need no special case.

    Attributes:
        origins: world (x, y, z) mm of pixel (0, 0) of every slice, in order along the normal.
        row_step, column_step: world vector from one row (column) to the next, mm.
        size: rows and columns of a slice.
        slice_numbers, instance_numbers, sop_instance_uids, frame_numbers: one for each slice.
    """

    origins: Float[np.ndarray, "n 3"]
    row_step: Float[np.ndarray, "3"]
    column_step: Float[np.ndarray, "3"]
    size: tuple[int, int]
    slice_numbers: tuple[int, ...]
    instance_numbers: tuple[int | None, ...]
    sop_instance_uids: tuple[str | None, ...] = field(repr=False)
    frame_numbers: tuple[int | None, ...]

    def locate(self, world_xyz: np.ndarray | tuple[float, float, float]) -> SourceLocation:
        """The stored slice nearest to a world point (x, y, z) mm, and the pixel in it."""
        world = np.asarray(world_xyz, dtype=float)
        normal = np.cross(self.column_step, self.row_step)
        normal /= np.linalg.norm(normal)
        distance = (world - self.origins) @ normal
        k = int(np.argmin(np.abs(distance)))
        in_plane = np.linalg.inv(np.stack([self.row_step, self.column_step, normal], axis=1))
        row, column, _ = in_plane @ (world - self.origins[k])
        step = float(np.median(np.abs(np.diff(self.origins @ normal)))) if len(self.origins) > 1 else 1.0
        inside = (
            abs(float(distance[k])) <= max(step, 1e-6)
            and -0.5 <= row <= self.size[0] - 0.5
            and -0.5 <= column <= self.size[1] - 0.5
        )
        return SourceLocation(
            slice_number=self.slice_numbers[k],
            row=float(np.clip(row, 0, self.size[0] - 1)),
            column=float(np.clip(column, 0, self.size[1] - 1)),
            instance_number=self.instance_numbers[k],
            sop_instance_uid=self.sop_instance_uids[k],
            frame_number=self.frame_numbers[k],
            inside=bool(inside),
        )


@dataclass(frozen=True)
class ScanDates:
    """When a scan was made, as its header says. Identifiers: only differences of days are ever told (`data.interval`).

    Attributes:
        acquisition, series, study: by the three dates of DICOM; None where one is not there.
        patient: hashed Patient ID; dates of one patient may have been shifted together.
    """

    acquisition: datetime.date | None = field(default=None, repr=False)
    series: datetime.date | None = field(default=None, repr=False)
    study: datetime.date | None = field(default=None, repr=False)
    patient: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Study:
    """One scan, ready for the model: Hounsfield units on a canonical grid, and where all of it came from.

    `dates` stand beside the account, not in it: the account is written down.
    """

    volume: Volume
    source: SourceMap
    ingest: IngestReport
    dates: ScanDates = field(default=ScanDates(), repr=False, compare=False)


@dataclass(frozen=True)
class Inspection:
    """What lies at a path, and whether a report could be written from it."""

    accepted: bool
    kind: str | None
    n_files: int
    candidates: tuple[SeriesSummary, ...] = ()
    dropped: tuple[tuple[int, str], ...] = ()
    notes: tuple[Note, ...] = ()
    refusal: InputRefused | None = None
    ingest: IngestReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary of JSON types."""
        refusal = self.refusal
        return {
            "accepted": self.accepted,
            "kind": self.kind,
            "n_files": self.n_files,
            "candidates": _plain([asdict(c) for c in self.candidates]),
            "dropped": _plain(self.dropped),
            "notes": _plain([asdict(n) for n in self.notes]),
            "refusal": None
            if refusal is None
            else {"code": refusal.code, "kind": type(refusal).__name__, "message": str(refusal)},
            "ingest": None if self.ingest is None else self.ingest.to_json(),
        }


@dataclass
class IngestLog:
    """Collects the account while a scan is being read; the only mutable thing on the way."""

    kind: Literal["dicom", "nifti"] | None = None
    n_files: int = 0
    candidates: tuple[SeriesSummary, ...] = ()
    why: str = ""
    notes: list[Note] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _dropped: dict[str, int] = field(default_factory=dict)

    def note(self, code: str, severity: Severity, message: str) -> None:
        """Add a note once."""
        note = Note(code, severity, message)
        if note not in self.notes:
            self.notes.append(note)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count files or frames left out."""
        if count:
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    @property
    def dropped(self) -> tuple[tuple[int, str], ...]:
        return tuple((count, reason) for reason, count in sorted(self._dropped.items()))

    def report(self) -> IngestReport:
        """The finished account."""
        if self.kind is None:
            raise ValueError("nothing was read")
        return IngestReport(
            kind=self.kind,
            n_files=self.n_files,
            dropped=self.dropped,
            candidates=self.candidates,
            why=self.why,
            notes=tuple(self.notes),
            **self.facts,
        )


def hashed(identifier: str | None) -> str | None:
    """First 16 hexadecimal digits of the SHA-256 of an identifier: the same series gets the same name again,
    and the identifier itself is not written down."""
    return None if not identifier else hashlib.sha256(identifier.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Tuples to lists, numpy scalars to Python, so that ``json.dumps`` takes it."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
