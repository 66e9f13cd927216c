"""Augmentation: labels stay true. Right and left change places everywhere or not at all; sizes never lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctscribe import ontology
from ctscribe.data.batch import Sample
from ctscribe.data.mirror import Mirror, mirror, mirror_finding, mirror_text, mirrorable
from ctscribe.data.reword import Reword, reword
from ctscribe.data.scanners import Scanner, change_gamma, thick_slices
from ctscribe.data.warp import Warp, warp
from ctscribe.ontology import Language
from ctscribe.report import Finding
from ctscribe.report.parse import parse
from ctscribe.report.render import render_text

NAMES = ontology.model_regions()
SPACING = (6.0, 4.0, 4.0)
NO_TURN = np.zeros(3)


def sample(middle: tuple[float, float, float] = (30.0, -20.0, -44.0), radius: float = 12.0) -> Sample:
    """A bright ball (mm from the middle of the grid) in a region mask, with its box and its tokens."""
    shape = (24, 32, 32)
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, SPACING, strict=True)]
    distance = np.sqrt(sum((grid - c) ** 2 for grid, c in zip(np.meshgrid(*axes, indexing="ij"), middle, strict=True)))
    ball = distance <= radius
    cells = ball.reshape(12, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5))
    occupancy = np.zeros((len(NAMES), 12, 16, 16), np.uint8)
    occupancy[NAMES.index("right_upper_lobe")] = np.rint(cells * 255)
    present = np.zeros(len(NAMES), bool)
    present[NAMES.index("right_upper_lobe")] = True
    dense = np.zeros((len(ontology.findings()), 12, 16, 16), bool)
    dense[list(ontology.findings()).index("lung_nodule")] = cells > 0.5
    low, high = np.array(middle) - radius, np.array(middle) + radius
    return Sample(
        id="s",
        hu=np.where(ball, 100, -800).astype(np.int16),
        spacing=SPACING,
        occupancy=occupancy,
        present=present,
        findings=(Finding("lung_nodule", regions=("right_upper_lobe",), size_mm=(24.0,)),),
        dense=dense,
        text="A nodule of 24 mm in the right upper lobe.",
        language="en",
        boxes=np.concatenate((low, high))[None].astype(np.float32),
        box_kinds=("lung_nodule",),
    )


def ball_centre(study: Sample) -> np.ndarray:
    """Middle of the bright voxels, mm from the middle of the grid."""
    index = np.argwhere(study.hu > -350)
    return (index.mean(axis=0) - (np.array(study.hu.shape) - 1) / 2) * np.array(study.spacing)


def box_centre(study: Sample) -> np.ndarray:
    assert study.boxes is not None
    return (study.boxes[0, :3] + study.boxes[0, 3:]) / 2


# ------------------------------------------------------------------------------------------- mirror
def test_mirror_exchanges_sides_everywhere() -> None:
    before, after = sample(), mirror(sample())
    np.testing.assert_array_equal(after.hu, before.hu[..., ::-1])
    assert (ball_centre(before)[2] < 0) == (ball_centre(after)[2] > 0)
    np.testing.assert_allclose(box_centre(after), ball_centre(after), atol=2)
    assert [n for n, there in zip(NAMES, after.present, strict=True) if there] == ["left_upper_lobe"]
    assert after.occupancy[NAMES.index("left_upper_lobe")].sum() == before.occupancy.sum()
    assert after.findings == (Finding("lung_nodule", regions=("left_upper_lobe",), size_mm=(24.0,)),)
    assert after.text == "A nodule of 24 mm in the left upper lobe."
    assert after.dense is not None
    assert before.dense is not None
    np.testing.assert_array_equal(after.dense, before.dense[..., ::-1])
    twice = mirror(after)
    assert (twice.text, twice.findings) == (before.text, before.findings)
    np.testing.assert_array_equal(twice.boxes, before.boxes)


@pytest.mark.parametrize("language", ontology.LANGUAGES)
@pytest.mark.parametrize("seed", range(6))
def test_the_mirrored_words_say_the_mirrored_findings(language: Language, seed: int) -> None:
    sides = ["right_upper_lobe", "left_lower_lobe", "right_middle_lobe", "left_lung", "right_lower_lobe"]
    said = (
        Finding("lung_nodule", regions=(sides[seed % 5],), size_mm=(8.0,)),
        Finding("consolidation", regions=(sides[(seed + 1) % 5],)),
        Finding("pleural_effusion", regions=("right_pleura",), attributes=(("severity", "small"),)),
        Finding("pneumothorax", "absent"),
    )
    text = render_text(said, language, seed)
    assert set(parse(text, language)) == set(said)
    assert set(parse(mirror_text(text, language), language)) == {mirror_finding(finding) for finding in said}


def test_words_that_only_look_like_sides_stay() -> None:
    assert mirror_text("结节直径约8 mm左右，位于右肺上叶。", "zh") == "结节直径约8 mm左右，位于左肺上叶。"
    assert mirror_text("Nodes in station 4R and the LUL; Right lung clear.", "en") == (
        "Nodes in station 4L and the RUL; Left lung clear."
    )
    assert mirror_text("A nodule in the middle lobe.", "en") == "A nodule in the lingula."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The left ventricle is enlarged.", "en"),
        ("A cyst in the right lobe of the liver.", "en"),
        ("Calcification of the aortic arch.", "en"),
        ("A nodule in the apical segment of the right upper lobe.", "en"),
        ("左心房增大。", "zh"),
        ("右肺上叶尖段见结节。", "zh"),
    ],
)
def test_no_mirror_where_the_words_would_lie(text: str, language: str) -> None:
    study = replace(sample(), text=text, language=language)
    assert not mirrorable(study)
    assert Mirror(1.0)(study, np.random.default_rng(0)) is study


def test_no_mirror_unless_asked() -> None:
    study, rng = sample(), np.random.default_rng(0)
    assert all(Mirror()(study, rng) is study for _ in range(50))
    assert Mirror(1.0)(study, rng).text == "A nodule of 24 mm in the left upper lobe."


# ------------------------------------------------------------------------------------------- warp
def test_no_turn_is_no_change() -> None:
    before = sample()
    after = warp(before, NO_TURN, 1.0)
    for name in ("hu", "occupancy", "present", "dense", "boxes"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_masks_and_tokens_go_with_the_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = sample()
    after = warp(before, rng.uniform(-15, 15, 3), float(rng.uniform(0.9, 1.1)), rng.uniform(-8, 8, (3, 4, 4, 4)))
    assert np.linalg.norm(ball_centre(after) - ball_centre(before)) > 1
    np.testing.assert_allclose(box_centre(after), ball_centre(after), atol=3)
    share = after.occupancy[NAMES.index("right_upper_lobe")].astype(float)
    cell = np.array(after.hu.shape) * np.array(after.spacing) / np.array(share.shape)
    index = np.stack(np.indices(share.shape), axis=-1) - (np.array(share.shape) - 1) / 2
    middle = (index * share[..., None]).sum(axis=(0, 1, 2)) / share.sum() * cell
    np.testing.assert_allclose(middle, ball_centre(after), atol=4)
    assert after.dense is not None
    tokens = np.argwhere(after.dense.any(axis=0)).mean(axis=0) - (np.array(share.shape) - 1) / 2
    np.testing.assert_allclose(tokens * cell, ball_centre(after), atol=8)


def test_a_quarter_turn_is_exact() -> None:
    """About the body's axis: what lay in front comes to lie at the side."""
    before = sample()
    after = warp(before, np.array([90.0, 0.0, 0.0]), 1.0)
    np.testing.assert_array_equal(after.hu, np.rot90(before.hu, k=-1, axes=(1, 2)))
    np.testing.assert_allclose(box_centre(after), ball_centre(after), atol=2)


