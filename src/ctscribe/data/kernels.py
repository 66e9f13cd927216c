"""Reconstruction kernels: the vendors' names sorted into standard, lung and bone.

Names follow the vendors' public DICOM conformance statements and the usual clinical use of each kernel. The class only
ranks series of one study against each other, so a kernel that is not known here costs little.
"""

from __future__ import annotations

import re
from typing import Literal

KernelClass = Literal["standard", "lung", "bone", "unknown"]

_NAMED: dict[str, KernelClass] = {
    # GE
    "STANDARD": "standard", "SOFT": "standard", "STND": "standard", "DETAIL": "standard", "CHST": "standard",
    "LUNG": "lung", "BONE": "bone", "BONEPLUS": "bone", "EDGE": "bone", "ULTRA": "bone",
    # Philips
    "A": "standard", "B": "standard", "C": "standard", "SA": "standard", "SB": "standard", "UA": "standard",
    "L": "lung", "YA": "lung", "YB": "lung", "YC": "lung", "D": "bone", "E": "bone", "F": "bone",
    # United Imaging
    "B_SOFT_B": "standard", "B_SOFT_C": "standard", "B_SHARP_C": "lung",
}  # fmt: skip


def kernel_class(kernel: str | None, window: tuple[float, float] | None = None) -> KernelClass:
    """Class of a kernel by name; where the name says nothing, the default display window (centre, width) decides
    between lung (centre below -300 HU) and standard (0 to 150 HU)."""
    name = (kernel or "").upper().strip()
    if name in _NAMED:
        return _NAMED[name]
    siemens = re.match(r"^(?:[ABHIDUT][RLFVCU]?)(\d{2})", name)  # B30f, I70f, Br40, Bl57, Bv36, D30f
    if siemens:
        sharpness = int(siemens.group(1))
        if name.startswith(("BL", "BF")) or 50 < sharpness < 80:
            return "lung"
        return "standard" if sharpness <= 50 else "bone"
    toshiba = re.match(r"^FC(\d{2})", name)
    if toshiba:
        number = int(toshiba.group(1))
        return (
            "standard"
            if number < 20
            else "lung"
            if 50 <= number < 60 or number in (80, 81, 82, 83, 84, 85, 86)
            else "bone"
        )
    if window is not None:
        return "lung" if window[0] < -300 else "standard" if 0 <= window[0] <= 150 else "unknown"
    return "unknown"
