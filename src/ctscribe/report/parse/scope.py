"""How far "no", "possible" and their like reach: clauses of a sentence, and the status of a mention in its clause.

After NegEx and ConText (Chapman et al., J Biomed Inform 2001;34:301-310; Harkema et al., ibid. 2009;42:839-851): a cue
reaches over its clause, forwards or backwards; words that look negative but deny nothing are masked first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from ctscribe.ontology import Language
from ctscribe.report.parse.lexicon import Lexicon
from ctscribe.report.parse.patterns import masked
from ctscribe.report.parse.scan import Mention
from ctscribe.report.words import Status

Clause = tuple[int, int]

_SEPARATOR = re.compile(r",(?: and)?|\band\b|\bor\b(?= (?:no|not)\b)")
_RELATIVE = re.compile(r"[\s,]*(?:which|whose|that)\b")
_NO = re.compile(r"\b(?:no|without|neither)\b")
_ASIDE = re.compile(r", (?:which|whose)\b[^,;.]*,(?= (?:is|are|was|were|has|have|had)\b)")
# Words right after a finding that begin another statement where no comma was dictated.
_UNPUNCTUATED = re.compile(
    r" (?:no|mild|moderate|severe|minimal|small|tiny|trace|large|old|stable|unchanged) (?!or\b|and\b|to\b)[a-z]"
)
_NOT = re.compile(r"\b(?:no|not|without)\b")
_LARGER = re.compile(r"\W*(?:(?:greater|larger|bigger|more) than|above|over|exceeding|>)\b")
_BRACKETS = re.compile(r"\([^()]*\)?")
# Where the modifiers of a noun end, and what goes on to say what the thing is.
_COORDINATES = re.compile(
    r"[,;(]|\band\b|\baccompan\w+|\bin addition to\b|\bas well as\b"
    r"|(?<!compatible )(?<!consistent )(?<!accordance )\bwith\b"
)
# "Concerning for A with B": only A is in doubt.
_HEDGED = re.compile(r"(?<!compatible )(?<!consistent )\bwith\b")
# "No cavitation within the mass": the mass is there.
_WITHIN = re.compile(r"\bwithin (?:the|this|that|an?) (?=(?:[\w-]+ ){0,4}$)")
_CALLS = re.compile(
    r"\b(?:compatible|consistent|accordance|in favou?r|evaluated|interpreted|secondary|due|belong\w*|suggest\w*"
    r"|represent\w*|in terms of|thought|which|that)\b"
)


def clauses(sentence: str, language: Language, lexicon: Lexicon, found: list[Mention]) -> list[Clause]:
    """Cut a sentence into clauses."""
    if language == "zh":
        cuts = [match.end() for match in re.finditer(r"[,:]", sentence)]
    else:
        cuts = _english_cuts(sentence, lexicon, found)
    asides = [match.span() for match in _ASIDE.finditer(sentence)] if ", wh" in sentence else []
    for match in lexicon.cues["terminator"].finditer(sentence):
        if not any(a <= match.start() < b for a, b in asides):
            cuts.append(match.start())
    inside = [m for m in found for cut in cuts if m.start < cut < m.end]
    edges = sorted({0, len(sentence), *(c for c in cuts if not any(m.start < c < m.end for m in inside))})
    return list(pairwise(edges))


def _english_cuts(sentence: str, lexicon: Lexicon, found: list[Mention]) -> list[int]:
    """Between two predicates ("is", "are", "was", ...) one statement ends and the next begins."""
    cuts = []
    asides = [match.span() for match in _ASIDE.finditer(sentence)] if ", wh" in sentence else []
    predicates = [
        match
        for match in lexicon.cues["predicate"].finditer(sentence)
        if not any(a <= match.start() < b for a, b in asides)
    ]
    for left, right in pairwise(predicates):
        between = (left.end(), right.start())
        separators = list(_SEPARATOR.finditer(sentence, *between))
        if not separators:
            continue
        denial = next((s for s in separators if _NO.match(sentence[s.end() :].lstrip())), None)
        first = min((m.start for m in found if between[0] <= m.start < between[1]), default=None)
        before = [s for s in separators if first is not None and s.start() < first]
        chosen = denial or (before[-1] if before else separators[-1])
        cuts.append(chosen.start())
    for match in re.finditer(r",(?: and)? (?=(?:no|without)\b)", sentence):
        cuts.append(match.start())
    cuts += [m.end + 1 for m in found if _UNPUNCTUATED.match(sentence, m.end)]
    return cuts


def clause_of(mention: Mention, parts: list[Clause]) -> Clause:
    """The clause a mention begins in."""
    return next((c for c in parts if c[0] <= mention.start < c[1]), parts[-1])


def statement_of(clause: Clause, parts: list[Clause], sentence: str) -> str:
    """The words of a clause with the relative clauses that follow it: they speak of the same thing."""
    end = clause[1]
    for start, stop in parts[parts.index(clause) + 1 :]:
        if not _RELATIVE.match(sentence, start):
            break
        end = stop
    return sentence[clause[0] : end]


def bracket_of(mention: Mention, sentence: str) -> Clause | None:
    """The brackets a mention stands in: what is said there reaches no further, and nothing outside reaches in."""
    if "(" not in sentence:
        return None
    spans = (match.span() for match in _BRACKETS.finditer(sentence))
    return next((span for span in spans if span[0] <= mention.start < span[1]), None)


def qualifiers_of(mention: Mention, clause: Clause, statement: str) -> str:
    """What a statement calls a thing: "A fibrotic B compatible with C, and D" -> fibrotic B compatible with C."""
    here = mention.start - clause[0], mention.end - clause[0]
    before, after = statement[: here[0]], statement[here[1] :]
    begin = max((match.end() for match in _COORDINATES.finditer(before)), default=0)
    end = match.start() if (match := _COORDINATES.search(after)) else len(after)
    further = match.end() if (match := _CALLS.search(after, end)) else len(after)
    return f"{statement[begin : here[1] + end]} {after[further:]}"


@dataclass(frozen=True)
class Ruling:
    """What the words around a mention say of it.

    Attributes:
        status: None when they make it say nothing about this scan ("history of", "cannot be evaluated").
        qualified: True for a denial that leaves some ("no new nodule").
    """

    status: Status | None
    qualified: bool = False


def ruling(mention: Mention, clause: Clause, sentence: str, lexicon: Lexicon) -> Ruling:
    """Present, absent, uncertain or nothing, by the cues of the clause around a mention."""
    if mention.sense.status == "absent":
        return Ruling("absent")
    hints = lexicon.hints
    bracket = bracket_of(mention, sentence)
    if bracket and (bracket[0] + 1, bracket[1] - 1) != (mention.start, mention.end):
        clause = bracket
    elif not bracket:
        sentence = masked(_BRACKETS, sentence) if "(" in sentence else sentence
        sentence = masked(_ASIDE, sentence) if ", wh" in sentence else sentence
    before = sentence[clause[0] : mention.start]
    after = sentence[mention.end : clause[1]]
    if mention.gap[0] >= 0:
        before += " " + sentence[mention.gap[0] : mention.gap[1]]
    if hints["mute_before"].search(before) or hints["mute_after"].search(after):
        return Ruling(None)
    if "within" in before and (inside_of := _WITHIN.search(before)):
        before = before[inside_of.end() :]
    before, after = (hints["pseudo"].masked(text) for text in (before, after))
    after = masked(lexicon.cues["other_doubt"], after) if "excluded" in after or "ruled out" in after else after
    unsure = hints["maybe_after"].search(after)
    after = hints["maybe_after"].masked(after) if unsure else after
    unsure = unsure or hints["maybe_before"].search(_HEDGED.split(before)[-1])
    if unsure and not hints["no_before"].search(hints["maybe_before"].masked(before)):
        return Ruling("uncertain")
    inside = sentence[mention.start : mention.end]
    if hints["no_before"].search(before) or hints["no_after"].search(after) or _NOT.search(inside):
        return Ruling("absent", bool(lexicon.cues["qualified"].search(before) or _LARGER.match(after)))
    return Ruling("uncertain" if unsure or mention.sense.status == "uncertain" else "present")
