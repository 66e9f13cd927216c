"""What sentences say together: "It measures 8 mm", the impression that says the findings again, "no new nodule"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.parse.assemble import Draft
from ctscribe.report.parse.lexicon import Sense, lexicon
from ctscribe.report.parse.scan import Item, Mention
from ctscribe.report.parse.sentence import details_of, read_sentence
from ctscribe.report.parse.topics import Piece
from ctscribe.report.words import Finding

# Long axes of one thing, said twice, differ by at most this many mm (an impression rounds).
_SAME_MM = 1.0


# Of these there is one on a side: where a place is stated, a bare mention is no further one.
_ONE_ON_A_SIDE = ("pleural_effusion", "pneumothorax")


# "Satellite nodules in the same lobe".
_SAME = re.compile(r"\bsame (?:lobe|segment|lung)\b")

# One place in the ontology, but measured part by part.
_IN_PARTS = ("aortic_aneurysm",)


@dataclass(eq=False)
class _Said:
    """A finding as far as it is known by now, and where it was first stated.

    `qualified`: see `Reading`; `announced`: named without more before a list ("Nodules as follows:").
    """

    finding: Finding
    section: str
    qualified: bool
    announced: bool = False


def findings_of(pieces: Iterable[Piece], language: Language) -> list[Finding]:
    """Findings in the order of the text, each once.

    A sentence about "it" or "the largest" completes the finding before it; an impression that repeats a finding
    completes it too; "no new nodule" denies nothing where a nodule is stated.
    """
    said: list[_Said] = []
    last: list[_Said] = []
    for piece in pieces:
        current: list[_Said] = []
        for reading in read_sentence(piece.sentence, language, piece.topic, _listed(piece.sentence, last, language)):
            if reading.label is not None:
                continue
            if reading.refers and any(s.finding.kind == reading.finding.kind for s in said):
                continue
            finding = _in_the_same(reading.finding, piece.sentence, [*last, *current])
            bare = not finding.regions and not finding.size_mm
            new = _Said(finding, piece.section, reading.qualified, bare and piece.sentence.endswith(":"))
            again = said if reading.definite and new.finding.regions else last
            known = _known(new, said, again if reading.definite else [])
            if known is None and new.section == "impression" and _covered(new.finding, said):
                continue
            if known is None:
                said.append(new)
            else:
                known.finding = _completed(known.finding, new.finding)
            current.append(known or new)
        if not current:
            _complete_last(last, details_of(piece.sentence, language))
        last = current or last
    return list(dict.fromkeys(s.finding for s in said if not _in_vain(s, said)))


def _in_vain(one: _Said, said: list[_Said]) -> bool:
    """Whether the others make a statement say nothing: "no new nodule" beside a nodule, "nodules as follows:"."""
    alike = [s for s in said if s.finding.kind == one.finding.kind and s.finding.status != "absent"]
    if _leaves_some(one) and alike:
        return True
    if one.announced and any(not s.announced for s in alike):
        return True
    return one.finding.kind in _ONE_ON_A_SIDE and _placed_elsewhere(one.finding, said)


def _in_the_same(finding: Finding, sentence: str, before: list[_Said]) -> Finding:
    """The finding where the one before lies, when that is all the sentence says of its place."""
    if finding.regions or not _SAME.search(sentence):
        return finding
    places = next((s.finding.regions for s in reversed(before) if s.finding.regions), ())
    return replace(finding, regions=tuple(r for r in places if ontology.allowed(finding.kind, r)))


def _leaves_some(said: _Said) -> bool:
    """Whether a denial is of some only: "no new nodule", "the descending aorta is normal"."""
    return said.qualified or (said.finding.status == "absent" and said.finding.kind in _IN_PARTS)


def _placed_elsewhere(finding: Finding, said: list[_Said]) -> bool:
    """Whether the same is stated with its place, too: "atelectasis from a large effusion", "a large right effusion"."""
    if finding.status != "present" or finding.regions:
        return False
    return any((s.finding.kind, s.finding.status) == (finding.kind, "present") and s.finding.regions for s in said)


def _listed(sentence: str, last: list[_Said], language: Language) -> str:
    """The kind of the finding before, when the sentence goes on listing: "For example, 9 mm in the ..."."""
    going_on = lexicon(language).cues.get("listing")
    if (
        not last
        or going_on is None
        or not (going_on.match(sentence) or lexicon(language).cues["entry"].match(sentence))
    ):
        return ""
    return next((s.finding.kind for s in reversed(last) if ontology.findings()[s.finding.kind].size_mm), "")


def _known(new: _Said, said: list[_Said], last: list[_Said]) -> _Said | None:
    """What `new` says again: something of the sentence before, or, in an impression, something of the findings."""
    again = last + ([s for s in said if s.section != "impression"] if new.section == "impression" else [])
    fits = [s for s in again if _agree(s.finding, new.finding)]
    placed = bool(new.finding.regions)
    return max(fits, key=lambda s: (placed and s.finding.regions != (), s.finding.size_mm != ()), default=None)


def _covered(new: Finding, said: list[_Said]) -> bool:
    """Whether an impression only sums up or supposes: "bilateral effusions" where a right and a left one are stated."""
    if new.status == "uncertain" and not new.regions and not new.size_mm:
        return any((s.finding.kind, s.finding.status) == (new.kind, "present") for s in said)
    known = [s.finding for s in said if (s.finding.kind, s.finding.status) == (new.kind, new.status)]
    if new.status == "absent" or new.size_mm or len(known) < 2 or not new.regions:
        return False
    return all(any(_touch(r, k) for f in known for k in f.regions) for r in new.regions)


def _agree(known: Finding, new: Finding) -> bool:
    """Whether two statements can be about the same thing."""
    if known.kind != new.kind or known.status != new.status or known.status == "absent":
        return False
    if known.size_mm and new.size_mm and abs(known.size_mm[0] - new.size_mm[0]) > _SAME_MM:
        return False
    values = dict(known.attributes)
    if any(values.get(name, value) != value for name, value in new.attributes):
        return False
    return not known.regions or all(any(_touch(r, k) for k in known.regions) for r in new.regions)


def _touch(a: str, b: str) -> bool:
    return a in ontology.ancestors(b) or b in ontology.ancestors(a)


def _completed(known: Finding, new: Finding) -> Finding:
    """Both statements in one; the finer region, and what was said first of anything else."""
    regions = dict.fromkeys((*known.regions, *new.regions))
    finest = tuple(r for r in regions if not any(o != r and r in ontology.ancestors(o) for o in regions))
    attributes = tuple((dict(new.attributes) | dict(known.attributes)).items())
    size = max(known.size_mm, new.size_mm, key=len)
    return replace(known, regions=finest, size_mm=size, attributes=attributes)


def _complete_last(last: list[_Said], details: tuple[Item, ...]) -> None:
    """Give what a sentence says of "it" to the last finding before that can have it."""
    for said in reversed(last):
        finding = said.finding
        if finding.status == "absent":
            continue
        draft = Draft(Mention(0, 0, Sense(finding.kind)), [finding.regions], dict(finding.attributes), finding.size_mm)
        taken = [draft.take(item) for item in details]
        if any(taken):
            size, values = draft.size, tuple(draft.values.items())
            said.finding = replace(finding, regions=draft.regions, size_mm=size, attributes=values)
            return
