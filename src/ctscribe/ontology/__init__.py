"""The vocabulary: which regions and findings exist, what they are called, and what may go together.

The YAML files beside this loader hold all of it; no medical word lives in code. Loading checks them, so that a typing
error in the vocabulary is one clear `ConfigError`, not a finding that silently goes unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

import yaml

from ctscribe.errors import ConfigError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

SECTIONS = (
    "lungs",
    "airways",
    "pleura",
    "mediastinum",
    "heart",
    "vessels",
    "bones",
    "neck",
    "abdomen",
    "devices",
)
"""Organ sections in the order in which a report goes through them."""

_LEVELS = ("organ", "lobe", "segment", "station")


@dataclass(frozen=True)
class Region:
    """One anatomical region.

    Attributes:
        parent: id of the enclosing region, None for the root.
        names: per language, the written name first, then synonyms that are read.
        side: ``"left"``, ``"right"`` or None.
        model: True when the network pools a token for it.
        level: ``"organ"``, ``"lobe"``, ``"segment"`` (bronchopulmonary) or ``"station"`` (lymph nodes).
    """

    id: str
    parent: str | None
    names: Mapping[str, tuple[str, ...]]
    side: str | None = None
    model: bool = False
    level: str = "organ"


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding.

    Attributes:
        names: per language, the written name first, then synonyms that are read.
        section: organ section of the report it is written under, one of `SECTIONS`.
        regions: regions it may be located in (medical priors: anything else is forbidden).
        also: further regions a text may place it in; models and phantoms do not choose from these.
        ct_rate: exact CT-RATE label if it is one of the 18, else None.
        implies: other kinds that are true whenever this one is (a consolidation is a lung opacity).
        attributes: attribute name -> allowed values.
        size_mm: (smallest, largest) plausible long axis in mm, None when it is never measured.
        critical: must never be omitted from an impression.
        source: where the definition comes from, if it is not common usage.
    """

    id: str
    names: Mapping[str, tuple[str, ...]]
    section: str
    regions: tuple[str, ...]
    also: tuple[str, ...] = ()
    ct_rate: str | None = None
    implies: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    size_mm: tuple[float, float] | None = None
    critical: bool = False
    source: str | None = None

    @property
    def only_place(self) -> str | None:
        """The region it always lies in when there is just one ("cardiomegaly" needs no place), else None."""
        return self.regions[0] if len(self.regions) == 1 and not self.also else None


@dataclass(frozen=True)
class Connection:
    """Two regions that anatomy ties together.

    Attributes:
        a: the proximal region (heart, trachea, ...).
        b: the distal region.
        relation: ``"vessel"``, ``"airway"`` or ``"coupled"`` (see ``constraints.yaml``).
    """

    a: str
    b: str
    relation: str


@dataclass(frozen=True)
class Rule:
    """Something that a scene may not show.

    Attributes:
        form: ``"outside"`` (``finding`` never lies in ``region`` or a part of it), ``"connected"`` (the regions of
            every connection of ``relation`` touch) or ``"tree"`` (they touch, and branches share no place).
        names: what a violation says, per language.
        finding: kind of finding, for ``outside``.
        region: the region it stays out of, for ``outside``.
        relation: ``"vessel"`` or ``"airway"``, for the other forms.
    """

    id: str
    form: str
    names: Mapping[str, tuple[str, ...]]
    finding: str | None = None
    region: str | None = None
    relation: str | None = None


def _load(name: str) -> Any:
    return yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))


def _refuse(table: str, entry: str, expected: str, got: object) -> ConfigError:
    return ConfigError(f"{table}: entry {entry!r}", expected=expected, got=str(got), hint="correct the vocabulary file")


def _names(table: str, key: str, entry: dict) -> Mapping[str, tuple[str, ...]]:
    for language in LANGUAGES:
        if not entry.get(language):
            raise _refuse(table, key, f"at least one name under {language!r}", "none")
    return MappingProxyType({language: tuple(map(str, entry.pop(language))) for language in LANGUAGES})


def _check_names(table: str, entries: Mapping[str, Region] | Mapping[str, FindingKind]) -> None:
    """A name means one thing only, whatever its capitals."""
    owner: dict[tuple[str, str], str] = {}
    for key, entry in entries.items():
        for language, names in entry.names.items():
            for name in names:
                other = owner.setdefault((language, name.lower()), key)
                if other != key or names.count(name) > 1:
                    raise _refuse(table, key, "names that no other entry has", f"{name!r}, also a name of {other!r}")


