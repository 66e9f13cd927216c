"""Findings -> impression. No torch; no network unless a writer is chosen that needs one.

`write` is the rule writer, the default: it restates the findings in order of importance, compares them with an earlier
scan, and tells what the guideline tables ask for and which facts they miss. Whatever wrote an impression says so in
its own text (`Impression.note`).
"""

from __future__ import annotations

from ctscribe.impression.context import Context, Details, Prior
from ctscribe.impression.result import Impression, Recommendation, Statement
from ctscribe.impression.rules import METHOD, note, order, write

__all__ = [
    "METHOD",
    "Context",
    "Details",
    "Impression",
    "Prior",
    "Recommendation",
    "Statement",
    "note",
    "order",
    "write",
]
