"""English sentences: articles, number, agreement and where the site goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctscribe import ontology
from ctscribe.report.choice import Choice, phrasing
from ctscribe.report.words import Finding

_IRREGULAR = {"sequela": "sequelae", "pneumothorax": "pneumothoraces", "bronchus": "bronchi"}
_SPOKEN_VOWEL_NUMBERS = ("8", "11", "18")


def plural(noun: str) -> str:
    """Plural of an English noun phrase; its head is the last word before "of" or "in"."""
    for link in (" of ", " in "):
        head, found, rest = noun.partition(link)
        if found:
            return plural(head) + found + rest
    start, space, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return start + space + last


def article(phrase: str) -> str:
    """ "a" or "an" by the sound of what follows ("an 8 mm", "an 11 mm", "a 12 mm")."""
    word = phrase.split()[0]
    digits = word.split(".")[0]
    if digits.isdigit():
        vowel = digits[0] == "8" or digits in _SPOKEN_VOWEL_NUMBERS
    else:
        vowel = word[0].lower() in "aeiou"
    return "an" if vowel else "a"


def sizes(size_mm: Sequence[float]) -> str:
    """``(12, 9)`` -> "12 x 9 mm"."""
    return " x ".join(f"{axis:g}" for axis in size_mm) + " mm"


def listed(items: Sequence[str], conjunction: str) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + f" {conjunction} {items[-1]}"


@dataclass
class _Phrase:
    """One finding in words: the pieces that the sentence frames arrange."""

    bare: str
    np: str
    np_possible: str
    plural: bool
    place: str = ""
    site: str = ""
    tail: str = ""

    def fields(self, choice: Choice, words: dict) -> dict[str, str]:
        return {
            "bare": self.bare,
            "np": self.np,
            "np_possible": self.np_possible,
            "is": "are" if self.plural else "is",
            "seen": choice.pick(words["seen"]),
            "place": self.place,
            "site": self.site,
            "shows": "show" if self.site.startswith("both ") or " and " in self.site else "shows",
            "tail": self.tail,
            "tail_mid": self.tail + "," if self.tail.startswith(",") else self.tail,
        }


class English:
    """Writes one group of findings as an English sentence (see `render.Writer`)."""

    def __init__(self) -> None:
        self.words = phrasing("en")

    def present(self, finding: Finding, choice: Choice) -> str:
        special = self._special(finding, choice)
        if special:
            return special
        phrase = self._phrase(finding, choice)
        frames = [f for f in self.words["frames"]["present"] if phrase.site or "{site}" not in f]
        if finding.kind == "medical_material":
            frames = [f for f in frames if "{site}" not in f]
        return _sentence(choice.pick(frames), phrase.fields(choice, self.words))

    def uncertain(self, finding: Finding, choice: Choice) -> str:
        phrase = self._phrase(finding, choice)
        frame = choice.pick(self.words["frames"][finding.confidence or "uncertain"])
        return _sentence(frame, phrase.fields(choice, self.words))

    def joined(self, first: Finding, second: Finding, choice: Choice) -> str:
        a, b = (self._phrase(f, choice, compact=True) for f in (first, second))
        if first.regions == second.regions and a.place == b.place:
            subject, place = f"{a.np} and {b.np}", b.place
        else:
            subject, place = f"{a.np}{a.place} and {b.np}{b.place}", ""
        if choice.chance(0.5):
            is_are = "are" if a.plural else "is"
            return _sentence(f"There {is_are} {subject}{place}.", {})
        return _sentence(f"{subject} are {choice.pick(self.words['seen'])}{place}.", {})

    def absent(self, group: Sequence[Finding], choice: Choice) -> str:
        if len(group) == 1 and (special := self._special(group[0], choice)):
            return special
        phrases = [self._phrase(finding, choice, negated=True) for finding in group]
        place = phrases[0].place if group[0].regions else self._everywhere(group, choice)
        fields = {
            "list": listed([phrase.bare for phrase in phrases], self.words["conjunction"]["none"]),
            "is_first": "are" if phrases[0].plural else "is",
            "is": "are" if phrases[-1].plural else "is",
            "seen": choice.pick(self.words["seen"]),
            "place": place,
        }
        return _sentence(choice.pick(self.words["frames"]["absent"]), fields)

    def _everywhere(self, group: Sequence[Finding], choice: Choice) -> str:
        if all(ontology.everywhere(f.kind, ("lungs",)) for f in group) and not choice.chance(0.5):
            return " " + self.words["either"]
        return ""

    def _special(self, finding: Finding, choice: Choice) -> str | None:
        """A sentence for this kind alone ("The heart is enlarged"), if one says exactly what the finding does."""
        entry = self.words["kinds"][finding.kind]
        if finding.status != "absent" and finding.regions != (ontology.findings()[finding.kind].only_place,):
            return None
        if finding.status == "absent" and (finding.regions or finding.attributes):
            return None
        fitting = [s for s in entry.get("sentences", {}).get(finding.status, []) if _says(s, finding)]
        if not fitting or not (entry.get("prefer_sentences") or choice.chance(0.5)):
            return None
        if entry.get("prefer_sentences") and choice.chance(0.3):
            return None
        severity = finding.value("severity") or ""
        fields = {"size": sizes(finding.size_mm), "severity_ly": self.words["adverbs"].get(severity, "")}
        return choice.pick(fitting).format(**fields)

    def _phrase(self, finding: Finding, choice: Choice, negated: bool = False, compact: bool = False) -> _Phrase:
        """Put one finding into words; `compact` keeps everything before the noun, `negated` picks nouns for absence."""
        entry = self.words["kinds"][finding.kind]
        device = finding.value("device")
        nouns = self.words["device"][device] if device else entry.get("negated" if negated else "nouns", entry["nouns"])
        marked = choice.pick(nouns)
        noun, mass = marked.lstrip("~+"), marked.startswith("~")
        site_adjective, place, site = self._site(finding, entry, choice)
        several = finding.value("number") == "multiple" or len(finding.regions) > 1 or finding.regions == ("lungs",)
        if marked.startswith("+"):
            is_plural = True
        else:
            is_plural = several and not mass
            noun = plural(noun) if is_plural else noun
        adjectives, after = self._attributes(finding, choice, compact)
        before_size, tail = self._size(finding, is_plural, mass, choice)
        tail += "".join(f", {phrase}" if tail or i else f" {phrase}" for i, phrase in enumerate(after))
        if tail and place and tail.startswith(" with"):
            tail = "," + tail
        number = [word for word in adjectives if word in self._number_words()]
        rest = [word for word in adjectives if word not in number]
        bare = " ".join([*number, *before_size, *rest, *([site_adjective] if site_adjective else []), noun])
        possible = f"{choice.pick(self.words['possible'])} {bare}"
        determined = mass or is_plural
        if entry["place"] == "of":  # "narrowing of the trachea" is one phrase: nothing may come between
            bare, possible, place = bare + place, possible + place, ""
        return _Phrase(
            bare=bare,
            np=bare if determined else f"{article(bare)} {bare}",
            np_possible=possible if determined else f"{article(possible)} {possible}",
            plural=is_plural,
            place=place,
            site=site,
            tail=tail,
        )

    def _number_words(self) -> set[str]:
        words = self.words["words"]
        return {*words["number.single"], *words["number.multiple"]}

    def _site(self, finding: Finding, entry: dict, choice: Choice) -> tuple[str, str, str]:
        """(adjective before the noun, phrase after it, the site as a noun phrase); all "" when the noun implies it."""
        only = ontology.findings()[finding.kind].only_place
        if not finding.regions or finding.regions == (only,):
            return "", "", ""
        if entry["place"] == "adjective" and all(r in self.words["adjectives"] for r in finding.regions):
            if list(finding.regions) == self.words["bilateral"]:
                return "bilateral", "", ""
            return listed([self.words["adjectives"][r] for r in finding.regions], "and"), "", ""
        names = [ontology.regions()[r].names["en"][0] for r in finding.regions]
        site = listed([n if n.startswith("both ") else f"the {n}" for n in names], "and")
        link = "of" if entry["place"] == "of" else "in"
        return "", f" {link} {site}", site if link == "in" else ""

    def _attributes(self, finding: Finding, choice: Choice, compact: bool) -> tuple[list[str], list[str]]:
        """Adjectives in their usual order, and phrases that follow the noun instead."""
        before, after = [], []
        values = dict(finding.attributes)
        for name in self.words["order"]:
            value = values.get(name)
            if value is None:
                continue
            key = f"{name}.{value}"
            if key in self.words["after"] and not compact and choice.chance(0.5):
                after.append(choice.pick(self.words["after"][key]))
            else:
                written = [ontology.attributes()[name][value]["en"][0]]
                before.append(choice.pick(self.words["words"].get(key, written)))
        return before, after

    def _size(self, finding: Finding, is_plural: bool, mass: bool, choice: Choice) -> tuple[list[str], str]:
        if not finding.size_mm:
            return [], ""
        size = sizes(finding.size_mm)
        if is_plural:
            return [], choice.pick([f", the largest measuring {size}", f", measuring up to {size}"])
        if mass:
            return [], choice.pick([f", measuring up to {size}", f", measuring {size}"])
        if choice.chance(0.5):
            return [], choice.pick([f", measuring {size}", f" measuring {size}", f" ({size})", f", {size} in size"])
        return [size], ""


def _says(template: str, finding: Finding) -> bool:
    wants = {"severity"} if "{severity_ly}" in template else set()
    return wants == set(dict(finding.attributes)) and ("{size}" in template) == bool(finding.size_mm)


def _sentence(frame: str, fields: dict[str, str]) -> str:
    text = frame.format(**fields) if fields else frame
    return text[0].upper() + text[1:]
