"""NLST: low-dose screening CTs in up to three yearly rounds, with a table of what the readers saw in each.

```
ROOT/nlst_780_ctab_idc_20210527.csv       abnormalities: pid, study_yr, sct_ab_desc, sct_epi_loc, sct_long_dia, ...
ROOT/nlst_780_screen_idc_20210527.csv     one row per round: pid, study_yr, ... (rounds without abnormality too)
ROOT/.../100012/01-02-1999-NLST-LSS-.../SERIES/*.dcm     participant / study; the year gives the round
ROOT/.../100012/T0/...                    or folders named T0, T1, T2
```

Any table whose name contains ``ctab`` (but not ``ctabc``, the comparison reads) or ``screen`` is found. Dates in the
published images were set to 1999, 2000 and 2001 for the rounds 0, 1 and 2.

Nobody wrote reports for it. The text of a study is **synthetic**: it is rendered from the table.

Source: National Lung Screening Trial, doi 10.7937/TCIA.HMQ8-J677. Licence CC BY 4.0 (images), the tables as given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.sources.tables import number, read_table
from ctscribe.errors import UsageError
from ctscribe.report import Finding, report_order

FIRST_YEAR = 1999
_FOLDER = re.compile(r"T(?P<round>[0-2])|\d\d-\d\d-(?P<year>\d{4}).*")
_NODULE = 51
Round = tuple[str, int]


@dataclass(frozen=True)
class Nlst:
    """NLST on disk, whole or in part: rounds whose images were not downloaded are left out."""

    root: Path
    name: str = "nlst"
    licence: str = "CC BY 4.0: cite doi 10.7937/TCIA.HMQ8-J677; reports are synthetic, written from the tables"

    def studies(self) -> Iterator[SourceStudy]:
        """By participant, then by round. The prior of a round is the latest earlier one that is there."""
        rows = self._rows()
        images = self._images()
        found = False
        last: dict[str, str] = {}
        for pid, year in sorted(images, key=lambda key: (key[0].zfill(12), key[1])):
            if (pid, year) not in rows:
                continue
            found = True
            name = f"{pid}-T{year}"
            yield SourceStudy(
                study=name,
                patient=pid,
                where=f"participant {pid}, round {year}",
                image=images[pid, year],
                structured=findings_of(rows[pid, year]),
                exhaustive=False,
                prior=last.get(pid),
                dated=False,
                synthetic=True,
            )
            last[pid] = name
        if not found:
            raise UsageError(
                f"source nlst: {self.root.name}",
                expected="folders PID/01-02-1999-.../ or PID/T0/ of participants in the tables",
                got="none",
            )

    def _rows(self) -> dict[Round, list[Mapping[str, str]]]:
        """Abnormalities of every round that was read; an empty list where there were none."""
        tables = sorted(self.root.glob("*.csv"))
        abnormal = [p for p in tables if "ctab" in p.name.lower() and "ctabc" not in p.name.lower()]
        if not abnormal:
            raise UsageError(f"source nlst: {self.root.name}", expected="a table named like nlst_780_ctab_*.csv")
        rounds: dict[Round, list[Mapping[str, str]]] = {}
        for path in tables:
            if "screen" in path.name.lower():
                for row in read_table(path, ("pid", "study_yr")):
                    rounds.setdefault(_round(row), [])
        for row in read_table(abnormal[0], ("pid", "study_yr", "sct_ab_desc", "sct_epi_loc", "sct_long_dia")):
            rounds.setdefault(_round(row), []).append(row)
        return rounds

    def _images(self) -> dict[Round, Path]:
        found: dict[Round, Path] = {}
        for path in sorted(self.root.rglob("*")):
            match = _FOLDER.fullmatch(path.name)
            if match and path.is_dir() and path.parent.name.isdigit():
                year = int(match["round"]) if match["round"] else int(match["year"]) - FIRST_YEAR
                found.setdefault((path.parent.name, year), path)
        return found


def _round(row: Mapping[str, str]) -> Round:
    return row["pid"], int(number(row["study_yr"]) or 0)


def findings_of(rows: list[Mapping[str, str]]) -> tuple[Finding, ...]:
    """What the table says about one round: each abnormality, and what it would have listed but does not."""
    found: list[Finding] = []
    for row in rows:
        code = int(number(row["sct_ab_desc"]) or 0)
        for entry in _codes()["abnormality"].get(code, ()):
            found.append(_nodule(row) if code == _NODULE else _plain(entry))
    named = {finding.kind for finding in found}
    absent = [Finding(kind, "absent") for kind in _codes()["absent"] if kind not in named]
    return report_order(dict.fromkeys([*found, *absent]))


def _plain(entry: Mapping[str, str]) -> Finding:
    attributes = (("number", entry["number"]),) if "number" in entry else ()
    return Finding(entry["kind"], entry.get("status", "present"), attributes=attributes)  # type: ignore[arg-type]


def _nodule(row: Mapping[str, str]) -> Finding:
    """A nodule, or a mass from 30 mm on, with place, diameters, margin and density as far as they were coded."""
    axes = [number(row.get(name, "")) for name in ("sct_long_dia", "sct_perp_dia")]
    size = tuple(axis for axis in axes if axis)
    kind = "mass" if size and max(size) >= 30 else "lung_nodule"
    region = _coded(row, "region", "sct_epi_loc")
    said = {"margin": _coded(row, "margin", "sct_margins"), "density": _coded(row, "density", "sct_pre_att")}
    if kind == "mass":
        said["density"] = None
    attributes = tuple((name, value) for name, value in said.items() if value)
    return Finding(kind, regions=(region,) if region else (), size_mm=size, attributes=attributes)


def _coded(row: Mapping[str, str], table: str, column: str) -> str | None:
    code = number(row.get(column, ""))
    word: str | None = None if code is None else _codes()[table].get(int(code))
    return word


@cache
def _codes() -> Any:
    return yaml.safe_load((files(__package__) / "nlst_codes.yaml").read_text(encoding="utf-8"))
