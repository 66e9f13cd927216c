"""Where the organs are: label maps by rules, or from files made by other software."""

from __future__ import annotations

from ctscribe.data.anatomy.classical import segment
from ctscribe.data.anatomy.labelmaps import from_label_map, schemes
from ctscribe.data.anatomy.segmentation import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter", "from_label_map", "schemes", "segment"]
