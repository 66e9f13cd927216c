"""Everything joined for people: a path goes in, a `Report` with evidence comes out."""

from __future__ import annotations

from ctscribe.pipeline.reporter import STEPS, LanguageChoice, Reporter, ReportResult

__all__ = ["STEPS", "LanguageChoice", "ReportResult", "Reporter"]
