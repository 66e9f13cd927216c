"""Give every place, attribute and size in a sentence to the mention it speaks of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.parse.lexicon import Lexicon
from ctscribe.report.parse.places import Place, placed
from ctscribe.report.parse.scan import Item, Mention

_COORDINATION = re.compile(r"^[\s,]*(?:and|or|versus|vs|,|&|-|/|及|和|或|、|\s)*(?:an?\s+)?$")

# Kinds that are counted one by one: each has a place of its own.
_COUNTED = frozenset({"lung_nodule", "mass", "calcified_granuloma", "cavity"})
# Kinds of which one sentence may give several sizes.
_SEVERAL = _COUNTED | {"lymphadenopathy", "bone_lesion", "thyroid_nodule", "hepatic_cyst", "adrenal_nodule"}
# Kinds that are rarely said of one place.
_DIFFUSE = frozenset({"emphysema", "mosaic_attenuation_pattern"})
# Kinds that people measure, though no model gives their size.
_MEASURED = frozenset({"lung_opacity", "ground_glass_opacity", "consolidation"})
_WITH = re.compile(r" with (?:[a-z]+ )?")
_ACCOMPANIED = re.compile(
    r",? with (?:[a-z-]+ ){0,3}"
    r"|(?:,? and)?(?: an?| some)? (?:associated|surrounding|adjacent|accompanying|superimposed) (?:[a-z-]+ ){0,2}"
)
_JOINED = re.compile(r" and | or | ?and/or | ?/ ?")
# "A, likely B": B is said of A, and lies where A does.
_IS_SAID_TO_BE = re.compile(
    r",? (?:(?:which|that|is|are|most|may|might|could|thought|felt|to|likely|probably|possibly|favou?red|favou?ring) )*"
    r"(?:(?:be|represent\w*|reflect\w*|due to|related to|(?:consistent|compatible|in keeping) with) )?"
    r"(?:an? )?(?:[a-z-]+ )?"
)
# What is said of others than the ones named: "while those in the left lung have resolved".
_OTHERS = re.compile(r"\bbut not\b|\b(?:while|whereas|but|and) (?:those|that|the others?|the remaining ones)\b")
_AND_IN = re.compile(r"(?:,|\band) (?:with)?in (?:the )?$")
_THERE_IS = re.compile(r",? (?:there (?:is|are) )?(?:an?|two|three|several|multiple)\b[^,;]*")
# What was said in brackets is over: "ground glass (infection?) in the lingula".
_CLOSED = re.compile(r"[^()]*\)")
_AND_A = re.compile(r",? and (?:an? )?")
# What may stand between "4 mm" and "6 mm" where each is a thing of its own; "a" before the second says so outright.
_NEXT_SIZE = re.compile(
    r"\s*(?:\([^()]*\)\s*)?(?:(?:on the )?(?:right|left)\s*)?(?:,|and|,\s*and|&|or)\s*(?P<another>an? )?$"
)
_VERSUS = re.compile(r" (?:versus|vs)\b[. ]+(?:\w+ )?")


def _above(place: Place) -> set[str]:
    """Everything that a place lies in."""
    return {above for region in place for above in ontology.ancestors(region)}


@dataclass
class Draft:
    """A finding in the making."""

    mention: Mention
    places: list[Place] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    size: tuple[float, ...] = ()
    trailing: bool = False
    offered: list[Item] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Id of the kind of finding."""
        return self.mention.kind

    def take(self, item: Item, trailing: bool = False) -> bool:
        """Add an item if this kind of finding can have it; the first size and the first value of an attribute stay."""
        spec = ontology.findings()[self.kind]
        if item.place:
            regions = placed(self.kind, item.place)
            if regions:
                self.offered.append(replace(item, place=regions))
                self.places.append(regions)
                self.trailing = self.trailing or trailing
            return bool(regions)
        if item.size:
            if spec.size_mm is None and self.kind not in _MEASURED:
                return False
            self.offered.append(item)
            if self.size:
                return False
            self.size = item.size
            return True
        for name, value in item.senses:
            if value in spec.attributes.get(name, ()) and name not in self.values:
                self.values[name] = value
                return True
        return False

    def apart(self, sentence: str) -> list[Draft]:
        """One draft for each of several sizes: "5 mm in the ... and 7 mm in the ...", "nodules of 4 mm and 6 mm"."""
        sizes = [item for item in self.offered if item.size]
        if len(sizes) < 2:
            return [self]
        places = [item for item in self.offered if item.place]
        if len(places) == len(sizes) + 1 and all(set(places[0].place) & _above(p.place) for p in places[1:]):
            places = places[1:]
        offered = sorted((*sizes, *places), key=lambda item: item.start)
        turns = [bool(item.size) for item in offered]
        if len(sizes) == len(places) and all(a != b for a, b in pairwise(turns)):
            each = [place.place for place in places]
        elif self._counted_off(sizes, sentence):
            each = [(region,) for place in places for region in place.place]
            each = each if len(each) == len(sizes) else [self.regions] * len(sizes)
        else:
            return [self]
        return [
            Draft(self.mention, [place] if place else [], dict(self.values), size.size)
            for place, size in zip(each, sizes, strict=True)
        ]

    def _counted_off(self, sizes: list[Item], sentence: str) -> bool:
        """Whether sizes in a row are those of several things: "nodules measuring 4 mm and 6 mm"."""
        joints = [_NEXT_SIZE.match(sentence, a.end, b.start) for a, b in pairwise(sizes)]
        many = sentence[: self.mention.end].endswith("s") or any(joint and joint["another"] for joint in joints)
        return many and self.kind in _SEVERAL and all(joints)

    @property
    def regions(self) -> Place:
        """All regions named, the coarser ones dropped when a part of them is named too."""
        named = list(dict.fromkeys(region for place in self.places for region in place))
        return tuple(r for r in named if not any(o != r and r in ontology.ancestors(o) for o in named))


