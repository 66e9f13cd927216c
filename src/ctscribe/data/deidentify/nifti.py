"""De-identifying NIfTI: free text of the header and its extensions go, voxels and geometry stay."""

from __future__ import annotations

import gzip
import io

import numpy as np

from ctscribe.errors import UnreadableInput

TEXTS = ("descrip", "aux_file", "intent_name", "db_name")
"""Header fields that converters fill with names, dates and paths."""


def clean_nifti(content: bytes) -> bytes:
    """A gzip-compressed NIfTI without free text, extensions, or a file name in the gzip header.

    Raises:
        UnreadableInput: ``not_nifti``.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        kind = nib.Nifti2Image if plain[4:7] == b"n+2" else nib.Nifti1Image
        image = kind.from_bytes(plain)
        raw = np.asanyarray(image.dataobj.get_unscaled() if hasattr(image.dataobj, "get_unscaled") else image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError) as error:
        raise UnreadableInput(
            "a file cannot be read as NIfTI", code="not_nifti", expected="a .nii or .nii.gz file", got=str(error)
        ) from error
    header = image.header.copy()
    header.extensions.clear()
    for name in TEXTS:
        if name in header:
            header[name] = b""
    if "data_type" in header:
        header["data_type"] = b""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    cleaned = kind(raw, image.affine, header)
    cleaned.header.set_data_dtype(raw.dtype)
    cleaned.header.set_slope_inter(slope, inter)
    buffer = io.BytesIO()
    cleaned.to_stream(buffer)
    return gzip.compress(buffer.getvalue(), mtime=0)