def build_regions(table: Mapping[str, dict]) -> Mapping[str, Region]:
    """Check and freeze a region table as read from YAML.

    Raises:
        ConfigError: parent unknown or listed later, unknown level or side, or a name used twice.
    """
    built: dict[str, Region] = {}
    for key, raw in table.items():
        entry = dict(raw)
        region = Region(id=key, names=_names("regions.yaml", key, entry), **entry)
        if region.parent is not None and region.parent not in built:
            raise _refuse("regions.yaml", key, "a parent listed above it", region.parent)
        if region.level not in _LEVELS:
            raise _refuse("regions.yaml", key, f"a level out of {', '.join(_LEVELS)}", region.level)
        if region.side not in (None, "left", "right"):
            raise _refuse("regions.yaml", key, "side left or right", region.side)
        built[key] = region
    _check_names("regions.yaml", built)
    return MappingProxyType(built)


def build_findings(
    table: Mapping[str, dict],
    known_regions: Mapping[str, Region],
    known_attributes: Mapping[str, Mapping[str, object]],
) -> Mapping[str, FindingKind]:
    """Check and freeze a finding table as read from YAML.

    Raises:
        ConfigError: an unknown region, section, attribute, value or implied kind, or a name used twice.
    """
    built: dict[str, FindingKind] = {}
    for key, raw in table.items():
        entry = dict(raw)
        names = _names("findings.yaml", key, entry)
        for plural in ("implies", "regions", "also"):
            if entry.get(plural) is not None:
                entry[plural] = tuple(entry[plural])
        if entry.get("size_mm") is not None:
            entry["size_mm"] = tuple(float(mm) for mm in entry["size_mm"])
        entry["attributes"] = MappingProxyType({k: tuple(v) for k, v in entry.get("attributes", {}).items()})
        built[key] = FindingKind(id=key, names=names, **entry)
    for kind in built.values():
        _check_kind(kind, built, known_regions, known_attributes)
    _check_names("findings.yaml", built)
    return MappingProxyType(built)


def _check_kind(
    kind: FindingKind,
    kinds: Mapping[str, FindingKind],
    known_regions: Mapping[str, Region],
    known_attributes: Mapping[str, Mapping[str, object]],
) -> None:
    if kind.section not in SECTIONS:
        raise _refuse("findings.yaml", kind.id, f"a section out of {', '.join(SECTIONS)}", kind.section)
    for region in kind.regions + kind.also:
        if region not in known_regions:
            raise _refuse("findings.yaml", kind.id, "regions of regions.yaml", region)
    if not kind.regions:
        raise _refuse("findings.yaml", kind.id, "at least one region", "none")
    for implied in kind.implies:
        if implied not in kinds:
            raise _refuse("findings.yaml", kind.id, "implied kinds of findings.yaml", implied)
    for name, values in kind.attributes.items():
        for value in values:
            if value not in known_attributes.get(name, ()):
                raise _refuse("findings.yaml", kind.id, "attribute values of attributes.yaml", f"{name}: {value}")


@cache
def regions() -> Mapping[str, Region]:
    """All regions by id, parents before children."""
    return build_regions(_load("regions.yaml"))


@cache
def attributes() -> Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]:
    """Attribute -> value -> language -> names, the written one first."""
    table = {
        name: MappingProxyType(
            {str(value): _names("attributes.yaml", f"{name}: {value}", dict(entry)) for value, entry in values.items()}
        )
        for name, values in _load("attributes.yaml").items()
    }
    return MappingProxyType(table)


@cache
def findings() -> Mapping[str, FindingKind]:
    """All finding kinds by id."""
    return build_findings(_load("findings.yaml"), regions(), attributes())


@cache
def model_regions() -> tuple[str, ...]:
    """Ids of the regions the network pools tokens for, in tensor order."""
    return tuple(r.id for r in regions().values() if r.model)


@cache
def ct_rate_labels() -> Mapping[str, str]:
    """Exact CT-RATE label -> finding id, in CT-RATE's column order."""
    order = _load("ct_rate_labels.yaml")
    by_label = {f.ct_rate: f.id for f in findings().values() if f.ct_rate}
    return MappingProxyType({label: by_label[label] for label in order})


@cache
def ancestors(region: str) -> tuple[str, ...]:
    """The region itself, its parent, ... up to the root."""
    chain: list[str] = []
    current: str | None = region
    while current is not None:
        chain.append(current)
        current = regions()[current].parent
    return tuple(chain)


