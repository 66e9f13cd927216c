"""An impression by rule: choose the findings that matter, put them in order, restate each in one sentence.

```
findings ── drop what is absent ── drop what a named finding implies ── order ── one sentence each ── Impression
```

Because every sentence is rendered from the findings it restates, an impression cannot contradict them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report import Finding

METHOD = "rules"


@dataclass(frozen=True)
class ImpressionItem:
    """One numbered line: the sentence and the findings it restates."""

    text: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Impression:
    """What matters in a study, most important first.

    Attributes:
        items: one sentence each; a single item without findings when nothing is abnormal.
        note: how the impression came about, in its language; belongs beside the text wherever it is shown.
        method: ``"rules"``.
    """

    items: tuple[ImpressionItem, ...]
    note: str
    language: Language
    method: str = METHOD

    @property
    def text(self) -> str:
        """Numbered lines, without the note; one bare line when there is only one."""
        if len(self.items) == 1:
            return self.items[0].text
        return "\n".join(f"{number}. {item.text}" for number, item in enumerate(self.items, start=1))


def write(findings: Sequence[Finding], language: Language, seed: int | None = None) -> Impression:
    """Impression from structured findings.

    Args:
        findings: what the findings section says; absent ones are allowed and left out.
        seed: None for the canonical phrasing, a number for another one.
    """
    from ctscribe.report.render import render_text

    chosen = order(findings)
    if chosen:
        items = tuple(ImpressionItem(render_text([f], language, seed), (f,)) for f in chosen)
    else:
        items = (ImpressionItem(_notes()["nothing_to_name"][language], ()),)
    return Impression(items, note(language), language)


def note(language: Language) -> str:
    """What an impression written by rule says about itself."""
    return _notes()["written_by_rule"][language]


def order(findings: Sequence[Finding]) -> list[Finding]:
    """The findings an impression names: present before uncertain, then by tier, then by size, largest first."""
    named = [f for f in findings if f.status != "absent"]
    kept: list[Finding] = []
    for finding in named:
        if finding not in kept and not any(_implies(other, finding) for other in named):
            kept.append(finding)
    return sorted(kept, key=_rank)


def _implies(stronger: Finding, weaker: Finding) -> bool:
    """True when saying the first says the second too; a doubt never stands in for a certainty."""
    covers = stronger.status == "present" or weaker.status == "uncertain"
    return covers and weaker.kind in ontology.findings()[stronger.kind].implies


def _rank(finding: Finding) -> tuple[bool, bool, int, float]:
    """Sort key; critical kinds come first whatever their certainty."""
    critical = ontology.findings()[finding.kind].critical
    place = _order().get(finding.kind, len(_order()))
    return not critical, finding.status == "uncertain", place, -max(finding.size_mm, default=0.0)


@cache
def _order() -> Mapping[str, int]:
    tiers = yaml.safe_load((files(__package__) / "priority.yaml").read_text(encoding="utf-8"))
    return {kind: place for place, kind in enumerate(kind for tier in tiers.values() for kind in tier)}


@cache
def _notes() -> Mapping[str, Mapping[str, str]]:
    return yaml.safe_load((files(__package__) / "notes.yaml").read_text(encoding="utf-8"))
