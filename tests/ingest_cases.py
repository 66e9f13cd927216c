"""The table of defects: what is wrong, how to make it, and what reading it must give."""

from __future__ import annotations

import gzip
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom.uid as uids
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import GeometryRefused, InputRefused, UnreadableInput, WrongBodyPart, WrongModality
from ctscribe.tensors import Affine, Volume

Build = Callable[[Path], Path]
Check = Callable[[Study], None]


@dataclass(frozen=True)
class Case:
    """One row of the table: ``codes`` are notes that must appear, or the code of the refusal."""

    name: str
    defect: str
    done: str
    build: Build
    codes: tuple[str, ...] = ()
    refused: type[InputRefused] | None = None
    check: Check | None = None


CASES: list[Case] = []


def handled(defect: str, done: str, *codes: str, check: Check | None = None) -> Callable[[Build], Build]:
    """Register a builder whose scan must be read; without ``check`` it must equal the truth voxel for voxel."""

    def register(build: Build) -> Build:
        CASES.append(Case(build.__name__, defect, done, build, codes, None, check or equals_truth))
        return build

    return register


def refused(defect: str, kind: type[InputRefused], code: str) -> Callable[[Build], Build]:
    """Register a builder whose scan must be refused with this class and code."""

    def register(build: Build) -> Build:
        CASES.append(Case(build.__name__, defect, "", build, (code,), kind))
        return build

    return register


# ------------------------------------------------------------------------------------------- checks

TRUTH = bad.truth()


def equals(study: Study, wanted: Volume, tolerance: float = 0.0) -> None:
    """Same shape, same place in the world, same values."""
    got = study.volume
    assert got.affine.is_canonical
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.affine.matrix, wanted.affine.matrix, atol=2e-3)
    difference = np.abs(got.hu.astype(float) - wanted.hu.astype(float))
    assert difference.max() <= tolerance


def equals_truth(study: Study) -> None:
    equals(study, TRUTH)


def follows_ramp(study: Study) -> None:
    """Wherever the new voxels lie, they hold the field's value there; voxels outside the stored slices hold air."""
    volume = study.volume
    assert volume.affine.is_canonical
    expected = bad.sample(bad.ramp_at, volume.affine, volume.shape)
    inside = volume.hu > -1024
    assert inside.mean() > 0.5
    core = np.zeros_like(inside)
    core[2:-2, 2:-2, 2:-2] = True
    trusted = inside & core & _interior(inside)
    assert trusted.sum() > 0.3 * inside.size
    assert np.abs(volume.hu.astype(float) - expected)[trusted].max() <= 1.0


def _interior(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask, iterations=2)


def part_of_truth(first: int, last: int) -> Check:
    """Only the slices from ``first`` to ``last`` (excluded)."""
    affine = Affine.from_spacing(bad.SPACING, (*bad.ORIGIN[:2], bad.ORIGIN[2] + first * bad.SPACING[0]))
    return lambda study: equals(study, Volume(TRUTH.hu[first:last], affine))


def filled(*missing: int) -> Check:
    """Equal to the truth but for the missing slices, which are the mean of their neighbours."""

    def check(study: Study) -> None:
        wanted = TRUTH.hu.astype(float)
        for k in missing:
            wanted[k] = (wanted[k - 1] + wanted[k + 1]) / 2
        equals(study, Volume(wanted, TRUTH.affine), tolerance=0.5)
        others = [k for k in range(bad.SHAPE[0]) if k not in missing]
        assert np.array_equal(study.volume.hu[others], TRUTH.hu[others])
        assert study.ingest.gaps == study.ingest.filled == len(missing)

    return check


def zipped(source: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(source).as_posix())
    return target


def also(tmp: Path, name: str, volume: Volume, edit: bad.Edit | None = None, *, series: int = 1) -> Path:
    """A second series in a folder of its own below; the path is that of both."""
    bad.write_series(tmp / name, volume, edit, series=series)
    return tmp


