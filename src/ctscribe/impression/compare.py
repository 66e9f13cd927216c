"""Comparison with the earlier scan, in words: new, unchanged, larger by so many mm, no longer present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.impression import growth
from ctscribe.impression.context import Context
from ctscribe.impression.measure import half_up
from ctscribe.impression.result import Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding, render_text

_LONG_AGO_DAYS = 60
"""From so many days on, the time between the scans is told in months."""


def statements(findings: Sequence[Finding], context: Context, language: Language) -> dict[int, Statement]:
    """What became of each finding, by its index; nothing without an earlier scan."""
    if context.prior is None:
        return {}
    known = {pair.now: pair for pair in growth.pairs(findings, context)}
    kinds_before = {f.kind for f in context.prior.findings}
    ago = _ago(context, language)
    told = {}
    for index, finding in enumerate(findings):
        if finding.status == "absent":
            continue
        if (pair := known.get(index)) is not None:
            text = _paired(finding, pair, context.prior.findings[pair.before], ago, language)
        else:
            text = _words()[language]["new" if finding.kind in kinds_before else "silent"].format(ago=ago)
        told[index] = Statement(text, "comparison", (index,))
    return told


def gone(findings: Sequence[Finding], context: Context, language: Language) -> tuple[Statement, ...]:
    """One statement for each earlier finding that is denied now.

    An earlier finding about which nothing is said now is left alone: silence is no disappearance.
    """
    if context.prior is None:
        return ()
    paired = {pair.before for pair in growth.pairs(findings, context)}
    told = []
    for index, before in enumerate(context.prior.findings):
        denied = [
            i
            for i, f in enumerate(findings)
            if f.kind == before.kind and f.status == "absent" and growth.touch(f, before)
        ]
        if before.status == "present" and index not in paired and denied:
            what = render_text([Finding(before.kind, "absent", before.regions)], language)
            text = _words()[language]["gone"].format(ago=_ago(context, language), what=what)
            told.append(Statement(text, "comparison", tuple(denied)))
    return tuple(told)


def _paired(finding: Finding, pair: growth.Pair, before: Finding, ago: str, language: Language) -> str:
    words = _words()[language]
    ratio, days = pair.volume_ratio, pair.doubling_days
    doubling = (
        words["doubling"].format(days=int(half_up(days))) if days is not None and pair.change == "growing" else ""
    )
    percent = f"{half_up(100 * (ratio - 1)):+g}" if ratio is not None else ""
    if pair.larger_by_mm is None:
        if ratio is not None:
            return words["by_volume"].format(ago=ago, percent=percent, doubling=doubling)
        return _by_severity(finding, before, ago, language)
    mm = f"{abs(pair.larger_by_mm):g}"
    if pair.larger_by_mm == 0:
        return words["stable"].format(ago=ago)
    change = words["larger" if pair.larger_by_mm > 0 else "smaller"].format(mm=mm)
    if pair.change == "stable":
        return words["stable_by"].format(ago=ago, change=change)
    volume = words["volume"].format(percent=percent, doubling=doubling) if ratio is not None else ""
    return words["changed"].format(Change=change[0].upper() + change[1:], ago=ago, volume=volume)


def _by_severity(finding: Finding, before: Finding, ago: str, language: Language) -> str:
    words = _words()[language]
    now, then = finding.value("severity"), before.value("severity")
    if now is None or then is None:
        return words["also"].format(ago=ago)
    if now == then:
        return words["stable"].format(ago=ago)
    names = ontology.attributes()["severity"]
    return words["severity"].format(before=names[then][language][0], now=names[now][language][0], ago=ago)


def _ago(context: Context, language: Language) -> str:
    """How long ago the earlier scan was, "" where nobody knows."""
    days = context.prior.days if context.prior is not None else None
    if days is None:
        return ""
    if days < _LONG_AGO_DAYS:
        return _words()[language]["ago_days"].format(n=days)
    return _words()[language]["ago_months"].format(n=int(half_up(days / growth.DAYS_PER_MONTH)))


@cache
def _words() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "compare.yaml").read_text(encoding="utf-8"))
