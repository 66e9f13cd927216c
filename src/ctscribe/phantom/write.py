"""Write a phantom as NIfTI + JSON, or as a DICOM CT series."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ctscribe.phantom.study import PhantomStudy

_MANUFACTURER = "ctscribe"
_KERNELS = {"soft": "B30f", "medium": "B50f", "sharp": "B70f"}


def truth(study: PhantomStudy) -> dict[str, Any]:
    """Everything that is known, as plain data."""
    return {
        "synthetic": True,
        "meta": study.meta,
        "region_names": {str(k): v for k, v in study.region_names.items()},
        "lesions": [asdict(x) for x in study.lesions],
        "findings": [asdict(x) for x in study.findings],
    }


def write_nifti(study: PhantomStudy, folder: str | Path) -> Path:
    """Write ``ct``, ``regions`` and ``lesions`` (``.nii.gz``) and ``truth.json``; returns the folder.

    ``lesions`` holds `Lesion.label`; where lesions overlap, the one drawn last. Each file is written under a
    temporary name and renamed.
    """
    import nibabel as nib

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # NIfTI worlds are RAS+: x and y change sign; its arrays go (x, y, z).
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


def write_dicom(study: PhantomStudy, folder: str | Path) -> Path:
    """Write one CT Image Storage file a slice, and ``truth.json`` beside them; returns the folder.

    Stored values are unsigned 12-bit-style with intercept -1024, as most scanners write them. Identifiers are
    derived from the seed and the grid, so that equal studies get equal files; the patient is named as a phantom.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    common = _common(study)
    shape = study.volume.shape
    centres = study.volume.affine.to_world(np.array([[k, 0, 0] for k in range(shape[0])]))
    # Instance 1 is the topmost slice, as on most scanners; a reader has to sort by position.
    for number, k in enumerate(range(shape[0] - 1, -1, -1), start=1):
        temporary = folder / f".{number:04d}.tmp"
        _slice(common, study, k, number, centres[k]).save_as(temporary, enforce_file_format=True)
        os.replace(temporary, folder / f"IM{number:04d}.dcm")
    _write_json(folder / "truth.json", truth(study))
    return folder


def _common(study: PhantomStudy) -> Any:
    """Attributes that all slices share."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, generate_uid

    meta = study.meta
    key = [
        str(meta.get("seed", 0)),
        str(study.volume.shape),
        str(study.volume.spacing),
        str(sorted(meta.items())),
    ]
    day = date(2020, 1, 1) + timedelta(days=int(meta.get("seed", 0)) % 1400 + int(meta.get("day", 0)))
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = f"PH{meta.get('seed', 0)}"
    ds.Modality = "CT"
    ds.Manufacturer = _MANUFACTURER
    ds.ManufacturerModelName = "phantom"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "SYNTHETIC chest CT"
    ds.SeriesDescription = f"SYNTHETIC chest {meta.get('scanner_kernel', '')}".strip()
    ds.PatientName = f"PHANTOM^{meta.get('seed', 0)}"
    ds.PatientID = f"PHANTOM-{meta.get('seed', 0)}"
    ds.PatientBirthDate = ""
    ds.PatientSex = meta.get("sex", "O")
    if "age" in meta:
        ds.PatientAge = f"{int(meta['age']):03d}Y"
    ds.BodyPartExamined = "CHEST"
    ds.KVP = "120"
    ds.SliceThickness = _decimal(meta.get("scanner_thickness", study.volume.spacing[0]))
    ds.SpacingBetweenSlices = _decimal(study.volume.spacing[0])
    ds.ConvolutionKernel = _KERNELS.get(str(meta.get("scanner_kernel")), "B50f")
    ds.PatientPosition = "HFS"
    if meta.get("contrast_phase", "none") != "none":
        ds.ContrastBolusAgent = "IODINE"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", *key])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *key])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", *key])
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.AcquisitionNumber = 1
    return ds


def _slice(common: Any, study: PhantomStudy, k: int, number: int, centre: np.ndarray) -> Any:
    from copy import deepcopy

    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    ds = deepcopy(common)
    direction = study.volume.affine.direction
    _, y, x = study.volume.spacing
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[ds.SeriesInstanceUID, str(number)])
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [_decimal(v) for v in centre]
    ds.ImageOrientationPatient = [_decimal(v) for v in (*direction[:, 0], *direction[:, 1])]
    ds.SliceLocation = _decimal(centre[2])
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = study.volume.shape[1:]
    ds.PixelSpacing = [_decimal(y), _decimal(x)]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["-600", "40"], ["1500", "400"]
    stored = np.clip(study.volume.hu[k].astype(np.int32) + 1024, 0, 65535).astype("<u2")
    ds.PixelData = stored.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    text = f"{float(value):.8g}"
    return "0" if text == "-0" else text


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
