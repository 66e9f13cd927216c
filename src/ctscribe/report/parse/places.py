"""Phrases that name places by rule rather than by name: "right upper and lower lobes", "both hila", 双肺下叶.

A place is a tuple of region ids; a bare side ("right-sided", 左侧) is ``("@right",)``, ``("@left",)`` or both, and
becomes a region once the kind of finding is known (`placed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from ctscribe import ontology
from ctscribe.ontology import Language

Place = tuple[str, ...]

_SIDE = r"(?:right|left|both|bilateral(?:ly)?)"
_LEVEL = r"(?:upper|middle|lower)"
_LOBES = re.compile(
    rf"(?:{_SIDE}\s+(?:lungs?,?\s+)?)?\b{_LEVEL}"
    rf"(?:(?:\s*(?:,|\band\b|&|-|/|\bor\b))+\s*(?:(?:the\s+)?{_SIDE}\s+(?:lungs?\s+)?)?{_LEVEL})*"
    rf"\s+(?:lung\s+)?(?P<noun>lobes?|zones?)(?:\s+of\s+(?:the\s+)?(?P<tail>{_SIDE})\s+lungs?)?"
)
_TOKEN = re.compile(rf"{_SIDE}|{_LEVEL}")
_LUNGS = re.compile(
    r"\b(?:both|bilateral|either|right and left|left and right|the two)\s+lungs?\b(?: parenchyma| fields?)?"
    r"|\blungs?,? bilaterally\b|\bthe lungs\b|\bbilateral lung parenchyma\b"
)
_PAIRS = (
    (re.compile(r"\b(?:both|bilateral|bilaterally)\s+(?:pulmonary\s+)?hil(?:a|ar|um)\b"), "hilum"),
    (re.compile(r"\b(?:both|bilateral)\s+axill\w+"), "axilla"),
    (re.compile(r"\b(?:both|bilateral)\s+supraclavicular"), "supraclavicular"),
    (re.compile(r"\b(?:both|bilateral)\s+upper\s+paratracheal"), "upper_paratracheal"),
    (re.compile(r"\b(?:both|bilateral)\s+(?:lower\s+)?paratracheal"), "lower_paratracheal"),
    (re.compile(r"\b(?:both|bilateral)\s+(?:main|mainstem)\s+bronch\w+"), "main_bronchus"),
    (re.compile(r"\b(?:both|bilateral)\s+(?:pleurae?\b|pleural\s+(?:spaces?|cavit\w+)|hemithora\w+)"), "pleura"),
    (re.compile(r"\bboth\s+breasts?"), "breast"),
)
_BONES = (
    (re.compile(r"\bvertebra(?:l bod(?:y|ies)|e)?\b|\b[ctl]\d{1,2}\b"), "spine"),
    (re.compile(r"\bribs?\b"), "ribs"),
)
_SIDES = re.compile(
    r"(?:\b(?=[rlotab])|(?=,))(?:"  # where any of them can begin: the rest is tried only there
    r"\b(?:right|left) (?:minor |major |oblique |horizontal |interlobar )?fissure\b"
    r"|\b(?:on|to) the (?:right|left)\b(?! (?:atri|ventr|kidney|adrenal|thyroid|breast))"
    r"|, (?:right|left|bilateral)(?=[,:;)]|$)"
    r"|\b(?:right|left|bilateral) (?:peri|supra|infra)hilar\b|\b(?:right|left) para-?mediastinal\b"
    r"|\balong the (?:right|left)\b(?! (?:major|minor|oblique|horizontal))"
    r"|\bbilaterally\b|\b(?:on )?both sides\b|\b(?:right|left)[- ](?:sided?)\b|\bon either side\b)"
)
_WEAK_SIDES = re.compile(r"\b(?:right|left|bilateral|both)\b")

_ZH_LOBES = re.compile(r"(?:(右|左|双|两)(?:侧)?肺?)?([上中下](?:(?:叶)?[、及和]?[上中下])*)(?:肺)?叶")
_ZH_LUNGS = re.compile(r"(?:双|两)(?:侧)?肺(?!门|动脉|静脉)(?:野)?")
_ZH_PAIRS = (
    (re.compile(r"(?:双|两)(?:侧)?肺门"), "hilum"),
    (re.compile(r"(?:双|两)(?:侧)?腋[窝下]"), "axilla"),
    (re.compile(r"(?:双|两)(?:侧)?锁骨上(?:窝)?"), "supraclavicular"),
    (re.compile(r"(?:双|两)侧胸(?:膜|腔)"), "pleura"),
    (re.compile(r"(?:双|两)侧?主支气管"), "main_bronchus"),
)
_ZH_SIDES = re.compile(r"(?:双|两|左|右)侧")
_ZH_LEVEL = {"上": "upper", "中": "middle", "下": "lower"}
_ZH_SIDE = {"右": ("right",), "左": ("left",), "双": ("right", "left"), "两": ("right", "left")}


def named_by_rule(
    sentence: str, language: Language, headed: str | None = None
) -> Iterator[tuple[int, int, Place, bool]]:
    """(start, end, place, strong) of every place phrase; a weak one counts only directly before a finding.

    `headed` is the side of the heading, meant where a lobe is named without one.
    """
    if language == "zh":
        yield from _chinese(sentence, headed)
        return
    if "lobe" in sentence or "zone" in sentence:
        for match in _LOBES.finditer(sentence):
            if lobes := _english_lobes(match, sentence, headed):
                yield match.start(), match.end(), lobes, True
    if "lung" in sentence:
        for match in _LUNGS.finditer(sentence):
            yield match.start(), match.end(), ("lungs",), True
    two = "both" in sentence or "bilateral" in sentence
    if two:
        for pattern, stem in _PAIRS:
            for match in pattern.finditer(sentence):
                yield match.start(), match.end(), (f"right_{stem}", f"left_{stem}"), True
    for pattern, region in _BONES:
        for match in pattern.finditer(sentence):
            yield match.start(), match.end(), (region,), True
    if not (two or "right" in sentence or "left" in sentence or "side" in sentence):
        return
    for pattern, strong in ((_SIDES, True), (_WEAK_SIDES, False)):
        for match in pattern.finditer(sentence):
            yield match.start(), match.end(), _bare_side(match.group()), strong


def _bare_side(words: str) -> Place:
    if "right" in words or "右" in words:
        return ("@right",)
    return ("@left",) if "left" in words or "左" in words else ("@right", "@left")


def _lobes(sides: tuple[str, ...], level: str) -> Iterator[str]:
    for side in sides:
        if (lobe := f"{side}_{level}_lobe") in ontology.regions():
            yield lobe


def _english_lobes(match: re.Match[str], sentence: str, headed: str | None) -> Place:
    tail = match.group("tail")
    body = sentence[match.start() : match.start("noun")]
    both = ("right", "left")
    side: tuple[str, ...] | None = None
    if tail:
        side = (tail,) if tail in both else both
    found: list[str] = []
    for token in _TOKEN.findall(body):
        if token in both:
            side = (token,)
        elif token.startswith("b"):
            side = both
        else:
            found += _lobes(side or _understood_side(token, match, sentence, headed), token)
    return tuple(dict.fromkeys(found))


def _understood_side(level: str, match: re.Match[str], sentence: str, headed: str | None) -> tuple[str, ...]:
    """The side of "the lower lobe(s)": both for a plural, the right for the middle lobe, else the side named before."""
    if level == "middle":
        return ("right",)
    if match.group("noun").endswith("s"):
        return ("right", "left")
    before = re.findall(r"\b(?:right|left)\b", sentence[: match.start()])
    after = re.match(r"[^,;.]{0,40}\b(?:of|in) the (right|left)\b", sentence[match.end() :])
    if after:
        return (after.group(1),)
    return tuple(before[-1:]) or ((headed,) if headed else ())


def _chinese(sentence: str, headed: str | None) -> Iterator[tuple[int, int, Place, bool]]:
    side: tuple[str, ...] = (headed,) if headed else ()
    for match in _ZH_LOBES.finditer(sentence):
        side = _ZH_SIDE.get(match.group(1) or "", side)
        levels = re.findall(r"[上中下]", match.group(2))
        lobes = [lobe for level in levels for lobe in _lobes(side, _ZH_LEVEL[level])]
        if lobes:
            yield match.start(), match.end(), tuple(dict.fromkeys(lobes)), True
    for match in _ZH_LUNGS.finditer(sentence):
        yield match.start(), match.end(), ("lungs",), True
    for pattern, stem in _ZH_PAIRS:
        for match in pattern.finditer(sentence):
            yield match.start(), match.end(), (f"right_{stem}", f"left_{stem}"), True
    for match in _ZH_SIDES.finditer(sentence):
        yield match.start(), match.end(), _bare_side(match.group()), True


@cache
def placed(kind: str, place: Place) -> Place:
    """The regions of `place` that this kind of finding may lie in; a side of the chest becomes its lung or pleura.

    "Pleural effusion in both lungs" lies in both pleurae, "bilateral nodules" in both lungs; regions that anatomy
    forbids for the kind are dropped.
    """
    spec = ontology.findings()[kind]
    if spec.only_place is not None:
        return tuple(r for r in place if not r.startswith("@") and spec.only_place in ontology.ancestors(r))
    if place == ("@right", "@left") and ontology.allowed(kind, "lungs") and "right_pleura" not in spec.regions:
        return ("lungs",)
    found: list[str] = []
    for name in place:
        if name.startswith("@"):
            found += _on_side(kind, name[1:])
        elif ontology.allowed(kind, name) and not (name == "thorax" and name not in spec.regions):
            found.append(name)
        elif name == "lungs":
            found += [*_on_side(kind, "right"), *_on_side(kind, "left")]
        elif (side := ontology.regions()[name].side) is not None:
            found += _on_side(kind, side)
    return tuple(dict.fromkeys(found))


def _on_side(kind: str, side: str) -> list[str]:
    spec = ontology.findings()[kind]
    if f"{side}_pleura" in spec.regions:
        return [f"{side}_pleura"]
    if spec.section in ("lungs", "airways") and ontology.allowed(kind, f"{side}_lung"):
        return [f"{side}_lung"]
    return []
