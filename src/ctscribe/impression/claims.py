"""What a sentence claims beyond kind, side, size and certainty: a change, a number, an appearance, a place of nodes.

The report parser reads none of these. The patterns are in ``claims.yaml``; what nobody listed there is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.impression import cues
from ctscribe.impression.known import Known, Problem, meant
from ctscribe.impression.restated import named
from ctscribe.impression.result import Statement
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import normalise

NODES = "lymphadenopathy"


def problems(
    statement: Statement, read: Sequence[Finding], known: Known, allowed: str, language: Language
) -> Iterable[Problem]:
    """What a sentence claims without support.

    Args:
        statement: the sentence.
        read: findings that the report parser reads in it.
        known: what it may rest on.
        allowed: texts of rules and guidelines, lower case.
        language: of the sentence.
    """
    if statement.role == "question":
        return
    text = normalise(statement.text).lower()
    about = meant(statement, read, known)
    yield from _changes(text, about, known, language)
    yield from _several(text, read, known, language)
    yield from _qualifiers(text, about, known, allowed, language)
    yield from _places(text, read, known, language)


def changes(text: str, language: Language) -> frozenset[str]:
    """Changes that a text (normalised, lower case) states; a clause that only reckons with one states none."""
    found = set()
    for clause in cues.clauses(text, language):
        if not _pattern("conditional", language).search(clause):
            found |= {name for name, words in _table()["changes"].items() if re.search(words[language], clause)}
    return frozenset(found)


def _changes(text: str, about: set[int], known: Known, language: Language) -> Iterable[Problem]:
    ruled = [normalise(s.text).lower() for s in known.ruled if about & set(s.findings)]
    told = {change for other in ruled for change in changes(other, language)}
    for change in sorted(changes(text, language) - told):
        yield Problem("wrong_comparison", f"no comparison with an earlier scan says: {change}")


def _several(text: str, read: Sequence[Finding], known: Known, language: Language) -> Iterable[Problem]:
    kinds = {f.kind for f in read if f.status != "absent"}
    if len(kinds) != 1 or not _pattern("several", language).search(text):
        return
    (kind,) = kinds
    same = [f for f in known.findings if f.status != "absent" and kind in ontology.implied(f.kind)]
    one = len(same) == 1 and same[0].value("number") != "multiple" and len(same[0].regions) < 2
    if one and "number" in ontology.findings()[kind].attributes:
        yield Problem("wrong_attribute", f"more than one is not reported: {named(same[0])}")


def _qualifiers(text: str, about: set[int], known: Known, allowed: str, language: Language) -> Iterable[Problem]:
    kinds = {known.findings[i].kind for i in about if i < len(known.findings)}
    for match in _pattern("qualifiers", language).finditer(text):
        word = match[0]
        says_as_much = any(word.startswith(root) and kinds & set(of) for root, of in _table()["qualified"].items())
        if not says_as_much and word not in allowed:
            yield Problem("off_vocabulary", f"no finding and no rule supports {word!r}")


def _places(text: str, read: Sequence[Finding], known: Known, language: Language) -> Iterable[Problem]:
    if not any(f.kind == NODES and f.status != "absent" for f in read):
        return
    regions = [r for f in known.findings if f.kind == NODES and f.status != "absent" for r in f.regions]
    places = {part for region in regions for part in (region, *ontology.ancestors(region))}
    for word, part in _table()["places"][language].items():
        if re.search(rf"\b{word}\b" if language == "en" else word, text) and not any(part in p for p in places):
            yield Problem("wrong_place", f"no {word} nodes are reported")


@cache
def _pattern(name: str, language: Language) -> re.Pattern[str]:
    return re.compile(_table()[name][language])


@cache
def _table() -> Mapping[str, Any]:
    return yaml.safe_load((files(__package__) / "claims.yaml").read_text(encoding="utf-8"))
