"""DICOM series -> Hounsfield units on the grid of the series, and the way back to each slice."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ctscribe.data import series as choice
from ctscribe.data.consistency import odd_slices, with_common_rescale
from ctscribe.data.files import Blob
from ctscribe.data.headers import NATIVE_SYNTAXES, NESTED_ARCHIVE, READ_ERRORS, Frame, read_frames, tag
from ctscribe.data.interval import dates_of
from ctscribe.data.limits import check_memory
from ctscribe.data.notes import header_notes
from ctscribe.data.stack import Placement, Stack, place
from ctscribe.data.study import IngestLog, IngestPolicy, SourceMap, Technique, hashed
from ctscribe.data.unusable import refuse_nothing_left, why_unusable
from ctscribe.errors import UnreadableInput
from ctscribe.tensors import Affine, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_INT16 = np.iinfo(np.int16)
#: Reasons for which a file is left out that say nothing about images.
NO_IMAGES = {"not DICOM", "empty file", "file of the operating system", NESTED_ARCHIVE}
RLE_LOSSLESS = "1.2.840.10008.1.2.5"


class Undecodable(Exception):
    """Internal: the pixels of one file cannot be decoded."""


@dataclass(frozen=True)
class StoredSeries:
    """The chosen series in Hounsfield units as it lies on disk.

    ``volume`` may be flipped, oblique or sheared; ``intercept`` is the rescale intercept most slices carry;
    ``mirror`` is what HU must be subtracted from if the values turn out to be inverted (MONOCHROME1 only).
    """

    volume: Volume
    source: SourceMap
    intercept: float | None
    mirror: float | None


def read_dicom(blobs: list[Blob], series: str | None, policy: IngestPolicy, log: IngestLog) -> StoredSeries:
    """Choose a series among the files and read it.

    Raises:
        InputRefused: with the code of the first thing that cannot be repaired.
    """
    chosen = choose_series(blobs, series, policy, log)
    chosen = replace(chosen, stack=with_common_rescale(chosen.stack, log))
    for _ in range(len(chosen.frames)):
        placement = place(chosen.stack, policy)
        check_memory((len(placement.lower), chosen.frames[0].rows, chosen.frames[0].columns), policy)
        broken: set[int] = set()
        hu, padded = _decode_stack(chosen.stack, broken)
        if broken:
            log.drop("image data that cannot be decoded", len(broken))
            log.note("undecodable_slices", "warning", f"{len(broken)} slices could not be decoded and count as missing")
        elif odd := odd_slices(hu, policy):
            broken = {id(chosen.frames[k]) for k in odd}
            log.drop("values that do not fit those of the neighbours", len(odd))
            log.note("odd_slices", "warning", f"the values of {len(odd)} slice(s) do not fit; they count as missing")
        else:
            return _finish(chosen, placement, hu, padded, policy, log)
        if len(broken) == len(chosen.frames):
            break
        chosen = choice.without(chosen, broken, policy)
        if chosen.refusal is not None:
            raise chosen.refusal
    raise UnreadableInput(
        "no slice of the series can be decoded",
        code="undecodable",
        expected="image data in one of DICOM's standard encodings",
        got=f"transfer syntax {', '.join(sorted({f.syntax or 'unknown' for f in chosen.frames}))}",
        hint="send the series again, uncompressed if possible",
    )


def choose_series(blobs: list[Blob], series: str | None, policy: IngestPolicy, log: IngestLog) -> choice.Candidate:
    """The stack of slices to read, by the headers.

    Raises:
        InputRefused: there is none.
    """
    frames = usable_frames(blobs, log)
    found = choice.candidates(frames, _fingerprint, policy, log)
    if len({c.frames[0].study_uid for c in found}) > 1:
        found = choice.newest_first(found)
    log.candidates = tuple(c.summary for c in found)
    return choice.choose(found, series, log)


def usable_frames(blobs: list[Blob], log: IngestLog) -> list[Frame]:
    """Header pass: every frame that could be part of a CT scan; the rest is counted in the log by reason."""
    kept: list[Frame] = []
    reasons: Counter[str] = Counter()
    for blob in blobs:
        before = {reason: count for count, reason in log.dropped}
        frames = read_frames(blob, log)
        reasons.update({r: n - before.get(r, 0) for n, r in log.dropped if n > before.get(r, 0)})
        for frame in frames:
            reason = why_unusable(frame)
            if reason is None:
                kept.append(frame)
            else:
                log.drop(reason)
                reasons[reason] += 1
    if kept:
        return kept
    if NESTED_ARCHIVE in reasons and not set(reasons) - NO_IMAGES:
        raise UnreadableInput(
            "the scan lies in an archive that is not opened",
            code="nested_archive",
            expected="a folder, or one zip archive that holds the files themselves",
            got=f"{reasons[NESTED_ARCHIVE]} archive(s) of another kind, or inside the folder or archive given",
            hint="unpack it and give the folder",
        )
    if not set(reasons) - NO_IMAGES:
        raise UnreadableInput(
            "no DICOM or NIfTI file was found",
            code="not_dicom",
            expected="a DICOM series, .nii or .nii.gz",
            got=f"{len(blobs)} files of other kinds",
            hint="give the folder, zip archive or file that holds the scan",
        )
    if "truncated file" in reasons:
        raise UnreadableInput(
            "every image file is cut short", code="truncated", got=f"{reasons['truncated file']} truncated files",
            hint="copy or download the series again",
        )  # fmt: skip
    raise refuse_nothing_left(reasons)


# ------------------------------------------------------------------------------------------- pixels


def _decode_stack(stack: Stack, broken: set[int]) -> tuple[np.ndarray, int]:
    """HU of every frame in stack order, int16 where all rescales are whole numbers, else float32; and how many
    voxels were padding. Frames that fail are added to ``broken``."""
    whole = all(float(f.slope or 1.0).is_integer() and float(f.intercept or 0.0).is_integer() for f in stack.frames)
    first = stack.frames[0]
    hu = np.empty((len(stack.frames), first.rows, first.columns), dtype=np.int16 if whole else np.float32)
    order = {id(f): k for k, f in enumerate(stack.frames)}
    padded = 0
    for frame, raw in _decoded(stack.frames, broken):
        values, pads = raw
        hu[order[id(frame)]] = values
        padded += pads
    return hu, padded


def _decoded(frames: tuple[Frame, ...], broken: set[int]) -> Iterator[tuple[Frame, tuple[np.ndarray, int]]]:
    """Open each file once, however many of its frames are wanted."""
    by_file: dict[str, list[Frame]] = {}
    for frame in frames:
        by_file.setdefault(frame.blob.name, []).append(frame)
    for group in by_file.values():
        try:
            yield from zip(group, _decode_file(group), strict=True)
        except Undecodable:
            broken.update(id(f) for f in group)


def _decode_file(frames: list[Frame]) -> list[tuple[np.ndarray, int]]:
    """Hounsfield units of the wanted frames of one file. Raises Undecodable."""
    import pydicom

    _silence_gdcm()
    try:
        with warnings.catch_warnings(), frames[0].blob.open() as file:
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = _guess_syntax(dataset)
            return [_to_hu(_raw(dataset, frame), dataset, frame) for frame in frames]
    except READ_ERRORS as error:
        raise Undecodable(str(error)) from error


def _silence_gdcm() -> None:
    """GDCM writes its complaints straight to stderr; ours are in the ingest report."""
    try:
        import gdcm
    except ImportError:
        return
    for stream in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
        stream()


def _guess_syntax(dataset: Dataset) -> str:
    """A file without meta information: what pydicom found while reading it."""
    little, implicit = dataset.original_encoding[1], dataset.original_encoding[0]
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _raw(dataset: Dataset, frame: Frame) -> np.ndarray:
    """Stored values of one frame, without the bits that do not belong to them (overlays in the high bits)."""
    from pydicom.pixels import pixel_array

    stored, high = int(tag(dataset, "BitsStored") or 16), tag(dataset, "HighBit")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # pylibjpeg-rle is faster but panics, with a backtrace on stderr, on damaged data; pydicom's decoder raises.
    options = {"decoding_plugin": "pydicom"} if syntax == RLE_LOSSLESS else {}
    shift = int(high) - stored + 1 if high is not None else 0
    if shift > 0 and (syntax in NATIVE_SYNTAXES or syntax == RLE_LOSSLESS):
        # values do not start at bit 0: old scanners
        raw = pixel_array(dataset, index=frame.index, correct_unused_bits=False, **options)
        width = raw.dtype.itemsize * 8
        left = (raw.view(f"u{raw.dtype.itemsize}") << (width - 1 - int(high))).view(raw.dtype)
        raw = left >> (width - stored)
    else:
        raw = pixel_array(dataset, index=frame.index, **options)
    if raw.shape != (frame.rows, frame.columns):
        raise ValueError(f"image of {raw.shape} where {(frame.rows, frame.columns)} was announced")
    return raw


def _to_hu(raw: np.ndarray, dataset: Dataset, frame: Frame) -> tuple[np.ndarray, int]:
    """Rescale once; padding becomes air. Values below -1024 HU are padding or noise and are set to it."""
    slope = frame.slope or 1.0  # a slope of 0 is a broken header, not a constant image
    intercept = frame.intercept or 0.0
    padding = _padding(raw, dataset, slope, intercept)
    hu: np.ndarray
    whole = slope.is_integer() and intercept.is_integer() and max(slope, abs(intercept)) < 1 << 30
    if whole:
        wide = raw.itemsize > 2 or max(slope, abs(intercept)) > 1 << 14  # more than 32 bits can hold
        hu = raw.astype(np.int64 if wide else np.int32) * int(slope) + int(intercept)
    else:
        hu = raw.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    pads = 0
    if padding is not None:
        pads = int(np.count_nonzero(padding))
        hu[padding] = _PADDING_HU
    return np.clip(hu, _INT16.min, _INT16.max), pads


#: Where padding goes before it is known whether the rescale was right; `finish_hu` turns it into air afterwards.
_PADDING_HU = _INT16.min


def _padding(raw: np.ndarray, dataset: Dataset, slope: float, intercept: float) -> np.ndarray | None:
    """Mask of padding; None without a padding value, or where that value would be tissue."""
    value = tag(dataset, "PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return None
    low = _as_stored(int(value), raw.dtype)
    limit = tag(dataset, "PixelPaddingRangeLimit")
    high = low if limit is None or isinstance(limit, bytes) else _as_stored(int(limit), raw.dtype)
    low, high = min(low, high), max(low, high)
    if high * slope + intercept > -900 and low * slope + intercept < 1500:
        return None
    return (raw >= low) & (raw <= high)


def _as_stored(value: int, dtype: np.dtype) -> int:
    """The tag's value as the pixels hold it: US and SS are confused in many headers."""
    bits = dtype.itemsize * 8
    if np.issubdtype(dtype, np.signedinteger) and value >= 1 << (bits - 1):
        return value - (1 << bits)
    if np.issubdtype(dtype, np.unsignedinteger) and value < 0:
        return value + (1 << bits)
    return value


