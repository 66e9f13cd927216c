"""Whether a text says something, denies it or doubts it: for words that the report parser does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

import yaml

from ctscribe.ontology import Language
from ctscribe.report.parse import normalise


def said(patterns: Sequence[str], text: str, language: Language) -> Iterator[tuple[re.Match[str], bool]]:
    """Every passage that matches and is not denied in its clause, with whether it is certain.

    Args:
        patterns: regular expressions; capitals do not matter.
        text: one or more sentences.
    """
    compiled = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
    for clause in clauses(text, language):
        for match in (m for pattern in compiled for m in pattern.finditer(clause)):
            before, after = clause[: match.start()], clause[match.end() :]
            doubt = _cue("doubted", language)
            plain = doubt.sub(" ", before), doubt.sub(" ", after)
            if _cue("denied_before", language).search(plain[0]) or _cue("denied_after", language).search(plain[1]):
                continue
            yield match, not doubt.search(before + " " + after)


def clauses(text: str, language: Language) -> list[str]:
    """A text cut where a denial or a doubt ends."""
    return _cue("clauses", language).split(normalise(text))


@cache
def _cue(name: str, language: Language) -> re.Pattern[str]:
    table = yaml.safe_load((files(__package__) / "cues.yaml").read_text(encoding="utf-8"))
    return re.compile(table[name][language], re.IGNORECASE)
