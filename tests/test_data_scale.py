"""Preparing many scans: same store from one process or two, chunks, shards, look-alikes, and the page about it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ctscribe import ontology
from ctscribe.data.batch import Sample
from ctscribe.data.chunked import open_volume, save_volume
from ctscribe.data.fingerprint import fingerprint, near_duplicates
from ctscribe.data.shards import StreamedStudies, read_shard, write_shards
from ctscribe.data.sources import open_source
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.data.summary import summarise, write_data_report
from ctscribe.errors import UnreadableInput, UsageError
from ctscribe.model import GridContract
from ctscribe.phantom import GridSpec, generate, write_nifti
from ctscribe.report import Finding
from ctscribe.tensors import Affine, Volume
from ctscribe.training.fill import fill_from_source, read_refused
from ctscribe.training.prepare import Preparation

SMALL = Preparation(GridContract((16, 32, 32), (20.0, 11.0, 11.0)), (8, 4, 4))


def sample(number: int, **changes: object) -> Sample:
    rng = np.random.default_rng(number)
    regions = len(ontology.model_regions())
    plain = Sample(
        id=f"s{number:02d}",
        hu=rng.integers(-1000, 400, (16, 32, 32)).astype(np.int16),
        spacing=(20.0, 11.0, 11.0),
        occupancy=rng.integers(0, 256, (regions, 8, 4, 4)).astype(np.uint8),
        present=rng.random(regions) < 0.5,
        findings=(Finding("lung_nodule"),) if number % 3 == 0 else (Finding("lung_nodule", "absent"),),
        exhaustive=False,
        text="Lungs." if number % 2 else None,
        language="en",
        boxes=np.array([[0, 0, 0, 5, 5, 5]], np.float32),
        box_kinds=("lung_nodule",),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    """Twenty studies; numbers 1 and 2 hold the same scan in different splits, as two patients."""
    root = tmp_path_factory.mktemp("store")
    with StudyStoreWriter(root, StoreLayout.current((16, 32, 32), (8, 4, 4), None), capacity=20) as writer:
        for number in range(20):
            study = sample(number, hu=sample(1).hu) if number == 2 else sample(number)
            split = "train" if number > 3 else ("test", "validation", "test", "test")[number]
            writer.append(study, split=split, patient=f"p{number}", print=fingerprint(study.hu), source="folder",
                          spacing_read=[2.5 if number else 0.6, 0.7, 0.7], scrubbed=number % 2)  # fmt: skip
    return StudyStore(root)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans and one that cannot be used, in a manifest."""
    folder = tmp_path_factory.mktemp("scans")
    rows = [("study", "patient", "image", "findings")]
    for seed in (11, 12):
        write_nifti(generate(seed, GridSpec((32, 48, 48), (8.0, 8.0, 8.0))), folder / str(seed))
        rows.append((f"S{seed}", f"P{seed}", f"{seed}/ct.nii.gz", "No nodule."))
    (folder / "broken_P13.nii.gz").write_bytes(b"\x1f\x8bno")
    rows.append(("S13", "P13", "broken_P13.nii.gz", "Emphysema."))
    with (folder / "manifest.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder


# ------------------------------------------------------------------------------------------- preparing
@pytest.mark.slow
def test_two_processes_write_what_one_writes(scans: Path, tmp_path: Path) -> None:
    source = open_source("folder", scans)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):  # the key decides the ids: give both the same
        (tmp_path / folder / "key").write_bytes(b"k" * 32)
    shown: list[tuple[int, int]] = []
    fill_from_source(source, tmp_path / "one", SMALL, volumes=tmp_path / "volumes", show=lambda *n: shown.append(n))
    filled = fill_from_source(source, tmp_path / "two", SMALL, processes=2)
    one, two = StudyStore(tmp_path / "one"), StudyStore(tmp_path / "two")
    assert (filled.written, filled.refused) == (2, Counter({"truncated": 1}))
    assert shown == [(1, 3), (2, 3), (3, 3)]
    assert list(one.rows()) == list(two.rows())
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.hu, b.hu)
    (refusal,) = read_refused(tmp_path / "two")
    assert refusal["where"] == "line 4"
    assert "P13" not in json.dumps(refusal)
    again = fill_from_source(source, tmp_path / "two", SMALL)
    assert (again.written, again.there, again.refused.total()) == (0, 3, 1)
    assert sorted(path.stem for path in (tmp_path / "volumes").glob("*.b2nd")) == sorted(one.ids)


def test_a_killed_run_goes_on(scans: Path, tmp_path: Path) -> None:
    source = open_source("folder", scans)

    def stop(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_from_source(source, tmp_path, SMALL, show=stop)
    assert len(StudyStore(tmp_path)) == 1
    assert fill_from_source(source, tmp_path, SMALL).there == 1
    assert len(StudyStore(tmp_path)) == 2


# ------------------------------------------------------------------------------------------- chunks
def test_a_patch_is_what_the_whole_scan_holds_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 400, (40, 70, 90)).astype(np.int16)
    affine = Affine.from_spacing((2.5, 0.7, 0.7), (-120.0, -80.0, 33.0))
    save_volume(tmp_path / "scan.b2nd", Volume(hu, affine))
    scan = open_volume(tmp_path / "scan.b2nd")
    assert scan.shape == hu.shape
    np.testing.assert_array_equal(scan[7:21, 30:64, 5:89], hu[7:21, 30:64, 5:89])
    np.testing.assert_array_equal(scan.volume().hu, hu)
    np.testing.assert_allclose(scan.affine.matrix, affine.matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.b2nd"]


def test_a_cut_chunk_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "scan.b2nd").write_bytes(b"not an array")
    with pytest.raises(UnreadableInput, match=r"scan\.b2nd cannot be read"):
        open_volume(tmp_path / "scan.b2nd")