def _fingerprint(frame: Frame) -> bytes | None:
    """Digest of a frame's Hounsfield units; None when it cannot be decoded."""
    try:
        ((hu, _),) = _decode_file([frame])
    except Undecodable:
        return None
    return hashlib.blake2b(np.ascontiguousarray(hu).tobytes(), digest_size=16).digest()


# ------------------------------------------------------------------------------------------- assembly


def _finish(
    chosen: choice.Candidate, placement: Placement, hu: np.ndarray, padded: int, policy: IngestPolicy, log: IngestLog
) -> StoredSeries:
    stack, first = chosen.stack, chosen.frames[0]
    if not placement.is_identity:
        hu = _blend(hu, placement)
    if padded:
        log.facts["padded"] = padded
    matrix = _matrix(stack, placement.step)
    _facts(chosen, placement, log)
    header_notes(stack, placement, policy, log)
    intercepts = Counter(f.intercept for f in stack.frames)
    return StoredSeries(
        volume=Volume(hu, Affine(matrix)),
        source=source_map(stack),
        intercept=intercepts.most_common(1)[0][0],
        mirror=_mirror(first) if first.photometric == "MONOCHROME1" else None,
    )


def _mirror(frame: Frame) -> float:
    """Largest stored value minus stored value, in HU: ``mirror - hu``."""
    largest = (1 << frame.bits_stored) - 1
    return largest * (frame.slope or 1.0) + 2 * (frame.intercept or 0.0)


