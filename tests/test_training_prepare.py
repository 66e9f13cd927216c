"""From a manifest of files to a trained step, on synthetic studies written as NIfTI."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctscribe.data.batch import Collate
from ctscribe.data.cache import StudyCache
from ctscribe.data.dataset import ManifestDataset
from ctscribe.data.manifest import assign_splits, check_leakage, read_manifest
from ctscribe.errors import UsageError
from ctscribe.model import GridContract
from ctscribe.phantom import GridSpec, generate, write_nifti
from ctscribe.training.prepare import Preparation

GRID = GridContract((32, 64, 64), (10.0, 5.5, 5.5))


@pytest.fixture(scope="module")
def manifest_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    study = generate(11, GridSpec((64, 64, 64), (5.0, 5.5, 5.5)))
    write_nifti(study, folder)
    image = folder / "ct.nii.gz"
    path = folder / "manifest.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["study", "patient", "image", "findings", "regions"])
        writer.writerow(["S1", "P1", image.relative_to(folder), "No nodule.", ""])
    return path


def test_a_row_becomes_a_sample_on_the_models_grid(manifest_path: Path, tmp_path: Path) -> None:
    manifest = assign_splits(read_manifest(manifest_path))
    assert check_leakage(manifest) == ()
    prepare = Preparation(GRID, (16, 8, 8))
    dataset = ManifestDataset(manifest.rows, prepare, cache=StudyCache(tmp_path, prepare.recipe()))
    dataset.warm()
    one, again = dataset[0], dataset[0]
    assert one.hu.shape == GRID.shape
    assert one.spacing == pytest.approx(GRID.spacing)
    assert one.occupancy.shape[1:] == (16, 8, 8)
    assert one.present.any()
    assert np.array_equal(one.hu, again.hu)
    assert -1024 <= one.hu.min() < -500 < 0 < one.hu.max()
    batch = Collate()([one])
    assert batch.targets is None
    assert batch.volume.hu.shape == (1, *GRID.shape)


def test_a_label_map_needs_a_reader(manifest_path: Path) -> None:
    row = read_manifest(manifest_path).rows[0]
    with pytest.raises(UsageError, match="names a label map"):
        Preparation(GRID)(replace(row, regions=row.image))
