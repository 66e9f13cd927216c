"""The instrument: four scales from 1 to 5, error categories counted twice, and an optional checklist of findings.

The scales are those of the specification. The first six error categories, and counting clinically significant errors
apart from the others, follow ReXVal (Yu et al., Patterns 2023, "Evaluating progress in automatic chest X-ray radiology
report generation"); wrong recommendations and a remainder are added, because a CT report ends in advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology

SCORES = (1, 2, 3, 4, 5)
CANNOT_JUDGE = "na"
MARKS = ("present", "absent", "unsure")
WEIGHTS = ("significant", "minor")

# More errors of one kind than this in one report is a typing mistake.
MOST_ERRORS = 50


@cache
def words() -> Mapping[str, Any]:
    """Everything a reader is shown that is not a report, in English and Chinese."""
    return yaml.safe_load((files(__package__) / "words.yaml").read_text(encoding="utf-8"))


def scales() -> tuple[str, ...]:
    """The four scales, in order."""
    return tuple(words()["scales"])


def error_kinds() -> tuple[str, ...]:
    """The error categories, in order."""
    return tuple(words()["errors"])


def error_columns() -> tuple[str, ...]:
    """One count for each category and weight: ``false_finding_significant``, ``false_finding_minor``, ..."""
    return tuple(f"{kind}_{weight}" for kind in error_kinds() for weight in WEIGHTS)


def checklist() -> tuple[str, ...]:
    """Finding ids of the checklist: CT-RATE's 18 labels, in their order."""
    return tuple(ontology.ct_rate_labels().values())


def checklist_names() -> dict[str, dict[str, str]]:
    """Finding id -> its name in each language."""
    kinds = ontology.findings()
    english = {kind: label for label, kind in ontology.ct_rate_labels().items()}
    return {kind: {"en": english[kind], "zh": kinds[kind].names["zh"][0]} for kind in checklist()}