def _blend(hu: np.ndarray, placement: Placement) -> np.ndarray:
    out = np.empty((len(placement.lower), *hu.shape[1:]), dtype=hu.dtype)
    for k, (low, high, weight) in enumerate(zip(placement.lower, placement.upper, placement.weight, strict=True)):
        if weight == 0:
            out[k] = hu[low]
            continue
        a, b = hu[low].astype(np.float32), hu[high].astype(np.float32)
        mixed = np.where((a <= _PADDING_HU) | (b <= _PADDING_HU), np.minimum(a, b), a + np.float32(weight) * (b - a))
        out[k] = np.rint(mixed) if hu.dtype == np.int16 else mixed
    return out


def _matrix(stack: Stack, step: float) -> np.ndarray:
    """4x4 from voxel (x, y, z) to world mm; the z column follows the slices, so a tilt shows as shear."""
    frame = stack.frames[0]
    between_rows, between_columns = frame.pixel
    matrix = np.eye(4)
    matrix[:3, 0] = frame.cosines[0] * between_columns
    matrix[:3, 1] = frame.cosines[1] * between_rows
    matrix[:3, 2] = (frame.normal + stack.drift) * step
    matrix[:3, 3] = frame.at
    return matrix


def source_map(stack: Stack) -> SourceMap:
    """The planes of the stack. Slices count by instance number where every slice has one of its own, then by frame."""
    frames = stack.frames
    matrix = _matrix(stack, stack.step)
    keys = [(f.instance if f.index is None else 0, f.index or 0) for f in frames]
    countable = len(set(keys)) == len(keys) and all(k[0] is not None for k in keys)
    order = sorted(range(len(frames)), key=lambda i: keys[i]) if countable else list(range(len(frames)))
    numbers = [0] * len(frames)
    for number, i in enumerate(order, start=1):
        numbers[i] = number
    return SourceMap(
        origins=np.stack([f.at for f in frames]),
        row_step=matrix[:3, 1].copy(),
        column_step=matrix[:3, 0].copy(),
        size=(frames[0].rows, frames[0].columns),
        slice_numbers=tuple(numbers),
        instance_numbers=tuple(f.instance for f in frames),
        sop_instance_uids=tuple(f.sop_uid or None for f in frames),
        frame_numbers=tuple(None if f.index is None else f.index + 1 for f in frames),
    )


