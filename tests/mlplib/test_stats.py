"""Means and intervals against SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from mlplib.stats import (
    CONFIDENCE,
    Estimate,
    accuracy_difference,
    at_confidence,
    confidence,
    over_seeds,
    paired_difference,
)

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)


@settings(max_examples=100, deadline=None)
@given(values)
def test_the_interval_is_students(sample):
    found = over_seeds(sample)
    assert found.mean == pytest.approx(np.mean(sample), abs=1e-9) and found.n == len(sample)
    spread = np.std(sample, ddof=1)
    half = reference.t.ppf(0.975, len(sample) - 1) * spread / math.sqrt(len(sample))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-6)
    assert found.half_width == pytest.approx(half, abs=1e-6) and found.source == "seeds"


def test_against_scipys_own_interval():
    sample = [71.2, 70.9, 72.4, 71.8]
    found = over_seeds(sample)
    expected = reference.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = over_seeds(rng.normal(3.0, 2.0, 3).tolist())
        hits += found.low <= 3.0 <= found.high
    assert 0.935 < hits / 2000 < 0.965


def test_one_seed_has_no_interval_and_none_is_an_error():
    found = over_seeds([0.5])
    assert found == Estimate(0.5, None, None, 1) and found.half_width is None
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_equal_values_have_no_spread():
    assert over_seeds([0.1, 0.1, 0.1]) == Estimate(
        pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1), 3
    )


def test_pairs_are_matched_by_seed_and_the_rest_left_out():
    first = {2: 0.9, 0: 0.5, 1: 0.7, 7: 99.0}
    second = {0: 0.4, 1: 0.5, 2: 0.6, 8: -99.0}
    found = paired_difference(first, second)
    expected = reference.ttest_rel([0.5, 0.7, 0.9], [0.4, 0.5, 0.6]).confidence_interval(0.95)
    assert found.n == 3 and found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_pairing_takes_away_what_seeds_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, 5)
    first = {i: s + 1 + e for i, (s, e) in enumerate(zip(shared, rng.normal(0, 0.01, 5), strict=True))}
    second = dict(enumerate(shared))
    assert paired_difference(first, second).half_width < 0.1 < over_seeds(list(first.values())).half_width


def test_accuracies_of_several_seeds_are_a_paired_difference():
    first, second = {0: 0.6, 1: 0.7}, {0: 0.5, 1: 0.55}
    assert accuracy_difference(first, second, 500) == paired_difference(first, second)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
def test_one_seed_gets_the_interval_of_two_proportions(right, wrong):
    p, q, n = right / 500, wrong / 500, 500
    found = accuracy_difference({3: p}, {3: q, 4: 0.1}, n)
    half = reference.norm.ppf(0.975) * math.sqrt(p * (1 - p) / n + q * (1 - q) / n)
    assert found.mean == pytest.approx(p - q) and found.n == 1 and found.source == "test images"
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half), abs=1e-4)


def test_more_test_images_make_the_interval_shorter():
    halves = [accuracy_difference({0: 0.6}, {0: 0.5}, n).half_width for n in (100, 400, 10_000)]
    assert halves[0] == pytest.approx(2 * halves[1]) and halves[0] == pytest.approx(10 * halves[2])


# --------------------------------------------------------------------------- other confidences


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_intervals_are_those_of_the_confidence_that_holds(level):
    sample = [71.2, 70.9, 72.4, 71.8]
    with at_confidence(level):
        found, single = over_seeds(sample), accuracy_difference({0: 0.6}, {0: 0.5}, 400)
    expected = reference.ttest_1samp(sample, 0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    half = reference.norm.ppf(0.5 + level / 2) * math.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 400)
    assert single.half_width == pytest.approx(half) and single.mean == pytest.approx(0.1)


def test_another_confidence_ends_with_its_block_even_after_an_error():
    assert confidence() == CONFIDENCE == 0.95
    with at_confidence(0.5), at_confidence(0.8):
        assert confidence() == 0.8
    with pytest.raises(ZeroDivisionError), at_confidence(0.5):
        raise ZeroDivisionError
    assert confidence() == CONFIDENCE


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, math.nan])
def test_a_confidence_is_a_fraction(level):
    with pytest.raises(ValueError, match="between 0 and 1"), at_confidence(level):
        pass
