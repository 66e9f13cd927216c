"""Details of single findings, read from the text: what guidelines ask for and the ontology has no word for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe.impression import cues
from ctscribe.impression.context import Context, Details
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import detect_language, parse, split_sentences


def with_details(context: Context, findings: Sequence[Finding], text: str) -> Context:
    """The context with what the text says about single findings; what was given already is kept.

    Args:
        findings: as read from the text, or given with it.
        text: the findings section, in either language; "" when there is none.
    """
    if not text.strip():
        return context
    known = {d.finding: d for d in context.details}
    for index, facts in read(findings, text, detect_language(text)).items():
        given = known.get(index, Details(index))
        known[index] = replace(given, **{name: v for name, v in facts.items() if getattr(given, name) is None})
    return replace(context, details=tuple(known[index] for index in sorted(known)))


def read(findings: Sequence[Finding], text: str, language: Language) -> dict[int, dict[str, Any]]:
    """Details by index of the finding, as far as the text says them for certain.

    A sentence that speaks of several findings a detail could belong to gives none: nothing is guessed.
    """
    found: dict[int, dict[str, Any]] = {}
    last: list[int] = []
    for sentence in split_sentences(text, language):
        about = [i for said in parse(sentence, language) for i in _indices(said, findings)] or last
        for name, entry in _table().items():
            owners = {i for i in about if findings[i].kind in entry["kinds"]}
            value = _value(entry, sentence, language)
            if value is not None and len(owners) == 1:
                found.setdefault(owners.pop(), {}).setdefault(name, value)
        last = about
    return found


def _indices(said: Finding, findings: Sequence[Finding]) -> list[int]:
    """The finding of a list that a sentence is about: the same kind and place, and size where both have one."""
    fits = [
        i
        for i, f in enumerate(findings)
        if (f.kind, f.status, f.regions) == (said.kind, said.status, said.regions)
        and (not f.size_mm or not said.size_mm or f.size_mm == said.size_mm)
    ]
    return fits if said.status != "absent" else []


def _value(entry: Mapping[str, Any], sentence: str, language: Language) -> Any:
    for match, certain in cues.said(entry[language], sentence, language):
        if not certain:
            continue
        groups = match.groupdict()
        if "value" not in groups:
            return entry["is"]
        return float(groups["value"]) * (10 if (groups.get("unit") or "").lower() == "cm" else 1)
    return None


@cache
def _table() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "details.yaml").read_text(encoding="utf-8"))
