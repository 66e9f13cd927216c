"""Findings -> impression. No torch, no network.

At this stage an impression is written by rule from the structured findings: it picks, orders and restates them, adds
nothing, and says so in its own text (`Impression.note`).
"""

from __future__ import annotations

from ctscribe.impression.rules import METHOD, Impression, ImpressionItem, note, order, write

__all__ = ["METHOD", "Impression", "ImpressionItem", "note", "order", "write"]
