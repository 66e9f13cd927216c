"""CT-RATE: 25,692 non-contrast chest CTs of 21,304 patients with reports and 18 labels.

```
ROOT/dataset/                                           (or ROOT itself is that folder)
  train_fixed/train_1/train_1_a/train_1_a_1.nii.gz      patient / scan / reconstruction; valid_fixed likewise
  train/...  valid/...                                  the first release: raw values, see `reading`
  radiology_text_reports/train_reports.csv              VolumeName, ClinicalInformation_EN, Technique_EN,
                         validation_reports.csv         Findings_EN, Impressions_EN
  multi_abnormality_labels/train_predicted_labels.csv   VolumeName and the 18 labels, 0 or 1
                           valid_predicted_labels.csv
  metadata/train_metadata.csv  validation_metadata.csv  VolumeName, RescaleSlope, RescaleIntercept, XYSpacing,
                                                        ZSpacing, StudyDate, ...
  metadata/no_chest_train.txt  no_chest_valid.txt       volumes that show no chest
```

RadGenome-Chest CT, if it lies in the same folder, adds sentences by region: ``radgenome_files/train_region_report.csv``
and ``validation_region_report.csv`` with the columns Volumename, Anatomy and Sentence.

Source: Hamamci et al., arXiv 2403.17834. Licence CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctscribe import ontology
from ctscribe.data.sources.study import SourceStudy
from ctscribe.data.sources.tables import first_existing, number, read_table
from ctscribe.errors import UsageError

_VOLUME = re.compile(r"(?P<patient>(?:train|valid)_\d+)_(?P<scan>[a-z]+)_(?P<reconstruction>\d+)\.nii\.gz")
_SIDES = {"train": ("train_fixed", "train"), "valid": ("valid_fixed", "valid")}
_TABLES = {
    "reports": {
        "train": "radiology_text_reports/train_reports.csv",
        "valid": "radiology_text_reports/validation_reports.csv",
    },
    "labels": {
        "train": "multi_abnormality_labels/train_predicted_labels.csv",
        "valid": "multi_abnormality_labels/valid_predicted_labels.csv",
    },
    "metadata": {"train": "metadata/train_metadata.csv", "valid": "metadata/validation_metadata.csv"},
    "no_chest": {"train": "metadata/no_chest_train.txt", "valid": "metadata/no_chest_valid.txt"},
    "sentences": {
        "train": "radgenome_files/train_region_report.csv",
        "valid": "radgenome_files/validation_region_report.csv",
    },
}


@dataclass(frozen=True)
class CTRate:
    """CT-RATE on disk, whole or in part: studies whose volume was not downloaded are left out.

    Args:
        root: the folder that holds ``dataset``, or that folder.
        every_reconstruction: yield all reconstructions of a scan; by default only the first, as they show the same
            body and share one report.
    """

    root: Path
    every_reconstruction: bool = False
    name: str = "ct-rate"
    licence: str = "CC BY-NC-SA 4.0: research only, cite arXiv 2403.17834, share derived data alike"

    def studies(self) -> Iterator[SourceStudy]:
        """By side (train, valid), then by volume name. The validation side is the test split; part of the training
        patients become the validation split when splits are drawn."""
        found = False
        for side in _SIDES:
            volumes = self._volumes(side)
            if volumes:
                found = True
                yield from self._side(side, volumes)
        if not found:
            raise UsageError(
                f"source ct-rate: {self.root.name}",
                expected="dataset/train_fixed or dataset/valid_fixed with .nii.gz files",
                got="no volume",
            )

    @property
    def _base(self) -> Path:
        return self.root / "dataset" if (self.root / "dataset").is_dir() else self.root

    def _volumes(self, side: str) -> dict[str, Path]:
        """Volume name -> file. The corrected release wins where both are there."""
        found: dict[str, Path] = {}
        for folder in _SIDES[side]:
            for path in sorted((self._base / folder).rglob("*.nii.gz")):
                if _VOLUME.fullmatch(path.name):
                    found.setdefault(path.name, path)
        return found

    def _side(self, side: str, volumes: Mapping[str, Path]) -> Iterator[SourceStudy]:
        tables = _Tables.read(self._base, side)
        dates = {
            name: tables.metadata.get(name, {}).get("studydate", "") for name in volumes if name not in tables.no_chest
        }
        priors = _priors(dates)
        seen: set[str] = set()
        for name in sorted(volumes, key=_natural):
            match = _VOLUME.fullmatch(name)
            if match is None or name in tables.no_chest:
                continue
            scan = f"{match['patient']}_{match['scan']}"
            if scan in seen and not self.every_reconstruction:
                continue
            seen.add(scan)
            report, labels = tables.reports.get(name, {}), tables.labels.get(name, {})
            yield SourceStudy(
                study=name if self.every_reconstruction else scan,
                patient=match["patient"],
                where=name,
                image=volumes[name],
                rescale=tables.rescale(name),
                spacing=tables.spacing(name),
                findings=report.get("findings_en", ""),
                impression=report.get("impressions_en", ""),
                labels=labels,
                sentences=tables.sentences.get(name, ()),
                prior=None if self.every_reconstruction else priors.get(scan),
                split="test" if side == "valid" else None,
            )


@dataclass(frozen=True)
class _Tables:
    """The tables of one side, by volume name."""

    reports: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, Mapping[str, bool]]
    metadata: Mapping[str, Mapping[str, str]]
    no_chest: frozenset[str] = frozenset()
    sentences: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, base: Path, side: str) -> _Tables:
        """Reports are needed; labels, metadata, sentences and the list of other body parts are read where present."""
        reports = {r["volumename"]: r for r in read_table(base / _TABLES["reports"][side], _REPORT_COLUMNS)}
        names = ontology.ct_rate_labels()
        labels: dict[str, dict[str, bool]] = {}
        if (path := first_existing(base, _TABLES["labels"][side])) is not None:
            for row in read_table(path, ("VolumeName", *names)):
                labels[row["volumename"]] = {
                    kind: number(row[label.lower()]) == 1.0
                    for label, kind in names.items()
                    if number(row[label.lower()]) is not None
                }
        metadata: dict[str, dict[str, str]] = {}
        if (path := first_existing(base, _TABLES["metadata"][side])) is not None:
            metadata = {row["volumename"]: row for row in read_table(path, ("VolumeName",))}
        no_chest: frozenset[str] = frozenset()
        if (path := first_existing(base, _TABLES["no_chest"][side])) is not None:
            no_chest = frozenset(Path(line).name for line in path.read_text(encoding="utf-8").split())
        return cls(reports, labels, metadata, no_chest, _sentences(base / _TABLES["sentences"][side]))

    def rescale(self, name: str) -> tuple[float, float] | None:
        """(slope, intercept) of the original DICOM files; whether they still apply, the values decide."""
        row = self.metadata.get(name, {})
        slope, intercept = number(row.get("rescaleslope", "")), number(row.get("rescaleintercept", ""))
        return None if slope is None or intercept is None else (slope, intercept)

    def spacing(self, name: str) -> tuple[float, float, float] | None:
        """Voxel size (z, y, x) mm. XYSpacing is written as a list, "[0.75, 0.75]"."""
        row = self.metadata.get(name, {})
        step = number(row.get("zspacing", ""))
        try:
            plane = json.loads(row.get("xyspacing", ""))
            y, x = (float(size) for size in (plane if isinstance(plane, list) else (plane, plane)))
        except (ValueError, TypeError):
            return None
        return None if step is None else (step, y, x)


_REPORT_COLUMNS = ("VolumeName", "Findings_EN", "Impressions_EN")


def _sentences(path: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """RadGenome's sentences by volume; rows without a region are about the scan as a whole."""
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for row in read_table(path, ("Volumename", "Anatomy", "Sentence")):
        if row["sentence"]:
            found.setdefault(row["volumename"], []).append((row["anatomy"], row["sentence"]))
    return {name: tuple(pairs) for name, pairs in found.items()}


def _priors(dates: Mapping[str, str]) -> dict[str, str]:
    """Scan -> latest earlier scan of the same patient. Without dates no order is claimed: letters are no dates."""
    by_patient: dict[str, dict[str, str]] = {}
    for name, date in dates.items():
        if (match := _VOLUME.fullmatch(name)) and date:
            by_patient.setdefault(match["patient"], {}).setdefault(f"{match['patient']}_{match['scan']}", date)
    found = {}
    for scans in by_patient.values():
        for scan, date in scans.items():
            earlier = [(other_date, other) for other, other_date in scans.items() if other_date < date]
            if earlier:
                found[scan] = max(earlier)[1]
    return found


def _natural(name: str) -> tuple[str | int, ...]:
    """train_2 before train_10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
