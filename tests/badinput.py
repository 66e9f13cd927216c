"""Writes scans with every defect we know, from a volume whose truth is known.

The truth is small, asymmetric along every axis and carries a different number in every corner, so that a flip, a
swap or a shift by one slice cannot pass. All values are made up; no patient is behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctscribe.tensors import Affine, Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ROOT = "1.2.826.0.1.3680043.10.1337"
SHAPE, SPACING, ORIGIN = (36, 40, 48), (2.5, 5.0, 4.0), (-90.0, -110.0, -40.0)

Edit = Callable[[int, Dataset], Dataset | None]


def truth() -> Volume:
    """A block of soft tissue in air with two unequal lungs, off centre, and a number of its own in each voxel."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[(x / 0.9) ** 2 + ((y - 0.05) / 0.8) ** 2 < 1] = 40
    hu[((x + 0.4) / 0.3) ** 2 + (y / 0.5) ** 2 + ((z - 0.1) / 1.1) ** 2 < 1] = -850
    hu[((x - 0.42) / 0.24) ** 2 + (y / 0.5) ** 2 + ((z - 0.1) / 0.8) ** 2 < 1] = -820
    hu[((x - 0.1) / 0.1) ** 2 + ((y - 0.5) / 0.12) ** 2 < 1] = 420
    hu += 30 * z - 20 * y * (x > 0) + np.random.default_rng(7).integers(-9, 10, SHAPE)
    hu[:3, :4, :5], hu[-2:, -3:, -4:], hu[-3:, :2, :2] = 900, 300, 1500
    return Volume(np.clip(np.rint(hu), -1024, 3000).astype(np.int16), Affine.from_spacing(SPACING, ORIGIN))


def ramp_at(world: np.ndarray) -> np.ndarray:
    """HU that grow linearly in space: linear interpolation must reproduce them wherever the slices lie."""
    return -380.0 + world @ np.array([3.1, 2.3, 1.7])


def ramp() -> Volume:
    """`ramp_at` on the grid of the truth."""
    affine = truth().affine
    return Volume(sample(ramp_at, affine, SHAPE), affine)


def sample(field: Callable[[np.ndarray], np.ndarray], affine: Affine, shape: tuple[int, int, int]) -> np.ndarray:
    """Values of a field at every voxel of any grid, rounded to int16."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return np.rint(field(affine.to_world(index))).astype(np.int16)


def stored_as(volume: Volume, order: tuple[int, int, int], signs: tuple[int, int, int]) -> Volume:
    """The same scan with its array axes permuted and reversed, and an affine that says so.

    ``order[i]`` is the array axis of ``volume`` (0 = z) that becomes array axis i; sign -1 reverses it.
    """
    flips = tuple(slice(None, None, s) for s in signs)
    hu = np.ascontiguousarray(volume.hu.transpose(order)[flips])
    columns = volume.affine.matrix[:, [2, 1, 0]][:, list(order)]  # world steps, by array axis
    matrix = volume.affine.matrix.copy()
    for axis in range(3):
        if signs[axis] < 0:
            matrix[:3, 3] += columns[:3, axis] * (hu.shape[axis] - 1)
        matrix[:, 2 - axis] = signs[axis] * columns[:, axis]
    return Volume(hu, Affine(matrix))


# ------------------------------------------------------------------------------------------- DICOM


def uid(*parts: object) -> str:
    """The same parts give the same UID."""
    return ".".join([ROOT, *(str(p) for p in parts)])


def slice_dataset(volume: Volume, k: int, *, series: int = 1, offset: int = -1024, bits: int = 16) -> FileDataset:
    """Slice ``k`` of a volume as a CT image: unsigned stored values, HU = stored + ``offset``."""
    matrix = volume.affine.matrix
    rows, columns = volume.shape[1:]
    ds = FileDataset("", {}, preamble=b"\0" * 128)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CT
    ds.file_meta.MediaStorageSOPInstanceUID = uid(series, k + 1)
    ds.SOPClassUID, ds.SOPInstanceUID = CT, uid(series, k + 1)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid(900), uid(series), uid(901)
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = "Secret^Name", "SECRET-ID", "F", "061Y"
    ds.StudyDate, ds.AccessionNumber, ds.InstitutionName = "20200102", "SECRET-ACC", "SECRET-HOSPITAL"
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = series, k + 1, 1
    ds.PatientPosition, ds.BodyPartExamined, ds.KVP = "HFS", "CHEST", 120
    ds.SliceThickness, ds.ConvolutionKernel = float(volume.spacing[0]), "B30f"
    ds.ImagePositionPatient = [round(float(v), 6) for v in matrix[:3] @ [0, 0, k, 1]]
    ds.ImageOrientationPatient = [round(float(v), 8) for v in volume.affine.direction[:, :2].T.ravel()]
    ds.PixelSpacing = [float(volume.spacing[1]), float(volume.spacing[2])]
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, offset, "HU"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    set_pixels(ds, volume.hu[k].astype(np.int64) - offset)
    return ds


def set_pixels(ds: Dataset, stored: np.ndarray, *, signed: bool | None = None) -> None:
    """Put stored values into the dataset, signed or as it says."""
    if signed is not None:
        ds.PixelRepresentation = int(signed)
    kind = "<i2" if ds.PixelRepresentation else "<u2"
    if stored.min() < np.iinfo(kind).min or stored.max() > np.iinfo(kind).max:
        raise ValueError("the stored values do not fit")
    ds.PixelData = np.ascontiguousarray(stored).astype(kind).tobytes()
    ds["PixelData"].VR = "OW"


def stored_values(ds: Dataset) -> np.ndarray:
    """What `set_pixels` put there."""
    kind = "<i2" if ds.PixelRepresentation else "<u2"
    return np.frombuffer(ds.PixelData, kind).reshape(ds.Rows, ds.Columns).astype(np.int64)


def write_series(
    folder: Path,
    volume: Volume,
    edit: Edit | None = None,
    *,
    syntax: str | None = None,
    name: Callable[[int], str] = "{:03d}.dcm".format,
    **slice_options: Any,
) -> Path:
    """One file per slice; ``edit(k, dataset)`` changes a slice before it is written, None leaves it out."""
    for k in range(volume.shape[0]):
        dataset: Dataset | None = slice_dataset(volume, k, **slice_options)
        if edit is not None and dataset is not None:
            dataset = edit(k, dataset)
        if dataset is not None:
            path = folder / name(k)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, dataset, syntax)
    return folder


def write(path: Path, ds: Dataset, syntax: str | None = None) -> None:
    """Write one dataset, encoded as asked."""
    if syntax in (None, ExplicitVRLittleEndian):
        ds.save_as(path, enforce_file_format=True)
    elif syntax == "no preamble":
        ds.file_meta = FileMetaDataset()
        del ds.preamble
        ds.save_as(path, implicit_vr=True, little_endian=True)
    elif syntax == pydicom.uid.ExplicitVRBigEndian:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, enforce_file_format=True)
    elif syntax in (ImplicitVRLittleEndian, pydicom.uid.DeflatedExplicitVRLittleEndian):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path, enforce_file_format=True)
    elif syntax in GDCM_ENCODES:
        ds.save_as(path, enforce_file_format=True)
        _gdcm_transcode(path, GDCM_ENCODES[syntax])
    else:
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path, enforce_file_format=True)


GDCM_ENCODES = {
    pydicom.uid.JPEGLosslessSV1: "JPEGLosslessProcess14_1",
    pydicom.uid.JPEGLossless: "JPEGLosslessProcess14",
}


def _gdcm_transcode(path: Path, syntax: str) -> None:
    """pydicom has no encoder for lossless JPEG; GDCM has."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise RuntimeError("GDCM cannot read the file back")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError("GDCM cannot encode lossless JPEG")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise RuntimeError("GDCM cannot write the file")


