"""Rows of the table of defects: NIfTI."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import GeometryRefused, InputRefused, UnreadableInput, WrongModality
from ctscribe.tensors import Affine, Volume
from ingest_kit import (
    TRUTH,
    equals,
    follows_ramp,
    handled,
    ramp_on,
    refused,
    sheared,
    turned,
    zipped,
)

# ------------------------------------------------------------------------------------------- NIfTI


def _header(tmp: Path, at: int, content: bytes) -> Path:
    """A NIfTI file with some bytes of its header replaced."""
    path = bad.write_nifti(tmp / "a.nii", TRUTH)
    raw = bytearray(path.read_bytes())
    raw[at : at + len(content)] = content
    path.write_bytes(raw)
    return path


def _plain(tmp: Path, kind: str = "Nifti1Image", endianness: str = "<") -> Path:
    """Written by nibabel, with no header work of our own."""
    import nibabel as nib

    tmp.mkdir(parents=True, exist_ok=True)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ TRUTH.affine.matrix
    image = getattr(nib, kind)
    values = TRUTH.hu.transpose(2, 1, 0).astype(f"{endianness}i2")
    nib.save(image(values, matrix, image.header_class(endianness=endianness)), tmp / "a.nii.gz")
    return tmp / "a.nii.gz"


@handled("NIfTI, qform only", "its orientation is used")
def nifti_qform(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", bad.stored_as(TRUTH, (0, 1, 2), (-1, 1, -1)), codes=(1, 0))


@handled("NIfTI, sform only (qform code 0)", "its orientation is used")
def nifti_sform(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii", bad.stored_as(TRUTH, (2, 0, 1), (1, -1, -1)), codes=(0, 2))


@refused("NIfTI without any orientation", GeometryRefused, "no_orientation")
def nifti_nowhere(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, codes=(0, 0))


@handled("NIfTI, sform and qform a few mm apart", "the sform is used, with a warning", "sform_qform_differ")
def nifti_two_forms(tmp: Path) -> Path:
    other = np.diag([-1.0, -1.0, 1.0, 1.0]) @ TRUTH.affine.matrix
    other[:3, 3] += 7.0
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, qform=other)


@refused("NIfTI, sform and qform exchange left and right", GeometryRefused, "orientation_conflict")
def nifti_conflict(tmp: Path) -> Path:
    other = np.diag([1.0, -1.0, 1.0, 1.0]) @ TRUTH.affine.matrix
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, qform=other)


@handled("NIfTI, sform of zeros", "the qform is used, with a warning", "sform_broken")
def nifti_zero_sform(tmp: Path) -> Path:
    return _header(tmp, 280, bytes(48))  # srow_x, srow_y, srow_z of the NIfTI-1 header


@handled("NIfTI in metres", "converted to mm", "units_converted")
def nifti_metres(tmp: Path) -> Path:
    small = Affine(np.diag([0.001, 0.001, 0.001, 1.0]) @ TRUTH.affine.matrix)
    return bad.write_nifti(tmp / "a.nii.gz", Volume(TRUTH.hu, small), edit=lambda i: i.header.set_xyzt_units("meter"))


@handled("NIfTI with a fourth axis of length 1", "dropped")
def nifti_four_one(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=TRUTH.hu.transpose(2, 1, 0)[..., None])


@refused("NIfTI with several volumes", GeometryRefused, "four_d")
def nifti_four(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=np.stack([TRUTH.hu.transpose(2, 1, 0)] * 2, axis=-1))


@refused("NIfTI of one slice", GeometryRefused, "single_slice")
def nifti_slice(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", Volume(TRUTH.hu[:1], TRUTH.affine))


def _scaled_values(study: Study) -> None:
    equals(study, TRUTH, tolerance=0.51)


@handled("NIfTI, stored with a scale factor", "applied once", check=_scaled_values)
def nifti_scaled(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=TRUTH.hu.transpose(2, 1, 0) + 0.25, edit=_as_int16)


def _as_int16(image: object) -> None:
    image.set_data_dtype(np.int16)  # type: ignore[attr-defined]


@handled(
    "NIfTI with values that are not numbers",
    "set to air, with a warning",
    "not_a_number_filled",
    check=lambda s: _holes(s),
)
def nifti_nan(tmp: Path) -> Path:
    data = TRUTH.hu.transpose(2, 1, 0).astype(np.float32)
    data[:3, :3, :3] = np.nan
    data[-1, -1, -1] = np.inf
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=data)


def _holes(study: Study) -> None:
    wanted = TRUTH.hu.copy()
    wanted[:3, :3, :3] = wanted[-1, -1, -1] = -1024
    equals(study, Volume(wanted, TRUTH.affine))


@handled("NIfTI stored + 1024", "shift found from the image and undone", "offset_corrected")
def nifti_offset(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=(TRUTH.hu.transpose(2, 1, 0) + 1024).astype(np.uint16))


@refused("NIfTI normalised to 0..1", WrongModality, "not_hounsfield")
def nifti_normalised(tmp: Path) -> Path:
    data = ((TRUTH.hu.transpose(2, 1, 0) + 1024) / 4096).astype(np.float32)
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=data)


@refused("NIfTI of 8-bit grey values", WrongModality, "not_hounsfield")
def nifti_eight_bit(tmp: Path) -> Path:
    data = np.clip((TRUTH.hu.transpose(2, 1, 0) + 1024) / 8, 0, 255).astype(np.uint8)
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=data)


@refused("NIfTI in colour", WrongModality, "colour_image")
def nifti_colour(tmp: Path) -> Path:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=np.zeros(bad.SHAPE[::-1], kind))


@refused("NIfTI cut short", UnreadableInput, "truncated")
def nifti_cut(tmp: Path) -> Path:
    path = bad.write_nifti(tmp / "a.nii.gz", TRUTH)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


@refused("uncompressed NIfTI cut short", UnreadableInput, "truncated")
def nifti_cut_plain(tmp: Path) -> Path:
    path = bad.write_nifti(tmp / "a.nii", TRUTH)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


@refused("text file named .nii.gz", UnreadableInput, "not_nifti")
def text_as_nifti(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    (tmp / "a.nii.gz").write_bytes(gzip.compress(b"this is no volume" * 100))
    return tmp / "a.nii.gz"


@refused("NIfTI with a voxel size of 100 mm", GeometryRefused, "absurd_spacing")
def nifti_absurd(tmp: Path) -> Path:
    huge = Affine(np.diag([40.0, 40.0, 40.0, 1.0]) @ TRUTH.affine.matrix)
    return bad.write_nifti(tmp / "a.nii.gz", Volume(TRUTH.hu, huge))


@handled("oblique NIfTI", "resampled to straight axes", "oblique_resampled", check=follows_ramp)
def nifti_oblique(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", ramp_on(turned(8.0)))


@handled("NIfTI inside a zip archive", "read inside the archive")
def nifti_in_zip(tmp: Path) -> Path:
    bad.write_nifti(tmp / "in" / "a.nii.gz", TRUTH)
    return zipped(tmp / "in", tmp / "scan.zip")


@refused("several NIfTI files in one folder", UnreadableInput, "several_nifti")
def several_nifti(tmp: Path) -> Path:
    bad.write_nifti(tmp / "a.nii.gz", TRUTH)
    bad.write_nifti(tmp / "b.nii.gz", TRUTH)
    return tmp


@refused("NIfTI header that lies about its type", UnreadableInput, "not_nifti")
def nifti_bad_type(tmp: Path) -> Path:
    return _header(tmp, 70, struct.pack("<h", 9999))  # datatype


@handled("NIfTI-2", "decoded, voxel for voxel")
def nifti_two(tmp: Path) -> Path:
    return _plain(tmp, "Nifti2Image")


@handled("NIfTI, big endian", "decoded, voxel for voxel")
def nifti_big_endian(tmp: Path) -> Path:
    return _plain(tmp, endianness=">")


@handled("NIfTI of 64-bit floats", "decoded, voxel for voxel")
def nifti_floats(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=TRUTH.hu.transpose(2, 1, 0).astype(np.float64))


@handled("packed NIfTI named .nii", "unpacked: the bytes count, not the name")
def packed_as_plain(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH).rename(tmp / "b.nii")


@handled("plain NIfTI named .nii.gz", "read: the bytes count, not the name")
def plain_as_packed(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii", TRUTH).rename(tmp / "b.nii.gz")


@handled("NIfTI beside a JSON file", "the JSON file is left out")
def nifti_and_json(tmp: Path) -> Path:
    bad.write_nifti(tmp / "ct.nii.gz", TRUTH)
    (tmp / "ct.json").write_text("{}")
    return tmp


@handled("NIfTI, sform holding NaN", "the qform is used, with a warning", "sform_broken")
def nifti_nan_sform(tmp: Path) -> Path:
    return _header(tmp, 280, struct.pack("<f", float("nan")))


@handled("NIfTI, voxel sizes of 0 beside a good sform", "the sform is used, with a warning", "sform_qform_differ")
def nifti_no_sizes(tmp: Path) -> Path:
    return _header(tmp, 80, struct.pack("<3f", 0, 0, 0))


@handled(
    "sheared NIfTI (gantry tilt kept in the sform)", "resampled to straight axes", "oblique_resampled",
    check=follows_ramp,
)  # fmt: skip
def nifti_sheared(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", ramp_on(sheared(20.0)), codes=(0, 1))


@refused("packed NIfTI with one damaged byte", UnreadableInput, "truncated")
def nifti_damaged_byte(tmp: Path) -> Path:
    """Stored without compression, so that nothing but the checksum at the end can tell."""
    raw = bytearray(gzip.compress(bad.write_nifti(tmp / "a.nii", TRUTH).read_bytes(), compresslevel=0))
    raw[len(raw) // 2] ^= 0x40
    (tmp / "b.nii.gz").write_bytes(raw)
    return tmp / "b.nii.gz"


@refused("empty file named .nii.gz", UnreadableInput, "empty_file")
def nifti_empty(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    (tmp / "a.nii.gz").touch()
    return tmp / "a.nii.gz"


@refused("NIfTI that announces 30,000 voxels along each axis", InputRefused, "too_large")
def nifti_huge(tmp: Path) -> Path:
    return _header(tmp, 42, struct.pack("<3h", 30000, 30000, 30000))


@refused("NIfTI with dimensions below 0", UnreadableInput, "not_nifti")
def nifti_negative(tmp: Path) -> Path:
    return _header(tmp, 42, struct.pack("<3h", -48, 40, 36))


@refused("NIfTI of which half is not numbers", InputRefused, "not_a_number")
def nifti_half_nan(tmp: Path) -> Path:
    data = TRUTH.hu.transpose(2, 1, 0).astype(np.float32)
    data[::2] = np.nan
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=data)


@refused("NIfTI of complex numbers", WrongModality, "not_hounsfield")
def nifti_complex(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=TRUTH.hu.transpose(2, 1, 0).astype(np.complex64))


@refused("NIfTI of a mask", WrongModality, "not_hounsfield")
def nifti_mask(tmp: Path) -> Path:
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=(TRUTH.hu > 0).transpose(2, 1, 0).astype(np.uint8))


@refused("NIfTI with three values a voxel (fifth axis)", GeometryRefused, "four_d")
def nifti_vectors(tmp: Path) -> Path:
    data = np.repeat(TRUTH.hu.transpose(2, 1, 0)[..., None, None], 3, axis=4)
    return bad.write_nifti(tmp / "a.nii.gz", TRUTH, data=data)
