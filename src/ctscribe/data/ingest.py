"""From a path to a `Study`: one road for DICOM and NIfTI, and an inspection that never fails.

```
path -> files -> (dicom | nifti) -> Hounsfield check -> canonical orientation -> size check -> Study
```
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctscribe.data.files import Blob, open_blobs
from ctscribe.data.geometry import canonicalise, is_axis_aligned
from ctscribe.data.intensity import AIR_FLOOR, check_hounsfield
from ctscribe.data.limits import check_extent, check_spacing
from ctscribe.data.study import IngestLog, IngestPolicy, Inspection, ScanDates, SourceMap, Study
from ctscribe.errors import InputRefused, UnreadableInput, WrongBodyPart, WrongModality
from ctscribe.tensors import Volume

#: Less air-filled lung than this (ml) and tags that name another body part: not a chest. Adult lungs hold litres;
#: sinuses, mastoids and a slice of lung base in a head or abdomen scan stay well below.
LITTLE_LUNG_ML = 300.0


def load_study(
    path: Path | str,
    *,
    series: str | None = None,
    policy: IngestPolicy = IngestPolicy(),  # noqa: B008 - frozen
) -> Study:
    """Read a chest CT.

    Args:
        path: a DICOM folder of any depth, a zip archive, a DICOM file (multi-frame), ``.nii`` or ``.nii.gz``.
        series: Series Instance UID, or the short name that `inspect` lists; chosen and explained when not given.
        policy: what may be repaired.

    Returns:
        Hounsfield units (int16, or float32 where the rescale is fractional) in canonical orientation, the map back
        to the stored slices, and the account of what was done.

    Raises:
        InputRefused: or one of its kinds, with a stable ``code``; see ``docs/reference/ingest-table.md``.
    """
    return _load(Path(path), series, policy, IngestLog())


def inspect(
    path: Path | str,
    *,
    series: str | None = None,
    policy: IngestPolicy = IngestPolicy(),  # noqa: B008 - frozen
    body_part: bool = True,
) -> Inspection:
    """What lies at ``path`` and whether a report would be written from it; bad content is an answer, not an error.

    Args:
        path, series, policy: as for `load_study`.
        body_part: False leaves out the question whether the image shows a chest, which takes a few seconds.
    """
    log = IngestLog()
    study, refusal = None, None
    try:
        study = _load(Path(path), series, policy, log)
        if body_part:
            _check_body_part(study.volume, log)
    except InputRefused as error:
        study, refusal = None, error
    return Inspection(
        accepted=study is not None,
        kind=log.kind,
        n_files=log.n_files,
        candidates=log.candidates,
        dropped=log.dropped,
        notes=tuple(log.notes),
        refusal=refusal,
        ingest=None if study is None else study.ingest,
    )


def _check_body_part(volume: Volume, log: IngestLog) -> None:
    from ctscribe.data.anatomy import segment
    from ctscribe.data.bodypart import check_chest

    log.notes += check_chest(volume, segment(volume))


def _load(path: Path, series: str | None, policy: IngestPolicy, log: IngestLog) -> Study:
    if path.is_file() and path.name.upper() == "DICOMDIR":
        path = path.absolute().parent
    with open_blobs(path) as blobs:
        log.n_files = len(blobs)
        nifti = [blob for blob in blobs if blob.is_nifti and not blob.base.startswith("._")]
        others = [blob for blob in blobs if not blob.is_nifti]
        if nifti and not _holds_dicom(others):
            volume, source = _nifti(path, nifti, series, policy, log)
        else:
            log.drop("NIfTI beside DICOM", len(nifti))
            volume, source = _dicom(others, series, policy, log)
    volume = _canonical(volume, policy, log)
    check_extent(volume, policy)
    _check_tags_against_image(volume, log)
    log.facts["hu_range"] = (float(volume.hu.min()), float(volume.hu.max()))
    log.facts.pop("padded", None)
    dates = log.facts.pop("dates", ScanDates())
    return Study(volume, source, log.report(), dates)


def _holds_dicom(blobs: list[Blob]) -> bool:
    from ctscribe.data.headers import read_frames

    scratch = IngestLog()
    return any(read_frames(blob, scratch) for blob in blobs)


def _nifti(
    path: Path, blobs: list[Blob], series: str | None, policy: IngestPolicy, log: IngestLog
) -> tuple[Volume, SourceMap]:
    from ctscribe.data.nifti import read_nifti

    log.kind = "nifti"
    if len(blobs) > 1:
        raise UnreadableInput(
            f"{path.name} holds several NIfTI files",
            code="several_nifti",
            expected="one volume",
            got=f"{len(blobs)} files",
            hint="give the path of the CT volume itself",
        )
    if series is not None:
        raise InputRefused(
            "the series asked for is not here",
            code="series_not_found",
            expected="a DICOM folder or archive",
            got="a NIfTI file, which holds one volume and names no series",
            hint="leave --series out",
        )
    stored = read_nifti(blobs[0], policy, log)
    log.why = "the only volume here"
    check_spacing(stored.volume, policy)
    log.facts.update(
        stored_shape=stored.volume.shape,
        stored_spacing=tuple(round(s, 4) for s in stored.volume.spacing),
        rescale="none",
    )
    volume = _hounsfield(stored.volume, None, None, log)
    return volume, stored.source


def _dicom(blobs: list[Blob], series: str | None, policy: IngestPolicy, log: IngestLog) -> tuple[Volume, SourceMap]:
    from ctscribe.data.dicom import read_dicom

    log.kind = "dicom"
    stored = read_dicom(blobs, series, policy, log)
    check_spacing(stored.volume, policy)
    return _hounsfield(stored.volume, stored.intercept, stored.mirror, log), stored.source


# ------------------------------------------------------------------------------------------- intensities


def _hounsfield(volume: Volume, intercept: float | None, mirror: float | None, log: IngestLog) -> Volume:
    """Make sure the numbers are HU, correcting what is certain and refusing the rest. Works in place."""
    hu = volume.hu
    check = check_hounsfield(hu, likely_shift=intercept)
    padding = hu <= np.iinfo(np.int16).min
    if check.verdict == "shifted":
        hu = _shift(hu, check.correction, hu.dtype)
        if intercept and abs(check.correction + intercept) < 1:
            log.facts["rescale"] = "already_hu"
            log.note(
                "already_hu",
                "warning",
                f"stored values were Hounsfield units already; the intercept {intercept:g} was not applied",
            )
        else:
            log.facts["rescale"] = "offset_corrected"
            log.note("offset_corrected", "warning", f"all values were {-check.correction:+g} HU off and were corrected")
    elif check.verdict == "inverted" and mirror is not None:
        exact = abs(mirror - check.correction) < 100
        hu = _shift(-hu.astype(np.float32), mirror if exact else check.correction, hu.dtype)
        log.facts["rescale"] = "offset_corrected"
        log.note("inverted_values", "warning", "stored values were inverted (MONOCHROME1) and were turned back")
    elif check.verdict != "hounsfield":
        raise WrongModality(
            "the values are not Hounsfield units",
            code="not_hounsfield",
            expected="CT numbers: air near -1000, soft tissue near 0 to 100",
            got=check.message,
            hint="give the CT in Hounsfield units, before any windowing or normalising",
        )
    hu[padding] = AIR_FLOOR
    below = int(np.count_nonzero(hu < AIR_FLOOR - 200)) + log.facts.get("padded", 0)
    if below:
        log.note(
            "padding_filled",
            "info",
            f"{100 * below / hu.size:.1f} % of the voxels lie outside the scanned field; set to air",
        )
    np.maximum(hu, hu.dtype.type(AIR_FLOOR), out=hu)
    return Volume(hu, volume.affine)


def _shift(hu: np.ndarray, correction: float, kind: np.dtype) -> np.ndarray:
    return np.clip(hu.astype(np.float32) + np.float32(correction), -32768, 32767).astype(kind)


# ------------------------------------------------------------------------------------------- geometry


def _canonical(volume: Volume, policy: IngestPolicy, log: IngestLog) -> Volume:
    tilted = log.facts.get("tilt_degrees", 0.0) > policy.tilt_degrees
    if not is_axis_aligned(volume.affine, policy.tilt_degrees) and not tilted:
        log.note(
            "oblique_resampled",
            "info",
            "the slices lie oblique to the patient; the volume was resampled to straight axes",
        )
    return canonicalise(volume, tolerance_degrees=policy.tilt_degrees)


def _check_tags_against_image(volume: Volume, log: IngestLog) -> None:
    """Tags alone neither accept nor refuse; tags that name another part and an image with hardly any lung do."""
    if not log.facts.get("body_part_contradicts"):
        return
    voxel_ml = float(np.prod(volume.spacing)) / 1000.0
    lung_ml = float(np.count_nonzero((volume.hu > -950) & (volume.hu < -600))) * voxel_ml
    part = log.facts.get("body_part_tag") or "another body part"
    if lung_ml < LITTLE_LUNG_ML:
        raise WrongBodyPart(
            "this is not a CT of the chest",
            code="wrong_body_part",
            expected="a chest",
            got=f"tags that say {part}, and {lung_ml:.0f} ml of lung-like air",
            hint="ctscribe reports on chest CT only",
        )
    log.note("body_part_tag_contradicts", "warning", f"the tags say {part}; the image decides")
