"""What may be known beside the scan: an earlier scan, the clinical history, laboratory values.

```
 earlier scan   voxels and regions on the same grid, days between    ─┐
 history        text in any language, as bytes                        ├─► StudyBeside ─► `scene.beside`
 labs           doublings above a limit of normal, per known name    ─┘
```

Each may be missing for any study, and a model reads only what its configuration says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ctscribe import ontology
from ctscribe.errors import ConfigError, UsageError
from ctscribe.report import Finding
from ctscribe.tensors import RegionMasks, VolumeBatch

Change = Literal["new", "larger", "stable", "smaller", "resolved"]
CHANGES: tuple[Change, ...] = ("new", "larger", "stable", "smaller", "resolved")
CHANGE_MM = 2.0
"""Differences in diameter below this are within the error of measurement (Bankier et al., Radiology 2017)."""

HISTORY_BYTES = 256
"""A history is cut after so many bytes (UTF-8)."""

LARGEST_DOUBLING = 6.0
"""Laboratory values further than so many doublings from the limit of normal are read as that far."""


@dataclass(frozen=True)
class InputsConfig:
    """What the model reads beside the scan; what is off costs nothing and changes nothing.

    Attributes:
        prior: an earlier scan, seen by the same encoder; adds a head that says what became of each finding.
        history: the clinical history, a text.
        labs: laboratory values.
        drop: share of studies from which each of them is withheld in training, so that none is relied upon; drawn for
            each study and part (`ctscribe.data.withhold`).
        drop_prior, drop_history, drop_labs: the same for one of them; None is as `drop` says.
    """

    prior: bool = False
    history: bool = False
    labs: bool = False
    drop: float = 0.3
    drop_prior: float | None = None
    drop_history: float | None = None
    drop_labs: float | None = None

    def __post_init__(self) -> None:
        for name in ("drop", "drop_prior", "drop_history", "drop_labs"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ConfigError(f"inputs.{name} is a share", expected="0 to 1", got=str(getattr(self, name)))

    @property
    def names(self) -> tuple[str, ...]:
        """What is read."""
        return tuple(name for name in ("prior", "history", "labs") if getattr(self, name))

    def chance_of_drop(self, name: str) -> float:
        """How often ``prior``, ``history`` or ``labs`` is withheld from a study in training."""
        own: float | None = getattr(self, f"drop_{name}")
        return self.drop if own is None else own


@dataclass(frozen=True)
class StudyBeside:
    """What is known beside the scans of a batch; a part that no study has is None.

    Attributes:
        history: bytes plus one, 0 after the end.
        labs: doublings above the limit of normal, in the order of `lab_names`; NaN where not known.
        prior: earlier scans on the model's grid (air where there is none) and their regions.
        prior_given: False for studies without an earlier scan.
        days: between the scans; NaN where not known.
    """

    history: Int[Tensor, "b l"] | None = None
    labs: Float[Tensor, "b v"] | None = None
    prior: VolumeBatch | None = None
    prior_regions: RegionMasks | None = None
    prior_given: Bool[Tensor, " b"] | None = None
    days: Float[Tensor, " b"] | None = None

    def to(self, device: torch.device | str) -> StudyBeside:
        """The same on another device."""
        return StudyBeside(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the parts that some study has."""
        parts = {"prior": self.prior, "history": self.history, "labs": self.labs}
        return tuple(name for name, part in parts.items() if part is not None)


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, VolumeBatch | RegionMasks):
        return type(value)(**{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value.to(device) if isinstance(value, Tensor) else value


# ------------------------------------------------------------------------------------- history, labs
def history_ids(texts: Sequence[str]) -> Int[Tensor, "b l"] | None:
    """Bytes plus one, padded with 0; None when every text is empty."""
    rows = [list(text.strip().encode("utf-8")[:HISTORY_BYTES]) for text in texts]
    longest = max(map(len, rows), default=0)
    if not longest:
        return None
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, codes in enumerate(rows):
        ids[row, : len(codes)] = torch.tensor(codes, dtype=torch.long) + 1
    return ids


@cache
def lab_table() -> Mapping[str, Mapping[str, Any]]:
    """Known laboratory values by name: unit, limit of normal, names (``ontology/labs.yaml``)."""
    import yaml

    return yaml.safe_load((files("ctscribe.ontology") / "labs.yaml").read_text(encoding="utf-8"))


def lab_names() -> tuple[str, ...]:
    """In the order of the tensor."""
    return tuple(lab_table())


def read_labs(table: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Names as people write them and numbers -> known names and numbers.

    Raises:
        UsageError: an unknown name, or a value that is not a number above zero.
    """
    spelled: dict[str, str] = {name: name for name in lab_table()}
    for name, entry in lab_table().items():
        spelled |= {word.lower(): name for words in entry["names"].values() for word in words}
    found = {}
    for word, value in table.items():
        spelling = str(word).strip().lower()
        if spelling not in spelled:
            units = ", ".join(f"{n} ({e['unit']})" for n, e in lab_table().items())
            raise UsageError(f"unknown laboratory value {word!r}", expected=units)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            unit = lab_table()[spelled[spelling]]["unit"]
            raise UsageError(f"laboratory value {word}", expected=f"a number above 0, in {unit}", got=repr(value))
        found[spelled[spelling]] = float(value)
    return tuple(found.items())


def lab_values(studies: Sequence[Iterable[tuple[str, float]]]) -> Float[Tensor, "b v"] | None:
    """Doublings above the limit of normal; None when no study has any value."""
    order = lab_names()
    values = torch.full((len(studies), len(order)), math.nan)
    for row, known in enumerate(studies):
        for name, value in known:
            doublings = math.log2(value / float(lab_table()[name]["reference"]))
            values[row, order.index(name)] = max(-LARGEST_DOUBLING, min(LARGEST_DOUBLING, doublings))
    return None if bool(values.isnan().all()) else values


# ------------------------------------------------------------------------------------------- changes
def change_between(before: Iterable[Finding], now: Iterable[Finding]) -> dict[str, Change]:
    """What became of each kind of finding; a kind about which it cannot be said is left out.

    A kind that is not mentioned counts as absent. Sizes decide where both scans give one, see `CHANGE_MM`; without
    sizes a finding seen in both is "stable" only if nothing said of it differs.
    """
    first, second = _largest(before), _largest(now)
    changes: dict[str, Change] = {}
    for kind in ontology.findings():
        a, b = first.get(kind), second.get(kind)
        if a is None and b is not None and b.status == "present":
            changes[kind] = "new"
        elif b is None and a is not None and a.status == "present":
            changes[kind] = "resolved"
        elif a is not None and b is not None:
            if a.size_mm and b.size_mm:
                by = b.size_mm[0] - a.size_mm[0]
                changes[kind] = "stable" if abs(by) < CHANGE_MM else "larger" if by > 0 else "smaller"
            elif not a.size_mm and not b.size_mm and (a.regions, a.attributes) == (b.regions, b.attributes):
                changes[kind] = "stable"
    return changes


def _largest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """One finding per kind that is present or uncertain: the largest."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        if finding.status != "absent" and (
            finding.kind not in kept or finding.size_mm[:1] > kept[finding.kind].size_mm[:1]
        ):
            kept[finding.kind] = finding
    return kept


def change_labels(changes: Sequence[Mapping[str, Change] | None]) -> Int[Tensor, "b f"] | None:
    """Index into `CHANGES` per study and kind, -1 where not known; None when nothing is known at all."""
    kinds = list(ontology.findings())
    labels = torch.full((len(changes), len(kinds)), -1)
    for row, known in enumerate(changes):
        for kind, change in (known or {}).items():
            labels[row, kinds.index(kind)] = CHANGES.index(change)
    return None if bool((labels < 0).all()) else labels
