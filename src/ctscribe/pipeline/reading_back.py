"""From generated text back to structured findings, and whether text and detector agree.

```
text ── sentences ── parse each ── match each finding to the detection of its kind ── certainty and evidence
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report import Evidence, Finding, split_sentences

if TYPE_CHECKING:
    from ctscribe.model import Detection

DISAGREEMENTS = ("text_without_detection", "detection_without_text")
"""Codes of `disagreements`."""


@dataclass(frozen=True)
class ReadSentence:
    """One sentence of the text and what it says; no findings when it says nothing the vocabulary knows."""

    text: str
    findings: tuple[Finding, ...]


def read_back(
    text: str,
    language: Language,
    detections: Sequence[Detection],
    locate: Callable[[Detection], tuple[Evidence, ...]],
    fallback: Callable[[Finding], tuple[Evidence, ...]],
) -> list[ReadSentence]:
    """Parse every sentence; give each finding its certainty and its places in the scan.

    Args:
        locate: places a detection's heat points to, strongest first.
        fallback: where the finding was looked for, when no detector speaks for it (a normal organ, say).
    """
    from ctscribe.report.parse import parse

    sentences = []
    for sentence in split_sentences(text, language):
        findings = [_grounded(finding, detections, locate, fallback) for finding in parse(sentence, language)]
        sentences.append(ReadSentence(sentence, tuple(findings)))
    return sentences


def _grounded(
    finding: Finding,
    detections: Sequence[Detection],
    locate: Callable[[Detection], tuple[Evidence, ...]],
    fallback: Callable[[Finding], tuple[Evidence, ...]],
) -> Finding:
    detection = best_match(finding, detections)
    if detection is None:
        return replace(finding, certainty=None, evidence=fallback(finding))
    evidence: tuple[Evidence, ...] = ()
    if finding.status != "absent":
        evidence = tuple(e for e in locate(detection) if _nearby(e.region, finding.regions)) or locate(detection)
    return replace(finding, certainty=round(detection.probability, 4), evidence=evidence or fallback(finding))


def best_match(finding: Finding, detections: Sequence[Detection]) -> Detection | None:
    """The detection of the finding's kind that shares most regions with it, then the most probable one."""
    same = [d for d in detections if d.kind == finding.kind]
    if not same:
        return None
    return max(same, key=lambda d: (sum(_nearby(r, finding.regions) for r in d.regions), d.probability))


def disagreements(sentences: Sequence[ReadSentence], detections: Sequence[Detection]) -> list[tuple[str, str]]:
    """Where text and detector differ, as (code, finding kind), in ontology order.

    ``text_without_detection``: the text says present, the detector is below its threshold.
    ``detection_without_text``: the detector is above its threshold, the text is silent or denies it.
    """
    said = {f.kind for s in sentences for f in s.findings if f.status != "absent"}
    stated = {f.kind for s in sentences for f in s.findings if f.status == "present"}
    seen = {d.kind for d in detections if d.probability >= d.threshold}
    known = {d.kind for d in detections}
    found = []
    for kind in ontology.findings():
        if kind in stated and kind in known and kind not in _closed(seen):
            found.append(("text_without_detection", kind))
        if kind in seen and kind not in _closed(said):
            found.append(("detection_without_text", kind))
    return found


def unique_findings(sentences: Sequence[ReadSentence]) -> tuple[Finding, ...]:
    """Every distinct statement once, in the order of the text."""
    kept: list[Finding] = []
    for finding in (f for s in sentences for f in s.findings):
        if finding not in kept:
            kept.append(finding)
    return tuple(kept)


def kinds_that_differ(read: Mapping[Language, Sequence[ReadSentence]]) -> tuple[str, ...]:
    """Finding kinds that one language states (present or uncertain) and another does not, in ontology order."""
    said = [{f.kind for s in sentences for f in s.findings if f.status != "absent"} for sentences in read.values()]
    return tuple(kind for kind in ontology.findings() if len({kind in kinds for kinds in said}) > 1)


def _closed(kinds: set[str]) -> set[str]:
    """The kinds and all they imply (a consolidation is a lung opacity)."""
    return kinds | {implied for kind in kinds for implied in ontology.findings()[kind].implies}


def _nearby(region: str | None, regions: Sequence[str]) -> bool:
    """True when the region is, encloses or lies inside one of the regions; anything is near an unnamed place."""
    if region is None or not regions:
        return True
    return any(region in ontology.ancestors(other) or other in ontology.ancestors(region) for other in regions)
