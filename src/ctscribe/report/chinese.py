"""Chinese sentences: site first, measure words, what follows the noun after a comma."""

from __future__ import annotations

from collections.abc import Sequence

from ctscribe import ontology
from ctscribe.report.choice import Choice, phrasing
from ctscribe.report.words import Finding


def sizes(size_mm: Sequence[float]) -> str:
    """``(12, 9)`` -> "12×9 mm"."""
    return "×".join(f"{axis:g}" for axis in size_mm) + " mm"


def listed(items: Sequence[str], conjunction: str) -> str:
    """ "甲", "甲及乙", "甲、乙及丙"."""
    return items[0] if len(items) == 1 else "、".join(items[:-1]) + conjunction + items[-1]


class Chinese:
    """Writes one group of findings as a Chinese sentence (see `render.Writer`)."""

    def __init__(self) -> None:
        self.words = phrasing("zh")

    def present(self, finding: Finding, choice: Choice) -> str:
        return self._special(finding, choice) or self._framed(finding, choice)

    def uncertain(self, finding: Finding, choice: Choice) -> str:
        frame = choice.pick(self.words["frames"][finding.confidence or "uncertain"])
        return frame.format(**self._fields(finding, choice))

    def joined(self, first: Finding, second: Finding, choice: Choice) -> str:
        a, b = (self._fields(f, choice) for f in (first, second))
        if first.regions == second.regions and a["place"] and a["place"] == b["place"]:
            both = choice.pick(self.words["conjunction"]["all"])
            return f"{a['place']}{choice.pick(['见', '可见'])}{a['np']}{both}{b['np']}。"
        clauses = [self.present(f, choice).rstrip("。") for f in (first, second)]
        return "，".join(clauses) + "。"

    def absent(self, group: Sequence[Finding], choice: Choice) -> str:
        if len(group) == 1 and (special := self._special(group[0], choice)):
            return special
        place = self._place(group[0], choice) if group[0].regions else self._everywhere(group, choice)
        nouns = [self._np(f, choice, negated=True) for f in group]
        fields = {"place": place, "list": listed(nouns, choice.pick(self.words["conjunction"]["none"]))}
        return choice.pick(self.words["frames"]["absent"]).format(**fields)

    def _everywhere(self, group: Sequence[Finding], choice: Choice) -> str:
        if all(ontology.everywhere(f.kind, ("lungs",)) for f in group) and not choice.chance(0.4):
            return choice.pick(self.words["either"])
        return ""

    def _framed(self, finding: Finding, choice: Choice) -> str:
        fields = self._fields(finding, choice)
        if not fields["place"]:
            frames = self.words["frames"]["unplaced"]
        elif self._entry(finding).get("attached"):
            frames = self.words["frames"]["attached"]
        else:
            frames = self.words["frames"]["present"]
        return choice.pick(frames).format(**fields)

    def _special(self, finding: Finding, choice: Choice) -> str | None:
        """A sentence written for this kind alone (心影不大), if one says exactly what the finding does."""
        entry = self._entry(finding)
        place = self._place(finding, choice)
        fitting = [s for s in entry.get("sentences", {}).get(finding.status, []) if _says(s, finding, place)]
        if not fitting or not (entry.get("prefer_sentences") or choice.chance(0.5)):
            return None
        if entry.get("prefer_sentences") and choice.chance(0.2):
            return None
        severity = self._word(finding, "severity", choice) if finding.value("severity") else ""
        fields = {"place": place, "severity": severity, "size": sizes(finding.size_mm)}
        return choice.pick(fitting).format(**fields)

    def _entry(self, finding: Finding) -> dict:
        return self.words["kinds"][finding.kind]

    def _fields(self, finding: Finding, choice: Choice) -> dict[str, str]:
        place = self._place(finding, choice)
        return {"place": place, "np": self._np(finding, choice), "tail": self._tail(finding, choice)}

    def _place(self, finding: Finding, choice: Choice) -> str:
        only = ontology.findings()[finding.kind].only_place
        if not finding.regions or finding.regions == (only,):
            return ""
        sides = self.words["sides"]
        if self._entry(finding).get("place") == "side" and all(r in sides for r in finding.regions):
            return sides["both"] if len(finding.regions) == 2 else sides[finding.regions[0]]
        names = [ontology.regions()[r].names["zh"][0] for r in finding.regions]
        return listed(names, choice.pick(self.words["conjunction"]["all"]))

    def _np(self, finding: Finding, choice: Choice, negated: bool = False) -> str:
        entry = self._entry(finding)
        nouns = entry["nouns"]
        if negated:
            nouns = entry.get("negated", nouns)
        elif not self._place(finding, choice):
            nouns = entry.get("alone", nouns)
        device = finding.value("device")
        noun = choice.pick(self.words["device"][device] if device else nouns)
        said = [name for name in self.words["order"] if finding.value(name)]
        return "".join(self._word(finding, name, choice) for name in said) + noun

    def _word(self, finding: Finding, name: str, choice: Choice) -> str:
        value = finding.value(name) or ""
        key = f"{name}.{value}"
        own = self._entry(finding).get("words", {})
        written = [ontology.attributes()[name][value]["zh"][0]]
        return choice.pick(own.get(key) or self.words["words"].get(key) or written)

    def _tail(self, finding: Finding, choice: Choice) -> str:
        pieces = []
        if finding.size_mm:
            if finding.value("number") == "multiple":
                lead = self.words["largest"]
            else:
                lead = self.words["size" if len(finding.size_mm) == 2 else "diameter"]
            pieces.append(choice.pick(lead) + sizes(finding.size_mm))
        for name, value in finding.attributes:
            if after := self.words["after"].get(f"{name}.{value}"):
                pieces.append(choice.pick(after))
        return "".join(f"，{piece}" for piece in pieces)


def _says(template: str, finding: Finding, place: str) -> bool:
    wants = {"severity"} if "{severity}" in template else set()
    if finding.status == "absent" and finding.regions:
        return False
    placed = "{place}" in template
    fits = wants == set(dict(finding.attributes)) and ("{size}" in template) == bool(finding.size_mm)
    return fits and placed == bool(place)
