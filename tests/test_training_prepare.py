"""From a manifest of files to a trained step, on synthetic studies written as NIfTI."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from ctscribe import checkpoint, ontology
from ctscribe.cli import table
from ctscribe.data.batch import Collate
from ctscribe.data.cache import StudyCache
from ctscribe.data.dataset import ManifestDataset
from ctscribe.data.manifest import assign_splits, check_leakage, read_manifest
from ctscribe.data.sources import open_source
from ctscribe.data.store import StudyStore
from ctscribe.data.summary import summarise
from ctscribe.errors import UsageError
from ctscribe.model import CTReportModel, GridContract, Thresholds
from ctscribe.phantom import GridSpec, generate, write_nifti
from ctscribe.training.fill import fill_from_source
from ctscribe.training.prepare import Preparation, preparation

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


def test_who_outlines_a_scan_is_chosen_and_written_down(manifest_path: Path, tmp_path: Path) -> None:
    """By pattern, by nobody; a scan whose map is missing is refused, and the store's page counts who did it."""
    folder = manifest_path.parent
    names = json.loads((folder / "truth.json").read_text())["region_names"]
    (folder / "names.json").write_text(json.dumps(names))
    (folder / "ct_masks.nii.gz").write_bytes((folder / "regions.nii.gz").read_bytes())
    mapped = Preparation(
        GRID,
        (16, 8, 8),
        segmenter=f"labelmap:{folder}/{{name}}_masks.nii.gz",
        regions_scheme=str(folder / "names.json"),
    )
    source = open_source("folder", manifest_path)
    assert fill_from_source(source, tmp_path / "mapped", mapped).written == 1
    (one,) = StudyStore(tmp_path / "mapped")
    assert one.present[ontology.model_regions().index("heart")]
    assert summarise(tmp_path / "mapped").masks == {"labels named by names.json": 1}
    lost = replace(mapped, segmenter=f"labelmap:{folder}/{{study}}.nii.gz")
    assert fill_from_source(source, tmp_path / "lost", lost).refused == {"label_map_missing": 1}
    again = fill_from_source(source, tmp_path / "lost", lost)
    assert (again.written, again.refused) == (0, {"label_map_missing": 1})
    found = fill_from_source(source, tmp_path / "lost", mapped)
    assert (found.written, found.refused) == (1, {})
    assert summarise(tmp_path / "lost").refused == ()
    assert fill_from_source(source, tmp_path / "bare", Preparation(GRID, (16, 8, 8), segmenter="none")).written == 1
    (bare,) = StudyStore(tmp_path / "bare")
    assert not bare.present.any()
    assert np.abs(bare.hu.astype(int) - one.hu).mean() < 60  # placed by the rules, as nearly as by the map
    with pytest.raises(UsageError, match="1 of these studies, and they were prepared otherwise"):
        fill_from_source(source, tmp_path / "bare", Preparation(GRID, (16, 8, 8)))
    with pytest.raises(UsageError, match="prepared otherwise"):
        fill_from_source(source, tmp_path / "mapped", mapped, scrub_texts=False)
    with pytest.raises(UsageError, match="full resolution"):
        fill_from_source(source, tmp_path / "mapped", mapped, volumes=tmp_path / "volumes")
    with pytest.raises(UsageError, match="in braces"):
        replace(mapped, segmenter="labelmap:{nobody}.nii.gz").label_map(read_manifest(manifest_path).rows[0])
    for wrong in ({"segmenter": "nobody"}, {"segmenter": "labelmap"}, {"lesions_scheme": "nobody"}):
        with pytest.raises(UsageError):
            Preparation(GRID, **wrong).check()


def test_the_own_masks_of_a_checkpoint_prepare_scans(manifest_path: Path, tmp_path: Path) -> None:
    config = tiny.tiny.model()
    torch.manual_seed(0)
    model = CTReportModel(replace(config, scene=replace(config.scene, masks="own")), tiny.tokenizer())
    checkpoint.save(tmp_path / "model", model, checkpoint.ModelInfo("own-tiny"), Thresholds())
    how = preparation("own", "", "", tmp_path / "model")
    assert (how.grid, how.region_grid) == (config.grid, checkpoint.load(tmp_path / "model").cells)
    words = ["prepare", str(manifest_path), "--out", str(tmp_path / "store"), "--processes", "1", "--json"]
    assert table.run([*words, "--segmenter", "own", "--model", str(tmp_path / "model")]) == 0
    store = StudyStore(tmp_path / "store")
    assert store.extra(0)["masks"].startswith("own: own-tiny ")
    soft = store[0].occupancy[store[0].present]
    assert ((soft > 0) & (soft < 255)).any()
    with pytest.raises(UsageError, match="no segmentation head"):
        preparation("own", "", "", None)
