"""Scaling laws: what is run, what is measured from it, and claim C10 in each of its outcomes."""

import dataclasses
import math

import numpy as np
import pytest
from scaling_records import law_records, power_law
from small_runs import diverged

from mlplib.specs import FULL_DA, TrainSpec
from mlpstudy import cost, paper
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED, positive
from mlpstudy.experiments import scaling_laws
from mlpstudy.laws import scaling
from mlpstudy.laws.powerlaw import POWER_LAW, SATURATING
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile
from mlpstudy.stats import Estimate, using

LAPTOP, GPU = profile("laptop"), profile("gpu")
pytestmark = pytest.mark.usefixtures("few_draws")
EVERY_PROFILE = pytest.mark.parametrize("name", PROFILES)


def judge(records):
    return scaling_laws.CLAIMS[0].judge(records)


# --------------------------------------------------------------------------- runs


@EVERY_PROFILE
def test_the_grid_is_every_model_on_every_subset_at_every_length(name):
    chosen, budget = profile(name), scaling_laws.BUDGETS[profile(name).key]
    specs, tasks = scaling_laws.runs(chosen, (0, 1)), scaling_laws.tasks(chosen)
    cells = len(budget.models) * len(budget.examples)
    assert len(specs) == 2 * cells * len(budget.lengths) * len(tasks)
    trained = [s for s in with_upstream(specs).values() if isinstance(s, TrainSpec)]
    assert len(trained) == 2 * cells, "all lengths are measured along one training"
    assert {spec.epoch or spec.upstream.epochs for spec in specs} == set(budget.lengths)
    for spec in specs:
        assert spec.epoch is None or spec.epoch in spec.upstream.keep_at
        assert spec.method == "linear" and spec.data.name in tasks
    for training in trained:  # the paper's settings
        assert training.data.name == chosen.upstream and training.label_smoothing == 0.3
        assert training.optimizer.name == "lion" and training.optimizer.weight_decay == 1e-3
        assert training.augment == FULL_DA and training.optimizer.schedule == "constant"
    sizes = sorted({cost.training_images(training) for training in trained})
    assert len(sizes) == len(budget.examples) and sizes[:-1] == sorted(n for n in budget.examples if n)
    assert budget.batch_size <= sizes[0] or name == "paper"


def test_the_large_profiles_have_the_papers_models_and_lengths():
    for name in ("gpu", "paper"):
        budget = scaling_laws.BUDGETS[name]
        assert sorted(budget.models) == sorted(row for item, row, _ in paper.values() if item == "Table 5")
        assert budget.lr == 1e-5 and 50 in budget.lengths
        assert set(scaling_laws.tasks(profile(name))) >= {"cifar100", "cifar10"}
    assert (budget.lengths, budget.batch_size) == ((50, 100, 200, 400, 800), 16384)
    assert "imagenet" in scaling_laws.tasks(profile("paper"))


def test_the_laptop_spans_what_the_criterion_asks_for():
    computes = [scaling_laws.point(r).compute for r in law_records(LAPTOP, power_law(0.2), (0,))]
    assert math.log10(max(computes) / min(computes)) > scaling_laws.LEAST_DECADES
    assert f"at least {scaling_laws.LEAST_DECADES:g} decades" in scaling_laws.CLAIMS[0].criterion


# --------------------------------------------------------------------------- what is measured


def test_a_point_knows_its_compute_at_its_own_length_and_seeds_are_one_cell():
    records = law_records(LAPTOP, power_law(0.2), (0, 1, 2))
    per_epoch = {}
    for record in records:
        at = scaling_laws.point(record)
        assert at.error == pytest.approx(1 - record.metrics["test_top1"])
        per_epoch.setdefault(at.run, set()).add(round(at.compute / at.epochs))
    assert all(len(computes) == 1 for computes in per_epoch.values())
    grid = scaling_laws.measured(records)
    assert grid.errors.shape == (48, 3) and np.isfinite(grid.errors).all() and len(np.unique(grid.run)) == 16


