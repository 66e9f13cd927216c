"""Targets, samples, the store and the cache."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ctscribe import ontology
from ctscribe.data.augment import AIR, Augment, roll_in, shift
from ctscribe.data.batch import Collate, Sample, StudyBatch
from ctscribe.data.cache import StudyCache
from ctscribe.data.dataset import ManifestDataset
from ctscribe.data.manifest import ManifestRow
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.data.targets import Targets, targets_from_findings
from ctscribe.errors import TrainingError, UnreadableInput, UsageError
from ctscribe.facts import attribute_table
from ctscribe.report import Finding

KINDS, REGIONS = tuple(ontology.findings()), ontology.model_regions()
SHAPE, CELLS, TOKENS = (16, 16, 16), (4, 4, 4), (8, 4, 4)
LAYOUT = StoreLayout.current(SHAPE, CELLS, TOKENS)
NODULE = Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(8.0, 5.0), attributes=(("density", "solid"),))


def sample(seed: int = 0, **changes: object) -> Sample:
    rng = np.random.default_rng(seed)
    made = Sample(
        id=f"synthetic-{seed:06d}",
        hu=rng.integers(-1000, 1000, SHAPE).astype(np.int16),
        spacing=(5.0, 2.75, 2.75),
        occupancy=rng.integers(1, 256, (len(REGIONS), *CELLS)).astype(np.uint8),
        present=np.ones(len(REGIONS), bool),
        findings=(NODULE,),
        dense=rng.random((len(KINDS), *TOKENS)) < 0.1,
    )
    return replace(made, **changes)


def assert_equal_samples(one: Sample, other: Sample) -> None:
    for name in ("hu", "occupancy", "present", "dense"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or (a.dtype == b.dtype and np.array_equal(a, b)), name
    plain = {"hu": one.hu, "occupancy": one.occupancy, "present": one.present, "dense": one.dense}
    assert replace(other, **plain) == one


def cell(targets: Targets, kind: str, region: str) -> tuple[float, bool]:
    f, r = KINDS.index(kind), REGIONS.index(region)
    return float(targets.where[0, f, r]), bool(targets.where_known[0, f, r])


# ---------------------------------------------------------------------------------------- targets
def test_a_finding_is_in_every_region_that_encloses_it() -> None:
    targets = targets_from_findings([[NODULE]])
    marked = {r for r in REGIONS if cell(targets, "lung_nodule", r) == (1.0, True)}
    assert marked == {"thorax", "right_lung", "right_upper_lobe"}
    assert cell(targets, "lung_nodule", "left_upper_lobe") == (0.0, True)


def test_a_whole_lung_means_its_lobes_and_a_coarse_place_leaves_the_rest_open() -> None:
    lung = targets_from_findings([[Finding("emphysema", regions=("right_lung",))]])
    assert cell(lung, "emphysema", "right_lower_lobe") == (1.0, True)
    assert cell(lung, "emphysema", "left_lower_lobe") == (0.0, True)
    nodes = targets_from_findings([[Finding("lymphadenopathy", regions=("mediastinum",))]])
    assert cell(nodes, "lymphadenopathy", "mediastinum") == (1.0, True)
    assert not cell(nodes, "lymphadenopathy", "aorta")[1]
    assert cell(nodes, "lymphadenopathy", "ribs") == (0.0, True)


def test_numbers_and_attributes_are_those_of_the_largest() -> None:
    small = Finding(
        "lung_nodule", regions=("left_upper_lobe",), size_mm=(4.0,), attributes=(("density", "ground_glass"),)
    )
    for order in ([NODULE, small], [small, NODULE]):
        targets = targets_from_findings([order])
        column = KINDS.index("lung_nodule")
        assert targets.size[0, column] == pytest.approx(math.log1p(8))
        assert attribute_table()["density"][int(targets.attributes["density"][0, column])] == "solid"
        assert cell(targets, "lung_nodule", "left_upper_lobe") == (1.0, True)
        assert cell(targets, "lung_nodule", "right_upper_lobe") == (1.0, True)


def test_what_is_implied_is_present_in_the_same_place() -> None:
    assert "lung_opacity" in ontology.implied("consolidation")
    targets = targets_from_findings([[Finding("consolidation", regions=("left_lower_lobe",))]])
    assert targets.presence[0, KINDS.index("lung_opacity")] == 1
    assert cell(targets, "lung_opacity", "left_lower_lobe") == (1.0, True)
    assert targets.presence.sum() == len(ontology.implied("consolidation"))


@pytest.mark.parametrize("exhaustive", [True, False])
def test_silence_is_absence_only_where_the_report_is_complete(exhaustive: bool) -> None:
    findings = [NODULE, Finding("emphysema", "uncertain"), Finding("cardiomegaly", "absent")]
    targets = targets_from_findings([findings], exhaustive=exhaustive)
    known = dict(zip(KINDS, targets.presence_known[0].tolist(), strict=True))
    assert known["lung_nodule"]
    assert known["cardiomegaly"]
    assert not known["emphysema"]
    assert known["pericardial_effusion"] is exhaustive
    assert targets.presence.sum() == 1


def test_what_was_seen_outweighs_what_was_denied() -> None:
    findings = [NODULE, Finding("lung_nodule", "absent"), Finding("lung_nodule", "uncertain")]
    targets = targets_from_findings([findings])
    column = KINDS.index("lung_nodule")
    assert (targets.presence[0, column], targets.presence_known[0, column]) == (1, True)


def test_absent_in_one_place_is_not_absent_everywhere() -> None:
    denied = Finding("pleural_effusion", "absent", regions=("right_pleura",))
    targets = targets_from_findings([[denied]], exhaustive=False)
    assert not targets.presence_known[0, KINDS.index("pleural_effusion")]


def test_every_single_finding_of_the_ontology_makes_targets() -> None:
    for kind, entry in ontology.findings().items():
        for region in (*entry.regions, *entry.also):
            targets = targets_from_findings([[Finding(kind, regions=(region,))]])
            column = KINDS.index(kind)
            assert targets.presence[0, column] == 1
            if region in entry.regions:
                assert targets.where[0, column].sum() >= 1, (kind, region)
            # A place is marked only where it is known.
            assert not bool((targets.where.bool() & ~targets.where_known).any())


def test_outlines_of_some_studies_only() -> None:
    flags = np.zeros((len(KINDS), *TOKENS), bool)
    flags[3, 1, 2, 3] = True
    targets = targets_from_findings([[], []], dense=[None, flags])
    assert targets.dense_known.tolist() == [False, True]
    assert targets.dense is not None
    assert targets.dense[0].sum() == 0
    assert targets.dense[1, 3, 1, 2, 3] == 1
    assert targets_from_findings([[]]).dense is None


# ---------------------------------------------------------------------------------------- batches
class Letters:
    pad = 0

    def example(self, text: str, language: str, longest: int) -> tuple[list[int], list[int]]:
        ids = [1, *(ord(letter) for letter in text), 2][:longest]
        return ids, [-100, *ids[1:]]


def test_a_batch_holds_what_its_samples_hold() -> None:
    samples = [sample(0, text="ab", language="en"), sample(1, text="abcd", language="zh"), sample(2)]
    batch = Collate(Letters())(samples)
    assert batch.volume.hu.shape == (3, *SHAPE)
    assert batch.volume.hu.dtype == torch.float32
    assert torch.equal(batch.volume.hu[1].to(torch.int16), torch.from_numpy(samples[1].hu))
    assert float(batch.regions.occupancy.max()) <= 1.0
    assert batch.languages == ("en", "zh", "")
    assert batch.input_ids is not None
    assert batch.labels is not None
    assert batch.attention is not None
    assert batch.input_ids.tolist()[0] == [1, ord("a"), ord("b"), 2, 0, 0]
    assert batch.labels.tolist()[0] == [-100, ord("a"), ord("b"), 2, -100, -100]
    assert batch.attention.tolist()[0] == [1, 1, 1, 1, 0, 0]
    assert (batch.labels[2] == -100).all()
    assert batch.facts is not None
    assert isinstance(batch.to("cpu"), StudyBatch)


def test_batched_equals_single() -> None:
    samples = [sample(n) for n in range(3)]
    batch = Collate()(samples)
    for row, one in enumerate(samples):
        single = Collate()([one])
        assert torch.equal(batch.volume.hu[row], single.volume.hu[0])
        assert batch.targets is not None
        assert single.targets is not None
        assert torch.equal(batch.targets.where[row], single.targets.where[0])
        assert batch.targets.dense is not None
        assert single.targets.dense is not None
        assert torch.equal(batch.targets.dense[row], single.targets.dense[0])


def test_a_study_without_truth_teaches_nothing_about_findings() -> None:
    batch = Collate()([sample(0), sample(1, findings=None, dense=None)])
    assert batch.targets is not None
    assert batch.targets.presence_known.any(dim=1).tolist() == [True, False]
    assert Collate()([sample(0, findings=None)]).targets is None


def test_studies_of_different_shapes_are_refused() -> None:
    with pytest.raises(TrainingError, match="different shapes"):
        Collate()([sample(0), sample(1, hu=np.zeros((8, 16, 16), np.int16))])


# ------------------------------------------------------------------------------------ augmentation
def test_a_shift_moves_voxels_regions_and_lesions_together() -> None:
    before = sample(4)
    after = shift(before, (1, -1, 2))
    assert np.array_equal(after.hu[4:, :-4, 8:], before.hu[:-4, 4:, :-8])
    assert np.array_equal(after.occupancy[:, 1:, :-1, 2:], before.occupancy[:, :-1, 1:, :-2])
    assert after.dense is not None
    assert before.dense is not None
    assert np.array_equal(after.dense[:, 2:, :-1, 2:], before.dense[:, :-2, 1:, :-2])
    assert (after.hu[:4] == AIR).all()
    assert not after.dense[:, :2].any()


def test_shifting_there_and_back_restores_the_middle() -> None:
    before = sample(5)
    after = shift(shift(before, (1, 1, 1)), (-1, -1, -1))
    assert np.array_equal(after.hu[:-4, :-4, :-4], before.hu[:-4, :-4, :-4])


def test_augmentation_is_a_function_of_its_generator() -> None:
    one = Augment()(sample(6), np.random.default_rng(1))
    assert_equal_samples(one, Augment()(sample(6), np.random.default_rng(1)))
    assert not np.array_equal(one.hu, Augment()(sample(6), np.random.default_rng(2)).hu)


def test_without_strength_augmentation_changes_nothing() -> None:
    still = Augment(cells=(0, 0, 0), jitter=(0, 0, 0), noise=0.0, gain=0.0, offset=0.0, forget=0.0)
    assert_equal_samples(still(sample(7), np.random.default_rng(0)), sample(7))


def test_masks_are_sometimes_withheld() -> None:
    forgetful = Augment(forget=1.0)(sample(8), np.random.default_rng(0))
    assert not forgetful.present.any()
    assert not forgetful.occupancy.any()


def test_a_shift_out_of_the_picture_leaves_nothing() -> None:
    assert (roll_in(np.ones((2, 2, 2)), (2, 0, 0), 7) == 7).all()


# ------------------------------------------------------------------------------------------- store
def fill(root: Path, seeds: range, shard: int = 0, capacity: int = 8) -> None:
    with StudyStoreWriter(root, LAYOUT, shard=shard, capacity=capacity) as writer:
        for seed in seeds:
            writer.append(sample(seed), seed=seed)


def test_a_store_gives_back_what_was_put_in(tmp_path: Path) -> None:
    bare = sample(1, dense=None, findings=None, text="报告", language="zh", exhaustive=False)
    with StudyStoreWriter(tmp_path, LAYOUT, capacity=4) as writer:
        writer.append(sample(0), seed=0)
        writer.append(bare)
    store = StudyStore(tmp_path)
    assert len(store) == 2
    assert_equal_samples(sample(0), store[0])
    assert_equal_samples(bare, store[1])
    assert store.extra(0) == {"seed": 0}
    assert store.findings(0) == (NODULE,)


def test_order_does_not_depend_on_who_wrote_what(tmp_path: Path) -> None:
    fill(tmp_path / "one", range(6))
    fill(tmp_path / "two", range(1, 6, 2), shard=1)
    fill(tmp_path / "two", range(0, 6, 2), shard=0)
    one, two = StudyStore(tmp_path / "one"), StudyStore(tmp_path / "two")
    assert one.ids == two.ids == tuple(sample(n).id for n in range(6))
    for n in range(6):
        assert_equal_samples(one[n], two[n])
    chosen = StudyStore(tmp_path / "two", ids=[sample(4).id])
    assert_equal_samples(chosen[0], sample(4))


def test_a_half_written_line_is_no_study(tmp_path: Path) -> None:
    fill(tmp_path, range(2))
    lines = tmp_path / "shard-0000" / "studies.jsonl"
    lines.write_bytes(lines.read_bytes()[:-10])
    assert StudyStore(tmp_path).ids == (sample(0).id,)
    fill(tmp_path, range(1, 3))
    store = StudyStore(tmp_path)
    assert store.ids == tuple(sample(n).id for n in range(3))
    assert_equal_samples(store[1], sample(1))


def endless(root: Path) -> None:
    fill(root, range(10_000), capacity=10_000)


def test_a_killed_writer_leaves_whole_studies_and_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=endless, args=(tmp_path,))
    process.start()
    lines = tmp_path / "shard-0000" / "studies.jsonl"
    deadline = time.monotonic() + 30
    while not lines.exists() or lines.stat().st_size < 3000:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = StudyStore(tmp_path)
    written = len(store)
    assert written >= 1
    assert_equal_samples(store[written - 1], sample(written - 1))
    fill(tmp_path, range(written, written + 1), capacity=1)
    assert_equal_samples(StudyStore(tmp_path)[written], sample(written))


def test_two_writers_cannot_share_a_shard(tmp_path: Path) -> None:
    with (
        StudyStoreWriter(tmp_path, LAYOUT, capacity=2),
        pytest.raises(TrainingError, match="another writer"),
    ):
        StudyStoreWriter(tmp_path, LAYOUT, capacity=2)


def test_a_full_shard_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is full"):
        fill(tmp_path, range(3), capacity=2)
    assert len(StudyStore(tmp_path)) == 2


def test_another_layout_or_shape_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    other = StoreLayout.current(SHAPE, CELLS, None)
    with pytest.raises(UsageError, match="another layout"):
        StudyStoreWriter(tmp_path, other, shard=1)
    with (
        StudyStoreWriter(tmp_path, LAYOUT, shard=1, capacity=2) as writer,
        pytest.raises(UsageError, match="hu"),
    ):
        writer.append(sample(3, hu=np.zeros((2, 2, 2), np.int16)))


def test_a_store_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    path = tmp_path / "store.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "kinds": plain["kinds"][:-1]}))
    with pytest.raises(UsageError, match="another vocabulary of kinds"):
        StudyStore(tmp_path)


def test_no_store_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a study store"):
        StudyStore(tmp_path)


def test_unused_capacity_takes_no_space(tmp_path: Path) -> None:
    fill(tmp_path, range(1), capacity=5000)
    hu = tmp_path / "shard-0000" / "hu.npy"
    assert hu.stat().st_size > 40e6
    assert hu.stat().st_blocks * 512 < 1e6


# ----------------------------------------------------------------------------------- manifest set
def row(tmp_path: Path, line: int = 2, **changes: object) -> ManifestRow:
    image = tmp_path / f"scan-{line}.nii.gz"
    image.write_bytes(b"scan")
    return replace(ManifestRow(line, "secret-study", "secret-patient", image, findings="A nodule."), **changes)


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, row: ManifestRow) -> Sample:
        self.calls += 1
        padded = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3 > 0
        return sample(row.line, findings=None, dense=None, valid=padded)


def test_a_scan_is_prepared_once(tmp_path: Path) -> None:
    prepare = Counting()
    cache = StudyCache(tmp_path / "cache", {"grid": 1})
    dataset = ManifestDataset([row(tmp_path)], prepare, cache=cache)
    first, second = dataset[0], dataset[0]
    assert prepare.calls == 1
    assert_equal_samples(replace(first, valid=None), replace(second, valid=None))
    assert first.valid is not None
    assert second.valid is not None
    assert np.array_equal(first.valid, second.valid)
    assert (first.text, first.language, first.findings) == ("A nodule.", "en", None)


def test_another_recipe_or_scan_is_prepared_again(tmp_path: Path) -> None:
    prepare, one = Counting(), row(tmp_path)
    for grid in (1, 2):
        _ = ManifestDataset([one], prepare, cache=StudyCache(tmp_path / "cache", {"grid": grid}))[0]
    one.image.write_bytes(b"another scan")
    _ = ManifestDataset([one], prepare, cache=StudyCache(tmp_path / "cache", {"grid": 1}))[0]
    assert prepare.calls == 3


def test_a_cut_short_cache_file_is_made_again(tmp_path: Path) -> None:
    prepare = Counting()
    dataset = ManifestDataset([row(tmp_path)], prepare, cache=StudyCache(tmp_path / "cache", {}))
    first = dataset[0]
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert_equal_samples(replace(dataset[0], valid=None), replace(first, valid=None))
    assert prepare.calls == 2


def test_no_identifier_reaches_sample_or_cache(tmp_path: Path) -> None:
    dataset = ManifestDataset([row(tmp_path)], Counting(), cache=StudyCache(tmp_path / "cache", {}))
    assert dataset[0].id == "line 2"
    for file in (tmp_path / "cache").iterdir():
        assert b"secret" not in file.read_bytes()
        assert "scan" not in file.name


def test_the_reader_fills_in_for_rows_without_structure(tmp_path: Path) -> None:
    given = Finding("emphysema", regions=("lungs",))
    rows = [row(tmp_path), row(tmp_path, 3, structured=(given,)), row(tmp_path, 4, findings="")]
    dataset = ManifestDataset(rows, Counting(), reader=lambda text, language: (NODULE,))
    assert [s.findings for s in (dataset[0], dataset[1], dataset[2])] == [(NODULE,), (given,), None]


def test_warming_finds_every_refused_scan(tmp_path: Path) -> None:
    def refusing(row: ManifestRow) -> Sample:
        if row.line == 3:
            raise UnreadableInput("the scan is cut short")
        return sample(row.line)

    seen: list[tuple[int, int]] = []
    dataset = ManifestDataset([row(tmp_path, n) for n in (2, 3, 4)], refusing)
    with pytest.raises(TrainingError, match="line 3: the scan is cut short"):
        dataset.warm(lambda done, whole: seen.append((done, whole)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
