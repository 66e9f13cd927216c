"""Hounsfield units: the contract that travels with the weights, and the check that values are HU at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import badinput as bad
from ctscribe.data import IntensityContract, Window, check_hounsfield
from ctscribe.data.kernels import kernel_class
from ctscribe.errors import ConfigError

TRUTH = bad.truth()


def test_contract_survives_json() -> None:
    contract = IntensityContract((Window("a", -500, 1000), Window("b", 30, 200)), -1000, 2000)
    assert IntensityContract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"windows": [], "hu_min": -1024, "hu_max": 3071},
        {"windows": [{"name": "a", "centre": 0, "width": 0}], "hu_min": -1024, "hu_max": 3071},
        {"windows": [{"name": "a", "centre": 0, "width": 10}], "hu_min": 5, "hu_max": 5},
        {"windows": [{"name": "a", "centre": 0, "width": 10}], "hu_min": -5, "hu_max": 5, "gamma": 1},
    ],
)
def test_broken_contracts_are_refused(broken: dict) -> None:
    with pytest.raises(ConfigError):
        IntensityContract.from_json(broken)


@given(st.floats(-1500, 1500), st.floats(1, 3000))
def test_windows_map_their_edges_to_zero_and_one(centre: float, width: float) -> None:
    contract = IntensityContract((Window("w", centre, width),), hu_min=-5000, hu_max=5000)
    hu = np.array([[[centre - width, centre - width / 2, centre, centre + width / 2, centre + width]]])
    np.testing.assert_allclose(contract.apply(hu)[0, 0, 0], [0, 0, 0.5, 1, 1], atol=1e-3)


def test_channels_are_float32_between_zero_and_one() -> None:
    channels = IntensityContract().apply(TRUTH.hu)
    assert channels.shape == (3, *bad.SHAPE)
    assert channels.dtype == np.float32
    assert channels.min() == 0
    assert channels.max() <= 1


@pytest.mark.parametrize("shift", [1024, -1024, 1000, -1000, 8192, -8192])
@pytest.mark.parametrize("padding", [None, 0, -3000])
def test_known_shifts_are_found_exactly(shift: int, padding: int | None) -> None:
    """Also with a field of padding that was shifted too."""
    hu = TRUTH.hu.astype(np.int32)
    hu[TRUTH.hu < -940] = np.random.default_rng(2).normal(-1000, 8, np.count_nonzero(TRUTH.hu < -940))
    if padding is not None:
        hu[:, :6] = padding if padding else hu.min() - 10
    found = check_hounsfield(hu + shift)
    assert (found.verdict, found.correction) == ("shifted", -shift)


def test_hounsfield_units_are_left_alone() -> None:
    assert check_hounsfield(TRUTH).verdict == "hounsfield"
    noisy = TRUTH.hu + np.random.default_rng(0).normal(0, 60, bad.SHAPE)
    assert check_hounsfield(noisy).verdict == "hounsfield"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((TRUTH.hu + 1024) / 4096, "normalised"),
        ((TRUTH.hu - TRUTH.hu.mean()) / TRUTH.hu.std(), "normalised"),
        (np.clip((TRUTH.hu + 1024) // 8, 0, 255), "eight_bit"),
        (np.zeros((4, 4, 4)), "flat"),
        (np.full((4, 4, 4), np.nan), "flat"),
        (np.random.default_rng(1).gamma(2, 200, (20, 20, 20)), "not_hounsfield"),  # one crowd, as in MR
        (np.random.default_rng(1).uniform(0, 2000, (20, 20, 20)), "not_hounsfield"),
    ],
)
def test_what_is_not_hounsfield_is_named(values: np.ndarray, verdict: str) -> None:
    assert check_hounsfield(values).verdict == verdict


def test_kernels_of_the_vendors() -> None:
    expected = {
        "standard": ("STANDARD", "B30f", "Br40d", "I31f", "FC08", "B", "SOFT", "DETAIL", "Bv36"),
        "lung": ("LUNG", "B70f", "Bl57d", "I70f", "FC51", "L", "YA"),
        "bone": ("BONE", "BONEPLUS", "FC30", "D"),
        "unknown": (None, "", "whatever"),
    }
    for name, kernels in expected.items():
        assert {kernel_class(kernel) for kernel in kernels} == {name}
    assert kernel_class(None, (-600.0, 1500.0)) == "lung"
    assert kernel_class("whatever", (40.0, 400.0)) == "standard"
