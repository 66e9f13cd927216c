"""Two reports side by side, with what differs marked.

A sentence that states an invented or a missing finding is marked as a whole; beyond that, words that the other report
does not have in that place are underlined. Marks are markup; the reports themselves are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from itertools import groupby

from markupsafe import Markup, escape

from ctscribe.evaluation.worst import Worst

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:[.\-/][^\W_]+)*", re.UNICODE)


def marked(worst: Worst) -> tuple[Markup, Markup]:
    """The candidate and the reference of one report, marked."""
    from ctscribe.report.parse import normalise

    ours, theirs = normalise(worst.candidate), normalise(worst.reference)
    words = _different(ours, theirs)
    return (
        _markup(ours, words[0], worst.invented_sentences, "invented"),
        _markup(theirs, words[1], worst.missing_sentences, "missing"),
    )


def _different(first: str, second: str) -> tuple[list[bool], list[bool]]:
    """Per character: does it belong to a word that the other text lacks in that place?"""
    spans = [[m.span() for m in _WORD.finditer(text)] for text in (first, second)]
    words = [[text[a:b].lower() for a, b in own] for text, own in zip((first, second), spans, strict=True)]
    flags = ([False] * len(first), [False] * len(second))
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for flag, own, low, high in ((flags[0], spans[0], a1, a2), (flags[1], spans[1], b1, b2)):
            for start, end in own[low:high]:
                flag[start:end] = [True] * (end - start)
    return flags


def _markup(text: str, different: list[bool], sentences: Mapping[str, str], kind: str) -> Markup:
    said = _said(text, sentences)
    pieces = []
    for (name, other), run in groupby(range(len(text)), key=lambda i: (said[i], different[i])):
        places = list(run)
        piece: str = escape(text[places[0] : places[-1] + 1])
        if other:
            piece = Markup("<u>{}</u>").format(piece)
        if name:
            piece = Markup('<mark class="{}" title="{}">{}</mark>').format(kind, name, piece)
        pieces.append(piece)
    return Markup("").join(pieces)


def _said(text: str, sentences: Mapping[str, str]) -> list[str]:
    """Per character: the findings that the sentence it belongs to states, "" where it is not marked."""
    said = [""] * len(text)
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is longer: places would not fit
        return said
    for kind, sentence in sentences.items():
        start = lowered.find(sentence.lower())
        for i in range(start, start + len(sentence) if start >= 0 else start):
            said[i] = f"{said[i]}, {kind}" if said[i] else kind
    return said
