"""Words: what a report is, before and after it is text.

Structured first: a `Report` is a list of `Finding`; text is rendered from findings (`render_findings`) or parsed back
into them (`ctscribe.report.parse.parse`). The law that ties both: ``parse(render(findings)) == findings``, in English
and in Chinese. No torch here.
"""

from __future__ import annotations

from ctscribe.report.checked import ImpressionCheck, Objection, Reference
from ctscribe.report.document import (
    SCHEMA_VERSION,
    SECTION_NAMES,
    Provenance,
    QualityNote,
    Report,
    ReportText,
    SectionName,
    Sentence,
    join_sentences,
    split_sentences,
)
from ctscribe.report.render import render_findings, render_text
from ctscribe.report.sampler import sample_findings
from ctscribe.report.words import Confidence, Evidence, Finding, Status, report_order

__all__ = [
    "SCHEMA_VERSION",
    "SECTION_NAMES",
    "Confidence",
    "Evidence",
    "Finding",
    "ImpressionCheck",
    "Objection",
    "Provenance",
    "QualityNote",
    "Reference",
    "Report",
    "ReportText",
    "SectionName",
    "Sentence",
    "Status",
    "join_sentences",
    "render_findings",
    "render_text",
    "report_order",
    "sample_findings",
    "split_sentences",
]
