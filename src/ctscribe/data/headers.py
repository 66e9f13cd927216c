"""DICOM headers -> one plain record per frame, single-frame and multi-frame alike.

Headers in the wild are broken in many ways; every tag is read on its own, and one that cannot be read is missing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ctscribe.data.files import Blob
from ctscribe.data.study import IngestLog

if TYPE_CHECKING:
    from pydicom import Dataset

CT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image Storage
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image Storage
    }
)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DICOMDIR = "1.2.840.10008.1.3.10"
NATIVE_SYNTAXES = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
#: Encodings that always lose something: JPEG baseline and extended, JPEG-LS near-lossless, HTJ2K lossy.
LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 203))
NESTED_ARCHIVE = "archive that is not opened"

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")

#: What reading a broken file raises: pydicom and the codecs have exceptions of their own that share no parent but this
#: (random damage found struct, zlib, length, type and key errors). Only used around calls into them.
READ_ERRORS: tuple[type[Exception], ...] = (Exception,)


@dataclass(frozen=True)
class Frame:
    """What the header says about one image of a series; None where it does not say.

    ``position`` world (x, y, z) mm of pixel (0, 0); ``orientation`` six direction cosines, along a row first;
    ``spacing`` mm between rows, between columns.
    """

    blob: Blob
    index: int | None
    modality: str
    sop_class: str
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str = field(repr=False)
    frame_of_reference: str
    instance: int | None
    acquisition: int | None
    temporal: str
    time: str
    study_date: str = field(repr=False)
    series_date: str = field(repr=False)
    acquisition_date: str = field(repr=False)
    series_number: int | None
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    bits_stored: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    spacing_source: str
    thickness: float | None
    slice_step: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    photometric: str
    kernel: str | None
    kvp: float | None
    contrast: Literal["yes", "no", "unknown"]
    body_part: str
    words: str = field(repr=False)
    patient_position: str | None
    manufacturer: str | None
    window: tuple[float, float] | None
    lossy: bool
    age_years: int | None
    sex: str | None
    declared_images: int | None
    burned_in: bool
    syntax: str

    @property
    def at(self) -> np.ndarray:
        """``position`` as an array; the frame must have one."""
        return np.asarray(self.position, dtype=float)

    @property
    def cosines(self) -> np.ndarray:
        """Unit vectors along a row and along a column, (2, 3); the frame must have an ``orientation``."""
        pair = np.asarray(self.orientation, dtype=float).reshape(2, 3)
        return pair / np.linalg.norm(pair, axis=1, keepdims=True)

    @property
    def pixel(self) -> np.ndarray:
        """``spacing`` as an array; the frame must have one."""
        return np.asarray(self.spacing, dtype=float)

    @property
    def normal(self) -> np.ndarray:
        """Unit normal of the slice, row direction x column direction."""
        normal = np.cross(*self.cosines)
        return normal / np.linalg.norm(normal)


def read_frames(blob: Blob, log: IngestLog) -> list[Frame]:
    """Frames of one file; [] with the reason in the log when it is not a usable image."""
    if blob.base.startswith("._") or "__MACOSX" in blob.name or blob.base in (".DS_Store", "Thumbs.db"):
        log.drop("file of the operating system")
        return []
    if blob.base.lower().endswith(ARCHIVES):
        log.drop(NESTED_ARCHIVE)
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset, pixel_offset = _read_header(blob)
        if dataset is None:
            log.drop("empty file" if blob.size == 0 else "truncated file" if pixel_offset < 0 else "not DICOM")
            return []
        reason = _not_an_image(dataset)
        if reason is None and _truncated(dataset, blob, pixel_offset):
            reason = "truncated file"
        if reason is not None:
            log.drop(reason)
            return []
        try:
            many = _is_multi_frame(dataset)
            frames = _multi_frame(dataset, blob) if many else [_frame(dataset, blob, None, ())]
        except READ_ERRORS:
            log.drop("damaged header")
            return []
    if not frames:
        log.drop("multi-frame without a plane for each frame")
    return frames


def _read_header(blob: Blob) -> tuple[Dataset | None, int]:
    """Header and the offset of the pixel data; None when the bytes are not DICOM (offset 0) or damaged DICOM (-1)."""
    import pydicom

    with blob.open() as file:
        start = file.read(132)
        if start[128:132] != b"DICM" and not _looks_like_dicom(start):
            return None, 0
        file.seek(0)
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            offset = file.tell()
        except READ_ERRORS:
            return None, -1 if start[128:132] == b"DICM" else 0
    known = tag(dataset, "SOPClassUID") or tag(dataset, "Modality") or _media_class(dataset)
    return (dataset, offset) if known else (None, 0)


def _looks_like_dicom(start: bytes) -> bool:
    """A file without preamble begins with group 0002 or 0008, in either byte order, and a small element number."""
    if len(start) < 12:
        return False
    little, big = (int.from_bytes(start[:2], order) for order in ("little", "big"))
    return (little in (2, 8) and start[3] == 0) or (big in (2, 8) and start[2] == 0)


def _media_class(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None)
    return str(tag(meta, "MediaStorageSOPClassUID") or "") if meta is not None else ""


def _not_an_image(dataset: Dataset) -> str | None:
    """Why a file cannot hold a slice, None when it can."""
    if _media_class(dataset) == DICOMDIR:
        return "DICOMDIR (an index, not an image)"
    modality = _text(dataset, "Modality").upper()
    sop_class = _text(dataset, "SOPClassUID")
    if sop_class.startswith(SECONDARY_CAPTURE):
        return "secondary capture"
    if (_integer(dataset, "Rows") or 0) < 1 or (_integer(dataset, "Columns") or 0) < 1:
        known = sop_class in CT_CLASSES or modality == "CT"
        return "CT object without an image" if known else f"not an image ({modality or 'no modality'})"
    return None


def _truncated(dataset: Dataset, blob: Blob, offset: int) -> bool:
    """True when fewer bytes follow than the image needs; only known for uncompressed data."""
    meta = getattr(dataset, "file_meta", None)
    syntax = _text(meta, "TransferSyntaxUID") if meta is not None else ""
    if syntax and syntax not in NATIVE_SYNTAXES:
        return False
    bits = _integer(dataset, "BitsAllocated") or 16
    frames = _integer(dataset, "NumberOfFrames") or 1
    samples = _integer(dataset, "SamplesPerPixel") or 1
    needed = frames * samples * (_integer(dataset, "Rows") or 0) * (_integer(dataset, "Columns") or 0) * bits // 8
    return blob.size - offset < needed


def _is_multi_frame(dataset: Dataset) -> bool:
    return (_integer(dataset, "NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in dataset


def _multi_frame(dataset: Dataset, blob: Blob) -> list[Frame]:
    per_frame = tag(dataset, "PerFrameFunctionalGroupsSequence") or []
    shared = tag(dataset, "SharedFunctionalGroupsSequence") or []
    count = _integer(dataset, "NumberOfFrames") or 1
    if len(per_frame) != count:
        return []
    outer = (shared[0],) if len(shared) else ()
    return [_frame(dataset, blob, i, (per_frame[i], *outer)) for i in range(count)]


def _frame(dataset: Dataset, blob: Blob, index: int | None, groups: tuple[Dataset, ...]) -> Frame:
    """Read everything at one place; functional groups first, then the top level."""

    def find(sequence: str, keyword: str) -> Any:
        for group in groups:
            items = tag(group, sequence)
            if items and (value := tag(items[0], keyword)) is not None:
                return value
        return tag(dataset, keyword)

    spacing, spacing_source = _spacing(dataset, find)
    syntax = _text(getattr(dataset, "file_meta", None), "TransferSyntaxUID")
    value_map = "PixelValueTransformationSequence"
    frame_type = find("CTImageFrameTypeSequence", "FrameType") if groups else None
    return Frame(
        blob=blob,
        index=index,
        modality=_text(dataset, "Modality").upper(),
        sop_class=_text(dataset, "SOPClassUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        instance=_as_int(tag(dataset, "InstanceNumber")),
        acquisition=_as_int(find("FrameContentSequence", "FrameAcquisitionNumber"))
        or _integer(dataset, "AcquisitionNumber"),
        temporal=str(
            find("FrameContentSequence", "TemporalPositionIndex") or tag(dataset, "TemporalPositionIdentifier") or ""
        ),
        time=str(tag(dataset, "AcquisitionTime") or ""),
        study_date=_text(dataset, "StudyDate"),
        series_date=_text(dataset, "SeriesDate"),
        acquisition_date=_text(dataset, "AcquisitionDate")
        or str(find("FrameContentSequence", "FrameAcquisitionDateTime") or tag(dataset, "AcquisitionDateTime") or ""),
        series_number=_integer(dataset, "SeriesNumber"),
        image_type=_words(frame_type or tag(dataset, "ImageType")),
        rows=_integer(dataset, "Rows") or 0,
        columns=_integer(dataset, "Columns") or 0,
        samples=_integer(dataset, "SamplesPerPixel") or 1,
        bits_stored=_integer(dataset, "BitsStored") or 16,
        position=_floats(find("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=_floats(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        spacing=spacing,
        spacing_source=spacing_source,
        thickness=_as_float(find("PixelMeasuresSequence", "SliceThickness")),
        slice_step=_as_float(find("PixelMeasuresSequence", "SpacingBetweenSlices")),
        slope=_as_float(find(value_map, "RescaleSlope")),
        intercept=_as_float(find(value_map, "RescaleIntercept")),
        rescale_type=str(find(value_map, "RescaleType") or "").upper(),
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        kernel=_first(find("CTReconstructionSequence", "ConvolutionKernel")),
        kvp=_as_float(find("CTXRayDetailsSequence", "KVP")),
        contrast=_contrast(dataset),
        body_part=str(find("FrameAnatomySequence", "BodyPartExamined") or "").upper(),
        words=" ".join(_text(dataset, k) for k in ("SeriesDescription", "ProtocolName", "StudyDescription")).upper(),
        patient_position=_text(dataset, "PatientPosition").upper() or None,
        manufacturer=_text(dataset, "Manufacturer") or None,
        window=_window(find("FrameVOILUTSequence", "WindowCenter"), find("FrameVOILUTSequence", "WindowWidth")),
        lossy=_text(dataset, "LossyImageCompression") == "01" or syntax in LOSSY_SYNTAXES,
        age_years=_age(dataset),
        sex=_text(dataset, "PatientSex").upper()[:1] or None,
        declared_images=_integer(dataset, "ImagesInAcquisition"),
        burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        syntax=syntax,
    )


def _spacing(dataset: Dataset, find: Any) -> tuple[tuple[float, float] | None, str]:
    """Pixel spacing, and which tag it came from: a missing Pixel Spacing is made up for where it safely can be."""
    values = _floats(find("PixelMeasuresSequence", "PixelSpacing"), 2)
    if values is not None and min(values) > 0:
        return (values[0], values[1]), "PixelSpacing"
    diameter = _as_float(tag(dataset, "ReconstructionDiameter"))
    if diameter and diameter > 0 and dataset.Rows == dataset.Columns:
        return (diameter / dataset.Rows, diameter / dataset.Columns), "ReconstructionDiameter"
    values = _floats(tag(dataset, "ImagerPixelSpacing"), 2)
    if values is not None and min(values) > 0:
        return (values[0], values[1]), "ImagerPixelSpacing"
    return None, ""


def _contrast(dataset: Dataset) -> Literal["yes", "no", "unknown"]:
    agent = _text(dataset, "ContrastBolusAgent").upper()
    if agent in ("NO", "NONE", "N", "NO CONTRAST", "WITHOUT"):
        return "no"
    if agent or tag(dataset, "ContrastBolusAgentSequence") or (_as_float(tag(dataset, "ContrastBolusVolume")) or 0) > 0:
        return "yes"
    return "unknown"


def _age(dataset: Dataset) -> int | None:
    """Whole years, 90 for 90 and more (ages above 89 count as identifying: 45 CFR 164.514(b)(2)(i)(C))."""
    age = _text(dataset, "PatientAge")
    if len(age) == 4 and age[:3].isdigit() and age[3] in "YMWD":
        years = int(age[:3]) if age[3] == "Y" else int(age[:3]) // {"M": 12, "W": 52, "D": 365}[age[3]]
        return min(years, 90)
    birth, study = _text(dataset, "PatientBirthDate"), _text(dataset, "StudyDate")
    if len(birth) == 8 and len(study) == 8 and birth.isdigit() and study.isdigit():
        years = int(study[:4]) - int(birth[:4]) - (study[4:] < birth[4:])
        return min(years, 90) if 0 <= years < 130 else None
    return None


# ------------------------------------------------------------------------------------------- single tags


def tag(dataset: Dataset | None, keyword: str) -> Any:
    """Value of one tag, None when absent, empty or unreadable."""
    if dataset is None:
        return None
    try:
        value = dataset.get(keyword)
        return None if value is None or value == "" else value
    except READ_ERRORS:
        return None


def _text(dataset: Dataset | None, keyword: str) -> str:
    value = tag(dataset, keyword)
    return "" if value is None else str(value).strip()


def _integer(dataset: Dataset, keyword: str) -> int | None:
    return _as_int(tag(dataset, keyword))


def _as_int(value: Any) -> int | None:
    number = _as_float(value)
    return None if number is None else int(number)


def _as_float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _floats(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and bool(np.all(np.isfinite(numbers))) else None


def _words(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(v).strip().upper() for v in values)


def _first(value: Any) -> str | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else str(next(iter(value), ""))).strip() or None


def _window(centre: Any, width: Any) -> tuple[float, float] | None:
    first = [
        _as_float(v if isinstance(v, str | float | int) else next(iter(v), None)) for v in (centre or (), width or ())
    ]
    return None if first[0] is None or first[1] is None else (first[0], first[1])
