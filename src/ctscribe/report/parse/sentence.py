"""One sentence -> what it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.parse import scan, scope
from ctscribe.report.parse.assemble import Draft, assemble
from ctscribe.report.parse.lexicon import Lexicon, Sense, Topic, lexicon
from ctscribe.report.parse.patterns import masked
from ctscribe.report.parse.rewriting import lobes_on, segments_in, written_out
from ctscribe.report.words import Finding, Status

# Short axis in mm from which a thoracic lymph node is called enlarged (RECIST 1.1, Eur J Cancer 2009;45:228-247).
_ENLARGED_NODE_MM = 10.0
# What may be described without being there: a node is no lymphadenopathy.
_DESCRIBED = "lymphadenopathy"


@dataclass(frozen=True)
class Reading:
    """One statement of a sentence.

    Attributes:
        finding: what is stated.
        names: every wording that names it, as normalised.
        label: set when the words count only for this CT-RATE label and name no finding.
        qualified: a denial that leaves some ("no new nodule").
        definite: named as known already ("the nodule ...").
        bracketed: said only in brackets, as a differential diagnosis is.
        explains: said to be what was named before ("consistent with empyema").
        refers: names a thing that was stated before and says nothing more of it ("adjacent to the nodule").
    """

    finding: Finding
    names: tuple[str, ...]
    label: str | None = None
    qualified: bool = False
    definite: bool = False
    bracketed: bool = False
    explains: bool = False
    refers: bool = False


def read_sentence(sentence: str, language: Language, topic: str = "", listed: str = "") -> tuple[Reading, ...]:
    """Everything one normalised sentence states.

    Args:
        sentence: see `text.sentences`.
        language: of the sentence.
        topic: what the heading above it speaks of, a key of ``topics`` in ``reading/<language>/headings.yaml``, or "".
        listed: kind of what the sentence goes on listing by place and size alone, "" for none.
    """
    return _read(sentence, language, topic, listed)


# What is left out and what is given as "" must be one entry: findings and labels ask for the same sentences.
@lru_cache(maxsize=65536)
def _read(sentence: str, language: Language, topic: str, listed: str) -> tuple[Reading, ...]:
    words = lexicon(language)
    topics = [words.topics[name] for name in topic.split("+")] if topic else []
    if language == "en":
        side = next((s for t in topics if t.place and (s := ontology.regions()[t.place].side)), None)
        sentence = written_out(sentence if side is None else lobes_on(sentence, side))
    lobe = next((topic.place for topic in topics if topic.place.endswith("_lobe")), "")
    if lobe and "segment" in sentence:
        sentence = segments_in(sentence, lobe)
    visible = sentence
    if any(literal in sentence for literal in words.masking):
        visible = masked(words.cues["masked"], sentence)
    found = scan.mentions(visible, words, topics)
    further = scan.further_mentions(sentence, words)
    if not found and not further:
        kind = next((t.listed for t in topics if t.listed), listed)
        found = _entry(sentence, language, words, kind, any(t.place for t in topics))
    if not found and not further:
        return ()
    parts = scope.clauses(sentence, language, words, found)
    found = [m for m in found if not scan.veto(sentence, scope.clause_of(m, parts), m, words, topics)]
    readings: dict[Finding, Reading] = {}
    for draft in map(_enlarged, _drafts(sentence, language, words, found, topics)):
        said = scope.ruling(draft.mention, scope.clause_of(draft.mention, parts), sentence, words)
        if said.status is not None:
            finding = _finding(draft, said.status)
            name = sentence[draft.mention.start : draft.mention.end]
            known = bool(words.cues["definite"].match(sentence[: draft.mention.start]))
            aside = scope.bracket_of(draft.mention, sentence) is not None
            bare, begin = finding == Finding(finding.kind), draft.mention.start
            before = sentence[max(0, begin - 60) : begin]
            again, refers = (bare and words.cues[cue].search(before) for cue in ("explains", "refers"))
            new = Reading(finding, (name,), None, said.qualified, known, aside, bool(again), bool(refers))
            readings[finding] = _together(readings[finding], new) if finding in readings else new
    for finding in _said_again(readings):
        del readings[finding]
    extra = []
    for means, mention in further:
        clause = scope.clause_of(mention, parts)
        said = scope.ruling(mention, clause, sentence, words)
        if said.status is None:
            continue
        statement = scope.statement_of(clause, parts, sentence)
        if means.holds(sentence, statement, scope.qualifiers_of(mention, clause, statement)):
            name = sentence[mention.start : mention.end]
            extra.append(Reading(Finding(mention.kind, said.status), (name,), means.label))
    return (*readings.values(), *extra)


def _entry(sentence: str, language: Language, words: Lexicon, kind: str, placed: bool) -> list[scan.Mention]:
    """The unsaid noun of an entry that gives a place and a size alone: "LUL, 11 mm" below "NODULES"."""
    if not kind:
        return []
    items = scan.items(sentence, words, language, [])
    if words.cues["component"].search(sentence):
        return []
    if not any(item.size for item in items) or not (placed or any(item.place and item.strong for item in items)):
        return []
    return [scan.Mention(0, 0, Sense(kind, "uncertain" if kind == _DESCRIBED else None))]


def _together(first: Reading, again: Reading) -> Reading:
    """The same finding named twice in a sentence ("crazy paving and ground-glass areas")."""
    return replace(first, names=(*first.names, *again.names), bracketed=first.bracketed and again.bracketed)


def _said_again(readings: Mapping[Finding, Reading]) -> list[Finding]:
    """Bare mentions of what the sentence states otherwise: "nodule, likely granuloma" is one finding, not two."""
    present = {f.kind for f in readings if f.status == "present" and f != Finding(f.kind)}
    plain = {f.kind for f in readings if f.status == "present"}
    return [
        finding
        for finding, reading in readings.items()
        if (finding == Finding(finding.kind, "uncertain") and finding.kind in plain)
        or (finding == Finding(finding.kind) and finding.kind in present and _spare(reading))
    ]


def _spare(reading: Reading) -> bool:
    """Whether a bare mention adds nothing to one with details: an aside, or what there is only one of."""
    kind = reading.finding.kind
    once = kind == _DESCRIBED or ontology.findings()[kind].only_place is not None
    return reading.bracketed or reading.explains or once


@lru_cache(maxsize=65536)
def details_of(sentence: str, language: Language) -> tuple[scan.Item, ...]:
    """What a sentence about "it" or "the largest" says of place, size and attributes; () when it is none or denies."""
    words = lexicon(language)
    sentence = written_out(sentence) if language == "en" else sentence
    if not words.cues["anaphora"].match(sentence) or words.hints["no_before"].search(sentence):
        return ()
    return tuple(item for item in scan.items(sentence, words, language, []) if item.strong)


def _drafts(
    sentence: str, language: Language, words: Lexicon, found: list[scan.Mention], topics: Sequence[Topic]
) -> list[Draft]:
    """Mentions with what belongs to them; where they name no place, the one of the heading."""
    place = next((topic.place for topic in topics if topic.place), "")
    side = ontology.regions()[place].side if place else None
    drafts = assemble(sentence, language, words, found, scan.items(sentence, words, language, found, side))
    for draft in drafts:
        if place and not draft.places:
            draft.take(scan.Item(0, 0, place=(place,)))
    return [part for draft in drafts for part in draft.apart(sentence)]


def _enlarged(draft: Draft) -> Draft:
    """A node that is only described is an enlarged one when its short axis says so."""
    if draft.kind == _DESCRIBED and draft.size and draft.size[-1] >= _ENLARGED_NODE_MM:
        draft.mention = replace(draft.mention, sense=replace(draft.mention.sense, status=None))
    return draft


def _finding(draft: Draft, status: Status) -> Finding:
    size = () if status == "absent" else draft.size
    return Finding(draft.kind, status, draft.regions, size, tuple(draft.values.items()))