def test_the_table_has_the_law_and_every_error():
    records = law_records(LAPTOP, power_law(0.2))
    cells = scaling_laws.summary(records, LAPTOP)
    laws = [cell for cell in cells if cell.item == "Fig 1, 6"]
    assert [cell.row for cell in laws] == ["exponent without a floor"]
    assert laws[0].estimate.mean == pytest.approx(0.2, abs=0.01) and "decades" in laws[0].setting
    assert laws[0].setting.endswith("interval from grid and seeds")
    errors = [cell for cell in cells if cell.item == "Errors of the grid"]
    assert len(errors) == 48 and {cell.unit for cell in errors} == {"%"}
    assert errors[0].row == "B-6/Wi-32, 1,000 images, 2 epochs" and "multiply-adds" in errors[0].setting


def test_a_determined_floor_is_beside_the_papers():
    records = law_records(GPU, lambda at: 0.16 + power_law(0.3, 0.5, 1e13)(at), noise=0.001)
    cells = {(c.row, c.column): c for c in scaling_laws.summary(records, GPU) if c.item == "Fig 1, 6"}
    floor = cells["floor", "CIFAR-100"]
    assert floor.estimate.mean == pytest.approx(16, abs=2) and floor.unit == "%"
    assert floor.estimate.low < 16.3 < floor.estimate.high, "up to what 40 draws leave uncertain"
    assert cells["exponent with a floor", "CIFAR-100"].estimate.mean == pytest.approx(0.3, abs=0.05)
    for row in ("floor", "exponent with a floor"):
        assert paper.value("Fig 1, 6", row, "CIFAR-100") is not None


# --------------------------------------------------------------------------- figures


def test_the_front_in_the_figure_is_that_of_the_means():
    records = law_records(LAPTOP, power_law(0.2))
    frame = scaling_laws.errors_frame(records)
    optimal = scaling_laws.measured(records).front()
    marked = frame[frame["on_front"]]
    assert sorted(set(marked["compute_macs"])) == pytest.approx(sorted(optimal.compute))
    assert len(frame) == len(records)


def test_the_forecast_names_what_was_held_out():
    records = law_records(LAPTOP, power_law(0.2))
    frame = scaling_laws.forecast_frame(records)
    found = scaling.forecast(scaling_laws.measured(records))
    points = frame.drop_duplicates("compute_macs")
    assert points["held_out"].tolist() == found.held_out.tolist()
    assert points["predicted"].to_numpy() == pytest.approx(found.predicted)
    assert set(frame["run"]) <= {r.id for r in records} and len(frame) == 2 * len(points)


def test_coefficients_are_unrounded_and_doubts_are_told():
    records = law_records(LAPTOP, power_law(0.2))
    frame = scaling_laws.coefficients_frame(records)
    plain = frame[frame["law"] == POWER_LAW].set_index("coefficient")
    assert list(plain.index) == ["a", "b", "alpha", "E_inf"] and set(plain["doubt"]) == {"none"}
    law = scaling.fit_front(scaling_laws.measured(records), POWER_LAW).fit.law
    assert plain["value"].to_dict() == law.coefficients()
    assert set(frame[frame["law"] == SATURATING]["doubt"]) != {"none"}


def test_what_cannot_be_fitted_has_no_numbers_in_the_file():
    short = law_records(
        LAPTOP, power_law(0.2), keep=lambda s: s.epoch == 2 and s.upstream.data.examples == 3000
    )
    frame = scaling_laws.coefficients_frame(short)
    saturating = frame[frame["law"] == SATURATING]
    assert saturating["value"].tolist() == ["unknown"] and "needs 6" in saturating["doubt"].iloc[0]


# --------------------------------------------------------------------------- C10


