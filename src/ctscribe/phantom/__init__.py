"""Synthetic chest CT whose findings are known exactly."""

from __future__ import annotations

from ctscribe.phantom.canvas import DEMO_GRID, NATIVE_GRID, GridSpec
from ctscribe.phantom.lesions import INSERTABLE
from ctscribe.phantom.prior import PREVALENCE, LesionPrior
from ctscribe.phantom.scanner import ScannerPrior
from ctscribe.phantom.scene import Lesion
from ctscribe.phantom.study import LesionMask, PhantomStudy, generate, insert
from ctscribe.phantom.write import write_dicom, write_nifti

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
