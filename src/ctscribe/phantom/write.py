"""Write a phantom as NIfTI + JSON, or as a DICOM CT series."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .study import PhantomStudy


def write_nifti(study: PhantomStudy, folder: str | Path) -> Path:
    """``ct.nii.gz``, ``regions.nii.gz``, ``lesions.nii.gz`` (label of the last drawn lesion) and ``truth.json``.

    Returns the folder. Files are written under a temporary name and renamed.
    """
    import nibabel as nib

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # NIfTI is RAS+: flip the signs of the world x and y rows; arrays go (x, y, z).
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ study.volume.affine.matrix
    lesions = np.zeros(study.volume.shape, np.uint16)
    for label, piece in study.lesion_masks.items():
        lesions[piece.slices][piece.mask] = label
    for name, array in (("ct", study.volume.hu), ("regions", study.regions), ("lesions", lesions)):
        image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
        temporary = folder / f".{name}.tmp.nii.gz"
        nib.save(image, temporary)
        os.replace(temporary, folder / f"{name}.nii.gz")
    _write_json(folder / "truth.json", truth(study))
    return folder


def truth(study: PhantomStudy) -> dict[str, Any]:
    """Everything that is known, as plain data."""
    return {
        "synthetic": True,
        "meta": study.meta,
        "region_names": {str(k): v for k, v in study.region_names.items()},
        "lesions": [asdict(x) for x in study.lesions],
        "findings": [asdict(x) for x in study.findings],
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_dicom(study: PhantomStudy, folder: str | Path) -> Path:
    raise NotImplementedError