def _facts(chosen: choice.Candidate, placement: Placement, log: IngestLog) -> None:
    stack, frame, summary = chosen.stack, chosen.frames[0], chosen.summary
    part = choice.body_part(frame)
    log.facts.update(
        study_id=hashed(frame.study_uid),
        series_id=hashed(frame.series_uid),
        gaps=stack.missing,
        filled=placement.made if stack.kind == "gaps" else 0,
        tilt_degrees=round(stack.tilt_degrees, 3),
        jitter_mm=round(stack.jitter, 4),
        transfer_syntaxes=tuple(sorted({f.syntax or "none stated" for f in stack.frames})),
        stored_shape=(len(stack.frames), frame.rows, frame.columns),
        stored_spacing=(round(stack.step, 4), *(round(s, 4) for s in frame.spacing or ())),
        technique=Technique(
            slice_thickness_mm=frame.thickness,
            slice_step_mm=round(stack.step, 3),
            kernel=frame.kernel,
            kernel_class=summary.kernel_class,
            kvp=frame.kvp,
            contrast=frame.contrast,
            patient_position=frame.patient_position,
            manufacturer=frame.manufacturer,
        ),
        body_part_tag=frame.body_part or None,
        body_part_contradicts=part == "other",
        age_years=frame.age_years,
        sex=frame.sex if frame.sex in ("M", "F", "O") else None,
        dates=dates_of(stack.frames),
    )
    if len(chosen.frames) and len(log.candidates) > 1:
        log.note("series_chosen", "info", f"read {summary.n_slices} slices of one series: {log.why}")