def test_a_zoom_changes_no_size_in_millimetres() -> None:
    before = sample(middle=(0.0, 0.0, 0.0), radius=30.0)
    for zoom in (0.8, 1.25):
        after = warp(before, NO_TURN, zoom)
        volumes = [float((s.hu > -350).sum() * np.prod(s.spacing)) for s in (before, after)]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.05)
        assert (after.findings, after.text) == (before.findings, before.text)
        np.testing.assert_array_equal(after.boxes, before.boxes)


def test_a_seed_repeats_a_warp() -> None:
    first, same, other = (Warp(chance=1.0)(sample(), np.random.default_rng(seed)).hu for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


# ------------------------------------------------------------------------------------------- scanners
def test_thick_slices_keep_levels_and_blur_along_the_body_only() -> None:
    ramp = np.broadcast_to(np.arange(24.0)[:, None, None], (24, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(thick_slices(ramp, 3)[1:-1], ramp[1:-1], atol=1e-4)
    point = np.zeros((24, 5, 5), np.float32)
    point[12, 2, 2] = 90
    thick = thick_slices(point, 3)
    assert thick.max() == pytest.approx(30)
    assert np.flatnonzero(thick.any(axis=(1, 2))).size > 2
    assert np.flatnonzero(thick.any(axis=(0, 2))).tolist() == [2]


def test_gamma_leaves_air_and_bone() -> None:
    hu = np.array([[[-1024.0, -500.0, 40.0, 1000.0, 2000.0]]], np.float32)
    bent = change_gamma(hu, 1.2)
    np.testing.assert_allclose(bent[..., [0, 3, 4]], hu[..., [0, 3, 4]], atol=1e-3)
    assert (bent[..., 1:3] < hu[..., 1:3]).all()


def test_a_scanner_changes_values_and_nothing_else() -> None:
    before = sample()
    after = Scanner(chance=1.0)(before, np.random.default_rng(0))
    assert not np.array_equal(after.hu, before.hu)
    assert after.hu.min() >= -1024
    assert after.occupancy is before.occupancy
    assert (after.boxes is before.boxes, after.text) == (True, before.text)
    assert Scanner(chance=0.0)(before, np.random.default_rng(0)) is before


# ------------------------------------------------------------------------------------------- words
TEXTS: dict[Language, str] = {
    "en": "A lung nodule of 8 mm is seen in the right upper lobe. Consolidation in the left lower lobe. "
    "No pneumothorax. There is cardiomegaly.",
    "zh": "右肺上叶见肺结节，直径约8 mm。左肺下叶见实变。未见气胸。心脏增大。",
}


@pytest.mark.parametrize("language", ontology.LANGUAGES)
def test_other_words_say_the_same(language: Language) -> None:
    text = TEXTS[language]
    wanted = set(parse(text, language))
    assert len(wanted) == 4
    versions = {reword(text, language, np.random.default_rng(seed), synonyms=0.6, order=0.6) for seed in range(8)}
    assert len(versions) > 4
    assert [v for v in versions if set(parse(v, language)) != wanted] == []
    assert reword(text, language, np.random.default_rng(0), synonyms=0.0, order=0.0) == text


def test_a_study_without_words_stays() -> None:
    silent = replace(sample(), text=None)
    assert Reword(1.0, 1.0)(silent, np.random.default_rng(0)) is silent
