"""Coefficients of agreement equal published worked examples and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ctscribe.evaluation.reader_study.agreement import Cohen, Fleiss, Gwet, Icc, Krippendorff, MeanCohen, Within

NAN = float("nan")
FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": 12 units, 4 observers, missing data.
OBSERVERS = np.array(
    [
        [1, 1, NAN, 1],
        [2, 2, 3, 2],
        [3, 3, 3, 3],
        [3, 3, 3, 3],
        [2, 2, 2, 2],
        [1, 2, 3, 4],
        [4, 4, 4, 4],
        [1, 1, 2, 1],
        [2, 2, 2, 2],
        [NAN, 5, 5, 5],
        [NAN, NAN, 1, 1],
        [NAN, NAN, 3, NAN],
    ]
)

# Ten subjects, fourteen raters, five categories: the worked example on the Wikipedia page "Fleiss' kappa".
FOURTEEN = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]

# From the diagnoses of Fleiss 1971, as distributed with irrCAC: 15 patients, 6 psychiatrists, 5 diagnoses.
PSYCHIATRISTS = [
    [0, 0, 0, 6, 0],
    [0, 3, 0, 0, 3],
    [0, 1, 4, 0, 1],
    [0, 0, 0, 0, 6],
    [0, 3, 0, 3, 0],
    [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2],
    [2, 0, 3, 1, 0],
    [2, 0, 0, 4, 0],
    [0, 0, 0, 0, 6],
    [1, 0, 0, 5, 0],
    [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0],
    [1, 0, 0, 5, 0],
    [0, 2, 0, 3, 1],
]

# Shrout and Fleiss 1979, table 2: six targets, four judges.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)

# Gwet 2014: two abstractors, three kinds of pregnancy; values published with irrCAC.
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]


def from_counts(counts: list[list[int]]) -> np.ndarray:
    return np.array([np.repeat(FIVE, row) for row in counts])


def from_table(table: list[list[int]]) -> np.ndarray:
    return np.array([(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)], dtype=float)


@pytest.mark.parametrize(
    ("coefficient", "ratings", "published"),
    [
        (Krippendorff(FIVE, "nominal"), OBSERVERS, 0.743),
        (Krippendorff(FIVE, "ordinal"), OBSERVERS, 0.815),
        (Krippendorff(FIVE, "interval"), OBSERVERS, 0.849),
        (Fleiss(FIVE), from_counts(FOURTEEN), 0.210),
        (Icc(), JUDGES, 0.29),
    ],
)
def test_published_to_two_or_three_digits(coefficient, ratings, published):
    digits = 2 if published == 0.29 else 3
    assert round(coefficient.of(ratings), digits) == published


@pytest.mark.parametrize(
    ("coefficient", "ratings", "published"),
    [
        (Fleiss(FIVE), OBSERVERS, 0.76117),
        (Gwet(FIVE), OBSERVERS, 0.77544),
        (Krippendorff(FIVE, "nominal"), OBSERVERS, 0.74342),
        (Fleiss(FIVE), from_counts(PSYCHIATRISTS), 0.4139265),
        (Gwet(FIVE), from_counts(PSYCHIATRISTS), 0.4448007),
        (Krippendorff(FIVE, "nominal"), from_counts(PSYCHIATRISTS), 0.4204384),
        (Cohen((0.0, 1.0, 2.0)), from_table(ABSTRACTORS), 0.7964094),
        (Gwet((0.0, 1.0, 2.0)), from_table(ABSTRACTORS), 0.8493305),
        (Krippendorff((0.0, 1.0, 2.0), "nominal"), from_table(ABSTRACTORS), 0.7972585),
    ],
)
def test_equal_to_what_irrcac_publishes(coefficient, ratings, published):
    assert coefficient.of(ratings) == pytest.approx(published, abs=5e-6)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40))
def test_cohen_equals_scikit_learn(pairs):
    ratings = np.array(pairs, dtype=float)
    for weights, theirs in (("none", None), ("linear", "linear"), ("quadratic", "quadratic")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn divides by zero where all ratings are alike
            expected = cohen_kappa_score(ratings[:, 0], ratings[:, 1], labels=list(FIVE), weights=theirs)
        ours = Cohen(FIVE, weights).of(ratings)
        assert ours == pytest.approx(expected, nan_ok=True)


def test_ac2_is_weighted_agreement_against_gwets_chance():
    """Two raters worked by hand: observed (1 + 0.75) / 2, shares 1/2, 1/4, 1/4, quadratic weights over three values."""
    ratings = np.array([[1.0, 1.0], [2.0, 3.0]])
    chance = (3 + 4 * 0.75) / (3 * 2) * (0.5 * 0.5 + 0.25 * 0.75 + 0.25 * 0.75)
    expected = (0.875 - chance) / (1 - chance)
    assert Gwet((1.0, 2.0, 3.0), "quadratic").of(ratings) == pytest.approx(expected)


COEFFICIENTS = [
    Cohen(FIVE),
    Cohen(FIVE, "quadratic"),
    MeanCohen(FIVE, "linear"),
    Fleiss(FIVE),
    Gwet(FIVE),
    Gwet(FIVE, "quadratic"),
    Krippendorff(FIVE, "nominal"),
    Krippendorff(FIVE, "ordinal"),
    Krippendorff(FIVE, "interval"),
    Icc(),
]


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_perfect_agreement_is_one_and_constant_ratings_say_nothing(coefficient):
    alike = np.repeat(np.array([[1.0], [3.0], [5.0], [4.0]]), 2, axis=1)
    assert coefficient.of(alike) == pytest.approx(1)
    if not isinstance(coefficient, Gwet):  # Gwet's chance is 0 there: full agreement, by its own reading
        assert np.isnan(coefficient.of(np.full((4, 2), 3.0)))
    assert np.isnan(coefficient.of(np.array([[1.0, NAN], [NAN, 2.0]])))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_interval_holds_the_value_and_whole_patients_are_drawn(coefficient):
    rng = np.random.default_rng(0)
    base = rng.integers(1, 6, 60)
    ratings = np.column_stack([np.clip(base + rng.integers(-1, 2, 60), 1, 5) for _ in range(2)]).astype(float)
    alone = coefficient.estimate(ratings, list(range(60)), resamples=300)
    assert alone.low is not None
    assert alone.low < alone.value < alone.high
    # Every text thrice, by the same patient: no more is known than before.
    thrice = coefficient.estimate(np.repeat(ratings, 3, axis=0), list(np.repeat(range(60), 3)), resamples=300)
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, abs=0.05)
    assert coefficient.estimate(ratings, [0] * 60, resamples=300).low is None
    assert coefficient.estimate(ratings, list(range(60)), resamples=0).low is None


def test_mean_of_pairs_is_the_mean_and_leaves_out_pairs_that_share_nothing():
    ratings = OBSERVERS[:9]
    pairs = [Cohen(FIVE).of(ratings[:, [i, j]]) for i in range(4) for j in range(i + 1, 4)]
    assert MeanCohen(FIVE).of(ratings) == pytest.approx(np.mean(pairs))
    assert MeanCohen(FIVE, against_first=True).of(ratings) == pytest.approx(np.mean(pairs[:3]))
    stranger = np.column_stack([ratings, np.full(9, NAN)])
    assert MeanCohen(FIVE).of(stranger) == pytest.approx(np.mean(pairs))


def test_within_counts_pairs():
    ratings = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, NAN]])
    assert Within(0).of(ratings) == pytest.approx(1 / 4)
    assert Within(1).of(ratings) == pytest.approx(2 / 4)
    assert Within(3).of(ratings) == 1
