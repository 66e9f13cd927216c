"""Where the organs are: label maps by rules, or from files made by other software."""

from __future__ import annotations

from ctscribe.data.anatomy.classical import segment
from ctscribe.data.anatomy.segmentation import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter", "segment"]
