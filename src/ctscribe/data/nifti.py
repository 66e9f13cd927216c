"""NIfTI-1/2 -> values on the stored grid, with the orientation the header really states."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctscribe.data.files import Blob
from ctscribe.data.limits import check_memory
from ctscribe.data.study import IngestLog, IngestPolicy, SourceMap
from ctscribe.errors import GeometryRefused, InputRefused, UnreadableInput, WrongModality
from ctscribe.tensors import Affine, Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

#: NIfTI is RAS+, this package LPS+: the first two world axes change sign, in either direction.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI-1 xyzt_units codes: unknown, metre, millimetre, micrometre
#: Length of a NIfTI-2 header; a NIfTI-1 header is shorter, and both name their kind within it.
HEADER_BYTES = 540
_DAMAGE = (EOFError, OSError, zlib.error, ValueError, TypeError, KeyError, OverflowError)


@dataclass(frozen=True)
class StoredImage:
    """The image as it lies on disk: ``volume`` may be flipped or oblique."""

    volume: Volume
    source: SourceMap


def read_nifti(blob: Blob, policy: IngestPolicy, log: IngestLog) -> StoredImage:
    """Read one file.

    Raises:
        InputRefused: ``too_large``, ``not_a_number``.
        UnreadableInput: ``truncated``, ``not_nifti``, ``empty_file``.
        GeometryRefused: ``bad_affine``, ``no_orientation``, ``orientation_conflict``, ``four_d``, ``single_slice``.
        WrongModality: ``colour_image``, ``not_hounsfield``.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    with _quiet():
        try:
            image = open_image(blob, policy)
        except (ImageFileError, HeaderDataError, *_DAMAGE) as error:
            raise _damaged(blob, error) from error
        matrix = _affine(image, policy, log)
        _check_kind(image)
        try:
            data = np.asanyarray(image.dataobj)
        except (*_DAMAGE, MemoryError) as error:
            raise _damaged(blob, error) from error
    data = _three_d(data)
    affine = Affine(RAS_TO_LPS @ matrix)
    hu = np.ascontiguousarray(_clean(data, log).transpose(2, 1, 0))
    return StoredImage(Volume(hu, affine), source_map(affine, (hu.shape[0], hu.shape[1], hu.shape[2])))


@contextmanager
def _quiet() -> Iterator[None]:
    """nibabel logs header repairs to stderr; what matters of them is checked here."""
    from nibabel import imageglobals

    before = imageglobals.logger.disabled
    imageglobals.logger.disabled = True
    try:
        yield
    finally:
        imageglobals.logger.disabled = before


def open_image(blob: Blob, policy: IngestPolicy) -> Nifti1Image:
    """The image; its values stay on disk where the file is not packed. Whether it is packed the bytes say, not the
    name. A packed file is read to its end, for only there its checksum stands."""
    import nibabel as nib

    with blob.open() as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = gzip.GzipFile(fileobj=file) if packed else file
        head = content.read(HEADER_BYTES)
        if head[344:347] not in (b"n+1", b"ni1") and head[4:7] != b"n+2":
            raise ValueError("no NIfTI header")
        kind = nib.Nifti2Image if head[4:7] == b"n+2" else nib.Nifti1Image
        check_memory(kind.header_class.from_fileobj(io.BytesIO(head), check=False).get_data_shape(), policy)
        if blob.path is not None and not packed and blob.base.lower().endswith(".nii"):
            return kind.from_filename(blob.path)
        return kind.from_bytes(head + content.read())


def _damaged(blob: Blob, error: Exception) -> UnreadableInput:
    if blob.size == 0:
        return UnreadableInput(f"the file {blob.base} is empty", code="empty_file", hint="copy or download it again")
    cut = isinstance(error, EOFError | zlib.error | OSError) or "end of" in str(error) or "buffer" in str(error)
    return UnreadableInput(
        f"the file {blob.base} cannot be read as NIfTI",
        code="truncated" if cut else "not_nifti",
        expected="a whole .nii or .nii.gz file",
        got="a file that ends too early or is damaged" if cut else "another kind of file",
        hint="copy or download it again",
    )


# ------------------------------------------------------------------------------------------- where it is


def _affine(image: Nifti1Image, policy: IngestPolicy, log: IngestLog) -> np.ndarray:
    """4x4 to RAS mm. The sform wins where both are given, as the standard suggests, unless they disagree about
    which side is which."""
    header = image.header
    sform, qform = _coded(header, "sform"), _coded(header, "qform")
    if sform is None and qform is None:
        if not policy.allow_unknown_orientation:
            raise GeometryRefused(
                "the NIfTI file does not say how the patient lies",
                code="no_orientation",
                expected="a valid sform or qform (code above 0)",
                got="neither: left and right cannot be told apart",
                hint="convert the DICOM series again, or set `allow_unknown_orientation` if it is known to be RAS+",
            )
        log.note("orientation_assumed", "warning", "the file states no orientation; RAS+ was assumed as allowed")
        sform = np.diag([*(float(z) for z in header.get_zooms()[:3]), 1.0])
    if sform is not None and qform is not None:
        _compare(sform, qform, log)
    elif int(header["sform_code"]) > 0 and sform is None:
        log.note("sform_broken", "warning", "the sform is not a usable matrix; the qform was taken")
    matrix = sform if sform is not None else qform
    if matrix is None:
        raise ValueError("unreachable: one of the two matrices is set")
    scale = _TO_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if scale != 1.0:
        log.note("units_converted", "info", "the header's length unit was converted to mm")
        matrix = np.diag([scale, scale, scale, 1.0]) @ matrix
    return matrix


