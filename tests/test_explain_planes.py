"""Pictures, outlines and boxes share one pixel frame, in radiological orientation."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ctscribe.explain import planes
from ctscribe.tensors import Affine, Volume

SPOT = (7, 5, 3)
"""A bright voxel low in z (feet), towards the back, on the patient's right."""


@pytest.fixture
def volume() -> Volume:
    hu = np.full((20, 12, 10), -1000, np.int16)
    hu[SPOT] = 1000
    return Volume(hu, Affine.from_spacing((2.0, 1.0, 1.0), (-50.0, 10.0, 100.0)))


def brightest(png: bytes) -> np.ndarray:
    """Centre (column, row) of the brightest pixels."""
    grey = np.asarray(Image.open(BytesIO(png)), dtype=float)
    return np.argwhere(grey > 0.7 * grey.max()).mean(axis=0)[::-1] + 0.5


@pytest.mark.parametrize("plane", planes.PLANES)
@pytest.mark.parametrize("crop", [None, ((2, 1, 1), (18, 11, 9))])
def test_a_voxel_is_drawn_where_the_frame_says(volume: Volume, plane: planes.Plane, crop: planes.Crop | None) -> None:
    shown = planes.frame(volume, plane, SPOT[planes.AXES[plane][0]], crop)
    (expected,) = shown.pixels(np.array([SPOT]))
    picture = planes.grey_png(volume, shown, "bone")
    assert Image.open(BytesIO(picture)).size == shown.size[::-1]
    one_voxel = max(shown.size) / max(n for n in volume.shape)
    assert np.abs(brightest(picture) - expected).max() < one_voxel


@pytest.mark.parametrize("plane", planes.PLANES)
def test_outline_and_box_of_a_voxel_lie_around_it(volume: Volume, plane: planes.Plane) -> None:
    shown = planes.frame(volume, plane, SPOT[planes.AXES[plane][0]])
    mask = volume.hu > 0
    (centre,) = shown.pixels(np.array([SPOT]))
    path = planes.outline_path(planes.cut(mask, shown), shown)
    points = np.array([list(map(float, p.split())) for p in path.strip("MZ").split("L")])
    assert np.allclose(points.mean(axis=0), centre, atol=0.5)
    corners = volume.affine.to_world(np.array([np.array(SPOT) - 0.5, np.array(SPOT) + 0.5]))
    left, top, width, height = planes.box_rectangle(volume, tuple(map(tuple, corners)), shown)
    assert np.allclose((left + width / 2, top + height / 2), centre, atol=0.2)
    assert np.allclose(
        (width, height), np.abs(np.diff(shown.pixels(np.array([[0, 0, 0], [1, 1, 1]])), axis=0)), atol=0.2
    )


def test_right_is_left_anterior_is_up_and_head_is_up(volume: Volume) -> None:
    def place(plane: planes.Plane, index: tuple[int, int, int]) -> np.ndarray:
        return planes.frame(volume, plane, 0).pixels(np.array([index]))[0]

    right, left = place("axial", (0, 0, 0)), place("axial", (0, 0, 9))
    front, back = place("axial", (0, 0, 0)), place("axial", (0, 11, 0))
    feet, head = place("coronal", (0, 0, 0)), place("coronal", (19, 0, 0))
    assert right[0] < left[0]
    assert front[1] < back[1]
    assert head[1] < feet[1]
    assert place("sagittal", (0, 0, 0))[0] < place("sagittal", (0, 11, 0))[0]


def test_pixels_are_square_in_millimetres(volume: Volume) -> None:
    rows, columns = planes.frame(volume, "coronal", 0).size
    assert rows / columns == pytest.approx(20 * 2.0 / (10 * 1.0), rel=0.01)


def test_a_plane_beside_the_box_shows_no_box(volume: Volume) -> None:
    corners = volume.affine.to_world(np.array([[6.5, 4.5, 2.5], [7.5, 5.5, 3.5]]))
    assert planes.box_rectangle(volume, tuple(map(tuple, corners)), planes.frame(volume, "axial", 12)) is None


def test_heat_is_drawn_where_it_is(volume: Volume) -> None:
    heat = np.zeros((4, 4, 4), np.float32)
    grid = Volume(np.zeros((20, 12, 12), np.int16), Affine.from_spacing((2.0, 1.0, 1.0), volume.affine.origin))
    heat[1, 1, 1] = 1.0
    world = grid.affine.to_world((np.array([1, 1, 1]) + 0.5) * np.array([5, 3, 3]) - 0.5)
    index = volume.affine.to_index(world)
    shown = planes.frame(volume, "axial", round(index[0]))
    alpha = np.asarray(Image.open(BytesIO(planes.heat_png(heat, grid, volume, shown))))[..., 3]
    hottest = np.argwhere(alpha == alpha.max()).mean(axis=0)[::-1] + 0.5
    expected = shown.pixels(index[None])[0] * np.array(alpha.shape[::-1]) / np.array(shown.size[::-1])
    assert np.abs(hottest - expected).max() < 8
    assert planes.heat_png(heat, grid, volume, planes.frame(volume, "axial", 19)) is None


def test_an_empty_mask_has_no_outline_and_crops_to_everything(volume: Volume) -> None:
    empty = np.zeros(volume.shape, bool)
    assert (
        planes.outline_path(planes.cut(empty, planes.frame(volume, "axial", 0)), planes.frame(volume, "axial", 0)) == ""
    )
    assert planes.crop_around(empty, volume.spacing) == ((0, 0, 0), volume.shape)
