"""An earlier scan that the model has read: what it showed, told so that no section of a report contradicts another.

```
findings before ─┐                       ┌─ comparison section, by `framing.comparison`; back again by `read_comparison`
                 ├─ what became of each ─┤
findings now ────┘   (the model's word)  └─ impression, as the earlier scan of its context
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from ctscribe import ontology
from ctscribe.beside import CHANGE_MM, CHANGES
from ctscribe.impression.context import Context, Prior
from ctscribe.ontology import Language
from ctscribe.pipeline.framing import phrases
from ctscribe.report import Finding

Changes = Mapping[str, tuple[str, float]]


def larger_by(changes: Changes, before: Iterable[Finding], now: Iterable[Finding]) -> dict[str, float]:
    """Millimetres by which kinds have grown or shrunk, where the sizes of both scans bear out what the model says."""
    then, here = _largest(before), _largest(now)
    told = {}
    for kind, (change, _) in changes.items():
        by = _difference(then.get(kind), here.get(kind))
        if by is not None and abs(by) >= CHANGE_MM and change == ("larger" if by > 0 else "smaller"):
            told[kind] = abs(by)
    return told


def with_earlier(
    context: Context | None,
    changes: Changes | None,
    before: Sequence[Finding],
    now: Sequence[Finding],
    days: float | None,
) -> Context | None:
    """The context of an impression, with the earlier scan as the model has read it; one that people gave is kept.

    Sizes that contradict what the model says became of a finding are left out: it was there, and no more is said.

    Args:
        changes: kind -> (change, how sure); None where the model has read no earlier scan.
    """
    known = context or Context()
    if changes is None or known.prior is not None:
        return context
    here, grown = _largest(now), larger_by(changes, before, now)
    earlier = []
    for kind, (change, _) in changes.items():
        found = [finding for finding in before if finding.kind == kind and finding.status != "absent"]
        if change == "new":
            earlier.append(Finding(kind, "absent"))
        elif change == "stable":
            by = _difference(_largest(found).get(kind), here.get(kind))
            earlier += found if by is not None and abs(by) < CHANGE_MM else [replace(f, size_mm=()) for f in found]
        elif change == "resolved" or kind in grown:
            earlier += found
        else:
            earlier += [replace(finding, size_mm=()) for finding in found]
    return replace(known, prior=Prior(tuple(earlier), None if days is None else round(days)))


def read_comparison(text: str, language: Language) -> dict[str, tuple[str, float | None]]:
    """What a comparison section says: kind -> what became of it, and by how many mm where it says so."""
    read: dict[str, tuple[str, float | None]] = {}
    for change, pattern in _patterns(language).items():
        for sentence in pattern.finditer(text):
            for part in re.split("、" if language == "zh" else ", ", sentence["kinds"]):
                found = _by(language).fullmatch(part)
                if found is None or found["kind"] not in _kinds(language):
                    continue
                mm = next((float(n) for n in found.groups()[1:] if n), None)
                read[_kinds(language)[found["kind"]]] = (change, mm)
    return read


@cache
def _patterns(language: Language) -> dict[str, re.Pattern[str]]:
    halves = {change: phrases()["compared"][change][language].split("{kind}") for change in CHANGES}
    stop = "。" if language == "zh" else "."
    return {
        change: re.compile(f"{re.escape(start)}(?P<kinds>[^{stop}]+){re.escape(end)}")
        for change, (start, end) in halves.items()
    }


@cache
def _by(language: Language) -> re.Pattern[str]:
    """A kind, alone or with the millimetres of either direction."""
    forms = [re.escape(phrases()["compared"][f"{c}_by"][language]) for c in ("larger", "smaller")]
    forms = [form.replace(re.escape("{mm}"), r"([\d.]+)").replace(re.escape("{kind}"), "") for form in forms]
    return re.compile(f"(?P<kind>.+?)(?:{'|'.join(dict.fromkeys(forms))})?")


@cache
def _kinds(language: Language) -> dict[str, str]:
    return {entry.names[language][0]: kind for kind, entry in ontology.findings().items()}


def _largest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The largest finding of each kind that is not denied."""
    there = sorted((f for f in findings if f.status != "absent"), key=lambda f: max(f.size_mm, default=0.0))
    return {finding.kind: finding for finding in there}


def _difference(before: Finding | None, now: Finding | None) -> float | None:
    if before is None or now is None or not before.size_mm or not now.size_mm:
        return None
    return now.size_mm[0] - before.size_mm[0]
