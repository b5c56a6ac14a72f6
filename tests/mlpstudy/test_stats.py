"""Means, differences and their intervals against SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from mlpstudy import stats
from mlpstudy.stats import (
    CONFIDENCE,
    POWER,
    Estimate,
    confidence,
    difference,
    jointly,
    over_seeds,
    paired,
    spread,
    using,
    with_sampling,
)

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)
ALIKE = {"a": [71.2, 70.9, 72.4], "b": [60.3, 61.0, 60.1], "c": [50.0, 51.2, 50.4]}
UNLIKE = {"a": [71.2, 70.9, 72.4], "b": [60.3, 60.3001, 60.3002]}


def ends(estimate):
    return estimate.low, estimate.high


# --------------------------------------------------------------------------- one group


@settings(max_examples=100, deadline=None)
@given(values)
def test_the_interval_is_students(sample):
    found = over_seeds(sample)
    assert found.mean == pytest.approx(np.mean(sample), abs=1e-9) and found.n == len(sample)
    error = np.std(sample, ddof=1) / math.sqrt(len(sample))
    half = reference.t.ppf(0.975, len(sample) - 1) * error
    assert ends(found) == pytest.approx((found.mean - half, found.mean + half), abs=1e-6)
    assert found.half_width == pytest.approx(half, abs=1e-6) and found.source == "seeds"
    assert (found.error, found.freedom) == pytest.approx((error, len(sample) - 1), abs=1e-9)


def test_one_seed_has_no_interval_and_none_is_an_error():
    found = over_seeds([0.5])
    assert found == Estimate(0.5, None, None, 1) and found.half_width is None
    assert found.needed() is None and found.seeds_for(1.0) is None
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_equal_values_have_no_spread():
    found = over_seeds([0.1, 0.1, 0.1])
    assert ends(found) == pytest.approx((0.1, 0.1)) and found.error == pytest.approx(0)


# --------------------------------------------------------------------------- several groups


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=1, max_size=6), st.floats(0, 3), st.integers(0, 100))
def test_groups_are_alike_as_bartlett_says(sizes, scale, seed):
    random = np.random.default_rng(seed)
    groups = [random.normal(5, math.exp(scale * random.normal()), n).tolist() for n in sizes]
    expected = len(groups) < 2 or reference.bartlett(*groups).pvalue >= stats.UNLIKE
    assert stats.alike(groups) == expected


def test_spreads_of_zero_are_alike_only_among_themselves():
    assert stats.alike([[1.0, 1.0], [2.0, 2.0]]) and not stats.alike([[1.0, 1.0], [2.0, 2.1]])
    assert stats.alike([[1.0], [2.0, 2.1]]) and stats.alike([])


def test_equal_spreads_are_alike_whatever_rounding_leaves_between_them():
    """As two seeds of two settings that are 77 of 10,000 images apart have."""
    pairs = {"a": [0.5108, 0.5185], "b": [0.6007, 0.6084]}
    assert stats.alike(pairs.values()) and all(e.freedom > 1.9 for e in jointly(pairs).values())


def test_a_pooled_spread_is_the_root_mean_square_within_groups():
    found = spread(*ALIKE.values())
    assert found.deviation == pytest.approx(math.sqrt(np.mean([np.var(g, ddof=1) for g in ALIKE.values()])))
    assert 3 < found.freedom <= 6, "fewer than 6 by as much as the spreads differ"
    equal = spread([0.0, 1.0], [5.0, 6.0], [9.0, 8.0], [3.0])
    assert (equal.deviation, equal.freedom) == pytest.approx((math.sqrt(0.5), 3))
    lone = spread([0.0, 1.0, 2.0], [5.0, 5.0 + 1e-9, 5.0])
    assert lone.freedom == pytest.approx(2), "a group without spread tells nothing"
    assert spread([1.0], [2.0]) is None and spread() is None


def test_alike_groups_share_their_spread_and_others_do_not():
    shared = spread(*ALIKE.values())
    half = reference.t.ppf(0.975, shared.freedom) * shared.deviation / math.sqrt(3)
    for key, found in jointly(ALIKE).items():
        assert found.mean == pytest.approx(np.mean(ALIKE[key])) and found.half_width == pytest.approx(half)
    together, found = spread(*UNLIKE.values()), jointly(UNLIKE)
    for key, group in UNLIKE.items():
        own = spread(group)
        expected = own if own.deviation > together.deviation else together
        wanted = (expected.deviation / math.sqrt(len(group)), expected.freedom)
        assert (found[key].error, found[key].freedom) == pytest.approx(wanted), "the larger"
    assert sum(found[key] == over_seeds(group) for key, group in UNLIKE.items()) == 1
    with using(pooled=False):
        assert jointly(ALIKE) == {key: over_seeds(group) for key, group in ALIKE.items()}


def test_other_groups_tell_the_spread_of_a_single_seed():
    found = jointly(ALIKE | {"d": [40.0]})["d"]
    assert found.n == 1 and found.half_width == pytest.approx(jointly(ALIKE)["a"].half_width * math.sqrt(3))


# --------------------------------------------------------------------------- differences


def test_pairs_are_matched_by_seed_and_the_rest_left_out():
    first = {2: 0.9, 0: 0.5, 1: 0.7, 7: 99.0}
    second = {0: 0.4, 1: 0.5, 2: 0.6, 8: -99.0}
    found = over_seeds(paired(first, second))
    expected = reference.ttest_rel([0.5, 0.7, 0.9], [0.4, 0.5, 0.6]).confidence_interval(0.95)
    assert found.n == 3 and found.mean == pytest.approx(0.2) and ends(found) == pytest.approx(tuple(expected))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(2, 30), st.integers(0, 1000))
def test_a_difference_of_unpaired_groups_is_welchs(n, m, seed):
    random = np.random.default_rng(seed)
    first, second = random.normal(1, 1, n).tolist(), random.normal(0, 3, m).tolist()
    found = difference(first, second)
    expected = reference.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.n == min(n, m) and found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert ends(found) == pytest.approx(tuple(expected))


def test_a_difference_of_many_seeds_and_a_few_covers_the_truth():
    """Unlike spreads, the larger one of the fewer seeds: that of a CNN beside an MLP's."""
    random, hits = np.random.default_rng(0), []
    for _ in range(1000):
        many, few = random.normal(0, 0.1, 20).tolist(), random.normal(0, 0.8, 3).tolist()
        found = difference(many, few, stats.shared_spread([many, few]))
        hits.append(found.low <= 0 <= found.high)
    assert np.mean(hits) > 0.88, "0.64 with one spread for both"


