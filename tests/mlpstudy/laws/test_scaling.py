"""Scaling: the compute-optimal front, intervals by resampling, forecasts, and the best use of compute."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpstudy.laws import scaling
from mlpstudy.laws.powerlaw import POWER_LAW, SATURATING, Law
from mlpstudy.laws.scaling import CONSTANT, LAW, STRAIGHT, Point, front, grid
from mlpstudy.stats import GRID, using

MODELS, SIZES, LENGTHS = (4e5, 1.2e6, 4e6), (3e3, 1e4, 3e4), (2, 4, 8)
LINE = Law(500, 0.25)


def simulated(law=LINE, noise=0.0, seed=0, seeds=1, models=MODELS, sizes=SIZES, lengths=LENGTHS, penalty=0.0):
    """A grid of trainings whose error is ``law`` of compute, more with a ``penalty`` where model and data are
    out of balance, times noise that the lengths of a training share in part.
    """
    random, points = np.random.default_rng(seed), []
    for model in models:
        for size in sizes:
            shared = noise * random.normal(size=seeds)
            balance = abs(0.65 * math.log(model / models[0]) - 0.35 * math.log(size / sizes[0]))
            for length in lengths:
                compute = 3 * model * size * length
                error = law(compute) * math.exp(penalty * balance)
                for s in range(seeds):
                    value = float(error * np.exp(shared[s] + noise * random.normal()))
                    points.append(Point((model, size), s, compute, int(model), int(size), length, value))
    return grid(points)


def alpha_of(measured):
    return scaling.fit_front(measured, POWER_LAW).coefficients["alpha"]


# --------------------------------------------------------------------------- the front

coarse = st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan])
clouds = st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, math.inf]), coarse), max_size=12)


@settings(max_examples=200)
@given(clouds, st.randoms(use_true_random=False))
def test_the_front_is_what_nothing_dominates_in_any_order(cloud, random):
    x, y = np.array(cloud, dtype=float).reshape(len(cloud), 2).T
    finite, optimal = np.isfinite(x) & np.isfinite(y), front(x, y)
    for i in range(len(cloud)):
        better = finite & (x <= x[i]) & (y <= y[i]) & ((x < x[i]) | (y < y[i]))
        assert optimal[i] == (finite[i] and not better.any())
    assert front(x[optimal], y[optimal]).all()
    order = random.sample(range(len(cloud)), len(cloud))
    assert (front(x[order], y[order]) == optimal[order]).all()
    assert (front(2 * x, y**2) == optimal).all(), "only the order of values matters"


def test_ties_of_the_front():
    assert front([1, 1, 2, 2, 3], [0.5, 0.5, 0.5, 0.4, 0.4]).tolist() == [True, True, False, True, False]
    assert front([], []).tolist() == [] and front([1.0], [math.nan]).tolist() == [False]


# --------------------------------------------------------------------------- grids


def test_a_grid_gathers_seeds_in_any_order():
    law = Law(60.0, 0.2)
    points = [
        Point(("m", n), seed, 10.0 * n * t, 5, n, t, float(law(10.0 * n * t)) + 0.01 * seed)
        for n in (10, 20)
        for t in (1, 2)
        for seed in (3, 1)
    ]
    found = grid(points)
    assert len(found) == 4 and found.seeds == 2 and found == grid(points[::-1])
    assert hash(found) == hash(grid(points[::-1])) and found != grid(points[1:])
    assert sorted(set(found.run.tolist())) == [0, 1]
    assert found.error == pytest.approx(law(found.compute) + 0.02)
    # One seed of one cell diverged: the other stands for it; without either the cell is off the front.
    lost = [p for p in points if not (p.examples == 10 and p.epochs == 1 and p.seed == 3)]
    assert grid(lost).error == pytest.approx(law(found.compute) + np.where(found.compute == 100, 0.01, 0.02))
    both = grid([replace(p, error=math.nan) if p.epochs == 1 else p for p in points])
    assert both.front().epochs.tolist() == [2, 2] and np.isnan(both.error).sum() == 2


def test_an_empty_grid_has_nothing():
    empty = grid([])
    assert len(empty) == empty.seeds == len(empty.front()) == 0
    assert scaling.fit_front(empty).fit.law is None and scaling.forecast(empty) is None
    assert scaling.estimates(empty, scaling.allocation) == []
    assert len(scaling.bottleneck(empty, "parameters")) == 0


# --------------------------------------------------------------------------- intervals


def test_the_bootstrap_is_deterministic_and_follows_its_seed():
    measured, statistic = simulated(noise=0.03, seeds=2), scaling.FrontLaw(POWER_LAW)
    first = scaling.bootstrap(measured, statistic, 50, 1)
    scaling.bootstrap.cache_clear()
    assert np.array_equal(first, scaling.bootstrap(measured, statistic, 50, 1))
    assert not np.array_equal(first, scaling.bootstrap(measured, statistic, 50, 2))
    assert first.shape == (50, 4)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_known_law_lies_in_its_interval(seeds, monkeypatch):
    monkeypatch.setattr(scaling, "DRAWS", 100)
    found = [alpha_of(simulated(LINE, 0.03, seed, seeds)) for seed in range(50)]
    assert all(alpha.low < alpha.mean < alpha.high and alpha.n == seeds for alpha in found)
    assert np.mean([alpha.low <= 0.25 <= alpha.high for alpha in found]) > 0.85


def test_a_known_law_with_a_floor_lies_in_its_interval(monkeypatch):
    monkeypatch.setattr(scaling, "DRAWS", 60)
    law, many = Law(5e3, 0.35, 0.0, 0.16), dict(models=np.logspace(5, 7.5, 5), sizes=np.logspace(3, 6, 5))
    found = [scaling.fit_front(simulated(law, 0.004, seed, 3, **many)) for seed in range(10)]
    assert {each.fit.form for each in found} == {SATURATING}
    hits = [
        all(c[name].low <= true <= c[name].high for name, true in (("alpha", 0.35), ("E_inf", 0.16)))
        for c in (each.coefficients for each in found)
    ]
    assert np.mean(hits) > 0.75


def test_another_unit_of_compute_leaves_alpha_and_its_interval():
    measured = simulated(LINE, 0.03, seeds=2)
    first, second = map(alpha_of, (measured, replace(measured, compute=2 * measured.compute)))
    assert (second.mean, second.low, second.high) == pytest.approx((first.mean, first.low, first.high))


def test_seeds_alone_do_not_decide_what_hangs_on_a_few_trainings():
    """Without any noise the nine trainings still disagree on how compute is best spent."""
    measured = simulated(noise=0.02, seeds=3, lengths=(8,), penalty=0.05)
    mean = measured.error[:, None]
    sure = replace(measured, errors=np.repeat(mean, 30, 1), ids=np.repeat(measured.ids[:, :1], 30, 1))
    few, many = (scaling.estimates(each, scaling.allocation)[2] for each in (measured, sure))
    assert many.half_width > few.half_width / 2 and many.source.startswith(GRID)


def test_a_forecast_holds_in_its_95_percent_band_whatever_the_confidence():
    measured = simulated(LINE, 0.02)
    usual = scaling.forecast(measured)
    with using(confidence=0.99):
        assert scaling.forecast(measured).high == pytest.approx(usual.high)


def test_more_noise_makes_intervals_longer_and_less_confidence_shorter():
    widths = [alpha_of(simulated(LINE, noise)).half_width for noise in (0.001, 0.01, 0.05)]
    assert widths == sorted(widths)
    with using(confidence=0.5):
        assert alpha_of(simulated(LINE, 0.05)).half_width < widths[-1]


def test_lengths_of_a_training_and_its_seeds_are_drawn_together():
    points = [
        Point(r, s, 10.0 * t, 1, 1, t, 0.1 + 0.1 * s) for r in range(6) for t in (1, 2) for s in range(3)
    ]
    drawn = []
    scaling.bootstrap(grid(points), drawn.append, 20, 0)
    for again in drawn:
        assert again.errors.shape == (12, 3) and (again.errors[0::2] == again.errors[1::2]).all()
        assert all((again.run == run).sum() % 2 == 0 for run in np.unique(again.run))
    assert len({tuple(np.unique(again.run)) for again in drawn}) > 1
    assert len({tuple(np.sort(again.errors[0])) for again in drawn}) > 1


def test_an_interval_needs_enough_draws():
    found = scaling.estimates(simulated(), lambda again: (1.0,) if again.run.min() == 0 else None)
    assert [(e.mean, e.low, e.high, e.source) for e in found] == [(1.0, None, None, "grid")]
    values = iter(np.arange(401.0))
    (whole,) = scaling.estimates(simulated(seeds=2), lambda again: (next(values),))
    assert (whole.mean, whole.low, whole.high) == pytest.approx((0, 10.975, 390.025))
    assert whole.source == "grid and seeds"


@pytest.mark.usefixtures("few_draws")
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1e12, 2e12, 1e14]),
            st.sampled_from([0.0, 0.3, 0.4, 1.0, math.nan]),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_no_grid_makes_it_fail(cells):
    """One to three points, equal compute, errors of 0 and 1, diverged runs: a reason, never a number."""
    measured = grid([Point(run, 0, c, 10, 10, i, e) for i, (c, e, run) in enumerate(cells)])
    found = scaling.fit_front(measured)
    assert found.fit.points == len(measured.front())
    if found.fit.law is None:
        assert found.fit.why.startswith("cannot be fitted: ") and found.coefficients == {}
    else:
        assert len({c for c, _, _ in cells}) >= 3 and set(found.coefficients) == {"a", "b", "alpha", "E_inf"}
        assert all(math.isfinite(e.mean) for e in found.coefficients.values())
    scaling.forecast(measured)
    assert all(math.isfinite(e.mean) for e in scaling.estimates(measured, scaling.allocation))


# --------------------------------------------------------------------------- forecasts


def test_a_power_law_forecasts_itself(monkeypatch):
    monkeypatch.setattr(scaling, "DRAWS", 100)
    found = [scaling.forecast(simulated(LINE, 0.01, seed, penalty=0.05)) for seed in range(30)]
    assert np.mean([f.holds for f in found]) > 0.85
    assert all(f.best == LAW for f in found)
    one = found[0]
    assert one.held_out.sum() == math.ceil(len(one.error) / 3) and not one.held_out[0] and one.held_out[-1]
    assert (np.diff(one.compute) > 0).all() and set(one.misses) == {LAW, STRAIGHT, CONSTANT}
    assert ((one.low < one.predicted) & (one.predicted < one.high)).all()
    assert one.predicted == pytest.approx(one.fit.law(one.compute))


def test_a_forecast_does_not_look_at_what_it_is_held_against():
    measured = simulated(LINE, 0.001)
    whole = scaling.forecast(measured)
    dearer = measured.compute > whole.compute[~whole.held_out].max()
    again = scaling.forecast(replace(measured, errors=np.where(dearer[:, None], 0.97, 1) * measured.errors))
    assert (again.compute == whole.compute).all() and again.fit == whole.fit
    assert again.predicted == pytest.approx(whole.predicted) and again.low == pytest.approx(whole.low)
    assert again.misses[LAW] > 2 * whole.misses[LAW] and whole.holds and not again.holds


@pytest.mark.parametrize(
    "shape, best",
    [
        (lambda c: 0.9 - 0.05 * math.log(c / 1e10), STRAIGHT),
        (lambda c: 0.5 if c > 3e11 else 0.9 - 0.4 * math.log(c / 1e10) / math.log(30), CONSTANT),
    ],
)
def test_a_front_that_is_no_power_law_is_recognized(shape, best):
    found = scaling.forecast(simulated(shape, 0.0005, lengths=(1, 2, 4, 8, 16)))
    assert found is None or found.best == best or not found.holds


def test_a_short_front_is_not_forecast():
    one = dict(models=(4e5,), sizes=(1e4,))
    assert scaling.forecast(simulated(lengths=range(1, 6), **one)) is None
    assert scaling.forecast(simulated(lengths=range(1, 7), **one))


def test_where_resampling_fails_a_forecast_knows_nothing():
    """Six trainings of one length: many a resample has too few of the four cheapest for a law."""
    found = scaling.forecast(simulated(LINE, 0.001, models=np.logspace(5, 7, 6), sizes=(1e4,), lengths=(1,)))
    assert np.isinf(found.low).all() and np.isinf(found.high).all() and not found.holds
    assert found.best == LAW and found.fit.law.alpha == pytest.approx(0.25, abs=0.01)


# --------------------------------------------------------------------------- parameters or examples


def test_bottlenecks_vary_one_thing_only():
    measured = simulated(LINE, 0.01, seeds=2)
    for name, other, values in (("parameters", "examples", MODELS), ("examples", "parameters", SIZES)):
        series = scaling.bottleneck(measured, name)
        assert getattr(series, name).tolist() == list(values)
        assert set(getattr(series, other)) == {max(getattr(measured, other))} and set(series.epochs) == {8}
    series = scaling.bottleneck(measured.take(measured.examples < 30_000), "parameters")
    assert set(series.examples) == {10_000.0} and len(series) == 3, "the most that is left"


@pytest.mark.usefixtures("few_draws")
def test_the_optimal_shares_of_a_known_law():
    """Errors ``P^-u + N^-v`` are best balanced at ``P ~ C^(v / (u + v))``."""
    points = [
        Point((p, n), 0, 3 * p * n, int(p), int(n), 1, float(p**-0.65 + n**-0.35))
        for p in np.logspace(4, 7, 31)
        for n in (0.35 / 0.65) ** (1 / 0.35) * np.logspace(4, 7, 31) ** (0.65 / 0.35)
    ]
    parameters, examples, difference = scaling.estimates(grid(points), scaling.allocation)
    assert parameters.mean == pytest.approx(0.35, abs=0.03) and examples.mean == pytest.approx(0.65, abs=0.03)
    assert difference.mean == pytest.approx(examples.mean - parameters.mean)
    assert parameters.mean + examples.mean == pytest.approx(1, abs=1e-3), "at a fixed length C is P times N"


def test_one_compute_has_no_shares():
    measured = grid([Point(i, 0, 1e12, 10 + i, 10, 1, 0.5) for i in range(4)])
    assert scaling.allocation(measured) is None and scaling.estimates(measured, scaling.allocation) == []