def assemble(
    sentence: str, language: Language, lexicon: Lexicon, found: list[Mention], loose: list[Item]
) -> list[Draft]:
    """One draft for each mention, holding what belongs to it."""
    drafts = [Draft(m) for m in found]
    for draft in drafts:
        if draft.mention.sense.attribute is not None:
            name, value = draft.mention.sense.attribute
            draft.values[name] = value
    if not drafts:
        return drafts
    if language == "zh":
        _assign_chinese(sentence, lexicon, drafts, loose)
        return drafts
    breaks = _breaks(sentence, lexicon)
    fronted = _assign_english(sentence, drafts, loose, breaks)
    _share(sentence, drafts, fronted, breaks, loose)
    return drafts


def _breaks(sentence: str, lexicon: Lexicon) -> Callable[[int, int], bool]:
    """Whether a word between two positions ends a chain of modifiers."""
    filler = lexicon.cues["filler_of"]
    of_ends = [m.end() for m in re.finditer(r"\bof ", sentence) if filler.search(sentence[: m.start()])]
    spans = [m.span() for m in lexicon.cues["breaker"].finditer(sentence)]
    spans = [(a, b) for a, b in spans if b + 1 not in of_ends]

    def broken(start: int, end: int) -> bool:
        return any(start <= a and b <= end for a, b in spans)

    return broken


def _assign_english(
    sentence: str, drafts: list[Draft], loose: list[Item], broken: Callable[[int, int], bool]
) -> list[Item]:
    """Modifiers go to the noun they stand before, everything else to the finding before it; returns fronted places."""
    fronted: list[Item] = []
    for item in loose:
        inside = next((d for d in drafts if d.mention.gap[0] <= item.start and item.end <= d.mention.gap[1]), None)
        if inside is not None:
            inside.take(item)
            continue
        following = next((d for d in drafts if d.mention.start >= item.end), None)
        previous = _previous(drafts, item, sentence)
        if following is not None and item.place and _leads_to(item, following.mention, sentence):
            following.take(item)
        elif following is not None and _modifies(item, following.mention, loose, broken, sentence):
            for draft in [d for d in drafts if d.mention.start == following.mention.start]:
                draft.take(item)
        elif previous is not None and item.strong and _OTHERS.search(sentence, previous.mention.end, item.start):
            continue
        elif previous is not None and item.strong:
            row = any(_NEXT_SIZE.match(sentence, i.end, item.start) for i in previous.offered if i.size)
            if not previous.take(item, trailing=True) and item.size and not row:
                _nearest_sized(drafts, previous, item)
        elif item.place and item.strong:
            fronted.append(item)
        elif following is not None and item.strong and not item.place:
            following.take(item)
    return fronted


def _previous(drafts: list[Draft], item: Item, sentence: str) -> Draft | None:
    """The finding before an item; one in brackets that are closed by now only where there is no other."""
    before = [d for d in drafts if d.mention.end <= item.start]
    if ")" in sentence:
        before = [d for d in before if not _CLOSED.match(sentence, d.mention.end, item.start)] or before
    return before[-1] if before else None


def _leads_to(item: Item, mention: Mention, sentence: str) -> bool:
    """Whether a place goes before what lies there: "..., and in the left lower lobe a 7 mm nodule"."""
    return bool(
        _AND_IN.search(sentence[max(0, item.start - 16) : item.start])
        and _THERE_IS.fullmatch(sentence[item.end : mention.start])
    )


def _nearest_sized(drafts: list[Draft], previous: Draft, item: Item) -> None:
    for draft in reversed(drafts[: drafts.index(previous)]):
        if draft.take(item, trailing=True):
            return