def test_a_difference_never_rests_on_less_than_unlike_groups_together():
    least = stats.Spread(2.0, 10, at_least=True)
    close, wide = [1.0, 1.001, 1.0], [0.0, 30.0, 60.0]
    assert difference(close[:2], close[:2], least).error == pytest.approx(2)
    assert difference(close, wide, least) == difference(close, wide)
    assert over_seeds(close, least).error == pytest.approx(2 / math.sqrt(3))
    five = [*close, 1.002, 1.001]
    assert over_seeds(five, least) == over_seeds(five), "of five values the spread is known well enough"


def test_a_difference_takes_the_spread_that_it_is_given():
    shared = stats.Spread(2.0, 10)
    found = difference([1.0, 2.0], [0.0], shared)
    assert (found.mean, found.n, found.freedom) == (1.5, 1, 10)
    assert found.error == pytest.approx(2 * math.sqrt(1 / 2 + 1))
    assert difference([1.0], [0.0]) == Estimate(1.0, None, None, 1)


# --------------------------------------------------------------------------- the test set


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
def test_one_seed_gets_the_interval_of_two_proportions(right, wrong):
    p, q, n = right / 500, wrong / 500, 500
    found = with_sampling(over_seeds([p - q]), [p, q], n)
    half = reference.norm.ppf(0.975) * math.sqrt(p * (1 - p) / n + q * (1 - q) / n)
    assert found.mean == pytest.approx(p - q) and found.n == 1 and found.source == "test images"
    assert ends(found) == pytest.approx((p - q - half, p - q + half), abs=1e-4)
    assert found.seeds_for(0.01) is None, "further seeds see the same images"