def _coded(header: object, which: str) -> np.ndarray | None:
    """Matrix of the sform or qform when its code says it is set and it can be inverted."""
    try:
        matrix, code = getattr(header, f"get_{which}")(coded=True)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    if matrix is None or not code or not np.all(np.isfinite(matrix)):
        return None
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.any(lengths < 1e-6) or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 0.2:
        return None
    return matrix


def _compare(sform: np.ndarray, qform: np.ndarray, log: IngestLog) -> None:
    import nibabel as nib

    if np.allclose(sform, qform, atol=1e-2):
        return
    names = "".join(nib.aff2axcodes(sform)), "".join(nib.aff2axcodes(qform))
    if names[0] != names[1]:
        raise GeometryRefused(
            "the two orientations in the NIfTI header contradict each other",
            code="orientation_conflict",
            expected="sform and qform with the same axes",
            got=f"sform {names[0]}, qform {names[1]}: left and right may be exchanged",
            hint="convert the DICOM series again, or correct the header",
        )
    log.note("sform_qform_differ", "warning", "sform and qform place the scan differently; the sform was taken")


# ------------------------------------------------------------------------------------------- what it holds


def _check_kind(image: Nifti1Image) -> None:
    kind = image.get_data_dtype()
    if kind.names or kind.subdtype:
        raise WrongModality(
            "the image is in colour", code="colour_image", expected="one value per voxel, in HU", got=str(kind),
            hint="give the CT volume itself, not a rendering of it",
        )  # fmt: skip
    if kind.kind not in "iuf":
        raise WrongModality("the image holds no plain numbers", code="not_hounsfield", expected="HU", got=str(kind))


def _three_d(data: np.ndarray) -> np.ndarray:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim > 3:
        raise GeometryRefused(
            "the image has more than three dimensions",
            code="four_d",
            expected="one volume",
            got="x".join(map(str, data.shape)),
            hint="give one time point or phase as a file of its own",
        )
    if data.ndim < 3 or min(data.shape) < 2:
        raise GeometryRefused(
            "the image is a single slice",
            code="single_slice",
            expected="a volume",
            got="x".join(map(str, data.shape)),
            hint="give the whole series",
        )
    return data


def _clean(data: np.ndarray, log: IngestLog) -> np.ndarray:
    """int16 where every value is whole and fits, else float32; values that are no numbers become air."""
    if data.dtype.kind in "iu":
        if data.dtype == np.int16 or (data.min() >= -32768 and data.max() <= 32767):
            return data.astype(np.int16, copy=False)
        log.note("values_clipped", "info", "values beyond +-32767 were clipped")
        return np.clip(data, -32768, 32767).astype(np.int16)
    values = data.astype(np.float32, copy=True)
    bad = ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    if count > 0.05 * values.size:
        raise InputRefused(
            "too many voxels are not numbers",
            code="not_a_number",
            expected="at most 5 % NaN or infinite",
            got=f"{100 * count / values.size:.0f} %",
            hint="convert the scan again",
        )
    if count:
        values[bad] = min(-1024.0, float(values[~bad].min()))
        log.note("not_a_number_filled", "warning", f"{count} voxels were not numbers and were set to air")
    np.clip(values, -32768, 32767, out=values)
    whole = np.rint(values)
    return whole.astype(np.int16) if float(np.max(np.abs(whole - values))) < 1e-2 else values


def source_map(affine: Affine, shape: tuple[int, int, int]) -> SourceMap:
    """Slices counted along the stored axis closest to head-foot; rows along the one closest to front-back."""
    from scipy.optimize import linear_sum_assignment

    _, (x_axis, y_axis, z_axis) = linear_sum_assignment(-np.abs(affine.direction))  # world axis -> voxel axis
    steps = affine.matrix[:3, :3]
    size = shape[::-1]
    numbers = np.arange(size[z_axis])
    return SourceMap(
        origins=affine.matrix[:3, 3] + numbers[:, None] * steps[:, z_axis],
        row_step=steps[:, y_axis].copy(),
        column_step=steps[:, x_axis].copy(),
        size=(size[y_axis], size[x_axis]),
        slice_numbers=tuple(int(n) + 1 for n in numbers),
        instance_numbers=(None,) * len(numbers),
        sop_instance_uids=(None,) * len(numbers),
        frame_numbers=(None,) * len(numbers),
    )
