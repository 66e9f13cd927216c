"""Grids in millimetres: turning, cropping and averaging keep every structure where it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import badinput as bad
from ctscribe.data import canonicalise, crop_or_pad, resample, to_grid
from ctscribe.data.geometry import axis_weights, centre_of
from ctscribe.tensors import Affine, Volume

TRUTH = bad.truth()


def test_canonical_volumes_stay_as_they_are() -> None:
    again = canonicalise(TRUTH)
    assert np.array_equal(again.hu, TRUTH.hu)
    np.testing.assert_allclose(again.affine.matrix, TRUTH.affine.matrix)


def test_averaging_equals_block_means() -> None:
    """Where new voxels cover whole old ones, their values are plain means."""
    coarse = to_grid(TRUTH, (12, 10, 12), (7.5, 20.0, 16.0))
    means = TRUTH.hu.reshape(12, 3, 10, 4, 12, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse.hu, means, atol=0.01)


@given(
    st.tuples(st.integers(3, 20), st.integers(3, 20), st.integers(3, 20)),
    st.tuples(st.floats(1, 30), st.floats(1, 30), st.floats(1, 30)),
)
@settings(max_examples=25)
def test_a_linear_field_survives_any_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    """Averages and interpolations of a linear field are the field at the voxel centre, inside the scan.

    An average of boxes that cut old voxels may be off by an eighth of an old voxel along each axis, and no more.
    """
    world = np.stack(np.meshgrid(*[np.arange(n) for n in bad.SHAPE], indexing="ij"), axis=-1)
    scan = Volume(bad.ramp_at(TRUTH.affine.to_world(world)).astype(np.float32), TRUTH.affine)
    grid = to_grid(scan, shape, spacing)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    places = grid.affine.to_world(index)
    at = scan.affine.to_index(places)
    reach = np.maximum(np.array(spacing) / np.array(scan.spacing), 1) / 2 + 0.5
    inside = np.all((at >= reach - 0.5) & (at <= np.array(bad.SHAPE) - 0.5 - reach), axis=-1)
    eighth = 0.125 * float(np.array([3.1, 2.3, 1.7]) @ np.array(scan.spacing[::-1]))
    np.testing.assert_allclose(grid.hu[inside], bad.ramp_at(places[inside]), atol=eighth + 0.05)


def test_outside_the_scan_is_air() -> None:
    grid = to_grid(TRUTH, (4, 4, 4), (5.0, 5.0, 5.0), (900.0, 900.0, 900.0))
    assert np.all(grid.hu == -1024)
    half = to_grid(
        Volume(np.full((10, 10, 10), 76, np.int16), Affine.from_spacing((1.0, 1.0, 1.0))), (1, 1, 1), (20.0, 10.0, 10.0)
    )
    assert half.hu[0, 0, 0] == pytest.approx((76 - 1024) / 2)


def test_weights_sum_to_the_share_that_is_covered() -> None:
    for n_old, n_new, first, ratio in ((30, 9, 1.5, 3.3), (30, 40, -3.0, 1.0), (30, 100, 0.2, 0.3)):
        rows = axis_weights(n_old, n_new, first, ratio).sum(axis=1)
        centres = first + np.arange(n_new) * ratio
        reach = ratio / 2 if ratio >= 1 else 0.5
        inside = (centres - reach >= -0.5) & (centres + reach <= n_old - 0.5)
        np.testing.assert_allclose(rows[inside], 1.0, atol=1e-5)
        assert rows.max() <= 1 + 1e-5


def test_small_structures_fade_instead_of_vanishing() -> None:
    """A bright voxel keeps its total brightness wherever it lies: no aliasing."""
    for place in range(10, 30):
        hu = np.zeros(bad.SHAPE, np.int16)
        hu[place, 20, place] = 1000
        grid = to_grid(Volume(hu, TRUTH.affine), (20, 30, 30), (7.3, 11.1, 9.7), fill=0.0)
        total = grid.hu.sum() * np.prod(grid.spacing)
        assert total == pytest.approx(1000 * np.prod(TRUTH.spacing), rel=1e-3)


def test_resampling_covers_the_same_space() -> None:
    finer = resample(TRUTH, (2.0, 2.0, 2.0))
    assert np.all(np.array(finer.extent_mm) >= np.array(TRUTH.extent_mm))
    np.testing.assert_allclose(centre_of(finer), centre_of(TRUTH), atol=1e-6)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.floats(-150, 150), st.floats(-150, 150), st.floats(-150, 150)),
)
def test_cropping_copies_and_pads(shape: tuple[int, int, int], centre: tuple[float, float, float]) -> None:
    box = crop_or_pad(TRUTH, shape, centre)
    assert box.shape == shape
    assert np.all(np.abs(centre_of(box) - np.array(centre)) <= np.array(box.spacing[::-1]) / 2 + 1e-6)
    corner = np.rint(TRUTH.affine.to_index(box.affine.to_world(np.zeros(3)))).astype(int)
    for index in np.ndindex(*(min(3, n) for n in shape)):
        z, y, x = corner + index
        inside = 0 <= z < 36 and 0 <= y < 40 and 0 <= x < 48
        assert box.hu[index] == (TRUTH.hu[z, y, x] if inside else -1024)


def test_a_turned_scan_averages_like_the_straight_one() -> None:
    turned = bad.stored_as(TRUTH, (1, 2, 0), (-1, 1, -1))
    one = to_grid(TRUTH, (10, 11, 12), (8.0, 9.0, 10.0))
    two = to_grid(turned, (10, 11, 12), (8.0, 9.0, 10.0))
    np.testing.assert_allclose(one.hu, two.hu, atol=1e-2)
    np.testing.assert_allclose(one.affine.matrix, two.affine.matrix, atol=1e-6)