def _modifies(
    item: Item, mention: Mention, loose: list[Item], broken: Callable[[int, int], bool], sentence: str
) -> bool:
    """Whether an unbroken chain of modifiers leads from the item to the noun."""
    chain = [i for i in loose if item.start <= i.start and i.end <= mention.start]
    position, before = item.end, item
    for step in [*chain[1:], None]:
        end = mention.start if step is None else step.start
        alike = _alike(item, step, sentence) or (step is not None and before.senses and step.senses)
        if broken(position, end) and not (alike and _COORDINATION.match(sentence[position:end])):
            return False
        before = step or before
        position = mention.end if step is None else max(position, step.end)
    return True


def _alike(item: Item, step: Item | None, sentence: str) -> bool:
    """Whether "and" may join both before a noun: two attributes, sizes, or places ("hilar and subcarinal nodes")."""
    if step is None:
        return False
    if item.size and step.size:
        return True
    inside = re.search(r"\b(?:in|of|at|within|on|to|from)(?: the)? $", sentence[: item.start])
    if item.place and step.size and not inside:
        return _AND_A.fullmatch(sentence, item.end, step.start) is not None
    return bool(item.senses and step.senses) or bool(item.place and step.place and not inside)


def _share(
    sentence: str,
    drafts: list[Draft],
    fronted: list[Item],
    broken: Callable[[int, int], bool],
    loose: list[Item],
) -> None:
    """ "A and B in the right lung": both lie there. "In the right lung, A and B", "right A versus B": so here."""
    for first, second in reversed(list(pairwise(drafts))):
        if first.places or not second.trailing:
            continue
        between = sentence[first.mention.end : second.mention.start]
        for item in reversed(loose):
            if first.mention.end <= item.start and item.end <= second.mention.start:
                a, b = item.start - first.mention.end, item.end - first.mention.end
                between = between[:a] + between[b:]
        between = re.sub(r"\b(?:areas?|foci) of\b", "", between)
        along = _WITH.fullmatch(between) or (len(between) > 8 and _IS_SAID_TO_BE.fullmatch(between))
        if _COORDINATION.match(between) or (along and _in_the_lungs(first, second)):
            for place in second.places:
                if regions := placed(first.kind, place):
                    first.places.append(regions)
                    first.trailing = True
    for first, second in pairwise(drafts):
        between = sentence[first.mention.end : second.mention.start]
        joined = _JOINED.fullmatch(between) is not None and not first.trailing and _in_the_lungs(first, second)
        alike = joined or _accompanied(sentence, first, second)
        if not second.places and ((alike and second.kind not in _COUNTED | _DIFFUSE) or _VERSUS.fullmatch(between)):
            second.places = [regions for place in first.places if (regions := placed(second.kind, place))]
    for draft in drafts:
        if not draft.places:
            for item in fronted:
                draft.take(item)


def _accompanied(sentence: str, first: Draft, second: Draft) -> bool:
    """Whether "A in the right lung with associated B" puts B there too."""
    ends = [item.end for item in first.offered if first.mention.end <= item.start and item.end <= second.mention.start]
    between = sentence[max(ends, default=first.mention.end) : second.mention.start]
    pleural = all(ontology.findings()[draft.kind].section == "pleura" for draft in (first, second))
    return (bool(_ACCOMPANIED.fullmatch(between)) and _in_the_lungs(first, second)) or (
        pleural and bool(_WITH.match(between))
    )


def _in_the_lungs(*drafts: Draft) -> bool:
    return all(ontology.findings()[draft.kind].section in ("lungs", "airways") for draft in drafts)


def _assign_chinese(sentence: str, lexicon: Lexicon, drafts: list[Draft], loose: list[Item]) -> None:
    """What stands before a finding in its comma clause is its own; what follows belongs to the finding before."""
    edges = [0, *(m.end() for m in re.finditer("[,:]", sentence)), len(sentence) + 1]

    def clause(position: int) -> int:
        return sum(edge <= position for edge in edges)

    pending: list[Item] = []
    for item in loose:
        inside = next((d for d in drafts if d.mention.gap[0] <= item.start and item.end <= d.mention.gap[1]), None)
        following = next((d for d in drafts if d.mention.start >= item.end), None)
        previous = next((d for d in reversed(drafts) if d.mention.end <= item.start), None)
        if inside is not None:
            inside.take(item)
        elif following is not None and clause(following.mention.start) == clause(item.start):
            for draft in [d for d in drafts if d.mention.start == following.mention.start]:
                draft.take(item)
        elif previous is not None and not (item.place and clause(previous.mention.start) != clause(item.start)):
            previous.take(item, trailing=True)
        elif item.place:
            pending.append(item)
    for first, second in pairwise(drafts):
        if clause(first.mention.start) == clause(second.mention.start) and not second.places:
            for place in first.places:
                if regions := placed(second.kind, place):
                    second.places.append(regions)
    for draft in drafts:
        start = edges[clause(draft.mention.start) - 1]
        if not draft.places and lexicon.cues["continues"].match(sentence, start):
            for item in pending:
                if item.end <= draft.mention.start:
                    draft.take(item)
