"""How sure the model is, said in the sentences themselves: definite, likely or possible by calibrated probability.

```
"There is a 9 mm nodule in ..."   probability 0.95   kept
                                              0.72   "Likely 9 mm nodule in ..."      status uncertain
                                              0.31   "Possible 9 mm nodule in ..."    status uncertain
"Possible 9 mm nodule in ..."                 0.95   "Likely 9 mm nodule in ...": a hedge of the text stays a hedge
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctscribe.errors import UsageError
from ctscribe.ontology import Language
from ctscribe.pipeline.reading_back import ReadSentence
from ctscribe.report import Confidence, Finding, Report, render_findings

if TYPE_CHECKING:
    from ctscribe.model import Thresholds

DEFINITE, LIKELY = 0.9, 0.6
"""Calibrated probabilities from which a finding is called definite or likely; below it is possible."""


def level(chance: float) -> Confidence:
    """The word for a calibrated probability."""
    return "definite" if chance >= DEFINITE else "likely" if chance >= LIKELY else "possible"


def word_beside(finding: Finding, report: Report) -> Confidence | None:
    """The word to show beside a probability: the sentence's own, or its level where the model is calibrated.

    None for absences, for findings that nobody measured, and in reports of a model that is not calibrated.
    """
    if finding.status == "absent" or finding.certainty is None:
        return None
    if finding.confidence is not None:
        return finding.confidence
    return level(finding.certainty) if any(note.code == "confidence" for note in report.quality) else None


def check_calibrated(thresholds: Thresholds) -> None:
    """Refuse words for probabilities that nobody has calibrated.

    Raises:
        UsageError: the model has no temperatures.
    """
    if not thresholds.calibration_error:
        raise UsageError(
            "this model's probabilities are not calibrated, so no sentence can say likely or possible by them",
            expected="a model folder whose decision.json holds temperatures",
            hint="leave out --certainty words, or train the model again: training calibrates on validation studies",
        )


def worded(sentences: Sequence[ReadSentence], language: Language) -> list[ReadSentence]:
    """The same statements with how sure each is; a sentence whose certainty changes is written anew.

    Absences, and findings that no detector speaks for, stay as they are.
    """
    told: list[ReadSentence] = []
    for sentence in sentences:
        findings = tuple(weighed(finding) for finding in sentence.findings)
        if all(_says_already(new, old) for new, old in zip(findings, sentence.findings, strict=True)):
            told.append(ReadSentence(sentence.text, findings))
            continue
        for written in render_findings(findings, language):
            told.append(ReadSentence(written.text, tuple(findings[i] for i in written.findings)))
    return told


def weighed(finding: Finding) -> Finding:
    """A finding with the word for its certainty; present only when that is "definite"."""
    if finding.status == "absent" or finding.certainty is None:
        return finding
    confidence = level(finding.certainty)
    if confidence != "definite":
        return replace(finding, status="uncertain", confidence=confidence)
    return replace(finding, confidence="likely" if finding.status == "uncertain" else "definite")


def _says_already(new: Finding, old: Finding) -> bool:
    return new.confidence in (None, "definite") and new.status == old.status
