"""Rows of the table of defects: stored values and Hounsfield units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import WrongModality
from ctscribe.tensors import Volume
from ingest_kit import (
    TRUTH,
    equals,
    equals_truth,
    filled,
    handled,
    refused,
    signed_with,
    tags,
)

# ------------------------------------------------------------------------------------------- Hounsfield units


@handled("slope and intercept differ between slices", "each slice by its own", "rescale_varies")
def varying_rescale(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleIntercept = -1030 - k
        bad.set_pixels(ds, TRUTH.hu[k].astype(np.int64) + 1030 + k)
        return ds

    return bad.write_series(tmp, TRUTH, edit)


def _fractional(study: Study) -> None:
    assert study.volume.hu.dtype == np.float32
    equals(study, TRUTH, tolerance=0.26)


@handled("slope of 0.5", "applied; the volume is float32", check=_fractional)
def fractional_slope(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleSlope, ds.RescaleIntercept = 0.5, -1024.25
        bad.set_pixels(ds, np.rint((TRUTH.hu[k] + 1024.25) * 2).astype(np.int64))
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@handled("signed 16-bit values, intercept 0", "read as signed")
def signed_values(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, signed_with(0))


@handled("intercept of -8192", "applied once")
def large_intercept(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, offset=-8192)


@handled("values in HU already, intercept -1024 in the header (double rescale)", "not applied again", "already_hu")
def double_rescale(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, signed_with(-1024))


@handled("no slope and intercept, values stored + 1024", "shift found from the image and undone", "offset_corrected")
def forgotten_rescale(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=None, RescaleIntercept=None))


@handled("rescale slope of 0", "taken for 1, with a warning", "rescale_slope_zero")
def zero_slope(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=0))


@handled(
    "one slice without slope and intercept", "those of the other slices are applied, with a warning", "rescale_filled"
)
def one_without_rescale(tmp: Path) -> Path:
    gone = tags(RescaleSlope=None, RescaleIntercept=None)
    return bad.write_series(tmp, TRUTH, lambda k, ds: gone(k, ds) if k == 7 else ds)


@handled(
    "one slice with a wrong slope", "found by its neighbours; counts as a missing slice",
    "odd_slices", "missing_slices_filled", check=filled(7),
)  # fmt: skip
def one_wrong_slope(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: tags(RescaleSlope=50000)(k, ds) if k == 7 else ds)


@refused("half of the slices in HU already", WrongModality, "values_jump")
def half_in_hu(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: signed_with(-1024)(k, ds) if k >= 18 else ds)


@refused("slope of 10^12", WrongModality, "not_hounsfield")
def overflowing_slope(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=1e12))


@refused("intercept of -10^9", WrongModality, "not_hounsfield")
def overflowing_intercept(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleIntercept=-1e9))


@refused("slope below 0", WrongModality, "negative_slope")
def negative_slope(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=-1))


@handled("signed and unsigned slices mixed", "each read as it says", "rescale_varies")
def mixed_signs(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, lambda k, ds: signed_with(0)(k, ds) if k % 2 else ds)


@handled("signed 12-bit values without sign extension", "the sign bit is bit 11")
def signed_twelve(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleIntercept = 0
        bad.set_pixels(ds, TRUTH.hu[k].astype(np.int64) & 0xFFF, signed=True)
        return ds

    return bad.write_series(tmp, TRUTH, edit, bits=12)


@handled("32 bits a voxel", "decoded, voxel for voxel")
def thirty_two_bits(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31
        ds.PixelData = (TRUTH.hu[k].astype(np.int64) + 1024).astype("<u4").tobytes()
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@handled("virtual monoenergetic images of a dual-energy scan", "read; they are in HU")
def monoenergetic(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImageType=["DERIVED", "PRIMARY", "AXIAL", "MONO_KEV_70"]))


@handled("overlay bits above 12 stored bits", "masked out")
def overlay_bits(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        stored = bad.stored_values(ds)
        stored[::3] |= 0x8000
        stored[1::3] |= 0x5000
        bad.set_pixels(ds, stored)
        return ds

    return bad.write_series(tmp, TRUTH, edit, bits=12)


@handled("12 bits in the upper part of 16 (high bit 15)", "shifted down")
def high_bits(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        bad.set_pixels(ds, bad.stored_values(ds) << 4)
        ds.HighBit = 15
        return ds

    return bad.write_series(tmp, TRUTH, edit, bits=12)


PADDED = (slice(None), slice(0, 2), slice(0, 48))


def _padding_is_air(study: Study) -> None:
    wanted = TRUTH.hu.copy()
    wanted[PADDED] = -1024
    equals(study, Volume(wanted, TRUTH.affine))


def _pad(value: int, tag_value: int | None, signed: bool, intercept: int) -> bad.Edit:
    def edit(k: int, ds: Dataset) -> Dataset:
        stored = TRUTH.hu[k].astype(np.int64) - intercept
        stored[PADDED[1:]] = value
        ds.RescaleIntercept = intercept
        bad.set_pixels(ds, stored, signed=signed)
        if tag_value is not None:
            ds.add_new(0x00280120, "SS" if signed else "US", tag_value)
        return ds

    return edit


@handled("padding value -2000 outside the field of view", "becomes air", "padding_filled", check=_padding_is_air)
def padding_value(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _pad(-2000, -2000, True, -1024))


@handled(
    "values of -3024 outside the field of view, no padding tag", "become air", "padding_filled", check=_padding_is_air
)
def padding_without_tag(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _pad(-3024, None, True, 0))


@handled("padding value that is tissue", "the tag is not believed")
def lying_padding(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(PixelPaddingValue=1064))


@handled("MONOCHROME1", "values keep their meaning (only display is inverted)", "monochrome1")
def monochrome1(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(PhotometricInterpretation="MONOCHROME1"))


def _turned_back(study: Study) -> None:
    equals_truth(study)
    assert study.ingest.rescale == "offset_corrected"


@handled(
    "MONOCHROME1 with values inverted too",
    "found from the image and turned back",
    "inverted_values",
    check=_turned_back,
)
def inverted(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.PhotometricInterpretation = "MONOCHROME1"
        bad.set_pixels(ds, 4095 - bad.stored_values(ds))
        ds.BitsStored, ds.HighBit = 12, 11
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@refused("8-bit picture of a window", WrongModality, "not_hounsfield")
def windowed(tmp: Path) -> Path:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleIntercept = 0
        bad.set_pixels(ds, np.clip((TRUTH.hu[k] + 1350) / 1500 * 255, 0, 255).astype(np.int64))
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@refused("every voxel the same", WrongModality, "not_hounsfield")
def flat(tmp: Path) -> Path:
    return bad.write_series(tmp, Volume(np.zeros(bad.SHAPE, np.int16), TRUTH.affine))


@refused("material map of a dual-energy scan", WrongModality, "not_hounsfield")
def material_map(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleType="MGML"))
