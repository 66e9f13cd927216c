"""Rule sets: tables in YAML that a radiologist can read and correct, checked when they are loaded.

```
RuleSet ── scope      for whom: age, screening or not, ...       (not known: a proviso, or the set is withheld)
        ├─ rows       when these conditions hold, do this        (the first row that holds decides)
        ├─ exam       rows about the whole examination, first of all
        ├─ upgrades   a category raised by a further condition
        └─ actions    what is to be done, in each language
```

A site's folder of such files replaces shipped sets of the same id and adds its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from ctscribe import ontology
from ctscribe.errors import ConfigError, UsageError
from ctscribe.impression.guidelines.conditions import Condition, read_condition
from ctscribe.impression.result import Citation, Words
from ctscribe.ontology import LANGUAGES

CHECKED = ("original", "copy", "no")
"""How a table was compared with the publication: with itself, with a faithful rendition, not at all."""
MODALITIES = ("ct", "ldct", "pet_ct", "mri", "us", "echo", "function", "tissue", "referral")
DEFAULT_SETS = (
    "fleischner_2017",
    "lung_rads_2022",
    "fleischner_ila_2020",
    "fleischner_emphysema_2015",
    "acr_mediastinal_2018",
    "aorta_2022",
    "acr_thyroid_2015",
    "acr_adrenal_2017",
)
"""Sets that are used when nobody chooses; in reading order."""


@dataclass(frozen=True)
class Fact:
    """A fact that tables may ask about.

    Attributes:
        ask: what to find out, per language; empty for a fact whose silence means no.
        values: how a condition on a value is said, per language.
        number: how a number or a condition on it is said, with ``{is}`` for the number or its bounds.
        unit: of the number, per language.
        unstated: ``"ask"`` or ``"no"``: what silence means.
    """

    name: str
    unstated: Literal["ask", "no"]
    ask: Words = field(default_factory=dict)
    values: Mapping[Any, Words] = field(default_factory=dict)
    number: Words = field(default_factory=dict)
    unit: Words = field(default_factory=dict)


@dataclass(frozen=True)
class Action:
    """What is to be done: its words, the examinations it names, and when the first one is due (months)."""

    words: Words
    modality: tuple[str, ...] = ()
    months: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        when: alternatives, each a list of conditions that must all hold.
        do: id of the action.
        category: the guideline's name for it.
        rank: how much it asks for; of several nodules the highest decides.
        checked: one of `CHECKED`.
    """

    id: str
    when: tuple[tuple[Condition, ...], ...]
    do: str
    category: str = ""
    rank: float = 0.0
    checked: str = "no"


@dataclass(frozen=True)
class Limit:
    """For whom a rule set is made.

    Attributes:
        otherwise: why it does not apply, per language; empty when nothing needs to be said.
        unknown: ``"proviso"`` tells what must be true, ``"withhold"`` keeps quiet.
    """

    condition: Condition
    unknown: Literal["proviso", "withhold"]
    otherwise: Words


@dataclass(frozen=True)
class Upgrade:
    """A category that a further condition raises."""

    when: tuple[Condition, ...]
    categories: tuple[str, ...]
    row: Row


