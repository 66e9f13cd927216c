"""Findings -> sentences, in English and Chinese.

What is said is fixed by the findings; how it is said is chosen from ``phrasing/*.yaml``. Every phrasing is one that
`ctscribe.report.parse` reads back to the same findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ctscribe import ontology
from ctscribe.errors import UsageError
from ctscribe.ontology import Language
from ctscribe.report.chinese import Chinese
from ctscribe.report.choice import Choice, phrasing
from ctscribe.report.document import Sentence, join_sentences
from ctscribe.report.english import English
from ctscribe.report.words import Finding, report_order

_LONGEST_LIST = 4


@runtime_checkable
class Writer(Protocol):
    """One language: phrases groups that the grouping below found to belong in one sentence."""

    def present(self, finding: Finding, choice: Choice) -> str: ...

    def joined(self, first: Finding, second: Finding, choice: Choice) -> str: ...

    def uncertain(self, finding: Finding, choice: Choice) -> str: ...

    def absent(self, group: Sequence[Finding], choice: Choice) -> str: ...


_WRITERS: dict[str, type[Writer]] = {"en": English, "zh": Chinese}


def render_findings(findings: Sequence[Finding], language: Language, seed: int | None = None) -> list[Sentence]:
    """Write findings as sentences, in report order (see `report_order`).

    Args:
        findings: any order; the indices in the sentences refer to this sequence.
        language: ``"en"`` or ``"zh"``.
        seed: None for the canonical phrasing, a number for one of very many others.

    Returns:
        Sentences that state each finding once.

    Raises:
        UsageError: an unknown language.
    """
    if language not in _WRITERS:
        raise UsageError("language of a report", expected=" | ".join(_WRITERS), got=str(language))
    writer, choice = _WRITERS[language](), Choice(seed)
    sentences = []
    remaining: dict[int, list[int]] = {}
    for index, finding in enumerate(findings):
        remaining.setdefault(id(finding), []).append(index)
    for group in _groups(report_order(findings), choice):
        indices = tuple(remaining[id(finding)].pop(0) for finding in group)
        evidence = tuple(e for finding in group for e in finding.evidence)
        sentences.append(Sentence(_write(writer, group, choice), indices, evidence))
    return sentences


def render_text(findings: Sequence[Finding], language: Language, seed: int | None = None) -> str:
    """`render_findings` as one paragraph."""
    return join_sentences(render_findings(findings, language, seed), language)


def _write(writer: Writer, group: Sequence[Finding], choice: Choice) -> str:
    first = group[0]
    if first.status == "absent":
        return writer.absent(group, choice)
    if first.status == "uncertain":
        return writer.uncertain(first, choice)
    return writer.present(first, choice) if len(group) == 1 else writer.joined(first, group[1], choice)


def _groups(ordered: Sequence[Finding], choice: Choice) -> list[list[Finding]]:
    """Cut the ordered findings into sentences: lists of absences, now and then two present findings, else one each."""
    groups: list[list[Finding]] = []
    room = 0
    for finding in ordered:
        last = groups[-1] if groups else []
        if room > 0 and last and _same_sentence(last, finding):
            last.append(finding)
            room -= 1
            continue
        groups.append([finding])
        if finding.status == "absent":
            room = choice.upto(_LONGEST_LIST) - 1
        else:
            room = 1 if finding.status == "present" and choice.chance(0.35) else 0
    return groups


def _same_sentence(group: Sequence[Finding], finding: Finding) -> bool:
    first = group[-1]
    if first.status != finding.status or _section(first) != _section(finding):
        return False
    if any(first.kind == finding.kind or (f.attributes and f.status == "absent") for f in (first, finding)):
        return False
    if finding.status == "absent":
        return not first.regions and not finding.regions
    return joinable(first, finding)


def joinable(first: Finding, second: Finding) -> bool:
    """Whether two present findings can share a sentence without one's site or attributes reading as the other's."""
    if first.size_mm or second.size_mm or first.value("margin") or second.value("margin"):
        return False
    if first.regions == second.regions and len(first.regions) == 1:
        return True
    return bool(first.regions) and bool(second.regions) and len(second.regions) == 1


def _section(finding: Finding) -> str:
    return ontology.findings()[finding.kind].section


def render_vocabulary(language: Language) -> list[str]:
    """Every noun the renderer may write, for tests and for tokenizers."""
    nouns: list[str] = []
    for entry in phrasing(language)["kinds"].values():
        for key in ("nouns", "alone", "negated"):
            nouns += [noun.lstrip("~+") for noun in entry.get(key, [])]
    return nouns
