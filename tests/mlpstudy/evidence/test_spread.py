"""Many seeds of one comparison: what the table says of intervals from three of them."""

import statistics

import numpy as np
import pytest
from small_runs import record

from mlpstudy.evidence import spread
from mlpstudy.experiments import ablations, label_smoothing, normalization
from mlpstudy.experiments.choices import probes
from mlpstudy.profiles import profile

LAPTOP = profile("laptop")


@pytest.fixture(scope="module")
def records():
    """Three experiments with as many seeds as the table needs, their accuracies drawn at random."""
    random, found = np.random.default_rng(0), {}
    for experiment in (label_smoothing, normalization, ablations):
        specs = experiment.runs(LAPTOP, range(spread.MANY))
        name = experiment.__name__.rpartition(".")[2].replace("_", "-")
        found[name] = [record(spec, test_top1=0.6 + 0.01 * random.normal()) for spec in specs]
    return found


def test_every_comparison_of_the_claims_has_a_row(records):
    titles = [title for together in spread.comparisons(records) for title in together]
    table = spread.markdown(records)
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == titles
    assert len(titles) == 2 + 2 + len(ablations.ARCHITECTURE) + len(ablations.REGULARIZERS) + 1
    (smoothed, *_) = (line for line in table.splitlines() if line.startswith("| smoothing 0.1"))
    groups = [
        [
            100 * r.metrics["test_top1"]
            for r in probes(records["label-smoothing"])
            if label_smoothing.amount(r) == a
        ]
        for a in (0.1, 0.0)
    ]
    first, second = map(statistics.stdev, groups)
    difference = statistics.stdev(a - b for a, b in zip(*groups, strict=True))
    assert f"| 20 | {first:.2f} | {second:.2f} |" in smoothed and f"] | {difference:.2f} |" in smoothed


def test_comparisons_of_fewer_seeds_are_left_out(records):
    few = [r for r in records["normalization"] if r.spec.seed]
    table = spread.markdown(records | {"normalization": few, "ablations": []})
    assert "smoothing" in table and "LayerNorm" not in table and "Lion" not in table
    assert spread.markdown({}) == ""


def test_intervals_from_three_of_normal_values_are_right_19_times_in_20():
    random, right = np.random.default_rng(0), []
    for values in random.normal(size=(60, 2, 9)):
        shares, shown = spread.few_seeds(dict(zip("ab", values.tolist(), strict=True)))
        right += shares.values()
        assert all(effect > 0 for effect in shown.values())
    assert 0.93 <= statistics.fmean(right) <= 0.97


def test_the_correlation_is_pearsons_with_fishers_interval():
    first, second = np.random.default_rng(0).normal(size=(2, 25))
    found, r = spread.correlation(first.tolist(), second.tolist()), np.corrcoef(first, second)[0, 1]
    reach = statistics.NormalDist().inv_cdf(0.975) / np.sqrt(25 - 3)
    low, high = np.tanh([np.arctanh(r) - reach, np.arctanh(r) + reach])
    assert (found.mean, found.low, found.high) == pytest.approx((r, low, high))
