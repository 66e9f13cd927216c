"""Sentence -> places in the scan, shown: pictures with outlines, boxes and heat, and the report page."""

from __future__ import annotations

from ctscribe.explain.html import render as render_html

__all__ = ["render_html"]
