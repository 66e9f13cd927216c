"""Where the organs are: label maps by rules, from other software, or from files that it made."""

from __future__ import annotations

from ctscribe.data.anatomy.classical import segment
from ctscribe.data.anatomy.labelmaps import LesionMap, from_label_map, lesions_from_label_map, schemes
from ctscribe.data.anatomy.segmentation import Segmentation, Segmenter
from ctscribe.data.anatomy.tools import TOOLS, WORDS, segmenter

__all__ = [
    "TOOLS",
    "WORDS",
    "LesionMap",
    "Segmentation",
    "Segmenter",
    "from_label_map",
    "lesions_from_label_map",
    "schemes",
    "segment",
    "segmenter",
]
