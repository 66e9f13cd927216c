"""Rows of the table of defects: orientation, spacing, missing tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import GeometryRefused
from ctscribe.tensors import Affine, Volume
from ingest_kit import (
    TRUTH,
    equals,
    filled,
    follows_ramp,
    handled,
    ramp_on,
    refused,
    sheared,
    tags,
    turned,
)

# ------------------------------------------------------------------------------------------- orientation


@handled("coronal acquisition", "turned to canonical orientation")
def coronal(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (1, 0, 2), (1, -1, 1)))


@handled("sagittal acquisition", "turned to canonical orientation")
def sagittal(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (2, 0, 1), (1, -1, 1)))


@handled("feet first, prone", "turned to canonical orientation and noted", "prone", "feet_first")
def prone_feet_first(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (0, 1, 2), (-1, -1, 1)), tags(PatientPosition="FFP"))


@handled("head first, prone", "turned to canonical orientation and noted", "prone")
def prone(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (0, 1, 2), (1, -1, -1)), tags(PatientPosition="HFP"))


@handled("feet first, supine", "turned to canonical orientation and noted", "feet_first")
def feet_first(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (0, 1, 2), (-1, 1, 1)), tags(PatientPosition="FFS"))


@handled("lying on the side", "turned to canonical orientation and noted", "decubitus")
def decubitus(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.stored_as(TRUTH, (0, 2, 1), (1, 1, -1)), tags(PatientPosition="HFDR"))


@handled("oblique slices", "resampled to straight axes", "oblique_resampled", check=follows_ramp)
def oblique(tmp: Path) -> Path:
    return bad.write_series(tmp, ramp_on(turned(8.0)))


@handled("slices turned by 0.3 degrees", "taken for straight; no value changes", check=lambda s: _close_to_ramp(s))
def hardly_oblique(tmp: Path) -> Path:
    return bad.write_series(tmp, ramp_on(turned(0.3)))


def _close_to_ramp(study: Study) -> None:
    assert study.volume.shape == bad.SHAPE
    error = np.abs(study.volume.hu.astype(float) - bad.sample(bad.ramp_at, study.volume.affine, bad.SHAPE))
    assert error.max() < 4  # 0.3 degrees across the volume: under one HU per mm of misplacement


def _tilted(study: Study) -> None:
    assert abs(study.ingest.tilt_degrees - 15.0) < 0.05
    follows_ramp(study)


@handled("gantry tilt of 15 degrees", "measured, resampled and noted", "gantry_tilt_corrected", check=_tilted)
def gantry_tilt(tmp: Path) -> Path:
    return bad.write_series(tmp, ramp_on(sheared(15.0)))


def _tilted_back(study: Study) -> None:
    assert abs(study.ingest.tilt_degrees - 20.0) < 0.05
    follows_ramp(study)


@handled(
    "gantry tilt the other way, instance numbers reversed", "measured, resampled and noted", "gantry_tilt_corrected",
    check=_tilted_back,
)  # fmt: skip
def gantry_tilt_back(tmp: Path) -> Path:
    return bad.write_series(tmp, ramp_on(sheared(-20.0)), lambda k, ds: tags(InstanceNumber=99 - k)(k, ds))


@handled(
    "gantry tilt and one slice missing", "interpolated along the tilt, then resampled",
    "gantry_tilt_corrected", "missing_slices_filled", check=follows_ramp,
)  # fmt: skip
def tilt_and_gap(tmp: Path) -> Path:
    return bad.write_series(tmp, ramp_on(sheared(15.0)), lambda k, ds: None if k == 9 else ds)


@refused("field of view moved part of the way", GeometryRefused, "slices_not_aligned")
def moved_field(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        if k >= 18:
            ds.ImagePositionPatient = [float(ds.ImagePositionPatient[0]) + 20, *ds.ImagePositionPatient[1:]]
        return ds

    return bad.write_series(tmp, TRUTH, edit)


# ------------------------------------------------------------------------------------------- spacing


@handled(
    "one slice missing", "interpolated from its neighbours, with a warning", "missing_slices_filled", check=filled(10)
)
def one_missing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: None if k == 10 else ds)


@handled(
    "two slices missing at two places", "interpolated, with a warning", "missing_slices_filled", check=filled(10, 25)
)
def two_missing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: None if k in (10, 25) else ds)


@refused("more than two slices missing", GeometryRefused, "missing_slices")
def many_missing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: None if 10 <= k < 15 else ds)


@refused("one slice of a thick series missing", GeometryRefused, "missing_slices")
def thick_missing(tmp: Path) -> Path:
    thick = Volume(TRUTH.hu, Affine.from_spacing((5.0, 5.0, 4.0), bad.ORIGIN))
    return bad.write_series(tmp, thick, lambda k, ds: None if k == 10 else ds)


@handled(
    "spacing changes from 2.5 to 5 mm part of the way", "resampled to the finer step, with a warning",
    "uneven_spacing_resampled", check=follows_ramp,
)  # fmt: skip
def mixed_spacing(tmp: Path) -> Path:
    return bad.write_series(tmp, bad.ramp(), lambda k, ds: ds if k < 18 or k % 2 == 0 else None)


@refused("spacing changes to 7.5 mm part of the way", GeometryRefused, "mixed_spacing")
def mixed_thick(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: ds if k < 18 or k % 3 == 0 else None)


def _shift_z(by: Callable[[int], float]) -> bad.Edit:
    def edit(k: int, ds: Dataset) -> Dataset:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y, z + by(k)]
        return ds

    return edit


@handled("positions jitter by 0.02 mm", "tolerated, no value changes", check=lambda s: _jitter(s))
def small_jitter(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _shift_z(lambda k: 0.02 * (-1) ** k))


def _jitter(study: Study) -> None:
    assert np.array_equal(study.volume.hu, TRUTH.hu)
    assert 0.01 < study.ingest.jitter_mm < 0.03
    assert abs(study.volume.spacing[0] - 2.5) < 0.01


@handled("steps between 1.8 and 3.2 mm", "resampled, with a warning", "uneven_spacing_resampled", check=follows_ramp)
def uneven_steps(tmp: Path) -> Path:
    shift = 0.35 * (-1.0) ** np.arange(bad.SHAPE[0])
    return bad.write_series(tmp, _ramp_shifted(shift), _shift_z(lambda k: float(shift[k])))


def _ramp_shifted(shift: np.ndarray) -> Volume:
    ramp = bad.ramp()
    return Volume(np.rint(ramp.hu + 1.7 * shift[:, None, None]).astype(np.int16), ramp.affine)


@refused("steps without any rule", GeometryRefused, "irregular_spacing")
def no_rule(tmp: Path) -> Path:
    jumps = np.cumsum(np.random.default_rng(5).uniform(0, 7, bad.SHAPE[0]))
    return bad.write_series(tmp, TRUTH, _shift_z(lambda k: float(jumps[k])))


@handled("Spacing Between Slices contradicts the positions", "the positions are believed", "spacing_tag_contradicts")
def lying_step(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(SpacingBetweenSlices=5.0))


def _half(study: Study) -> None:
    affine = Affine.from_spacing((2 * bad.SPACING[0], *bad.SPACING[1:]), bad.ORIGIN)
    equals(study, Volume(TRUTH.hu[::2], affine))


@handled("every second slice missing", "read at the step that is there, with a warning", "not_contiguous", check=_half)
def every_second(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: None if k % 2 else ds)


@handled("Spacing Between Slices below 0", "its sign means nothing")
def negative_step(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(SpacingBetweenSlices=-2.5))


@refused("all slices at the same position", GeometryRefused, "conflicting_duplicates")
def one_position(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImagePositionPatient=list(bad.ORIGIN[::-1])))


@handled("slices thinner than their distance", "read, with a warning that it is not contiguous", "not_contiguous")
def not_contiguous(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(SliceThickness=1.0))


@refused("voxel size of 0.02 mm", GeometryRefused, "absurd_spacing")
def absurd_spacing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(PixelSpacing=[0.02, 0.02]))


@refused("single slice", GeometryRefused, "single_slice")
def single_slice(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, lambda k, ds: ds if k == 4 else None)
    return tmp / "004.dcm"


@refused("fewer than 15 slices", GeometryRefused, "too_few_slices")
def too_few(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: ds if k < 12 else None)


@refused("less than 80 mm from head to foot", GeometryRefused, "short_coverage")
def too_short(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: ds if k < 20 else None)


# ------------------------------------------------------------------------------------------- missing tags


@handled("no Pixel Spacing, but Imager Pixel Spacing", "taken from there, with a warning", "pixel_spacing_derived")
def imager_spacing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(PixelSpacing=None, ImagerPixelSpacing=[5.0, 4.0]))


@refused("no pixel spacing at all", GeometryRefused, "no_pixel_spacing")
def no_spacing(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(PixelSpacing=None))


@refused("no Image Position (Patient)", GeometryRefused, "no_position")
def no_position(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImagePositionPatient=None))


@handled("one slice without position", "left out; counts as a missing slice", "missing_slices_filled", check=filled(7))
def one_without_position(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _some(ImagePositionPatient=None, slices=(7,)))


@handled("kernel stated on some slices only", "they stay together; the stated one is named")
def some_without_kernel(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _some(ConvolutionKernel=None, slices=(0, 7, *range(18, 36))))


@handled("frame of reference stated on some slices only", "they stay together")
def some_without_frame(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _some(FrameOfReferenceUID=None, slices=(7, 20)))


def _some(*, slices: tuple[int, ...], **values: object) -> bad.Edit:
    """Set tags on some slices only."""
    change = tags(**values)
    return lambda k, ds: change(k, ds) if k in slices else ds


@refused("decimal commas in Pixel Spacing", GeometryRefused, "no_pixel_spacing")
def decimal_commas(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    for path in tmp.iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"5.0\\4.0", b"5,0\\4,0"))
    return tmp


@refused("Image Orientation (Patient) of parallel axes", GeometryRefused, "no_orientation")
def parallel_axes(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))


@refused("no Image Orientation (Patient)", GeometryRefused, "no_orientation")
def no_orientation(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImageOrientationPatient=None))


@handled(
    "no thickness, kernel, patient position, series UID, frame of reference, bits",
    "read; what is unknown is noted", "no_slice_thickness", "no_kernel", "no_patient_position", "no_series_uid",
)  # fmt: skip
def bare_headers(tmp: Path) -> Path:
    gone = ("SliceThickness", "ConvolutionKernel", "PatientPosition", "SeriesInstanceUID", "FrameOfReferenceUID")
    more = ("BodyPartExamined", "KVP", "AcquisitionNumber", "SeriesNumber", "ImageType", "StudyInstanceUID", "HighBit")
    return bad.write_series(tmp, TRUTH, tags(**dict.fromkeys((*gone, *more))))


@handled("tags with unreadable values", "taken for missing", "no_slice_thickness")
def unreadable_tags(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, tags(SliceThickness=2.5, KVP=120))
    for path in tmp.iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"\x18\x00\x50\x00DS\x04\x002.5 ", b"\x18\x00\x50\x00DS\x04\x00abc "))
    return tmp
