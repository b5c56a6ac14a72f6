"""Scaling: what a training costs, the compute-optimal front, and how sure a law of it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import small

from mlplib import scaling
from mlplib.models import count_parameters, meta_model
from mlplib.planning import training_flops
from mlplib.powerlaw import POWER_LAW, SATURATING, Law
from mlplib.scaling import CONSTANT, LAW, STRAIGHT, Point, front, grid
from mlplib.specs import DataSpec, ModelSpec
from mlplib.stats import using

MODELS, SIZES, LENGTHS = (4e5, 1.2e6, 4e6), (3e3, 1e4, 3e4), (2, 4, 8)


def simulated(
    law, noise=0.0, seed=0, seeds=1, models=MODELS, sizes=SIZES, lengths=LENGTHS, penalty=0.05, keep=None
):
    """A grid of trainings whose error is ``law`` of compute, more where model and data are out of balance,
    times noise that the lengths of a training share in part.
    """
    random = np.random.default_rng(seed)
    points = []
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
    return grid([p for p in points if keep is None or keep(p)])


# --------------------------------------------------------------------------- compute


def test_compute_is_three_forward_passes_for_each_image_seen():
    spec = small(model=ModelSpec.parse("B-2/Wi-32"), data=DataSpec("shapes-16", examples=250), epochs=4)
    # 16 x 16 x 3 pixels to 32, twice 32 to 128 to 32, and a head of ten classes; whole batches: 192 images.
    forward = 768 * 32 + 2 * (2 * 32 * 128) + 32 * 10
    assert scaling.model_size(spec).forward_macs == forward
    assert scaling.training_macs(spec) == 3 * forward * 192 * 4
    assert scaling.training_macs(spec, epoch=1) == scaling.training_macs(spec) / 4
    assert scaling.flops(scaling.training_macs(spec)) == training_flops(spec)
    network = meta_model(spec.model, (16, 16, 3), 10)
    assert scaling.model_size(spec).parameters == count_parameters(network)


def test_images_are_counted_as_they_are_trained_on():
    assert scaling.training_images(small(data=DataSpec("shapes-16"))) == 2000
    assert scaling.training_images(small(data=DataSpec("shapes-16", held_out=200))) == 1800
    assert scaling.images_per_epoch(small(data=DataSpec("shapes-16"), batch_size=300)) == 1800
    enlarged = small(data=DataSpec("shapes-16", resolution=32))
    assert scaling.model_size(enlarged).parameters > scaling.model_size(small()).parameters


def test_a_real_record_has_the_same_compute(tmp_path):
    from mlplib.executor import Executor
    from mlplib.store import RunStore

    record = Executor(RunStore(tmp_path)).record(small(epochs=1))
    assert record.compute["training_macs"] == scaling.training_macs(record.spec)
    assert record.compute["forward_macs"] == scaling.model_size(record.spec).forward_macs
    assert record.compute["parameters"] == scaling.model_size(record.spec).parameters


# --------------------------------------------------------------------------- the front

coarse = st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan])
clouds = st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, math.inf]), coarse), max_size=12)


@settings(max_examples=300)
@given(clouds)
def test_the_front_is_what_nothing_dominates(cloud):
    x, y = (np.array([pair[k] for pair in cloud], dtype=float) for k in (0, 1))
    finite = np.isfinite(x) & np.isfinite(y)
    for i, optimal in enumerate(front(x, y)):
        better = finite & (x <= x[i]) & (y <= y[i]) & ((x < x[i]) | (y < y[i]))
        assert optimal == (finite[i] and not better.any())


@settings(max_examples=100)
@given(clouds, st.randoms(use_true_random=False))
def test_the_front_is_idempotent_and_knows_no_order(cloud, random):
    x, y = (np.array([pair[k] for pair in cloud], dtype=float) for k in (0, 1))
    optimal = front(x, y)
    assert front(x[optimal], y[optimal]).all()
    order = list(range(len(cloud)))
    random.shuffle(order)
    assert (front(x[order], y[order]) == optimal[order]).all()
    assert (front(2 * x, y**2) == optimal).all(), "only the order of values matters"


def test_ties_of_the_front():
    assert front([1, 1, 2, 2, 3], [0.5, 0.5, 0.5, 0.4, 0.4]).tolist() == [True, True, False, True, False]
    assert front([], []).tolist() == [] and front([1.0], [math.nan]).tolist() == [False]


# --------------------------------------------------------------------------- grids


def test_a_grid_gathers_seeds_and_knows_no_order():
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
    both = [Point(**{**p.__dict__, "error": math.nan}) if p.epochs == 1 else p for p in points]
    assert grid(both).front().epochs.tolist() == [2, 2] and np.isnan(grid(both).error).sum() == 2


def test_an_empty_grid_has_nothing():
    empty = grid([])
    assert len(empty) == empty.seeds == len(empty.front()) == 0
    assert scaling.fit_front(empty).fit.law is None and scaling.forecast(empty) is None
    assert scaling.estimates(empty, scaling.allocation) == []
    assert len(scaling.bottleneck(empty, "parameters")) == 0


# --------------------------------------------------------------------------- intervals


def test_the_bootstrap_is_deterministic_and_follows_its_seed():
    measured = simulated(Law(500, 0.25), 0.03, seeds=2)
    statistic = scaling.FrontLaw(POWER_LAW)
    first = scaling.bootstrap(measured, statistic, 50, 1)
    scaling.bootstrap.cache_clear()
    assert np.array_equal(first, scaling.bootstrap(measured, statistic, 50, 1))
    assert not np.array_equal(first, scaling.bootstrap(measured, statistic, 50, 2))
    assert first.shape == (50, 4)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_known_law_lies_in_its_interval(seeds):
    law, hits = Law(500, 0.25), []
    for seed in range(60):
        measured = simulated(law, 0.03, seed, seeds, penalty=0.0)
        alpha = scaling.fit_front(measured, POWER_LAW, draws=200).coefficients["alpha"]
        assert alpha.low < alpha.mean < alpha.high and alpha.n == seeds
        hits.append(alpha.low <= 0.25 <= alpha.high)
    assert np.mean(hits) > 0.85


def test_a_known_law_with_a_floor_lies_in_its_interval():
    law, hits, determined = Law(5e3, 0.35, 0.0, 0.16), [], 0
    for seed in range(12):
        measured = simulated(
            law, 0.004, seed, 3, models=np.logspace(5, 7.5, 5), sizes=np.logspace(3, 6, 5), penalty=0.0
        )
        found = scaling.fit_front(measured, draws=100)
        determined += found.fit.form == SATURATING
        alpha, floor = (
            scaling.fit_front(measured, SATURATING, 100).coefficients[k] for k in ("alpha", "E_inf")
        )
        hits.append(alpha.low <= 0.35 <= alpha.high and floor.low <= 0.16 <= floor.high)
    assert determined == 12 and np.mean(hits) > 0.75


def test_another_unit_of_compute_leaves_alpha_and_its_interval():
    measured = simulated(Law(500, 0.25), 0.03, seeds=2)
    in_flops = scaling.replace(measured, compute=2 * measured.compute)
    first, second = (scaling.fit_front(g, POWER_LAW).coefficients["alpha"] for g in (measured, in_flops))
    assert (second.mean, second.low, second.high) == pytest.approx((first.mean, first.low, first.high))


def test_more_noise_makes_intervals_longer_and_less_confidence_shorter():
    def width(noise):
        measured = simulated(Law(500, 0.25), noise, penalty=0.0)
        return scaling.fit_front(measured, POWER_LAW).coefficients["alpha"].half_width

    assert width(0.001) < width(0.01) < width(0.05)
    wide = width(0.05)
    with using(confidence=0.5):
        assert width(0.05) < wide


def test_lengths_of_a_training_are_drawn_together():
    measured = simulated(Law(500, 0.25), 0.01)
    drawn = []

    def remember(again):
        drawn.append(again)
        return (1.0,)

    scaling.bootstrap(measured, remember, 20, 0)
    for again in drawn:
        assert len(again) == len(measured)
        for run in np.unique(again.run):
            assert (again.run == run).sum() % len(LENGTHS) == 0
    assert len({tuple(np.unique(again.run)) for again in drawn}) > 1


def test_seeds_are_drawn_for_whole_trainings():
    points = [
        Point(r, s, 10.0 * t, 1, 1, t, 0.1 + 0.1 * s) for r in range(6) for t in (1, 2) for s in range(3)
    ]
    drawn = []

    def remember(again):
        drawn.append(again.errors.copy())
        return (1.0,)

    scaling.bootstrap(grid(points), remember, 10, 0)
    for errors in drawn:
        assert errors.shape == (12, 3) and (errors[0::2] == errors[1::2]).all()
    assert len({tuple(np.sort(errors[0])) for errors in drawn}) > 1


def test_an_interval_needs_enough_draws():
    def sometimes(measured):
        return (1.0,) if measured.run.min() == 0 else None

    found = scaling.estimates(simulated(Law(500, 0.25)), sometimes)
    assert found[0].mean == 1.0 and found[0].low is None and found[0].high is None
    assert scaling.interval(np.arange(400.0)) == pytest.approx((9.975, 389.025))
    assert scaling.interval(np.arange(300.0)) is None


@settings(max_examples=60)
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
    points = [Point(run, 0, c, 10, 10, i, e) for i, (c, e, run) in enumerate(cells)]
    found = scaling.fit_front(grid(points), draws=20)
    assert found.fit.points == len(grid(points).front())
    if found.fit.law is None:
        assert found.fit.why.startswith("cannot be fitted: ") and found.coefficients == {}
    else:
        assert len({c for c, _, _ in cells}) >= 3 and set(found.coefficients) == {"a", "b", "alpha", "E_inf"}
        assert all(math.isfinite(e.mean) for e in found.coefficients.values())
    scaling.forecast(grid(points), draws=20)
    assert all(math.isfinite(e.mean) for e in scaling.estimates(grid(points), scaling.allocation, 20))


# --------------------------------------------------------------------------- forecasts


def test_a_power_law_forecasts_itself():
    found = [scaling.forecast(simulated(Law(500, 0.25), 0.01, seed), draws=200) for seed in range(30)]
    assert np.mean([f.holds for f in found]) > 0.85
    assert all(f.best == LAW for f in found)
    one = found[0]
    assert one.held_out.sum() == math.ceil(len(one.error) / 3) and not one.held_out[0] and one.held_out[-1]
    assert (np.diff(one.compute) > 0).all() and set(one.misses) == {LAW, STRAIGHT, CONSTANT}
    assert ((one.low < one.predicted) & (one.predicted < one.high)).all()
    assert one.predicted == pytest.approx(one.fit.law(one.compute))


def test_a_forecast_does_not_look_at_what_it_is_held_against():
    measured = simulated(Law(500, 0.25), 0.001, penalty=0.0)
    whole = scaling.forecast(measured)
    dearer = measured.compute > whole.compute[~whole.held_out].max()
    changed = scaling.replace(
        measured, errors=np.where(dearer[:, None], 0.97 * measured.errors, measured.errors)
    )
    again = scaling.forecast(changed)
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
def test_a_front_that_is_no_power_law_is_told(shape, best):
    found = scaling.forecast(simulated(shape, 0.0005, penalty=0.0, lengths=(1, 2, 4, 8, 16)))
    assert found is None or found.best == best or not found.holds


def test_a_short_front_is_not_forecast():
    assert (
        scaling.forecast(simulated(Law(500, 0.25), models=(4e5,), sizes=(1e4,), lengths=range(1, 6))) is None
    )
    assert scaling.forecast(simulated(Law(500, 0.25), models=(4e5,), sizes=(1e4,), lengths=range(1, 7)))


def test_where_resampling_fails_a_forecast_knows_nothing():
    """Six trainings of one length: many a resample has too few of the four cheapest for a law."""
    six = simulated(
        Law(500, 0.25), 0.001, models=np.logspace(5, 7, 6), sizes=(1e4,), lengths=(1,), penalty=0.0
    )
    found = scaling.forecast(six)
    assert np.isinf(found.low).all() and np.isinf(found.high).all() and not found.holds
    assert found.best == LAW and found.fit.law.alpha == pytest.approx(0.25, abs=0.01)


# --------------------------------------------------------------------------- parameters or examples


def test_bottlenecks_vary_one_thing_only():
    measured = simulated(Law(500, 0.25), 0.01, seeds=2)
    for name, other, values in (("parameters", "examples", MODELS), ("examples", "parameters", SIZES)):
        series = scaling.bottleneck(measured, name)
        assert getattr(series, name).tolist() == list(values)
        assert set(getattr(series, other)) == {max(getattr(measured, other))} and set(series.epochs) == {8}


def test_a_bottleneck_without_its_largest_run_uses_what_is_left():
    def keep(p):
        return p.examples < 30_000

    series = scaling.bottleneck(simulated(Law(500, 0.25), keep=keep), "parameters")
    assert set(series.examples) == {10_000.0} and len(series) == 3


def test_the_optimal_shares_of_a_known_law():
    """Errors ``P^-u + N^-v`` are best balanced at ``P ~ C^(v / (u + v))``."""
    points = []
    for p in np.logspace(4, 7, 41):
        for n in (0.35 / 0.65) ** (1 / 0.35) * np.logspace(4, 7, 41) ** (0.65 / 0.35):
            error = float(p**-0.65 + n**-0.35)
            points.append(Point((p, n), 0, 3 * p * n, int(p), int(n), 1, error))
    parameters, examples, difference = scaling.estimates(grid(points), scaling.allocation, draws=20)
    assert parameters.mean == pytest.approx(0.35, abs=0.03) and examples.mean == pytest.approx(0.65, abs=0.03)
    assert difference.mean == pytest.approx(examples.mean - parameters.mean)
    assert parameters.mean + examples.mean == pytest.approx(1, abs=1e-3), "at a fixed length C is P times N"


def test_one_compute_has_no_shares():
    points = [Point(i, 0, 1e12, 10 + i, 10, 1, 0.5) for i in range(4)]
    assert (
        scaling.allocation(grid(points)) is None and scaling.estimates(grid(points), scaling.allocation) == []
    )
