"""What is known about a study once its tables, its text and its annotations are put together.

The text says most, and where. A table of labels adds what the text was not understood to say. Where the two contradict
each other neither wins: the finding becomes uncertain, which no loss learns from, and the conflict is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctscribe import ontology
from ctscribe.data.sources.study import Lesion, SourceStudy
from ctscribe.report import Finding, report_order
from ctscribe.report.parse import parse
from ctscribe.report.render import render_text


@dataclass(frozen=True)
class Truth:
    """What a study teaches.

    Attributes:
        findings: None when nothing is known.
        text: the findings section; "" when there is none.
        conflicts: kinds about which text and labels disagree.
    """

    findings: tuple[Finding, ...] | None
    text: str
    conflicts: tuple[str, ...] = ()


def truth_of(study: SourceStudy, lesions: Sequence[Lesion] = ()) -> Truth:
    """Findings and text of a study.

    Args:
        study: as its source yields it.
        lesions: what its annotation found, with the regions filled in.
    """
    known: list[Finding] = list(study.structured or ())
    if study.structured is None and (study.findings or study.impression):
        known = parse("\n".join(part for part in (study.findings, study.impression) if part), study.language)
    known += [lesion.finding for lesion in lesions]
    named = {finding.kind for finding in known}
    known += [Finding(kind, "absent") for kind in study.looked_for if kind not in named]
    merged, conflicts = with_labels(known, study.labels)
    findings = report_order(dict.fromkeys(merged))
    nothing = not findings and not study.findings and study.structured is None
    text = render_text(findings, study.language) if study.synthetic else study.findings
    return Truth(None if nothing else findings, text, conflicts)


def with_labels(findings: Sequence[Finding], labels: Mapping[str, bool]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Findings completed by labels (kind -> present), and the kinds on which the two disagree."""
    kept = list(findings)
    conflicts = []
    for kind, present in labels.items():
        stated = [f for f in findings if kind in ontology.implied(f.kind)]
        says_present = any(f.status == "present" for f in stated)
        says_absent = (
            any(f.kind == kind and f.status == "absent" and not f.regions for f in stated) and not says_present
        )
        if present and says_absent:
            conflicts.append(kind)
            kept = [f for f in kept if f.kind != kind] + [Finding(kind, "uncertain")]
        elif not present and says_present:
            conflicts.append(kind)
            kept = [replace(f, status="uncertain") if kind in ontology.implied(f.kind) and f.status == "present" else f
                    for f in kept]  # fmt: skip
        elif not stated:
            kept.append(Finding(kind, "present" if present else "absent"))
    return tuple(dict.fromkeys(kept)), tuple(conflicts)