def test_several_seeds_get_the_sampling_error_on_demand():
    seeds = over_seeds([0.10, 0.12, 0.11])
    assert with_sampling(seeds, [0.6, 0.5], 400) == seeds
    with using(sampling=True):
        both = with_sampling(seeds, [0.6, 0.5], 400)
        exact = with_sampling(over_seeds([0.1, 0.1]), [0.6, 0.5], 400)
    sampling = (0.6 * 0.4 + 0.5 * 0.5) / 400
    assert both.error == pytest.approx(math.sqrt(seeds.error**2 + sampling)) and both.mean == seeds.mean
    assert both.freedom == pytest.approx((seeds.error**2 + sampling) ** 2 / (seeds.error**4 / 2))
    assert exact.half_width == pytest.approx(reference.norm.ppf(0.975) * math.sqrt(sampling))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=3), st.integers(1, 10_000))
def test_another_error_never_makes_an_interval_narrower(values, images):
    seeds = over_seeds(values)
    with using(sampling=True):
        assert with_sampling(seeds, [0.6, 0.5], images).half_width >= seeds.half_width


# --------------------------------------------------------------------------- what seeds can show


@pytest.mark.parametrize("n", [3, 5, 20])
def test_the_detectable_effect_is_found_as_often_as_it_says(n):
    random = np.random.default_rng(0)
    shift = Estimate(0, 0, 0, n, error=1 / math.sqrt(n), freedom=n - 1).needed()
    samples = random.normal(shift, 1, (20_000, n))
    errors = samples.std(1, ddof=1) / math.sqrt(n)
    found = (samples.mean(1) > reference.t.ppf(0.975, n - 1) * errors).mean()
    assert found == pytest.approx(POWER, abs=0.04)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_equality_is_shown_as_often_as_the_seeds_that_would_do_promise(margin):
    """Of a true difference of zero, by an interval that lies within the margin on both sides."""
    n = over_seeds([-1.0, 0.0, 1.0]).seeds_for(margin, sides=2)
    samples = np.random.default_rng(0).normal(0, 1, (20_000, n))
    half = reference.t.ppf(0.975, n - 1) * samples.std(1, ddof=1) / math.sqrt(n)
    assert (abs(samples.mean(1)) + half < margin).mean() == pytest.approx(POWER, abs=0.04)


def test_enough_seeds_make_an_effect_detectable():
    found = over_seeds([0.0, 1.0, 2.0])
    for effect in (0.5, 1.0, 2.0):
        needed = found.seeds_for(effect)
        reach = [
            Estimate(0, 0, 0, n, error=1 / math.sqrt(n), freedom=n - 1).needed() for n in (needed - 1, needed)
        ]
        assert reach[1] <= effect < reach[0]
    assert found.seeds_for(1e3) == 3, "those that there are"
    assert found.seeds_for(1e-6) is None and found.seeds_for(0) is None and found.seeds_for(math.nan) is None


def test_an_estimate_in_another_unit():
    found = over_seeds([0.5, 0.7, 0.6])
    percent = found.times(100)
    assert (percent.mean, percent.n, percent.freedom) == (pytest.approx(60), 3, found.freedom)
    assert (*ends(percent), percent.error) == pytest.approx(
        tuple(100 * v for v in (*ends(found), found.error))
    )
    assert over_seeds([0.5]).times(100) == Estimate(50, None, None, 1)


# --------------------------------------------------------------------------- other confidences


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_intervals_are_those_of_the_confidence_that_holds(level):
    sample = [71.2, 70.9, 72.4, 71.8]
    with using(confidence=level):
        found, single = over_seeds(sample), with_sampling(over_seeds([0.1]), [0.6, 0.5], 400)
    expected = reference.ttest_1samp(sample, 0).confidence_interval(level)
    assert ends(found) == pytest.approx(tuple(expected))
    half = reference.norm.ppf(0.5 + level / 2) * math.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 400)
    assert single.half_width == pytest.approx(half) and single.mean == pytest.approx(0.1)


def test_another_way_ends_with_its_block_even_after_an_error():
    assert confidence() == CONFIDENCE == 0.95
    with using(confidence=0.5), using(pooled=False):
        assert confidence() == 0.5, "the inner block changes nothing else"
    with pytest.raises(ZeroDivisionError), using(confidence=0.5):
        raise ZeroDivisionError
    assert confidence() == CONFIDENCE


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, math.nan])
def test_a_confidence_is_a_fraction(level):
    with pytest.raises(ValueError, match="between 0 and 1"), using(confidence=level):
        pass