def tags(**values: object) -> bad.Edit:
    """An edit that sets tags on every slice; None removes one."""

    def edit(_: int, ds: Dataset) -> Dataset:
        for name, value in values.items():
            if value is not None:
                setattr(ds, name, value)
            elif name in ds:
                delattr(ds, name)
        return ds

    return edit


# ------------------------------------------------------------------------------------------- encodings


def _encoding(name: str, syntax: str | None) -> None:
    def build(tmp: Path) -> Path:
        return bad.write_series(tmp, TRUTH, syntax=syntax)

    build.__name__ = "encoding_" + name.replace(" ", "_").replace(",", "").lower()
    handled(f"encoding: {name}", "decoded, voxel for voxel")(build)


for _name, _syntax in {
    "explicit little endian": None,
    "implicit little endian": uids.ImplicitVRLittleEndian,
    "explicit big endian": uids.ExplicitVRBigEndian,
    "deflated": uids.DeflatedExplicitVRLittleEndian,
    "RLE": uids.RLELossless,
    "JPEG 2000": uids.JPEG2000Lossless,
    "JPEG-LS": uids.JPEGLSLossless,
    "JPEG lossless": uids.JPEGLosslessSV1,
    "no preamble and no meta information": "no preamble",
}.items():
    _encoding(_name, _syntax)


# ------------------------------------------------------------------------------------------- order and files


@handled("instance numbers reversed, file names shuffled", "sorted by position along the slice normal")
def reversed_numbers(tmp: Path) -> Path:
    order = np.random.default_rng(3).permutation(bad.SHAPE[0])
    return bad.write_series(
        tmp, TRUTH, lambda k, ds: tags(InstanceNumber=bad.SHAPE[0] - k)(k, ds), name=lambda k: f"{order[k]}.dcm"
    )


@handled("no instance numbers", "sorted by position; slices count along the normal")
def no_numbers(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(InstanceNumber=None))


@handled("no file extension, folders in folders", "every file below the path is looked at")
def nested_without_extension(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, name=lambda k: f"ST{k % 3}/SE0/IM{k:04d}")


@handled("zip archive with folders and operating-system files", "read inside the archive, nothing is unpacked to disk")
def zip_archive(tmp: Path) -> Path:
    folder = bad.write_series(tmp / "a", TRUTH)
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "000.dcm", folder / "__MACOSX" / "._000.dcm")
    return zipped(folder, tmp / "scan.zip", "study/series/")