# ------------------------------------------------------------------------------------------- shards
def test_shards_hold_the_store(store: StudyStore, tmp_path: Path) -> None:
    names = write_shards(store, tmp_path, per_shard=5)
    assert {split: len(found) for split, found in names.items()} == {"test": 1, "train": 4, "validation": 1}
    read = {s.id: s for found in names.values() for name in found for s in read_shard(tmp_path / name)}
    assert sorted(read) == list(store.ids)
    for kept in store:
        got = read[kept.id]
        for name in ("hu", "occupancy", "present", "boxes"):
            np.testing.assert_array_equal(getattr(got, name), getattr(kept, name))
        assert (got.findings, got.text, got.spacing, got.dense) == (kept.findings, kept.text, kept.spacing, None)
    with pytest.raises(UsageError, match="holds shards already"):
        write_shards(store, tmp_path)


def test_readers_share_the_studies(store: StudyStore, tmp_path: Path) -> None:
    write_shards(store, tmp_path, per_shard=5)
    whole = [s.id for s in StreamedStudies(tmp_path, "train")]
    shares = [[s.id for s in StreamedStudies(tmp_path, "train", rank=rank, ranks=2, seed=4)] for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)
    stream = StreamedStudies(tmp_path, "train", seed=4, buffer=8)
    first, same = [s.id for s in stream], [s.id for s in stream]
    stream.epoch = 1
    assert first == same != [s.id for s in stream]
    loader = DataLoader(StreamedStudies(tmp_path, "train"), batch_size=None, num_workers=2)
    assert sorted(s.id for s in loader) == sorted(whole)
    with pytest.raises(UsageError, match="at least 5 shards"):
        next(iter(StreamedStudies(tmp_path, "train", ranks=5)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its file to the collector
def test_webdataset_reads_them_too(store: StudyStore, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    names = write_shards(store, tmp_path, per_shard=20)
    path = str(tmp_path / names["train"][0])
    rows = list(webdataset.WebDataset(path, shardshuffle=False, empty_check=False))
    assert [row["__key__"] for row in rows] == [s.id for s in read_shard(tmp_path / names["train"][0])]
    assert {"hu.b2", "occupancy.b2", "json"} <= set(rows[0])


def test_a_cut_shard_is_refused(store: StudyStore, tmp_path: Path) -> None:
    names = write_shards(store, tmp_path)
    path = tmp_path / names["train"][0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(UnreadableInput, match="cannot be read"):
        list(read_shard(path))


# ------------------------------------------------------------------------------------------- look-alikes
def test_the_same_scan_under_two_names_is_found() -> None:
    rng = np.random.default_rng(0)
    scans = {f"s{seed}": generate(seed, GridSpec((24, 32, 32), (12.0, 11.0, 11.0))).volume.hu for seed in (3, 4, 5)}
    prints = {name: fingerprint(hu) for name, hu in scans.items()}
    copy = scans["s3"] * 1.02 + rng.normal(0, 20, scans["s3"].shape)
    prints["copy"] = fingerprint(copy)
    splits = {"s3": "train", "s4": "test", "s5": "validation", "copy": "test"}
    patients = {name: name for name in prints}
    (twins,) = near_duplicates(prints, patients, splits)
    assert {twins.a, twins.b} == {"s3", "copy"}
    assert near_duplicates(prints, {**patients, "copy": "s3"}, splits) == ()  # one patient: no secret
    assert near_duplicates(prints, patients, dict.fromkeys(prints, "train")) == ()  # one split: no leak


# ------------------------------------------------------------------------------------------- the page
def test_the_page_counts_what_is_there(store: StudyStore) -> None:
    (store.root / "refused.jsonl").write_text('{"id": "x", "where": "line 4", "code": "missing_slices"}\n')
    found = write_data_report(store.root, "a <b>title</b>")
    assert found == summarise(store.root)
    assert found.studies == {"train": 16, "validation": 1, "test": 3}
    assert found.patients == found.studies
    nodule = found.prevalence[0]
    assert nodule.kind == "lung_nodule"
    assert (sum(nodule.present.values()), sum(nodule.known.values())) == (7, 20)
    assert next(p for p in found.prevalence if p.kind == "emphysema").known["train"] == 0  # nobody looked
    assert dict(found.steps)["≤ 3"] == 19
    assert found.refused == (("missing_slices", 1),)
    assert [(t.a, t.b) for t in found.twins] == [("s01", "s02")]
    assert found.scrubbed == 10
    page = (store.root / "report.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;title" in page
    assert "missing_slices" in page
    assert "lie in different splits" in page
    assert json.loads((store.root / "summary.json").read_text())["near_duplicates"] == 1
