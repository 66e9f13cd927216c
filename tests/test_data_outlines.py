"""Outlined lesions: what goes into a store comes out of it, is taught, and is absent on the same path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from tests import scene_kit as kit

import tiny
from ctscribe import ontology
from ctscribe.data.augment import Augment, shift
from ctscribe.data.batch import Collate, Sample, with_outlines
from ctscribe.data.cache import StudyCache
from ctscribe.data.mirror import mirror
from ctscribe.data.outlines import Outline, Outlines, largest_first, outline_of_mask, outline_of_points, unpack
from ctscribe.data.shards import read_shard, write_shards
from ctscribe.data.sources import SourceStudy
from ctscribe.data.sources.lidc import study_of
from ctscribe.data.sources.lidc_database import Contour, LidcScan, Reading
from ctscribe.data.store import StoreLayout, StudyStore, StudyStoreWriter
from ctscribe.data.warp import warp
from ctscribe.model import CTReportModel, GridContract, ModelOutputs
from ctscribe.report import Finding
from ctscribe.tensors import Affine, Volume
from ctscribe.training.fill import fill_from_source
from ctscribe.training.losses.findings import DenseLoss
from ctscribe.training.losses.slots import Lesions, Match, SlotLoss, lesions_of
from ctscribe.training.prepare import Preparation

KINDS = list(ontology.findings())
FULL, CELLS = (64, 128, 128), (32, 16, 16)
SPACING = (5.0, 2.75, 2.75)


def ball(shape: tuple[int, int, int], middle: tuple[float, ...], radius: float) -> np.ndarray:
    place = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return ((place - np.array(middle)) ** 2).sum(-1) <= radius**2


def outlines(shape: tuple[int, int, int] = FULL, looked_for: tuple[str, ...] | None = None) -> Outlines:
    """A nodule, an effusion at the edge, and a granuloma about which readers disagree."""
    parts = (
        ("lung_nodule", ball(shape, tuple(n * 0.3 for n in shape), 3), True),
        ("pleural_effusion", ball(shape, (0, shape[1], shape[2] / 2), shape[0] / 4), True),
        ("calcified_granuloma", ball(shape, tuple(n * 0.7 for n in shape), 1), False),
    )
    made = (outline_of_mask(kind, mask, sure=sure) for kind, mask, sure in parts)
    return Outlines(shape, largest_first(x for x in made if x is not None), looked_for)


def sample(
    name: str, found: Outlines | None, shape: tuple[int, int, int] = FULL, cells: tuple[int, int, int] = CELLS
) -> Sample:
    rng = np.random.default_rng(sum(map(ord, name)))
    regions = len(ontology.model_regions())
    return Sample(
        id=name,
        hu=rng.integers(-1000, 400, shape).astype(np.int16),
        spacing=SPACING,
        occupancy=rng.integers(0, 256, (regions, *cells)).astype(np.uint8),
        present=np.ones(regions, bool),
        findings=(Finding("lung_nodule"), Finding("pleural_effusion")) if found is not None else (),
        outlines=found,
    )


def same(a: Outlines | None, b: Outlines | None) -> bool:
    assert a is not None
    assert b is not None
    assert (a.shape, a.looked_for, len(a.lesions)) == (b.shape, b.looked_for, len(b.lesions))
    pairs = zip(a.lesions, b.lesions, strict=True)
    return all((x.kind, x.low, x.sure) == (y.kind, y.low, y.sure) and np.array_equal(x.mask, y.mask) for x, y in pairs)


# ---------------------------------------------------------------------------------------------- geometry
def test_points_become_the_voxels_that_they_fill() -> None:
    """A ball of 12 mm radius given as fine points, as coarse points, and turned: its volume and middle stay."""
    grid = Volume(np.zeros((40, 60, 60), np.int16), Affine.from_spacing((2.0, 1.5, 1.5), (-40.0, -45.0, 10.0)))
    for size in ((0.7, 0.7, 1.25), (0.7, 0.7, 6.0), (4.0, 4.0, 4.0)):
        axes = [np.arange(-20, 20, s) for s in size]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        points = points[(points**2).sum(-1) <= 12.0**2]
        found = outline_of_points("lung_nodule", points + [1.0, 2.0, 50.0], size, grid)
        assert found is not None
        assert found.mask.sum() * 4.5 == pytest.approx(len(points) * np.prod(size), rel=0.01)
        middle = grid.affine.to_world(np.argwhere(found.mask) + found.low).mean(0)
        np.testing.assert_allclose(middle, points.mean(0) + [1.0, 2.0, 50.0], atol=0.6)


def test_the_smallest_lesion_keeps_a_voxel_and_one_outside_has_none() -> None:
    grid = Volume(np.zeros((8, 8, 8), np.int16), Affine.from_spacing((10.0, 10.0, 10.0)))
    small = outline_of_points("lung_nodule", np.array([[31.0, 42.0, 19.0]]), (0.6, 0.6, 1.0), grid)
    assert small is not None
    assert (small.low, small.mask.tolist()) == ((2, 4, 3), [[[True]]])
    assert outline_of_points("lung_nodule", np.array([[500.0, 0, 0]]), (1.0, 1.0, 1.0), grid) is None
    assert Outlines((64, 64, 64), (small,)).shares((8, 8, 8)).max() == 1  # 1 of 512 voxels: less than 1/255, yet there


def test_cells_flags_and_boxes_say_the_same() -> None:
    found = outlines()
    shares, flags = found.shares(CELLS), found.flags(CELLS)
    assert [KINDS[i] for i in found.kinds()] == ["pleural_effusion", "lung_nodule"]
    for row, lesion in enumerate(found.sure):
        np.testing.assert_array_equal(shares[row] > 0, flags[KINDS.index(lesion.kind)])
        volume = shares[row].sum() / 255 * np.prod(np.array(FULL) / CELLS)
        assert volume == pytest.approx(lesion.mask.sum(), rel=0.05)
        low, high = found.boxes(SPACING)[row].reshape(2, 3) / SPACING + np.array(FULL) / 2
        np.testing.assert_allclose((low, high), (lesion.low, lesion.high), atol=1e-4)
    assert not flags[KINDS.index("calcified_granuloma")].any()
    assert found.doubtful(CELLS)[KINDS.index("calcified_granuloma")].any()


def test_bytes_hold_everything() -> None:
    rng = np.random.default_rng(0)
    lesions = [Outline(KINDS[n], (n, 2 * n, 3), rng.random((n + 1, 5, 7)) < 0.5, bool(n % 2)) for n in range(6)]
    whole = Outlines(FULL, tuple(lesions), ("lung_nodule", "mass"))
    for found in (whole, outlines(), Outlines(FULL), Outlines(FULL, looked_for=())):
        assert same(unpack(found.pack()), found)


# ------------------------------------------------------------------------------------------------- stores
def test_what_goes_into_a_store_of_full_size_comes_out(tmp_path: Path) -> None:
    kept = {"a": outlines(), "b": None, "c": Outlines(FULL), "d": outlines(looked_for=("lung_nodule",))}
    with StudyStoreWriter(tmp_path / "store", StoreLayout.current(FULL, CELLS, None), capacity=4) as writer:
        for name, found in kept.items():
            writer.append(sample(name, found), masks="test", split="train")
    store = StudyStore(tmp_path / "store")
    write_shards(store, tmp_path / "shards")
    streamed = {s.id: s for path in (tmp_path / "shards").glob("*.tar") for s in read_shard(path)}
    cache = StudyCache(tmp_path / "cache", {})
    for read in store:
        truth = kept[read.id]
        cache.put(read.id, read)
        for again in (read, streamed[read.id], cache.get(read.id, read.id)):
            assert again is not None
            if truth is None:
                assert (again.outlines, again.dense, again.lesions) == (None, None, None)
                continue
            assert same(again.outlines, truth)
            np.testing.assert_array_equal(again.dense, truth.flags(CELLS))
            assert (again.lesions is None) == (not truth.sure)
            if truth.sure:
                np.testing.assert_array_equal(again.lesions, truth.shares(CELLS))
                np.testing.assert_array_equal(again.lesion_kinds, truth.kinds())
    packed = (tmp_path / "store/shard-0000/outlines.bin").stat().st_size
    assert packed < 40_000  # as bits of the whole grid three lesions would take 400,000


def test_outlines_move_with_the_scan_and_are_withheld_as_input_only() -> None:
    one = with_outlines(sample("a", outlines()))
    moved = shift(one, (2, -1, 1))
    np.testing.assert_array_equal(moved.outlines.flags(CELLS), moved.dense)
    np.testing.assert_array_equal(mirror(one).outlines.flags(CELLS), mirror(one).dense)
    turned = warp(one, np.zeros(3), 1.0)
    assert same(turned.outlines, one.outlines)
    hidden = Augment(forget_lesions=1.0)(one, np.random.default_rng(0))
    assert hidden.lesions is None
    assert hidden.outlines is not None
    assert Collate(None)([hidden]).targets.box_masks.any()


# ------------------------------------------------------------------------------------------------ teaching
def batch(*found: Outlines | None):
    shape, cells = (32, 64, 64), (16, 8, 8)
    return Collate(None)([with_outlines(sample(f"s{n}", one, shape, cells)) for n, one in enumerate(found)])


def test_a_study_without_lesion_masks_trains_beside_one_with_them() -> None:
    config = tiny.tiny.model()
    config = replace(config, scene=replace(config.scene, lesions=2, hierarchy="lobes", slot_objects=True))
    torch.manual_seed(0)
    model = CTReportModel(config, tiny.tokenizer()).train()
    both = batch(outlines((32, 64, 64)), None)
    assert both.targets.dense_known.tolist() == [True, False]
    assert both.regions.lesions.flatten(2).any(-1).tolist() == [[True, True], [False, False]]
    visual, scene = model.see(both.volume, both.regions)
    assert scene.region_present[:, -2:].tolist() == [[True, True], [False, False]]
    outputs = ModelOutputs(visual, scene, scene.findings)
    taught = SlotLoss()(outputs, both)
    assert taught.seen == 1
    (taught.value + DenseLoss()(outputs, both).value + scene.findings.presence.square().mean()).backward()
    assert model.scene.lesion_pool.kind.weight.grad is not None
    assert all(torch.isfinite(p.grad).all() for p in model.scene.parameters() if p.grad is not None)
    alone = batch(None)
    assert SlotLoss()(ModelOutputs(*model.see(alone.volume, alone.regions)), alone).seen == 0


def test_slots_are_taught_the_outline_itself() -> None:
    """Boxes in exact mm and masks by share: finer than the connected cells that stand in for them without outlines."""
    found = outlines((32, 64, 64))
    both = batch(found)
    ((row, lesions),) = lesions_of(both.targets, kit.visual(), 16)
    assert (row, lesions.looked_for) == (0, None)
    np.testing.assert_allclose(lesions.boxes, found.boxes(SPACING))
    expected = found.shares((16, 8, 8)).reshape(2, 4, 4, 2, 4, 2, 4).mean((2, 4, 6)).reshape(2, -1) / 255
    np.testing.assert_allclose(lesions.masks, expected, atol=1e-6)


def test_only_kinds_that_were_looked_for_are_taught_to_be_elsewhere() -> None:
    one = batch(outlines((32, 64, 64), ("lung_nodule", "calcified_granuloma")))
    assert one.targets.dense_kinds.sum() == 2
    logits = torch.zeros(1, len(KINDS), 16 * 8 * 8, requires_grad=True)
    findings = SimpleNamespace(dense=logits, presence=logits[..., 0])
    DenseLoss()(SimpleNamespace(findings=findings), one).value.backward()
    pull = logits.grad.abs()[0].unflatten(-1, (16, 8, 8))
    learned = pull.flatten(1).any(1)
    assert {KINDS[i] for i in learned.nonzero().flatten().tolist()} == {"lung_nodule", "calcified_granuloma"}
    doubt = torch.from_numpy(one_doubt(outlines((32, 64, 64))))
    assert not pull[KINDS.index("calcified_granuloma")][doubt].any()
    assert pull[KINDS.index("calcified_granuloma")][~doubt].all()


def one_doubt(found: Outlines) -> np.ndarray:
    return found.doubtful((16, 8, 8))[KINDS.index("calcified_granuloma")]


@pytest.mark.parametrize(("said", "costs"), [("lung_nodule", True), ("emphysema", False)])
def test_an_empty_slot_may_hold_what_nobody_looked_for(said: str, costs: bool) -> None:
    logits = torch.full((1, len(KINDS) + 1), -8.0)
    logits[0, KINDS.index(said)] = 8.0
    looked = torch.tensor([kind == "lung_nodule" for kind in KINDS])
    none = Lesions(torch.zeros(0, dtype=torch.long), torch.zeros(0, 6), torch.zeros(0, 4), looked)
    nobody = torch.zeros(0, dtype=torch.long)
    value = SlotLoss()._study(logits, torch.zeros(1, 6), torch.zeros(1, 4), Match(0, none, nobody, nobody))
    assert (float(value) > 1) == costs
    assert float(value) < 20


# ---------------------------------------------------------------------------------------------- data sets
def square(middle: tuple[int, int], half: int, z: float) -> Contour:
    c, r = middle
    line = [(c + a, r + b) for a in range(-half, half + 1) for b in (-half, half)]
    line += [(c + b, r + a) for a in range(1 - half, half) for b in (-half, half)]
    around = sorted(line, key=lambda p: np.arctan2(p[1] - r, p[0] - c))
    return Contour(z, np.array(around), True)


SCORES = {"subtlety": 5, "internalStructure": 1, "calcification": 6, "sphericity": 3, "margin": 5, "lobulation": 1,
          "spiculation": 1, "texture": 5, "malignancy": 3}  # fmt: skip


@dataclass(frozen=True)
class OneScan:
    study: SourceStudy
    name: str = "lidc-idri"
    licence: str = "none"

    def studies(self):
        yield self.study


def body(path: Path) -> Path:
    """A chest of 2 mm voxels, written as NIfTI."""
    x, y, _ = np.indices((150, 150, 100))
    hu = np.full((150, 150, 100), -1000, np.int16)
    hu[(x - 75) ** 2 + (y - 75) ** 2 < 65**2] = 40
    for middle in (45, 105):
        hu[(x - middle) ** 2 + (y - 75) ** 2 < 24**2] = -850
    nib.save(nib.Nifti1Image(hu, np.diag([-2.0, -2.0, 2.0, 1.0])), path)
    return path


def test_the_consensus_of_lidc_readers_becomes_lesion_tokens(tmp_path: Path) -> None:
    """Two readers outline a nodule, one alone another: the first is taught, the second is left open."""
    both = [Reading(n, SCORES, tuple(square((45, 75), 4, z) for z in (90.0, 92.0, 94.0))) for n in range(2)]
    alone = Reading(2, SCORES, tuple(square((105, 75), 3, z) for z in (100.0, 102.0)))
    scan = LidcScan("LIDC-IDRI-0001", "1.2", "1.3", 2.0, 2.0, (*both, alone))
    source = OneScan(study_of(scan, body(tmp_path / "ct.nii.gz")))
    prepare = Preparation(GridContract((32, 64, 64), (8.0, 5.5, 5.5)), (16, 8, 8))
    assert fill_from_source(source, tmp_path / "store", prepare).written == 1
    (read,) = StudyStore(tmp_path / "store")
    assert read.outlines is not None
    assert [(x.kind, x.sure) for x in read.outlines.lesions] == [("lung_nodule", True), ("lung_nodule", False)]
    (nodule,) = read.outlines.sure
    drawn = 7 * 7 * 3 * 8.0  # inside the line, three slices
    assert nodule.mask.sum() * 8.0 * 5.5**2 == pytest.approx(drawn, rel=0.15)
    inside = read.hu[nodule.where][nodule.mask]
    assert inside.max() < -700  # it was drawn in the middle of a lung
    assert read.dense[KINDS.index("lung_nodule")].any()
    targets = Collate(None)([read]).targets
    assert {KINDS[i] for i in targets.dense_kinds[0].nonzero().flatten().tolist()} == {
        "lung_nodule", "mass", "calcified_granuloma"
    }  # fmt: skip
    assert 0.5 in targets.dense[0, KINDS.index("lung_nodule")]
    assert StudyStore(tmp_path / "store").extra(0)["masks"].startswith("classical")


def test_a_map_of_lesions_in_the_manifest_is_kept(tmp_path: Path) -> None:
    body(tmp_path / "ct.nii.gz")
    values = np.zeros((150, 150, 100), np.uint8)
    values[40:50, 70:80, 40:50], values[100:103, 75:78, 60:62] = 2, 2
    nib.save(nib.Nifti1Image(values, np.diag([-2.0, -2.0, 2.0, 1.0])), tmp_path / "lesions.nii.gz")
    (tmp_path / "manifest.csv").write_text(
        "study,patient,image,findings,lesions\nS1,P1,ct.nii.gz,Nodules.,lesions.nii.gz\nS2,P2,ct.nii.gz,Nothing.,\n"
    )
    from ctscribe.data.sources import open_source
    from ctscribe.errors import UsageError

    prepare = Preparation(
        GridContract((32, 64, 64), (8.0, 5.5, 5.5)), (16, 8, 8), lesions_scheme="totalsegmentator_lung_nodules"
    )
    fill_from_source(open_source("folder", tmp_path), tmp_path / "store", prepare)
    found = sorted((s for s in StudyStore(tmp_path / "store")), key=lambda s: s.outlines is None)
    assert [len(x.kind) and x.sure for x in found[0].outlines.lesions] == [True, True]
    assert found[0].outlines.looked_for == ("lung_nodule",)
    big = found[0].outlines.lesions[0]
    assert big.mask.sum() * 8.0 * 5.5**2 == pytest.approx(1000 * 8.0, rel=0.2)
    assert found[1].outlines is None
    with pytest.raises(UsageError, match="names a label map of lesions"):
        fill_from_source(open_source("folder", tmp_path), tmp_path / "other", replace(prepare, lesions_scheme=""))