@handled("path of a DICOMDIR", "the folder around it is read")
def dicomdir(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    index = bad.slice_dataset(TRUTH, 0)
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for name in ("PixelData", "Rows", "Columns", "SOPClassUID"):
        delattr(index, name)
    bad.write(tmp / "DICOMDIR", index)
    return tmp / "DICOMDIR"


@handled("text and other files beside the images", "left out and counted")
def other_files(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    (tmp / "readme.dcm").write_text("not an image " * 50)
    (tmp / "empty.dcm").touch()
    (tmp / "Thumbs.db").write_bytes(b"\0" * 600)
    return tmp


@handled("patient name in GB18030, wrong character set named", "names are never decoded into the report")
def foreign_names(tmp: Path) -> Path:
    def edit(_: int, ds: Dataset) -> Dataset:
        ds.SpecificCharacterSet = "ISO 2022 IR 58"
        ds.add_new(0x00100010, "PN", "王^小东".encode("gb18030"))
        return ds

    return bad.write_series(tmp, TRUTH, edit)


@refused("nothing at the path", UnreadableInput, "not_found")
def nothing_there(tmp: Path) -> Path:
    return tmp / "nowhere"


@refused("empty folder", UnreadableInput, "empty_folder")
def empty_folder(tmp: Path) -> Path:
    (tmp / "below").mkdir(parents=True)
    return tmp


@refused("text file named .dcm", UnreadableInput, "not_dicom")
def text_as_dicom(tmp: Path) -> Path:
    tmp.mkdir(parents=True)
    (tmp / "scan.dcm").write_text("this is no scan")
    return tmp / "scan.dcm"


@refused("damaged zip archive", UnreadableInput, "zip_damaged")
def damaged_zip(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    path.write_bytes(path.read_bytes()[:-4000])
    return path


@refused("zip archive with a damaged member", UnreadableInput, "zip_damaged")
def damaged_member(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    raw = bytearray(path.read_bytes())
    raw[600:900] = bytes(300)
    path.write_bytes(raw)
    return path


@refused("zip archive with names that leave its folder", UnreadableInput, "unsafe_zip")
def traversal_zip(tmp: Path) -> Path:
    return zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip", "../../")


@refused("encrypted zip archive", UnreadableInput, "zip_encrypted")
def encrypted_zip(tmp: Path) -> Path:
    path = zipped(bad.write_series(tmp / "a", TRUTH), tmp / "scan.zip")
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(raw)
    return path


@handled("one truncated file", "left out; counts as a missing slice", "missing_slices_filled", check=filled(17))
def truncated_file(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    path = tmp / "017.dcm"
    path.write_bytes(path.read_bytes()[:-1000])
    return tmp


@handled(
    "one truncated deflated file", "left out; counts as a missing slice", "missing_slices_filled", check=filled(17)
)
def truncated_deflated(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, syntax=uids.DeflatedExplicitVRLittleEndian)
    path = tmp / "017.dcm"
    path.write_bytes(path.read_bytes()[:-300])
    return tmp


@handled(
    "one truncated JPEG 2000 file", "left out; counts as a missing slice",
    "undecodable_slices", "missing_slices_filled", check=filled(17),
)  # fmt: skip
def truncated_jpeg2000(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, syntax=uids.JPEG2000Lossless)
    path = tmp / "017.dcm"
    path.write_bytes(path.read_bytes()[:-300])
    return tmp


@refused("every file truncated", UnreadableInput, "truncated")
def all_truncated(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    for path in tmp.iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    return tmp


@handled(
    "one compressed slice that cannot be decoded", "left out; counts as a missing slice",
    "undecodable_slices", "missing_slices_filled", check=filled(20),
)  # fmt: skip
def damaged_frame(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, syntax=uids.JPEGLSLossless)
    path = tmp / "020.dcm"
    path.write_bytes(path.read_bytes()[:-1500])
    return tmp


@refused("no slice can be decoded", UnreadableInput, "undecodable")
def nothing_decodes(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, syntax=uids.JPEGLSLossless)
    for path in tmp.iterdir():
        path.write_bytes(path.read_bytes()[:-1500])
    return tmp


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


@handled("oblique slices", "resampled to straight axes", "oblique_resampled", check=follows_ramp)
def oblique(tmp: Path) -> Path:
    return bad.write_series(tmp, _ramp_on(_turned(8.0)))


@handled("slices turned by 0.3 degrees", "taken for straight; no value changes", check=lambda s: _close_to_ramp(s))
def hardly_oblique(tmp: Path) -> Path:
    return bad.write_series(tmp, _ramp_on(_turned(0.3)))


def _close_to_ramp(study: Study) -> None:
    assert study.volume.shape == bad.SHAPE
    error = np.abs(study.volume.hu.astype(float) - bad.sample(bad.ramp_at, study.volume.affine, bad.SHAPE))
    assert error.max() < 4  # 0.3 degrees across the volume: under one HU per mm of misplacement


def _turned(degrees: float) -> Affine:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return Affine.from_spacing(bad.SPACING, bad.ORIGIN, turn)


def _sheared(degrees: float) -> Affine:
    """Gantry tilt: slices lean, the table moves straight on."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Affine.from_spacing(bad.SPACING, bad.ORIGIN, np.array([[1, 0, 0], [0, c, 0], [0, s, 1.0]]))


def _ramp_on(affine: Affine) -> Volume:
    return Volume(np.maximum(bad.sample(bad.ramp_at, affine, bad.SHAPE), -1024), affine)


def _tilted(study: Study) -> None:
    assert abs(study.ingest.tilt_degrees - 15.0) < 0.05
    follows_ramp(study)


@handled("gantry tilt of 15 degrees", "measured, resampled and noted", "gantry_tilt_corrected", check=_tilted)
def gantry_tilt(tmp: Path) -> Path:
    return bad.write_series(tmp, _ramp_on(_sheared(15.0)))


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
    return bad.write_series(tmp, TRUTH, _signed(0))


def _signed(intercept: int) -> bad.Edit:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleIntercept = intercept
        bad.set_pixels(ds, TRUTH.hu[k].astype(np.int64), signed=True)
        return ds

    return edit


@handled("intercept of -8192", "applied once")
def large_intercept(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, offset=-8192)


@handled("values in HU already, intercept -1024 in the header (double rescale)", "not applied again", "already_hu")
def double_rescale(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, _signed(-1024))


@handled("no slope and intercept, values stored + 1024", "shift found from the image and undone", "offset_corrected")
def forgotten_rescale(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=None, RescaleIntercept=None))


@handled("rescale slope of 0", "taken for 1, with a warning", "rescale_slope_zero")
def zero_slope(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(RescaleSlope=0))


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


# ------------------------------------------------------------------------------------------- several things


@handled("slices copied twice", "identical copies dropped", "duplicates_dropped", check=lambda s: _copies(s, 36))
def copies(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "again", TRUTH)


def _copies(study: Study, count: int) -> None:
    equals_truth(study)
    assert study.ingest.duplicates == count


@refused("different slices at the same place", GeometryRefused, "conflicting_duplicates")
def conflict(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)

    def other(k: int, ds: Dataset) -> Dataset | None:
        return tags(SOPInstanceUID=bad.uid(77, k))(k, ds) if k in (5, 6, 7) else None

    return also(tmp, "other", _louder(), other)


def _louder() -> Volume:
    return Volume(np.clip(TRUTH.hu + 55, -1024, 3000).astype(np.int16), TRUTH.affine)


@handled("two kernels under one series UID", "split; the standard kernel is read", "series_split", "series_chosen")
def two_kernels(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "sharp", _louder(), tags(ConvolutionKernel="B70f"))


@handled(
    "two phases under one series UID", "told apart by acquisition number, one read, with a warning", "stacks_by_tag"
)
def two_phases(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)

    def later(k: int, ds: Dataset) -> Dataset:
        return tags(AcquisitionNumber=2, InstanceNumber=100 + k, SOPInstanceUID=bad.uid(78, k))(k, ds)

    return also(tmp, "later", _louder(), later)


@handled(
    "two scans under one series UID, interleaved", "told apart by thickness, one read, with a warning", "stacks_by_tag"
)
def interleaved(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    affine = Affine.from_spacing((5.0, 5.0, 4.0), (*bad.ORIGIN[:2], bad.ORIGIN[2] + 0.7))

    def thick(k: int, ds: Dataset) -> Dataset:
        return tags(InstanceNumber=200 + k, SOPInstanceUID=bad.uid(80, k))(k, ds)

    return also(tmp, "thick", Volume(TRUTH.hu[::2], affine), thick)


@handled(
    "two scans that only instance numbers tell apart", "cut where positions repeat, with a warning", "stacks_by_number"
)
def two_by_number(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)

    def later(k: int, ds: Dataset) -> Dataset:
        return tags(InstanceNumber=100 + k, SOPInstanceUID=bad.uid(79, k))(k, ds)

    return also(tmp, "later", _louder(), later)


@handled(
    "two series: lung and standard kernel", "the standard kernel is read and the choice explained", "series_chosen"
)
def two_series(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "lung", _louder(), tags(ConvolutionKernel="LUNG"), series=2)


@handled("thin and thick series", "the thin one is read", "series_chosen")
def thin_and_thick(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH, series=5)
    thick = Volume(TRUTH.hu[::2], Affine.from_spacing((5.0, 5.0, 4.0), bad.ORIGIN))
    return also(tmp, "thick", thick, series=2)


@handled("localizer of another size", "left out")
def localizer_other_size(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(64, 32))
    return tmp


@handled("localizer of the same size", "left out")
def localizer_same_size(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(40, 48))
    return tmp


@handled("localizer of the same size, not marked as one", "split off by its orientation", "series_split")
def localizer_unmarked(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    bad.write(tmp / "scout.dcm", bad.localizer(40, 48, tagged=False))
    return tmp


@refused("localizers only", GeometryRefused, "only_localizers")
def only_localizers(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    bad.write(tmp / "scout.dcm", bad.localizer(64, 64))
    return tmp


def _one_more(**values: object) -> Build:
    def build(tmp: Path) -> Path:
        bad.write_series(tmp, TRUTH)
        ds = tags(SOPInstanceUID=bad.uid(88, 1), InstanceNumber=99, **values)(0, bad.slice_dataset(_louder(), 0))
        bad.write(tmp / "more.dcm", ds)
        return tmp

    return build


@handled("secondary capture in the series", "left out")
def secondary_capture(tmp: Path) -> Path:
    return _one_more(SOPClassUID=bad.SECONDARY_CAPTURE, Modality="OT")(tmp)


@handled("dose sheet in the series", "left out")
def dose_sheet(tmp: Path) -> Path:
    return _one_more(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])(tmp)


@handled("structured report beside the images", "left out")
def structured_report(tmp: Path) -> Path:
    return _one_more(Modality="SR", Rows=None, Columns=None, PixelData=None)(tmp)


@handled("maximum intensity projections with the series' own geometry", "left out")
def projections(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "mip", _louder(), tags(ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"]))


@handled("coronal reformats beside the axial series", "the axial series is read", "series_chosen")
def reformats(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    coronal_view = bad.stored_as(_louder(), (1, 0, 2), (1, -1, 1))
    return also(tmp, "mpr", coronal_view, tags(ImageType=["DERIVED", "SECONDARY", "MPR"]), series=3)


@handled("reformats only", "read, with a warning", "reformatted")
def only_reformats(tmp: Path) -> Path:
    coronal_view = bad.stored_as(TRUTH, (1, 0, 2), (1, -1, 1))
    return bad.write_series(tmp, coronal_view, tags(ImageType=["DERIVED", "SECONDARY", "MPR"]))


@refused("projections only", GeometryRefused, "only_derived")
def only_projections(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(ImageType=["DERIVED", "SECONDARY", "MIP"]))


@refused("two patients in one folder", InputRefused, "several_patients")
def two_patients(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    return also(tmp, "b", TRUTH, tags(PatientID="OTHER"), series=2)


@handled("two studies of one patient", "the newest is read, with a warning", "several_studies")
def two_studies(tmp: Path) -> Path:
    bad.write_series(tmp, TRUTH)
    old = tags(StudyInstanceUID=bad.uid(950), StudyDate="20150101", SliceThickness=1.0)
    return also(tmp, "old", _louder(), old, series=2)


# ------------------------------------------------------------------------------------------- multi-frame


@handled(
    "Enhanced CT, frames shuffled, rescale per frame",
    "frames sorted by position, each rescaled by its own",
    "rescale_varies",
)
def enhanced(tmp: Path) -> Path:
    order = [int(k) for k in np.random.default_rng(4).permutation(bad.SHAPE[0])]
    tmp.mkdir(parents=True, exist_ok=True)
    floor = Volume(np.maximum(TRUTH.hu, -1000), TRUTH.affine)
    bad.write(tmp / "enhanced.dcm", bad.multi_frame(floor, order))
    return tmp / "enhanced.dcm"


CASES[-1] = Case(
    "enhanced", CASES[-1].defect, CASES[-1].done, enhanced, CASES[-1].codes, None,
    lambda s: equals(s, Volume(np.maximum(TRUTH.hu, -1000), TRUTH.affine)),
)  # fmt: skip


@handled("Enhanced CT with shared functional groups only", "rescale taken from the shared group")
def enhanced_shared(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    bad.write(tmp / "enhanced.dcm", bad.multi_frame(TRUTH, list(range(bad.SHAPE[0])), shared_only=True))
    return tmp


@handled("Legacy Converted Enhanced CT, JPEG-LS, head first to foot", "decoded and sorted")
def legacy_enhanced(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    order = list(range(bad.SHAPE[0]))[::-1]
    ds = bad.multi_frame(TRUTH, order, shared_only=True, sop_class=bad.LEGACY_CT)
    bad.write(tmp / "legacy.dcm", ds, uids.JPEGLSLossless)
    return tmp


@refused("multi-frame without a position for each frame", GeometryRefused, "no_position")
def multi_frame_bare(tmp: Path) -> Path:
    tmp.mkdir(parents=True, exist_ok=True)
    ds = bad.multi_frame(TRUTH, list(range(bad.SHAPE[0])), shared_only=True)
    del ds.PerFrameFunctionalGroupsSequence
    bad.write(tmp / "bare.dcm", ds)
    return tmp


# ------------------------------------------------------------------------------------------- what it shows


def _modality(modality: str, sop_class: str) -> None:
    def build(tmp: Path) -> Path:
        return bad.write_series(tmp, TRUTH, tags(Modality=modality, SOPClassUID=sop_class))

    build.__name__ = f"modality_{modality.lower()}"
    refused(f"modality {modality}", WrongModality, "wrong_modality")(build)


_modality("MR", "1.2.840.10008.5.1.4.1.1.4")
_modality("PT", "1.2.840.10008.5.1.4.1.1.128")
_modality("DX", "1.2.840.10008.5.1.4.1.1.1.1")


@refused("head CT by its tags, no lung in the image", WrongBodyPart, "wrong_body_part")
def head(tmp: Path) -> Path:
    hu = np.where(TRUTH.hu < -500, -1000, TRUTH.hu).astype(np.int16)
    return bad.write_series(tmp, Volume(hu, TRUTH.affine), tags(BodyPartExamined="HEAD"))


@handled(
    "tags say ABDOMEN, the image shows lungs", "read, with a warning; the image decides", "body_part_tag_contradicts"
)
def wrong_tag(tmp: Path) -> Path:
    return bad.write_series(tmp, TRUTH, tags(BodyPartExamined="ABDOMEN"))


# ------------------------------------------------------------------------------------------- NIfTI


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
    path = bad.write_nifti(tmp / "a.nii", TRUTH)
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y, srow_z of the NIfTI-1 header
    path.write_bytes(raw)
    return path


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
    return bad.write_nifti(tmp / "a.nii.gz", _ramp_on(_turned(8.0)))


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
    path = bad.write_nifti(tmp / "a.nii", TRUTH)
    raw = bytearray(path.read_bytes())
    raw[70:72] = struct.pack("<h", 9999)  # datatype
    path.write_bytes(raw)
    return path


# ------------------------------------------------------------------------------------------- the table in the docs

SECTIONS = {
    "encoding_explicit_little_endian": "Encodings",
    "reversed_numbers": "Order and files",
    "coronal": "Orientation and tilt",
    "one_missing": "Slice spacing and coverage",
    "imager_spacing": "Missing tags",
    "varying_rescale": "Hounsfield units",
    "copies": "Several things in one folder",
    "enhanced": "Multi-frame",
    "modality_mr": "What the scan shows",
    "nifti_qform": "NIfTI",
}


def row(case: Case) -> str:
    """One line of the table."""
    codes = ", ".join(f"`{code}`" for code in case.codes) or "-"
    done = case.done if case.refused is None else f"refused (`{case.refused.__name__}`)"
    return f"| {case.defect} | {done} | {codes} |"


def table() -> str:
    """The whole table as Markdown: ``python tests/ingest_cases.py`` prints it."""
    lines = []
    for case in CASES:
        if case.name in SECTIONS:
            lines += ["", f"## {SECTIONS[case.name]}", "", "| defect | what is done | code |", "| --- | --- | --- |"]
        lines.append(row(case))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
