"""Laws of the segmentation and of the body-part check; real scans when they lie beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.data import bodypart
from ctscribe.data.anatomy import Segmentation, from_label_map, schemes, segment
from ctscribe.errors import GeometryRefused, UnreadableInput, UsageError, WrongBodyPart
from ctscribe.tensors import Affine, Volume

REAL = Path(__file__).parents[2] / "shared/data/volumes"
SPACING = (6.0, 4.0, 4.0)


def thorax(noise: float = 15.0, lift: float = 0.0) -> Volume:
    """A crude drawn chest: body, two lungs with vessels, trachea, heart, spine, ribs, liver below."""
    z, y, x = (a.astype(np.float32) for a in np.mgrid[:52, :72, :92])
    z, y, x = (z - 20) * 6.0, (y - 36) * 4.0, (x - 46) * 4.0
    hu = np.full(z.shape, -1000.0, np.float32)
    hu[(x / 165) ** 2 + (y / 115) ** 2 < 1] = 40
    shell = ((x / 150) ** 2 + (y / 103) ** 2 < 1) & ((x / 142) ** 2 + (y / 95) ** 2 > 1)
    hu[shell & (np.sin(z / 5 + x / 40) > 0.2)] = 500
    dome = -60 + 50 * np.exp(-((np.abs(x) - 70) ** 2 + y**2) / 2 / 45**2)
    lung = (((np.abs(x) - 80) / 58) ** 2 + (y / 88) ** 2 + (np.clip(z - 40, 0, None) / 110) ** 2 < 1) & (z > dome)
    heart = ((x - 25) / 62) ** 2 + ((y + 30) / 50) ** 2 + ((z + 15) / 50) ** 2 < 1
    hu[lung & ~heart] = -850
    hu[lung & ~heart & (np.sin(x / 7) * np.sin(y / 9) * np.sin(z / 11) > 0.75)] = -300
    hu[x**2 + (y - 60) ** 2 < 20**2] = 250
    hu[(x**2 + (y - 5) ** 2 < 9**2) & (z > 60)] = -990
    hu += np.random.default_rng(0).normal(0, noise, hu.shape)
    return Volume(hu + lift, Affine.from_spacing(SPACING))


def drawn(hu: np.ndarray) -> Volume:
    return Volume(hu.astype(np.float32), Affine.from_spacing(SPACING))


@pytest.fixture(scope="module")
def chest() -> Volume:
    return thorax()


@pytest.fixture(scope="module")
def found(chest: Volume) -> Segmentation:
    return segment(chest)


def test_every_label_is_a_region_and_left_is_left(found: Segmentation) -> None:
    assert set(found.names.values()) <= set(ontology.regions())
    assert set(np.unique(found.labels)) <= {0, *found.names}
    assert np.argwhere(found.mask("left_lung"))[:, 2].mean() > 46 > np.argwhere(found.mask("right_lung"))[:, 2].mean()


def test_a_parent_is_the_union_of_its_leaves(found: Segmentation) -> None:
    lobes = [found.mask(f"left_{name}_lobe") for name in ("upper", "lower")]
    assert np.array_equal(found.mask("left_lung"), np.logical_or(*lobes))
    assert not np.logical_and(*lobes).any()
    assert np.array_equal(found.mask("thorax"), found.labels > 0)


def test_the_mirrored_patient_has_the_mirrored_lungs(chest: Volume, found: Segmentation) -> None:
    mirrored = segment(Volume(np.ascontiguousarray(chest.hu[:, :, ::-1]), chest.affine))
    right = mirrored.mask("right_lung")[:, :, ::-1]
    left = found.mask("left_lung")
    assert 2 * (right & left).sum() / (right.sum() + left.sum()) > 0.97


def test_segmentation_is_deterministic_and_leaves_its_input_alone(chest: Volume, found: Segmentation) -> None:
    before = chest.hu.copy()
    assert np.array_equal(segment(chest).labels, found.labels)
    assert np.array_equal(before, chest.hu)


def test_landmarks_lie_where_they_must(found: Segmentation) -> None:
    centre = {r: np.argwhere(found.mask(r)).mean(axis=0) for r in ("trachea", "spine", "heart", "upper_abdomen")}
    lungs = np.argwhere(found.mask("lungs")).mean(axis=0)
    assert centre["spine"][1] > lungs[1] > centre["heart"][1]
    assert centre["trachea"][0] > lungs[0] > centre["upper_abdomen"][0]


def test_a_finer_grid_gives_the_same_lungs(chest: Volume, found: Segmentation) -> None:
    fine = Volume(chest.hu.repeat(2, 0).repeat(4, 1).repeat(4, 2), Affine.from_spacing((3.0, 1.0, 1.0)))
    lungs = segment(fine).mask("lungs")[::2, ::4, ::4]
    coarse = found.mask("lungs")
    assert 2 * (lungs & coarse).sum() / (lungs.sum() + coarse.sum()) > 0.95


def test_occupancy_counts_every_voxel_once(found: Segmentation) -> None:
    names = ("left_lung", "thorax", "breast")
    shares, present = found.occupancy(names, (4, 8, 8))
    assert present.tolist() == [True, True, False]
    assert shares.shape == (3, 4, 8, 8)
    assert shares.min() >= 0
    assert shares.max() <= 1
    total = (shares[0] * _cell_sizes(found.labels.shape, (4, 8, 8))).sum()
    assert total == pytest.approx(found.mask("left_lung").sum(), rel=1e-4)


def _cell_sizes(shape: tuple[int, ...], cells: tuple[int, ...]) -> np.ndarray:
    z, y, x = (np.bincount(np.arange(n) * c // n, minlength=c) for n, c in zip(shape, cells, strict=True))
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def test_an_unknown_region_is_an_error(found: Segmentation) -> None:
    with pytest.raises(UsageError, match="unknown region"):
        found.mask("left_elbow")


def test_a_chest_passes_without_a_note_on_its_sides(chest: Volume, found: Segmentation) -> None:
    codes = {note.code for note in bodypart.check_chest(chest, found)}
    assert not codes & {"one_lung_only", "lung_cut_off_at_side", "apex_cut_off"}


def test_half_a_chest_is_accepted_and_named(chest: Volume) -> None:
    half = drawn(chest.hu[:, :, :50])
    codes = {note.code for note in bodypart.check_chest(half, segment(half))}
    assert "one_lung_only" in codes


def _objects() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    z, y, x = (a.astype(np.float32) for a in np.mgrid[:40, :64, :64])
    z, y, x = (z - 20) * 6.0, (y - 32) * 4.0, (x - 32) * 4.0
    grain = rng.normal(0, 20, z.shape)
    ball, rod = np.sqrt(x**2 + y**2 + z**2), np.sqrt(x**2 + y**2)
    head = np.select([ball < 75, ball < 85, ball < 92], [35, 1000, 40], -1000)
    sinus = np.where(x**2 + (y + 50) ** 2 + z**2 < 18**2, -1000, head)
    block = np.where((np.abs(x) < 110) & (np.abs(y) < 80), 0, -1000)
    block[(np.abs(x) - 55) ** 2 + y**2 < 35**2] = -800
    return {
        "empty_image": np.full(z.shape, 40.0),
        "empty_image air": np.full(z.shape, -1000.0),
        "noise": rng.normal(0, 500, z.shape),
        "uniform_object": np.where(rod < 100, 0, -1000) + grain,
        "uniform_object inserts": block + grain,
        "head": head + grain,
        "head sinus": sinus + grain,
    }


@pytest.mark.parametrize("name", list(_objects()))
def test_what_is_no_chest_is_refused_with_a_code(name: str) -> None:
    volume = drawn(_objects()[name])
    with pytest.raises(WrongBodyPart) as refusal:
        bodypart.check_chest(volume, segment(volume))
    assert refusal.value.code == name.split()[0]
    assert refusal.value.exit_code == 3


def test_an_abdomen_with_lung_bases_is_refused(chest: Volume) -> None:
    abdomen = drawn(np.concatenate([np.repeat(chest.hu[:1], 20, axis=0), chest.hu[:16]]))
    with pytest.raises(WrongBodyPart):
        bodypart.check_chest(abdomen, segment(abdomen))


def test_a_projection_is_refused(chest: Volume) -> None:
    flat = drawn(chest.hu[:4])
    with pytest.raises(WrongBodyPart, match="not a chest"):
        bodypart.check_chest(flat, segment(flat))


def test_schemes_name_only_regions() -> None:
    for names in schemes().values():
        assert set(names.values()) <= set(ontology.regions())
    total = schemes()["totalsegmentator_v2"]
    assert (total[10], total[14], total[52], total[92], total[115]) == (
        "left_upper_lobe",
        "right_lower_lobe",
        "aorta",
        "ribs",
        "ribs",
    )


def _save(path: Path, labels: np.ndarray, affine: Affine) -> Path:
    """Store labels as NIfTI, with every axis flipped, as other software may."""
    import nibabel as nib

    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine.matrix
    flip = np.diag([-1.0, -1.0, -1.0, 1.0])
    flip[:3, 3] = np.array(labels.shape[::-1]) - 1
    stored = np.ascontiguousarray(labels.transpose(2, 1, 0)[::-1, ::-1, ::-1])
    nib.save(nib.Nifti1Image(stored, matrix @ flip), path)
    return path


def test_a_label_map_in_any_orientation_lands_on_the_scan(chest: Volume, found: Segmentation, tmp_path: Path) -> None:
    values = np.where(found.mask("right_lung"), 1, np.where(found.mask("left_lung"), 2, 0)).astype(np.uint8)
    path = _save(tmp_path / "lungs.nii.gz", values, chest.affine)
    read = from_label_map(path, chest, "lungmask_r231")
    assert np.array_equal(read.mask("right_lung"), values == 1)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"2": "left_lung"}))
    assert np.array_equal(from_label_map(path, chest, names).mask("lungs"), values == 2)


def test_label_maps_that_do_not_fit_are_refused(chest: Volume, tmp_path: Path) -> None:
    ones = np.ones((4, 4, 4), np.uint8)
    away = _save(tmp_path / "away.nii.gz", ones, Affine.from_spacing((1.0, 1.0, 1.0), (9000.0, 0.0, 0.0)))
    with pytest.raises(GeometryRefused, match="overlap"):
        from_label_map(away, chest, "lungmask_r231")
    strange = _save(tmp_path / "strange.nii.gz", ones * 200, chest.affine)
    with pytest.raises(UnreadableInput, match="no label"):
        from_label_map(strange, chest, "lungmask_r231")
    with pytest.raises(UsageError, match="unknown label scheme"):
        from_label_map(strange, chest, "nobody_v9")
    with pytest.raises(UsageError, match="do not exist"):
        from_label_map(strange, chest, {200: "left_elbow"})


def _real(name: str) -> Volume:
    path = REAL / f"{name}.nii.gz"
    if not path.is_file():
        pytest.skip(f"real scan not here: {path}")
    from ctscribe.data import load_study

    return load_study(path).volume


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("cip_ct-64_ct", set()),
        ("pyradiomics-lung1_ct", {"base_cut_off"}),
        ("elastix_3DCT_lung_baseline_small_ct", {"one_lung_only", "lung_cut_off_at_side"}),
        ("totalsegmentator_pulmonary_ct", {"apex_cut_off", "lung_cut_off_at_side"}),
        ("lambin-phantom_pat2_ct", {"one_lung_only", "apex_cut_off", "base_cut_off"}),
    ],
)
def test_real_chests_are_accepted_with_their_coverage(name: str, notes: set[str]) -> None:
    volume = _real(name)
    assert notes <= {note.code for note in bodypart.check_chest(volume, segment(volume))}


def test_a_real_abdomen_is_refused() -> None:
    volume = _real("totalsegmentator_example_ct_sm")
    with pytest.raises(WrongBodyPart) as refusal:
        bodypart.check_chest(volume, segment(volume))
    assert refusal.value.code == "abdomen"


def test_lungs_agree_with_contours_drawn_by_people() -> None:
    volume = _real("nsclc-lung1-001_ct")
    names = {1: "mediastinum", 2: "left_lung", 3: "right_lung"}
    truth = from_label_map(REAL / "nsclc-lung1-001_labels.nii.gz", volume, names)
    found = segment(volume)
    for side in ("left_lung", "right_lung"):
        a, b = found.mask(side), truth.mask(side)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
