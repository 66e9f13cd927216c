"""Bytes -> `Study`: DICOM and NIfTI in, Hounsfield units on a canonical grid out, with an account of every repair.

The public names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctscribe.data.geometry import canonicalise, crop_or_pad, resample, to_grid
    from ctscribe.data.ingest import inspect, load_study
    from ctscribe.data.intensity import HounsfieldCheck, IntensityContract, Window, check_hounsfield
    from ctscribe.data.study import (
        IngestPolicy,
        IngestReport,
        Inspection,
        Note,
        SeriesSummary,
        SourceLocation,
        SourceMap,
        Study,
        Technique,
    )

_HOME = {
    **dict.fromkeys(("inspect", "load_study"), "ingest"),
    **dict.fromkeys(("canonicalise", "crop_or_pad", "resample", "to_grid"), "geometry"),
    **dict.fromkeys(("HounsfieldCheck", "IntensityContract", "Window", "check_hounsfield"), "intensity"),
    **dict.fromkeys(
        (
            "IngestPolicy",
            "IngestReport",
            "Inspection",
            "Note",
            "SeriesSummary",
            "SourceLocation",
            "SourceMap",
            "Study",
            "Technique",
        ),
        "study",
    ),
}

__all__ = [
    "HounsfieldCheck",
    "IngestPolicy",
    "IngestReport",
    "Inspection",
    "IntensityContract",
    "Note",
    "SeriesSummary",
    "SourceLocation",
    "SourceMap",
    "Study",
    "Technique",
    "Window",
    "canonicalise",
    "check_hounsfield",
    "crop_or_pad",
    "inspect",
    "load_study",
    "resample",
    "to_grid",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *_HOME})
