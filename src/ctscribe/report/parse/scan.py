"""Find everything in one sentence that may matter: mentions of findings, places, attributes and sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctscribe.ontology import Language
from ctscribe.report.parse.lexicon import Further, Lexicon, Sense, Topic
from ctscribe.report.parse.places import Place, named_by_rule

_NUMBER = r"\d+(?:[.,]\d+)?"
_UNIT = r"(?:mm|cm)"
_SIZE = re.compile(
    r"(?<![A-Za-z0-9.,])"
    rf"(?:(?P<axes>{_NUMBER}\s*{_UNIT}?(?:\s*x\s*{_NUMBER}\s*{_UNIT}?){{0,2}}?)\s*(?<=[\d ])(?P<unit>mm|cm)(?![A-Za-z])"
    rf"|(?P<axes2>{_NUMBER}\s*(?P<unit2>mm|cm)\s*x\s*{_NUMBER}\s*{_UNIT}(?:\s*x\s*{_NUMBER}\s*{_UNIT})?))"
)
# "Calcification of the aorta and the coronary arteries": the longer name of the first leaves the second to be read.
_OF_BOTH = ("arterial_wall_calcification", "coronary_artery_wall_calcification")
_BARE_GLASS = re.compile(r"ground[- ]glass")
_AFTER_COMMA = re.compile(r"[,(:|] ?$")
_BEFORE_COMMA = re.compile(r" ?(?:[,);|]|$)")
_DATED = re.compile(r" ?\(?(?:on |in |dated )?(?:\d{1,2}/\d{1,2}/\d{2,4}|(?:19|20)\d\d)\b")
_NOUN = re.compile(r" (?!on\b|in\b|and\b|to\b|at\b)[a-z]")
_EARLIER = re.compile(
    r"(?:(?!\b(?:not|new|unchanged|stable|compar\w*|is|are|was|were|seen|present|visible)\b)[^,;()\d]){0,34}"
    r"\b(?:in|on) (?:the )?(?:previous|prior)"
)


@dataclass(frozen=True)
class Mention:
    """A word for a kind of finding at [start, end); `gap` is where attribute words may stand inside it."""

    start: int
    end: int
    sense: Sense
    gap: tuple[int, int] = (-1, -1)

    @property
    def kind(self) -> str:
        """Id of the kind of finding."""
        return self.sense.kind


@dataclass(frozen=True)
class Item:
    """A place, attribute or size at [start, end), waiting for the mention it belongs to."""

    start: int
    end: int
    place: Place = ()
    senses: tuple[tuple[str, str], ...] = ()
    size: tuple[float, ...] = ()
    strong: bool = True


def mentions(sentence: str, lexicon: Lexicon, topics: Sequence[Topic] = ()) -> list[Mention]:
    """Mentions in order of position; a word inside a longer mention is not one of its own.

    What a heading makes of a word goes before what the word means elsewhere.
    """
    found = [Mention(hit.start, hit.end, means, hit.gap) for means, hit in lexicon.kinds.hits(sentence)]
    plain = len(found)
    for topic in topics:
        found += [Mention(hit.start, hit.end, means, hit.gap) for means, hit in topic.kinds.hits(sentence)]
    if others := {kind for topic in topics for kind in topic.instead}:
        below = {(m.start, m.end) for m in found[plain:]}
        found = [m for m in found if m.kind not in others or (m.start, m.end) not in below]
    found.sort(key=lambda m: (m.start, -m.end, m.sense.status or "", m.sense.attribute is None))
    kept: list[Mention] = []
    found = [m for m in found if not _density_only(sentence, m, topics)]
    for mention in found:
        new = all((m.start, m.end, m.kind) != (mention.start, mention.end, mention.kind) for m in kept)
        if new and not any(_hides(other, mention) for other in found):
            kept.append(mention)
    return kept


def further_mentions(sentence: str, lexicon: Lexicon) -> list[tuple[Further, Mention]]:
    """Words that may count for one CT-RATE label only, with what they mean."""
    return [(means, Mention(hit.start, hit.end, means.sense, hit.gap)) for means, hit in lexicon.further.hits(sentence)]


def _hides(other: Mention, mention: Mention) -> bool:
    """Whether `mention` is only part of `other`."""
    overlap = other.start < mention.end and mention.start < other.end
    if not overlap or other is mention:
        return False
    same = other.kind == mention.kind
    if same and other.sense.status == "absent" and mention.sense.status != "absent":
        return True
    if same and mention.sense.status == "absent" and other.sense.status != "absent":
        return False
    if same and mention.sense.status == "uncertain" and other.sense.status != "uncertain":
        return True
    inside = other.start <= mention.start and mention.end <= other.end
    longer = other.end - other.start > mention.end - mention.start
    if same and not inside and overlap:
        return other.start < mention.start
    return inside and longer and (other.kind, mention.kind) != _OF_BOTH


def items(
    sentence: str, lexicon: Lexicon, language: Language, taken: list[Mention], side: str | None = None
) -> list[Item]:
    """Places, attributes and sizes in order of position, none inside a mention (except in its gap).

    `side` is that of the heading: it is meant where a lobe is named without one.
    """
    places = _places(sentence, lexicon, language, side)
    words = [Item(hit.start, hit.end, senses=means) for means, hit in lexicon.attributes.hits(sentence)]
    found = _longest(places) + _longest(words) + list(_sizes(sentence, lexicon))
    found = [_clipped(item, taken) for item in found]
    free = [item for item in found if not any(_covers(mention, item) for mention in taken)]
    return sorted(free, key=lambda item: item.start)


def _places(sentence: str, lexicon: Lexicon, language: Language, side: str | None) -> list[Item]:
    found = [Item(hit.start, hit.end, place=means) for means, hit in lexicon.regions.hits(sentence)]
    found += [Item(a, b, place=place, strong=strong) for a, b, place, strong in named_by_rule(sentence, language, side)]
    touched = lexicon.cues.get("touched")
    if touched is None:
        return found
    return [i for i in found if "fissure" in sentence[i.start : i.end] or not touched.search(sentence[: i.start])]


def _longest(found: list[Item]) -> list[Item]:
    """Of overlapping items only the longest; of equal ones the strong one."""
    kept: list[Item] = []
    for item in sorted(found, key=lambda i: (i.start - i.end, not i.strong, i.start)):
        if all(item.end <= other.start or other.end <= item.start for other in kept):
            kept.append(item)
    return kept


def _clipped(item: Item, taken: list[Mention]) -> Item:
    """A place that runs into a mention ends where it begins (右侧胸膜 + 胸膜增厚)."""
    into = [m.start for m in taken if item.place and item.start < m.start < item.end <= m.end]
    return replace(item, end=min(into)) if into else item


def _covers(mention: Mention, item: Item) -> bool:
    if item.end <= mention.start or mention.end <= item.start:
        return False
    return not (mention.gap[0] <= item.start and item.end <= mention.gap[1])


def _sizes(sentence: str, lexicon: Lexicon) -> list[Item]:
    found: list[Item] = []
    rather: list[Item] = []
    for match in _SIZE.finditer(sentence):
        before = sentence[max(0, match.start() - 40) : match.start()]
        after = sentence[match.end() : match.end() + 40]
        if lexicon.cues["smaller"].search(before) or lexicon.cues["thin"].search(after[:15]):
            continue
        earlier = lexicon.cues["past"].search(before) or _EARLIER.match(after)
        again = earlier and _recalled(before, after, lexicon)
        if earlier and (not again or lexicon.cues["changed"].search(sentence)):
            continue
        text, unit = (match["axes"], match["unit"]) if match["axes"] else (match["axes2"], match["unit2"])
        scale = 10.0 if unit == "cm" else 1.0
        axes = sorted((round(float(n.replace(",", ".")) * scale, 2) for n in re.findall(_NUMBER, text)), reverse=True)
        weak = again or _DATED.match(after) or lexicon.cues["larger"].search(before)
        (rather if weak else found).append(Item(match.start(), match.end(), size=tuple(axes[:2])))
    return found or rather


def _recalled(before: str, after: str, lexicon: Lexicon) -> bool:
    """Whether a size is named again with its thing: "the previously seen 6 mm nodule"."""
    return bool(lexicon.cues["recalled"].search(before) and _NOUN.match(after))


def _density_only(sentence: str, mention: Mention, topics: Sequence[Topic]) -> bool:
    """Whether "ground glass" only says what a nodule is made of: "nodule, ground glass, 9 mm"."""
    if mention.kind != "ground_glass_opacity" or not _BARE_GLASS.fullmatch(sentence[mention.start : mention.end]):
        return False
    alone = _AFTER_COMMA.search(sentence[: mention.start]) and _BEFORE_COMMA.match(sentence, mention.end)
    return bool(alone) and ("nodul" in sentence[: mention.start] or any(topic.listed for topic in topics))


def veto(
    sentence: str, clause: tuple[int, int], mention: Mention, lexicon: Lexicon, topics: Sequence[Topic] = ()
) -> bool:
    """Whether a word such as "nodule" speaks of another organ here ("hypodense nodule in the liver")."""
    if mention.kind not in lexicon.elsewhere_kinds:
        return False
    around = sentence[clause[0] : clause[1]]
    around = around[: mention.start - clause[0]] + " " + around[mention.end - clause[0] :]
    if topics and all(topic.elsewhere for topic in topics) and not lexicon.cues["thoracic"].search(around):
        return True
    if lexicon.cues["chest"].search(around):
        return bool(lexicon.cues["overrides"].search(around))
    if lexicon.cues["overrides"].search(sentence):
        return True
    return bool(lexicon.cues["organs"].search(around)) and not lexicon.cues["lungs"].search(around)
