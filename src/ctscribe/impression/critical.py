"""Critical results: what somebody must be told at once, from findings and from words that the ontology does not have.

Tension, dissection, rupture and embolism have no finding kind; they are read in the text of the findings section, with
what denies or doubts them, or given as `Details.signs`. The table is ``critical.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from ctscribe.impression import cues
from ctscribe.impression.context import Context
from ctscribe.impression.result import Citation, Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import detect_language


@dataclass(frozen=True)
class CriticalResult:
    """One result that cannot wait.

    Attributes:
        id: key in ``critical.yaml``.
        within: ``"minutes"`` or ``"hours"``.
        certain: False where the text or the finding is in doubt.
        findings: indices of the findings it rests on, () when only words say so.
        quote: the words of the text that say so, "" when findings do.
    """

    id: str
    within: Literal["minutes", "hours"]
    certain: bool
    findings: tuple[int, ...] = ()
    quote: str = ""


def find(findings: Sequence[Finding], context: Context | None = None, text: str = "") -> tuple[CriticalResult, ...]:
    """Critical results, the most urgent first; each once.

    Args:
        findings: of the study.
        context: for the signs of its details.
        text: the findings section as written, in either language; "" when there is none.
    """
    known = context or Context()
    told = [r for name, entry in _table()["results"].items() if (r := _result(name, entry, findings, known, text))]
    covered = {other for result in told for other in _table()["covers"].get(result.id, ())}
    rank = {"minutes": 0, "hours": 1}
    return tuple(sorted((r for r in told if r.id not in covered), key=lambda r: rank[r.within]))


def statement(result: CriticalResult, language: Language) -> Statement:
    """A critical result as the sentence that stands on top of a report."""
    key = "told" if result.certain else "told_doubtful"
    within = _table()["within"][result.within][language]
    what = _table()["results"][result.id][language]
    text = _table()[key][language].format(within=within, what=what)
    return Statement(text, "critical", result.findings, (citation().id,))


def citation() -> Citation:
    """Where the levels of urgency come from."""
    return Citation(**_table()["references"])


def _result(
    name: str, entry: Mapping[str, Any], findings: Sequence[Finding], context: Context, text: str
) -> CriticalResult | None:
    signs, words = set(entry.get("signs", ())), "words" in entry
    indices = tuple(i for i, f in enumerate(findings) if "finding" in entry and _fits(f, entry["finding"]))
    signed = [d.finding for d in context.details if signs & set(d.signs)]
    if "finding" in entry and not indices:
        return None
    signed = [i for i in signed if not indices or i in indices]
    certain_finding = not indices or any(findings[i].status == "present" for i in indices)
    if not signs and not words:
        return CriticalResult(name, entry["within"], certain_finding, indices)
    if signed:
        return CriticalResult(name, entry["within"], certain_finding, indices or tuple(signed))
    quote, certain = _said(entry["words"], text) if words else ("", False)
    if not quote:
        return None
    return CriticalResult(name, entry["within"], certain and certain_finding, indices, quote)


def _fits(finding: Finding, wanted: str) -> bool:
    kind, _, attribute = wanted.partition(" ")
    name, _, value = attribute.partition(".")
    return finding.kind == kind and finding.status != "absent" and (not name or finding.value(name) == value)


def _said(words: Mapping[str, Sequence[str]], text: str) -> tuple[str, bool]:
    """The first passage of the text that says it without denying it, and whether it is certain; ("", False) if none."""
    if not text.strip():
        return "", False
    language = detect_language(text)
    passages = [(match[0], certain) for match, certain in cues.said(words[language], text, language)]
    return next((p for p in passages if p[1]), passages[0] if passages else ("", False))


@cache
def _table() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "critical.yaml").read_text(encoding="utf-8"))
