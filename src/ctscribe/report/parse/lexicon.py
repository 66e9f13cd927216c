"""Which words name which kind, region, attribute or cue, in one language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ctscribe import ontology
from ctscribe.ontology import Language
from ctscribe.report.choice import phrasing
from ctscribe.report.english import plural
from ctscribe.report.parse.patterns import Cue, Name, Pattern, Words, pattern, required_literals


@dataclass(frozen=True)
class Topic:
    """What a heading adds to the sentences below it.

    Attributes:
        kinds: words that name a finding only here ("effusion" under "PLEURA:").
        place: region that findings without a place lie in, "" for none.
        elsewhere: True when a bare "nodule" here is not in the lungs.
        listed: kind of the entries that give a place and a size alone, "" for none.
        instead: kinds that those words do not name here, though they may elsewhere ("effusion" under "HEART").
        part: True when the sentences still speak of what the heading above did ("PLEURA: Right: ... Left: ...").
    """

    kinds: Words
    place: str = ""
    elsewhere: bool = False
    listed: str = ""
    instead: tuple[str, ...] = ()
    part: bool = False


@dataclass(frozen=True)
class Lexicon:
    """Everything that is recognised in one language.

    Attributes:
        kinds: names of findings; each means a `Sense`.
        further: words that count for one CT-RATE label only; each means a `Further`.
        regions: names of places; each means region ids.
        attributes: names of attribute values; each means (attribute, value) pairs.
        cues: compiled cue patterns by name.
        masking: every match of the cue "masked" contains one of these.
        elsewhere_kinds: kinds whose plain names belong to other organs too.
        topics: what headings add, by topic.
        headed: how each topic, and each section that is no topic, is headed.
    """

    kinds: Words
    further: Words
    regions: Words
    attributes: Words
    cues: dict[str, re.Pattern[str]]
    hints: dict[str, Cue]
    masking: tuple[str, ...]
    elsewhere_kinds: frozenset[str]
    topics: dict[str, Topic]
    headed: dict[str, re.Pattern[str]]


@dataclass(frozen=True)
class Sense:
    """What a kind pattern means: the kind, a status it forces, and an attribute the word itself carries."""

    kind: str
    status: str | None = None
    attribute: tuple[str, str] | None = None


_TABLES = ("findings", "cues", "headings")


@cache
def reading(language: Language) -> Any:
    """The reading tables of one language (``reading/<language>/*.yaml``) as one."""
    folder = files("ctscribe.report") / "reading" / language
    tables = (yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")) for name in _TABLES)
    return {key: value for table in tables for key, value in table.items()}


@cache
def label_table() -> Any:
    """How CT-RATE's labels are given (``reading/ct_rate.yaml``)."""
    table = files("ctscribe.report") / "reading" / "ct_rate.yaml"
    return yaml.safe_load(table.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Further:
    """Words that count for one CT-RATE label only.

    Attributes:
        label: as CT-RATE spells it.
        sense: a kind of the label.
        needs: what the sentence must say for them to count, None for nothing.
        unless: what their statement must not say, None for nothing.
        called: what they must not be called, None for nothing.
    """

    label: str
    sense: Sense
    needs: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    called: re.Pattern[str] | None = None

    def holds(self, sentence: str, statement: str, qualifiers: str) -> bool:
        """Whether the words count in this sentence, where they stand in this part of it, so qualified."""
        if self.needs is not None and not self.needs.search(sentence):
            return False
        if self.unless is not None and self.unless.search(statement):
            return False
        return self.called is None or not self.called.search(qualifiers)


def _label_patterns(language: Language) -> Iterator[Pattern]:
    for label, habit in label_table().items():
        for entry in habit.get("also", {}).get(language, []):
            rule = {"words": entry} if isinstance(entry, str) else entry
            tests = (re.compile(rule[key]) if key in rule else None for key in ("with", "unless", "called"))
            yield pattern(Further(label, Sense(habit["kinds"][0]), *tests), rule["words"])


def _topics(table: Any) -> Iterator[tuple[str, Topic]]:
    for name, entry in table.items():
        patterns = [
            pattern(Sense(kind, status), regex)
            for part, status in (("kinds", None), ("weak", "uncertain"), ("absent", "absent"))
            for kind, regexes in entry.get(part, {}).items()
            for regex in regexes
        ]
        plain = {key: entry[key] for key in ("place", "elsewhere", "listed", "part") if key in entry}
        yield name, Topic(Words(patterns), instead=tuple(entry.get("instead", ())), **plain)


def _named(means: Any, names: Iterable[str], language: Language) -> Iterator[Name]:
    for name in dict.fromkeys(n.lower().replace("-", " ") for n in names):
        yield Name(means, name, whole_words=language == "en")


def _kind_names(kind: str, language: Language) -> list[str]:
    entry = phrasing(language)["kinds"][kind]
    written = [n.lstrip("~+") for key in ("nouns", "alone", "negated") for n in entry.get(key, [])]
    names = [*ontology.findings()[kind].names[language], *written]
    if language == "en":
        names += [plural(name.lower()) for name in names if not name.endswith("s")]
        names += ["masses", "lung masses", "pulmonary masses"] if kind == "mass" else []
    return names


def _kind_patterns(language: Language) -> Iterator[Name | Pattern]:
    table = reading(language)
    for kind in ontology.findings():
        yield from _named(Sense(kind), _kind_names(kind, language), language)
        for status, part in ((None, "kinds"), ("uncertain", "weak"), ("absent", "absent")):
            for regex in table[part].get(kind, []):
                yield pattern(Sense(kind, status), regex)
    for value, entry in ontology.attributes()["device"].items():
        names = [*entry[language], *(n.lstrip("~+") for n in phrasing(language)["device"][value])]
        if language == "en":
            names += [plural(n) for n in names if not n.endswith("s")]
        yield from _named(Sense("medical_material", None, ("device", value)), names, language)


def _attribute_patterns(language: Language) -> Iterator[Name]:
    """Words for attribute values; one word may stand for several."""
    senses: dict[str, list[tuple[str, str]]] = {}
    words = phrasing(language)
    tables = [words["words"], words["after"], *(k.get("words", {}) for k in words["kinds"].values())]
    for name, values in ontology.attributes().items():
        if name == "device":
            continue
        for value, entry in values.items():
            spoken = [w for table in tables for w in table.get(f"{name}.{value}", [])]
            for word in dict.fromkeys([*entry[language], *spoken]):
                senses.setdefault(word.lower(), []).append((name, value))
    for word, meanings in senses.items():
        yield from _named(tuple(dict.fromkeys(meanings)), [word], language)


def _region_patterns(language: Language) -> Iterator[Name]:
    for region in ontology.regions().values():
        names = list(region.names[language])
        if language == "en" and region.id not in ("lungs",):
            names += [n + "s" for n in names[:1] if n.endswith(("lobe", "segment", "bronchus", "breast"))]
        yield from _named((region.id,), names, language)


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in patterns))


@cache
def lexicon(language: Language) -> Lexicon:
    """Compile the lexicon of one language once."""
    table = reading(language)
    cues = {
        "qualified": re.compile(table["negation"]["qualified"]),
        "masked": _any(table["masked"]),
    }
    hints = {"pseudo": Cue(table["negation"]["pseudo"])}
    for name, part in (("no", "negation"), ("mute", "mute"), ("maybe", "uncertainty")):
        hints |= {f"{name}_{side}": Cue(table[part][side]) for side in ("before", "after")}
    for name, value in table.items():
        if isinstance(value, str):
            cues[name] = re.compile(value, re.VERBOSE if name == "headings" else 0)
    for part in ("organs", "lungs", "overrides", "chest", "thoracic"):
        cues[part] = re.compile(table["elsewhere"][part])
    headed = table["sections"] | {name: entry["heading"] for name, entry in table["topics"].items()}
    return Lexicon(
        kinds=Words(_kind_patterns(language)),
        further=Words(_label_patterns(language)),
        regions=Words(_region_patterns(language)),
        attributes=Words(_attribute_patterns(language)),
        cues=cues,
        hints=hints,
        masking=tuple({literal for regex in table["masked"] for literal in required_literals(regex) or ("",)}),
        elsewhere_kinds=frozenset(table["elsewhere"]["kinds"]),
        topics=dict(_topics(table["topics"])),
        headed={name: re.compile(regex) for name, regex in headed.items()},
    )
