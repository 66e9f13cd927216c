"""Synthetic chest CT whose findings are known exactly."""

from __future__ import annotations

from .canvas import DEMO_GRID, NATIVE_GRID, GridSpec
from .lesions import INSERTABLE
from .prior import PREVALENCE, LesionPrior
from .scanner import ScannerPrior
from .scene import Lesion
from .study import LesionMask, PhantomStudy, generate, insert
from .write import write_dicom, write_nifti

__all__ = [
    "DEMO_GRID",
    "INSERTABLE",
    "NATIVE_GRID",
    "PREVALENCE",
    "GridSpec",
    "Lesion",
    "LesionMask",
    "LesionPrior",
    "PhantomStudy",
    "ScannerPrior",
    "generate",
    "insert",
    "write_dicom",
    "write_nifti",
]