def test_a_power_law_is_found():
    found = judge(law_records(LAPTOP, power_law(0.2)))
    (part,) = found.parts
    assert found.verdict == REPRODUCED and part.effect.mean == pytest.approx(0.2, abs=0.01)
    assert part.effect.low > 0 and part.effect.n == 2 and "the forecast by a power law holds" in found.note
    one = judge(law_records(LAPTOP, power_law(0.2), (0,)))
    assert one.verdict == REPRODUCED and "1 seed, interval from grid only" in one.effect_text()


@pytest.mark.parametrize(
    "error",
    [
        lambda at: 0.5 - 0.07 * math.log10(at.compute / 1e10),
        lambda at: max(0.3, 0.5 * (at.compute / 1e11) ** -0.25),
    ],
    ids=["straight line in log compute", "a kink"],
)
def test_a_front_that_is_no_power_law_is_not_reproduced_whole(error):
    found = judge(law_records(LAPTOP, error, noise=0.0005))
    assert found.verdict == PARTLY and ("fails" in found.note or "best: power law" not in found.note)


def test_an_error_that_hardly_falls_is_not_reproduced():
    """A front always falls, if only because the smallest of several noisy errors does."""

    def error(at):
        return 0.4 if at.run[0] == "B-6/Wi-32" else 0.4 * (1 + 0.001 * math.log(at.compute))

    found = judge(law_records(LAPTOP, error, noise=0.0))
    assert found.verdict == NOT_TESTED and found.reason(), "one point is the whole front"


@pytest.mark.parametrize("low, high, expected", [(-0.01, 0.3, INCONCLUSIVE), (-0.01, 0.005, CONTRADICTED)])
def test_an_exponent_that_may_be_zero_is_not_reproduced(low, high, expected, monkeypatch):
    records = law_records(LAPTOP, power_law(0.2))
    real = scaling.fit_front

    def unsure(grid, *args, **more):
        found = real(grid, *args, **more)
        alpha = dataclasses.replace(found.coefficients["alpha"], low=low, high=high)
        return dataclasses.replace(found, coefficients=found.coefficients | {"alpha": alpha})

    monkeypatch.setattr(scaling, "fit_front", unsure)
    assert judge(records).verdict == expected


def test_a_short_front_tests_nothing():
    def keep(spec):
        return spec.upstream.data.examples == 3000 and spec.upstream.model.name != "B-6/Wi-32"

    few = law_records(LAPTOP, power_law(0.2), keep=keep)
    found = judge(few)
    assert found.verdict == NOT_TESTED and "decades of compute, fewer than 2" in found.note
    pair = law_records(LAPTOP, power_law(0.2), keep=lambda s: s.epoch == 2 and not s.upstream.data.examples)
    assert judge(pair[:2]).verdict == NOT_TESTED


def test_diverged_probes_are_left_out():
    records = law_records(LAPTOP, power_law(0.2))
    assert judge(diverged(records[:3]) + records[3:]).verdict == REPRODUCED


@pytest.mark.parametrize(
    "second, expected",
    [
        (Estimate(0.2, 0.1, 0.3, 1), REPRODUCED),
        (Estimate(-0.2, -0.3, -0.1, 1), PARTLY),
        (None, REPRODUCED),  # it decides nothing
    ],
)
def test_every_task_counts_that_decides(second, expected, monkeypatch):
    def part(records, name):
        of = {"CIFAR-100": Estimate(0.2, 0.1, 0.3, 1), "CIFAR-10": second}[name]
        return positive(of, "exponent alpha", name, least=0.01, why_not="too short"), "a law" if of else ""

    monkeypatch.setattr(scaling_laws, "law_part", part)
    found = judge(law_records(GPU, power_law(0.2, 0.5, 1e13), (0,)))
    assert found.verdict == expected and "CIFAR-100: a law" in found.note
    assert ("CIFAR-10: too short" in found.note) == (second is None)


def test_the_verdict_moves_with_the_confidence():
    records = law_records(LAPTOP, power_law(0.2), noise=0.02)
    (wide,) = judge(records).parts
    with using(confidence=0.5):
        (narrow,) = judge(records).parts
    assert narrow.effect.half_width < wide.effect.half_width