@dataclass(frozen=True)
class RuleSet:
    """One guideline as a table.

    Attributes:
        title: its name, per language.
        about: kinds of findings it speaks of.
        judge: ``"each"`` finding on its own, or ``"together"`` by the one that asks for most.
        rounding_mm: mean diameters are rounded half up to this step.
        checked: how the table was compared with the publication, one of `CHECKED`; rows may say otherwise.
        signed_off_by: the radiologist who signed it off, "" while nobody did.
        no_row: whether it is told when no row fits a finding (``"say"``) or not (``"quiet"``).
        nothing_found: the row for an examination without such findings, None when it then keeps quiet.
        modifier_kinds: kinds of findings that add the modifier to the category, and what it is called.
        category_names: what a category is called in each language, where its id is no name.
        facts: facts that only this set asks about.
        remarks: what a reader of the table must know.
    """

    id: str
    title: Words
    citation: Citation
    about: tuple[str, ...]
    rows: tuple[Row, ...]
    actions: Mapping[str, Action]
    judge: Literal["each", "together"] = "each"
    rounding_mm: float = 1.0
    checked: str = "no"
    signed_off_by: str = ""
    scope: tuple[Limit, ...] = ()
    exam: tuple[Row, ...] = ()
    no_row: Literal["say", "quiet"] = "say"
    nothing_found: Row | None = None
    upgrades: tuple[Upgrade, ...] = ()
    modifier: str = ""
    modifier_kinds: tuple[str, ...] = ()
    category_names: Mapping[str, Words] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    remarks: Words = field(default_factory=dict)

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Every row in the order in which it is tried."""
        last = (self.nothing_found,) if self.nothing_found else ()
        return (*self.exam, *self.rows, *(upgrade.row for upgrade in self.upgrades), *last)


def load(folder: str | Path | None = None, use: Sequence[str] | None = None) -> tuple[RuleSet, ...]:
    """The rule sets to work with.

    Args:
        folder: a site's own YAML files; a set with the id of a shipped one replaces it, others are added.
        use: ids in reading order; None takes `DEFAULT_SETS` and everything in the folder.

    Raises:
        ConfigError: a table is not well formed; names the file, the row and what would be right.
        UsageError: no such folder or no such set.
    """
    known = dict(shipped())
    own: list[str] = []
    if folder is not None:
        path = Path(folder)
        tables = sorted(path.glob("*.yaml"))
        if not tables:
            raise UsageError(f"guidelines in {folder}", expected="a folder with at least one .yaml file", got="none")
        for table in tables:
            rule_set = read(_parsed(table.read_text(encoding="utf-8"), table.name), table.name)
            known[rule_set.id] = rule_set
            own.append(rule_set.id)
    chosen = list(use) if use is not None else list(dict.fromkeys((*DEFAULT_SETS, *own)))
    if missing := [name for name in chosen if name not in known]:
        raise UsageError(f"guideline {missing[0]!r}", expected=f"one of {', '.join(known)}")
    return tuple(known[name] for name in chosen)


@cache
def shipped() -> Mapping[str, RuleSet]:
    """Every rule set that comes with the package, by id."""
    found = {}
    for table in sorted((files(__package__) / "sets").iterdir(), key=lambda entry: entry.name):
        if table.name.endswith(".yaml"):
            rule_set = read(_parsed(table.read_text(encoding="utf-8"), table.name), table.name)
            found[rule_set.id] = rule_set
    return MappingProxyType(found)


@cache
def common_facts() -> Mapping[str, Fact]:
    """The facts that any table may ask about."""
    raw = _parsed((files(__package__) / "facts.yaml").read_text(encoding="utf-8"), "facts.yaml")
    return MappingProxyType({str(name): _fact(str(name), entry, "facts.yaml") for name, entry in raw.items()})


def read(raw: Any, where: str) -> RuleSet:
    """Check one table and freeze it.

    Args:
        raw: the data as YAML gives it.
        where: name of the file, for messages.

    Raises:
        ConfigError: a key, condition, action, fact or language is missing, unknown or of the wrong form.
    """
    table = _Table(raw, where, _KEYS)
    facts = {name: _fact(name, entry, f"{where}: facts") for name, entry in table.get("facts", dict, {}).items()}
    known = {**common_facts(), **facts}
    actions = {
        str(name): _action(entry, f"{where}: action {name}") for name, entry in table.need("actions", dict).items()
    }
    checked = _one_of(table.need("checked", str), CHECKED, f"{where}: checked")
    about = tuple(table.need("about", list))
    for kind in (*about, *table.get("modifier_kinds", list, [])):
        _one_of(kind, tuple(ontology.findings()), f"{where}: about")
    rows = _Rows(known, actions, checked, where)
    citation = _Table(table.need("citation", dict), f"{where}: citation", ("text", "doi"))
    key = table.need("id", str)
    rule_set = RuleSet(
        id=key,
        title=_words(table.need("title", dict), f"{where}: title"),
        citation=Citation(key, citation.need("text", str), citation.get("doi", str, "")),
        about=about,
        rows=rows.several(table.need("rows", list)),
        actions=MappingProxyType(actions),
        judge=_one_of(table.get("judge", str, "each"), ("each", "together"), f"{where}: judge"),  # type: ignore[arg-type]
        rounding_mm=_number(table.get("rounding_mm", (int, float), 1.0), f"{where}: rounding_mm"),
        checked=checked,
        signed_off_by=table.get("signed_off_by", str, "").strip(),
        scope=tuple(_limit(entry, known, f"{where}: scope") for entry in table.get("scope", list, [])),
        exam=rows.several(table.get("exam", list, [])),
        no_row=_one_of(table.get("no_row", str, "say"), ("say", "quiet"), f"{where}: no_row"),  # type: ignore[arg-type]
        nothing_found=rows.one({"when": {}, **found}) if (found := table.get("nothing_found", dict, {})) else None,
        upgrades=tuple(rows.upgrade(entry) for entry in table.get("upgrades", list, [])),
        modifier=table.get("modifier", str, ""),
        modifier_kinds=tuple(table.get("modifier_kinds", list, [])),
        category_names=_names(table.get("category_names", dict, {}), f"{where}: category_names"),
        facts=MappingProxyType(facts),
        remarks=_words(table.get("remarks", dict, {}), f"{where}: remarks", empty=True),
    )
    _check_ids(rule_set, where)
    return rule_set


_KEYS = (
    "id",
    "title",
    "citation",
    "checked",
    "signed_off_by",
    "about",
    "judge",
    "rounding_mm",
    "scope",
    "actions",
    "rows",
    "exam",
    "no_row",
    "nothing_found",
    "upgrades",
    "modifier",
    "modifier_kinds",
    "category_names",
    "facts",
    "remarks",
)


class _Table:
    """A mapping whose keys are known, read key by key."""

    def __init__(self, raw: Any, where: str, keys: Sequence[str]) -> None:
        self.where = where
        if not isinstance(raw, Mapping):
            raise ConfigError(where, expected=f"a table with the keys {', '.join(keys)}", got=repr(raw)[:80])
        if unknown := [str(key) for key in raw if key not in keys]:
            raise ConfigError(f"{where}: unknown key {unknown[0]!r}", expected=f"keys out of {', '.join(keys)}")
        self.raw = raw

    def need(self, key: str, kind: Any) -> Any:
        if key not in self.raw:
            raise ConfigError(f"{self.where}: {key} is missing", expected=f"the key {key!r}")
        return self.get(key, kind, None)

    def get(self, key: str, kind: Any, default: Any) -> Any:
        value = self.raw.get(key, default)
        if key in self.raw and not isinstance(value, kind):
            names = {dict: "a table", list: "a list", str: "a text"}
            raise ConfigError(f"{self.where}: {key}", expected=names.get(kind, "a number"), got=repr(value)[:80])
        return value


class _Rows:
    """Reads rows of one table."""

    def __init__(self, facts: Mapping[str, Fact], actions: Mapping[str, Action], checked: str, where: str) -> None:
        self.facts, self.actions, self.checked, self.where = facts, actions, checked, where

    def several(self, raw: Sequence[Any]) -> tuple[Row, ...]:
        return tuple(self.one(entry) for entry in raw)

    def one(self, raw: Any) -> Row:
        name = raw.get("id", "?") if isinstance(raw, Mapping) else "?"
        where = f"{self.where}: row {name}"
        table = _Table(raw, where, ("id", "when", "do", "category", "rank", "checked"))
        when = table.need("when", (dict, list))
        return Row(
            id=table.need("id", str),
            when=tuple(_conditions(w, self.facts, where) for w in (when if isinstance(when, list) else [when])),
            do=_one_of(table.need("do", str), tuple(self.actions), f"{where}: do"),
            category=table.get("category", str, ""),
            rank=_number(table.get("rank", (int, float), 0), f"{where}: rank"),
            checked=_one_of(table.get("checked", str, self.checked), CHECKED, f"{where}: checked"),
        )

    def upgrade(self, raw: Any) -> Upgrade:
        where = f"{self.where}: upgrade"
        table = _Table(raw, where, ("id", "when", "categories", "do", "category", "rank", "checked"))
        row = self.one({key: value for key, value in table.raw.items() if key != "categories"})
        return Upgrade(row.when[0], tuple(table.need("categories", list)), row)


def _conditions(raw: Any, facts: Mapping[str, Fact], where: str) -> tuple[Condition, ...]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: when", expected="a table of fact: condition", got=repr(raw)[:80])
    found = []
    for name, written in raw.items():
        fact = facts.get(str(name))
        if fact is None:
            raise ConfigError(f"{where}: fact {name!r}", expected=f"one of {', '.join(facts)}")
        condition = read_condition(str(name), written, f"{where}: {name}")
        said = fact.number if condition.bounds else fact.values
        unknown = [word for word in condition.words if fact.values and word not in fact.values]
        if unknown or (fact.unstated == "ask" and not said):
            expected = ", ".join(map(str, fact.values)) or "a comparison such as '< 6'"
            raise ConfigError(f"{where}: {name}", expected=expected, got=str(written))
        found.append(condition)
    return tuple(found)


def _limit(raw: Any, facts: Mapping[str, Fact], where: str) -> Limit:
    table = _Table(raw, where, ("fact", "is", "unknown", "otherwise"))
    fact = table.need("fact", str)
    condition = _conditions({fact: table.need("is", (str, bool, list))}, facts, f"{where}: {fact}")[0]
    return Limit(
        condition,
        _one_of(table.need("unknown", str), ("proviso", "withhold"), f"{where}: {fact}: unknown"),  # type: ignore[arg-type]
        _words(table.get("otherwise", dict, {}), f"{where}: {fact}: otherwise", empty=True),
    )


def _action(raw: Any, where: str) -> Action:
    table = _Table(raw, where, (*LANGUAGES, "modality", "months"))
    months = table.get("months", list, [])
    if months and (len(months) != 2 or not all(isinstance(m, (int, float)) for m in months) or months[0] > months[1]):
        raise ConfigError(f"{where}: months", expected="[earliest, latest]", got=repr(months))
    modality = tuple(_one_of(name, MODALITIES, f"{where}: modality") for name in table.get("modality", list, []))
    words = _words({language: table.need(language, str) for language in LANGUAGES}, where)
    return Action(words, modality, (float(months[0]), float(months[1])) if months else None)


def _fact(name: str, raw: Any, where: str) -> Fact:
    where = f"{where}: {name}"
    table = _Table(raw, where, ("unstated", "ask", "values", "number", "unit"))
    unstated = _one_of(table.need("unstated", str), ("ask", "no"), f"{where}: unstated")
    values = {value: _words(words, f"{where}: {value}") for value, words in table.get("values", dict, {}).items()}
    number = _words(table.get("number", dict, {}), f"{where}: number", empty=True)
    unit = _words(table.get("unit", dict, {}), f"{where}: unit", empty=True)
    ask = _words(table.get("ask", dict, {}), f"{where}: ask", empty=unstated == "no")
    return Fact(name, unstated, ask, MappingProxyType(values), number, unit)  # type: ignore[arg-type]


def _names(raw: Mapping[str, Any], where: str) -> Mapping[str, Words]:
    return MappingProxyType({str(key): _words(words, f"{where}: {key}") for key, words in raw.items()})


def _words(raw: Any, where: str, empty: bool = False) -> Words:
    if empty and raw == {}:
        return MappingProxyType({})
    table = _Table(raw, where, LANGUAGES)
    return MappingProxyType({language: str(table.need(language, str)).strip() for language in LANGUAGES})


def _one_of(value: Any, allowed: Sequence[str], where: str) -> str:
    if value not in allowed:
        raise ConfigError(where, expected=f"one of {', '.join(allowed)}", got=repr(value)[:80])
    return str(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(where, expected="a number", got=repr(value)[:80])
    return float(value)


def _check_ids(rule_set: RuleSet, where: str) -> None:
    ids = [row.id for row in rule_set.all_rows]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise ConfigError(f"{where}: row {twice[0]}", expected="ids that no other row has", got="the same id twice")
    used = {row.do for row in rule_set.all_rows}
    if idle := [name for name in rule_set.actions if name not in used]:
        raise ConfigError(f"{where}: action {idle[0]}", expected="actions that some row uses", got="no row uses it")


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML", expected="a table in YAML", got=str(error)) from error