@cache
def descendants(region: str) -> tuple[str, ...]:
    """The region itself and everything below it, in tree order."""
    return tuple(r for r in regions() if region in ancestors(r))


@cache
def implied(kind: str) -> tuple[str, ...]:
    """The kind and everything that is true whenever it is (a consolidation is a lung opacity)."""
    found = [kind]
    for current in found:
        found += [other for other in findings()[current].implies if other not in found]
    return tuple(found)


@cache
def allowed(kind: str, region: str) -> bool:
    """Whether anatomy lets a finding of this kind lie in this region.

    True for the regions listed with the kind, for parts of them (a segment of a listed lobe, a nodal station of the
    mediastinum) and for regions that enclose one (a nodule in a lobe is also a nodule in that lung). So no lung nodule
    in the mediastinum, no pericardial effusion in a lobe.

    Raises:
        KeyError: the kind or the region does not exist.
    """
    places = findings()[kind].regions + findings()[kind].also
    if region in places:
        return True
    if any(region in ancestors(place) for place in places):
        return True
    current: str | None = region
    while current is not None and regions()[current].level in ("segment", "station"):
        current = regions()[current].parent
        if current in places:
            return True
    return False


@cache
def everywhere(kind: str, places: tuple[str, ...]) -> bool:
    """Whether `places` together hold every region the kind may lie in ("in either lung", for a nodule)."""
    listed = findings()[kind].regions
    finest = [r for r in listed if not any(r != other and r in ancestors(other) for other in listed)]
    return all(any(place in ancestors(region) for place in places) for region in finest)


@cache
def forbidden() -> frozenset[tuple[str, str]]:
    """Every (finding kind, model region) that anatomy rules out: the scene graph never links these."""
    return frozenset((k, r) for k in findings() for r in model_regions() if not allowed(k, r))


@cache
def connections() -> tuple[Connection, ...]:
    """How regions hang together: vessels start at the heart, the airways are one tree, lungs touch their pleura.

    Raises:
        ConfigError: an unknown region, or the airway connections are not a tree.
    """
    pairs = {relation: listed for relation, listed in _load("constraints.yaml").items() if relation != "rules"}
    table = [Connection(a, b, relation) for relation, listed in pairs.items() for a, b in listed]
    for link in table:
        for region in (link.a, link.b):
            if region not in regions():
                raise _refuse("constraints.yaml", f"{link.a} - {link.b}", "regions of regions.yaml", region)
    distal = [link.b for link in table if link.relation == "airway"]
    if len(distal) != len(set(distal)):
        raise _refuse("constraints.yaml", "airway", "a tree: one parent for each region", "two parents")
    return tuple(table)


@cache
def rules() -> Mapping[str, Rule]:
    """What anatomy forbids a scene to show, by id; see ``constraints.yaml``."""
    relations = {link.relation for link in connections()}
    return build_rules(_load("constraints.yaml")["rules"], findings(), regions(), relations)


def build_rules(
    table: Mapping[str, dict],
    known_findings: Mapping[str, FindingKind],
    known_regions: Mapping[str, Region],
    relations: set[str],
) -> Mapping[str, Rule]:
    """Check and freeze the rules as read from YAML.

    Raises:
        ConfigError: not one form, an unknown finding, region or relation, or no name.
    """
    built: dict[str, Rule] = {}
    for key, raw in table.items():
        entry = dict(raw)
        names = _names("constraints.yaml", key, entry)
        if len(entry) != 1 or not set(entry) <= {"outside", "connected", "tree"}:
            raise _refuse("constraints.yaml", key, "one of outside, connected, tree", ", ".join(entry) or "none")
        ((form, what),) = entry.items()
        if form == "outside":
            if what["finding"] not in known_findings or what["region"] not in known_regions:
                raise _refuse("constraints.yaml", key, "a finding and a region of the vocabulary", what)
            built[key] = Rule(key, form, names, finding=what["finding"], region=what["region"])
        else:
            if what not in relations:
                raise _refuse("constraints.yaml", key, "a relation that some connection has", what)
            built[key] = Rule(key, form, names, relation=what)
    return MappingProxyType(built)


@cache
def parts(region: str) -> tuple[str, ...]:
    """The finer regions directly below one (lobes of a lung, segments of a lobe), in tree order."""
    return tuple(r.id for r in regions().values() if r.parent == region)
