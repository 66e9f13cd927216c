"""What do radiologists say of the reports? A blinded reading set, its answers, and how many readers and cases it takes.

build     reports -> pages and forms for the readers, and a key that stays behind
answers   files that came back -> checked readings
results   readings + key -> scores, differences, errors, agreement
power     planned size -> power of a comparison, width of a kappa's interval
"""

from __future__ import annotations

from ctscribe.evaluation.reader_study.answers import Answers, read_answers
from ctscribe.evaluation.reader_study.build import ReadingSet, build
from ctscribe.evaluation.reader_study.key import Key, read_key
from ctscribe.evaluation.reader_study.power import Plan, kappa_error
from ctscribe.evaluation.reader_study.results import Settings, score
from ctscribe.evaluation.reader_study.summary import Summary

__all__ = [
    "Answers",
    "Key",
    "Plan",
    "ReadingSet",
    "Settings",
    "Summary",
    "build",
    "kappa_error",
    "read_answers",
    "read_key",
    "score",
]
