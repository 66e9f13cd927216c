"""What is no slice of a CT scan, and the one error when nothing else is there."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ctscribe.data.headers import Frame
from ctscribe.errors import GeometryRefused, InputRefused, WrongModality

LOCALIZER_WORDS = ("LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM")
PROJECTION_WORDS = (
    "MIP",
    "MINIP",
    "MIN_IP",
    "MAX_IP",
    "PROJECTION IMAGE",
    "VOLUME RENDERING",
    "VRT",
    "VOLUME_RENDERED",
    "SSD",
    "3D",
)
CAPTURE_WORDS = ("DOSE", "DOSE_INFO", "SCREEN SAVE", "SCREENSAVE", "CSAPARALLEL", "PROTOCOL", "REPORT")
NOT_HU_TYPES = ("MGML", "Z_EFF", "ED", "EDW", "PCT", "MG", "IOD", "VIRTUAL_NON_CALCIUM", "OD", "MATERIAL")


def why_unusable(frame: Frame) -> str | None:
    """Reason for which a frame cannot be part of a scan, None when it can."""
    words = set(frame.image_type)
    if frame.modality and frame.modality != "CT":
        return f"modality {frame.modality}"
    if not frame.modality and "1.2.840.10008.5.1.4.1.1.2" not in frame.sop_class:
        return "modality not stated"
    if frame.samples != 1:
        return "colour image"
    if any(any(word in value for word in LOCALIZER_WORDS) for value in words):
        return "localizer"
    if words & set(PROJECTION_WORDS):
        return "projection (MIP, MinIP, rendering)"
    if words & set(CAPTURE_WORDS):
        return "dose sheet or screen capture"
    if frame.rescale_type in NOT_HU_TYPES or any(
        v.startswith(("MATERIAL_", "EFFECTIVE_Z", "ELECTRON_")) for v in words
    ):
        return "values are not Hounsfield units"
    if frame.burned_in:
        return "text burned into the image"
    if frame.slope is not None and frame.slope < 0:
        return "negative rescale slope"
    if frame.position is None:
        return "no Image Position (Patient)"
    if frame.orientation is None or not _orthonormal(frame.orientation):
        return "no valid Image Orientation (Patient)"
    if frame.spacing is None:
        return "no Pixel Spacing"
    return None


def _orthonormal(orientation: tuple[float, ...]) -> bool:
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    return bool(np.all(np.abs(lengths - 1) < 0.05) and abs(row @ column) < 0.05)


_GEOMETRY_HINT = "export the series again with its geometry tags"
#: Reason for which frames were left out -> the error when nothing else is there (kind, code, what to do).
SPECIFIC: dict[str, tuple[type[InputRefused], str, str]] = {
    "no Image Position (Patient)": (GeometryRefused, "no_position", _GEOMETRY_HINT),
    "no valid Image Orientation (Patient)": (GeometryRefused, "no_orientation", _GEOMETRY_HINT),
    "no Pixel Spacing": (GeometryRefused, "no_pixel_spacing", _GEOMETRY_HINT),
    "multi-frame without a plane for each frame": (
        GeometryRefused,
        "no_position",
        "export as Enhanced CT or as single slices",
    ),
    "values are not Hounsfield units": (WrongModality, "not_hounsfield", "give the conventional reconstruction, in HU"),
    "localizer": (GeometryRefused, "only_localizers", "give the axial series of the study"),
    "projection (MIP, MinIP, rendering)": (
        GeometryRefused,
        "only_derived",
        "give the axial series it was made from",
    ),
    "text burned into the image": (InputRefused, "burned_in_text", "it may name the patient; give the original images"),
    "negative rescale slope": (WrongModality, "negative_slope", "no scanner writes it; export the series again"),
    "CT object without an image": (WrongModality, "no_images", "give the image series"),
}


def refuse_nothing_left(reasons: Counter[str]) -> InputRefused:
    """One clear error when no frame is usable, from the reasons for which all were left out."""
    got = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(4))
    images = {r: n for r, n in reasons.items() if not r.startswith(("not an image", "DICOMDIR", "file of the"))}
    main = max(images, key=lambda r: images[r]) if images else ""
    modalities = sorted(r.removeprefix("modality ") for r in reasons if r.startswith("modality "))
    if main in SPECIFIC:
        kind, code, hint = SPECIFIC[main]
        return kind("no slice of a CT scan can be used", code=code, expected="an axial CT series", got=got, hint=hint)
    what = "these are not CT images" if modalities or images else "there are no images here"
    return WrongModality(
        what,
        code="wrong_modality" if images else "no_images",
        expected="modality CT, in Hounsfield units",
        got=got,
        hint="ctscribe reads chest CT only",
    )