def multi_frame(
    volume: Volume, order: list[int], *, shared_only: bool = False, sop_class: str = ENHANCED_CT
) -> FileDataset:
    """All slices in one Enhanced CT object, frames in the given order; slope and intercept per frame or shared."""
    ds = slice_dataset(volume, 0)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    moved = (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
        "RescaleSlope", "RescaleIntercept", "RescaleType", "ConvolutionKernel", "KVP",
    )  # fmt: skip
    keep = {name: getattr(ds, name) for name in moved}
    for name in moved:
        delattr(ds, name)
    shared, frames, pixels = Dataset(), [], []
    shared.PixelMeasuresSequence = [_item(PixelSpacing=keep["PixelSpacing"], SliceThickness=keep["SliceThickness"])]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=keep["ImageOrientationPatient"])]
    shared.CTReconstructionSequence = [_item(ConvolutionKernel=keep["ConvolutionKernel"])]
    if shared_only:
        shared.PixelValueTransformationSequence = [_item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")]
    for place, k in enumerate(order):
        intercept = -1024 if shared_only else -1000 - k
        group = Dataset()
        group.PlanePositionSequence = [_item(ImagePositionPatient=slice_dataset(volume, k).ImagePositionPatient)]
        group.FrameContentSequence = [_item(InStackPositionNumber=place + 1, StackID="1")]
        group.CTImageFrameTypeSequence = [_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
        if not shared_only:
            group.PixelValueTransformationSequence = [
                _item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")
            ]
        frames.append(group)
        pixels.append((np.maximum(volume.hu[k].astype(np.int64) - intercept, 0)).astype("<u2"))
    ds.NumberOfFrames = len(order)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    ds.PixelData = np.stack(pixels).tobytes()
    return ds


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def localizer(rows: int, columns: int, *, tagged: bool = True, series: int = 1) -> FileDataset:
    """A coronal scout image that lies in the same series."""
    picture = Volume(np.zeros((1, rows, columns), np.int16), Affine.from_spacing((500.0, 1.0, 1.0)))
    ds = slice_dataset(picture, 0, series=series)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(series, 9000)
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [-90, 0, 100]
    ds.PixelSpacing, ds.InstanceNumber = [SPACING[1], SPACING[2]], 1
    if tagged:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return ds


# ------------------------------------------------------------------------------------------- NIfTI


def write_nifti(
    path: Path,
    volume: Volume,
    *,
    data: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    edit: Callable[[Any], None] | None = None,
) -> Path:
    """A NIfTI file of the volume (array order x, y, z; RAS). ``codes`` are (qform, sform)."""
    import nibabel as nib

    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine.matrix
    values = volume.hu.transpose(2, 1, 0) if data is None else data
    image = nib.Nifti1Image(values, None)
    image.header.set_sform(matrix, code=codes[1])
    image.header.set_qform(matrix if qform is None else qform, code=codes[0], strip_shears=True)
    image.header.set_xyzt_units("mm")
    if edit is not None:
        edit(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path
