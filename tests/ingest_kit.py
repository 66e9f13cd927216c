"""What the rows of the table of defects are made with: registration, checks and volumes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

import badinput as bad
from ctscribe.data import Study
from ctscribe.errors import InputRefused
from ctscribe.tensors import Affine, Volume

Build = Callable[[Path], Path]
Check = Callable[[Study], None]


@dataclass(frozen=True)
class Case:
    """One row of the table: ``codes`` are notes that must appear, or the code of the refusal."""

    name: str
    defect: str
    done: str
    build: Build
    codes: tuple[str, ...] = ()
    refused: type[InputRefused] | None = None
    check: Check | None = None


CASES: list[Case] = []


def handled(defect: str, done: str, *codes: str, check: Check | None = None) -> Callable[[Build], Build]:
    """Register a builder whose scan must be read; without ``check`` it must equal the truth voxel for voxel."""

    def register(build: Build) -> Build:
        CASES.append(Case(build.__name__, defect, done, build, codes, None, check or equals_truth))
        return build

    return register


def refused(defect: str, kind: type[InputRefused], code: str) -> Callable[[Build], Build]:
    """Register a builder whose scan must be refused with this class and code."""

    def register(build: Build) -> Build:
        CASES.append(Case(build.__name__, defect, "", build, (code,), kind))
        return build

    return register


# ------------------------------------------------------------------------------------------- checks

TRUTH = bad.truth()


def equals(study: Study, wanted: Volume, tolerance: float = 0.0) -> None:
    """Same shape, same place in the world, same values."""
    got = study.volume
    assert got.affine.is_canonical
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got.affine.matrix, wanted.affine.matrix, atol=2e-3)
    difference = np.abs(got.hu.astype(float) - wanted.hu.astype(float))
    assert difference.max() <= tolerance


def equals_truth(study: Study) -> None:
    equals(study, TRUTH)


def follows_ramp(study: Study) -> None:
    """Wherever the new voxels lie, they hold the field's value there; voxels outside the stored slices hold air."""
    volume = study.volume
    assert volume.affine.is_canonical
    expected = bad.sample(bad.ramp_at, volume.affine, volume.shape)
    inside = volume.hu > -1024
    assert inside.mean() > 0.5
    core = np.zeros_like(inside)
    core[2:-2, 2:-2, 2:-2] = True
    trusted = inside & core & _interior(inside)
    assert trusted.sum() > 0.3 * inside.size
    assert np.abs(volume.hu.astype(float) - expected)[trusted].max() <= 1.0


def _interior(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask, iterations=2)


def part_of_truth(first: int, last: int) -> Check:
    """Only the slices from ``first`` to ``last`` (excluded)."""
    affine = Affine.from_spacing(bad.SPACING, (*bad.ORIGIN[:2], bad.ORIGIN[2] + first * bad.SPACING[0]))
    return lambda study: equals(study, Volume(TRUTH.hu[first:last], affine))


def filled(*missing: int) -> Check:
    """Equal to the truth but for the missing slices, which are the mean of their neighbours."""

    def check(study: Study) -> None:
        wanted = TRUTH.hu.astype(float)
        for k in missing:
            wanted[k] = (wanted[k - 1] + wanted[k + 1]) / 2
        equals(study, Volume(wanted, TRUTH.affine), tolerance=0.5)
        others = [k for k in range(bad.SHAPE[0]) if k not in missing]
        assert np.array_equal(study.volume.hu[others], TRUTH.hu[others])
        assert study.ingest.gaps == study.ingest.filled == len(missing)

    return check


def zipped(source: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(source).as_posix())
    return target


def also(tmp: Path, name: str, volume: Volume, edit: bad.Edit | None = None, *, series: int = 1) -> Path:
    """A second series in a folder of its own below; the path is that of both."""
    bad.write_series(tmp / name, volume, edit, series=series)
    return tmp


def tags(**values: object) -> bad.Edit:
    """An edit that sets tags on every slice; None removes one."""

    def edit(_: int, ds: Dataset) -> Dataset:
        for name, value in values.items():
            if value is not None:
                setattr(ds, name, value)
            elif name in ds:
                delattr(ds, name)
        return ds

    return edit


# ------------------------------------------------------------------------------------------- other volumes


def turned(degrees: float) -> Affine:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return Affine.from_spacing(bad.SPACING, bad.ORIGIN, turn)


def sheared(degrees: float) -> Affine:
    """Gantry tilt: slices lean, the table moves straight on."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Affine.from_spacing(bad.SPACING, bad.ORIGIN, np.array([[1, 0, 0], [0, c, 0], [0, s, 1.0]]))


def ramp_on(affine: Affine) -> Volume:
    return Volume(np.maximum(bad.sample(bad.ramp_at, affine, bad.SHAPE), -1024), affine)


def louder() -> Volume:
    return Volume(np.clip(TRUTH.hu + 55, -1024, 3000).astype(np.int16), TRUTH.affine)


def signed_with(intercept: int) -> bad.Edit:
    def edit(k: int, ds: Dataset) -> Dataset:
        ds.RescaleIntercept = intercept
        bad.set_pixels(ds, TRUTH.hu[k].astype(np.int64), signed=True)
        return ds

    return edit
