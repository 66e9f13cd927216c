"""The vocabulary: which regions and findings exist, what they are called, and what may go together.

Two YAML files beside this loader hold all of it; no medical word lives in code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, Mapping

import yaml

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True)
class Region:
    """One anatomical region.

    Attributes:
        parent: id of the enclosing region, None for the root.
        side: ``"left"``, ``"right"`` or None.
        model: True when the network pools a token for it.
        names: per language, the written name first, then synonyms that are read.
        plural: True when the written English name takes a plural verb ("ribs are").
    """

    id: str
    parent: str | None
    names: Mapping[str, tuple[str, ...]]
    side: str | None = None
    model: bool = False


@dataclass(frozen=True)
class FindingKind:
    """One kind of finding.

    Attributes:
        ct_rate: exact CT-RATE label if it is one of the 18, else None.
        implies: other kinds that are true whenever this one is (a consolidation is a lung opacity).
        regions: regions it may be located in (medical priors: anything else is forbidden).
        section: organ section of the report it is written under.
        attributes: attribute name -> allowed values.
        size_mm: (smallest, largest) plausible long axis in mm, None when it is never measured.
        paired_regions: True when it may name several regions at once.
        critical: must never be omitted from an impression.
    """

    id: str
    names: Mapping[str, tuple[str, ...]]
    section: str
    regions: tuple[str, ...]
    ct_rate: str | None = None
    implies: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    size_mm: tuple[float, float] | None = None
    critical: bool = False
    source: str | None = None


def _load(name: str) -> dict[str, dict]:
    return yaml.safe_load((files(__package__) / name).read_text(encoding="utf-8"))


def _names(entry: dict) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({language: tuple(entry.pop(language)) for language in LANGUAGES})


@cache
def regions() -> Mapping[str, Region]:
    """All regions by id, parents before children."""
    table = {key: Region(id=key, names=_names(entry), **entry) for key, entry in _load("regions.yaml").items()}
    return MappingProxyType(table)


@cache
def findings() -> Mapping[str, FindingKind]:
    """All finding kinds by id."""
    table = {}
    for key, entry in _load("findings.yaml").items():
        names = _names(entry)
        for plural in ("implies", "regions", "size_mm"):
            if entry.get(plural) is not None:
                entry[plural] = tuple(entry[plural])
        entry["attributes"] = MappingProxyType({k: tuple(v) for k, v in entry.get("attributes", {}).items()})
        table[key] = FindingKind(id=key, names=names, **entry)
    return MappingProxyType(table)


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
