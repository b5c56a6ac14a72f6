"""Power laws: known ones are recovered, and what points cannot determine is refused with a reason."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from mlpstudy.laws.powerlaw import (
    ALPHA_BOUNDS,
    FEWEST_POINTS,
    POWER_LAW,
    SATURATING,
    Law,
    fit_best,
    fit_power_law,
    fit_saturating,
    line,
)
from mlpstudy.stats import using

FITS = pytest.mark.parametrize("fit", [fit_power_law, fit_saturating, fit_best])
X = np.logspace(12, 16, 12)
FLOOR = Law(2e3, 0.3, 0.0, 0.16)
OFFSET = Law(2e3, 0.3, 4e12, 0.16)


def noisy(law, x=X, noise=0.01, seed=0):
    return law(x) * np.exp(noise * np.random.default_rng(seed).normal(size=len(x)))


# --------------------------------------------------------------------------- the pure law


@given(st.floats(-1, 3), st.floats(0.01, 1), st.integers(3, 20), st.floats(1, 1e15))
def test_an_exact_power_law_is_found(alpha, level, points, start):
    x = start * np.logspace(0, 3, points)
    error = level * (x / start) ** -alpha
    fit = fit_power_law(x, error)
    assert fit.law.alpha == pytest.approx(alpha, abs=1e-6) and fit.determined and fit.form == POWER_LAW
    assert fit.law(x) == pytest.approx(error, rel=1e-6) and (fit.law.b, fit.law.floor) == (0, 0)
    assert fit.decades == pytest.approx(3) and fit.points == points


def test_the_pure_fit_and_its_interval_are_those_of_linear_regression():
    error = noisy(Law(100, 0.2))
    fit, expected = fit_power_law(X, error), reference.linregress(np.log(X), np.log(error))
    found, half = fit.alpha(seeds=3), reference.t.ppf(0.975, len(X) - 2) * expected.stderr
    assert (fit.law.alpha, math.log(fit.law.a)) == pytest.approx((-expected.slope, expected.intercept))
    assert (found.mean, found.half_width, found.n) == pytest.approx((-expected.slope, half, 3))
    assert found.source == "scatter" and found.high - found.mean == pytest.approx(half)
    with using(confidence=0.5):
        assert fit.alpha(seeds=3).half_width < found.half_width


def test_the_interval_of_few_points_covers_the_truth_as_often_as_it_says():
    x = np.logspace(4, 6, 4)
    found = [fit_power_law(x, noisy(Law(3, 0.35), x, 0.05, seed)).alpha(1) for seed in range(800)]
    assert 0.93 < np.mean([e.low <= 0.35 <= e.high for e in found]) < 0.97
    three = fit_power_law([1e12, 1e13, 1e14], [0.50, 0.42, 0.33]).alpha(1)
    assert three.low < 0 < three.high, "three points with noise tell little"


# --------------------------------------------------------------------------- the law with a floor


@settings(max_examples=20)
@given(
    st.sampled_from([0.15, 0.25, 0.35, 0.6]),
    st.sampled_from([0.05, 0.16, 0.3]),
    st.sampled_from([0.0, 0.5, 5.0]),
    st.integers(0, 10**6),
)
def test_a_law_with_a_floor_is_found_under_noise(alpha, floor, b, seed):
    law, x = Law(0.8 * X[0] ** alpha, alpha, b * X[0], floor), np.logspace(12, 15, 40)
    error = noisy(law, x, 1e-3, seed)
    fit = fit_saturating(x, error)
    assert fit.determined and fit.form == SATURATING
    assert np.sqrt(np.mean(np.log(fit.law(x) / error) ** 2)) < 2e-3
    assert (fit.law.alpha, fit.law.floor) == pytest.approx((alpha, floor), rel=0.35)
    assert fit.law(x) == pytest.approx(law(x), rel=5e-3)


def test_without_noise_all_four_coefficients_are_exact():
    fit = fit_saturating(X, OFFSET(X))
    assert fit.law.coefficients() == pytest.approx(OFFSET.coefficients(), rel=1e-3) and fit.free == 4
    assert fit.determined and fit.why == "" and fit.at_bounds == ()


def test_the_interval_of_a_law_with_a_floor_covers_the_truth():
    x = np.logspace(11, 15, 14)
    found = [fit_saturating(x, noisy(FLOOR, x, 3e-3, seed)).alpha(1) for seed in range(30)]
    assert np.mean([e.low <= 0.3 <= e.high for e in found]) > 0.85


@FITS
@settings(max_examples=15)
@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_another_unit_of_compute_changes_a_and_b_but_not_alpha(fit, unit, seed):
    error = noisy(OFFSET, seed=seed)
    first, second = fit(X, error), fit(X * unit, error)
    assert second.form == first.form and second.determined == first.determined
    assert second.law.alpha == pytest.approx(first.law.alpha, rel=1e-3)
    assert second.law.floor == pytest.approx(first.law.floor, rel=1e-3, abs=1e-9)
    assert second.law.b == pytest.approx(unit * first.law.b, rel=1e-2, abs=1e-3 * unit * X[0])
    assert second.law.a == pytest.approx(first.law.a * unit**first.law.alpha, rel=2e-2)
    assert second.law(X * unit) == pytest.approx(first.law(X), rel=1e-4)
    assert second.aicc == pytest.approx(first.aicc, rel=1e-3)


@FITS
def test_the_order_of_points_does_not_matter(fit):
    error, again = noisy(FLOOR), np.random.default_rng(1).permutation(len(X))
    shuffled = fit(X[again], error[again]).law.coefficients()
    assert shuffled == pytest.approx(fit(X, error).law.coefficients(), rel=1e-4)


def test_a_search_from_the_right_place_finds_the_same():
    far = fit_saturating(X, noisy(OFFSET)).law
    near = fit_saturating(X, noisy(OFFSET), start=far).law
    assert near.coefficients() == pytest.approx(far.coefficients(), rel=1e-2)


# --------------------------------------------------------------------------- what is not determined


def test_a_pure_power_law_needs_no_floor():
    pure = Law(2e3, 0.3)
    fit = fit_saturating(X, pure(X))
    assert not fit.determined and "E_inf" in fit.at_bounds and fit.law.floor == 0 and fit.law.b == 0
    assert "E_inf" in fit.why and fit_best(X, pure(X)).form == POWER_LAW
    undecided = [fit_saturating(X, noisy(pure, seed=seed)) for seed in range(20)]
    assert np.mean([fit.determined for fit in undecided]) < 0.2
    assert {fit.why.split(" ")[0] for fit in undecided} >= {"a", "E_inf"}


def test_other_shapes_are_not_made_to_fall_like_a_power_law():
    exponential = fit_saturating(np.linspace(1, 5, 20), np.exp(-np.linspace(1, 5, 20)))
    assert not exponential.determined and exponential.at_bounds
    rising = 0.1 * (X / X[0]) ** 0.1
    assert fit_saturating(X, rising).why == "the error does not fall"
    assert fit_power_law(X, rising).law.alpha == pytest.approx(-0.1)
    for level in (0.5, 1.0):
        flat = fit_best(X, np.full(len(X), level))
        assert flat.form == POWER_LAW and flat.law.alpha == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("points", range(6))
def test_too_few_points_are_refused_with_their_number(points):
    x, error = X[:points], Law(2e3, 0.3)(X[:points])
    saturating, plain = fit_saturating(x, error), fit_power_law(x, error)
    assert saturating.law is None and saturating.why.endswith(f"needs 6 different points, here are {points}")
    assert (plain.law is None) == (points < FEWEST_POINTS[POWER_LAW])
    assert plain.determined or plain.why.endswith(f"needs 3 different points, here are {points}")


@FITS
@pytest.mark.parametrize(
    "x, error, why",
    [
        (X, [*X[:-1] ** -0.1, math.nan], "not finite"),
        (X, [*X[:-1] ** -0.1, 0.0], "no logarithm"),
        (np.full(12, 1e12), X**-0.1, "different points, here are 1"),
        ([], [], "different points, here are 0"),
        (X * 1e20, X**-0.1, "choose a unit in which all x are below 1e+30"),
    ],
)
def test_what_cannot_be_fitted_says_why_and_gives_no_number(fit, x, error, why):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(x, error)
    assert found.law is None and not found.determined
    assert found.why.startswith("cannot be fitted: ") and why in found.why
    assert found.alpha(1) is None


points = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 1e12, 3e12, 1e13, 1e14, math.inf, math.nan]) | st.floats(1e-300, 1e300),
        st.sampled_from([0.0, 1.0, 0.5, 0.50001, 1e-9, math.nan]) | st.floats(0, 1),
    ),
    max_size=12,
)


@settings(max_examples=100)
@given(points)
def test_no_points_make_it_fail(points):
    """Either a law of finite coefficients or a reason, whatever the points."""
    for fit in (fit_power_law, fit_saturating):
        found = fit([x for x, _ in points], [y for _, y in points])
        if found.law is None:
            assert found.why.startswith("cannot be fitted: ")
            continue
        assert all(map(math.isfinite, found.law.coefficients().values())) and found.law.b >= 0
        assert 0 <= found.law.floor < min(y for _, y in points)
        if found.form == SATURATING:
            assert ALPHA_BOUNDS[0] * 0.99 <= found.law.alpha <= ALPHA_BOUNDS[1] * 1.01


def test_a_law_beyond_the_range_of_numbers_is_refused():
    steep = fit_power_law(1e12 * (1 + np.array([0.0, 1e-15, 2e-15])), [0.9, 0.5, 0.1])
    assert steep.law is None and "beyond the range of numbers" in steep.why


def test_a_line_through_one_x_is_level():
    assert line(np.array([2.0, 2.0]), np.array([1.0, 3.0])) == (0.0, 2.0)
