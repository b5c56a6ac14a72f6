"""Parameters or examples: shared runs, series that vary one thing, C11 and C12 in every outcome."""

import dataclasses

import numpy as np
import pytest
from scaling_records import law_records, power_law, probes
from small_runs import diverged

from mlplib.store import run_id
from mlpstudy import paper
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import parameters_or_examples, scaling_laws
from mlpstudy.experiments.parameters_or_examples import contains, minus
from mlpstudy.laws import scaling
from mlpstudy.laws.powerlaw import POWER_LAW, SATURATING
from mlpstudy.profiles import PROFILES, profile
from mlpstudy.stats import Estimate

pytestmark = pytest.mark.usefixtures("few_draws")
LAPTOP, GPU = profile("laptop"), profile("gpu")
C11, C12 = parameters_or_examples.CLAIMS


def gpu_records(error, noise=0.001):
    return probes(parameters_or_examples.runs(GPU, (0, 1)), error, noise)


def balanced(u, v):
    """Errors ``P^-u + N^-v``, balanced in the middle of the GPU's grid, for which best shares are known."""
    return lambda at: 0.2 * ((at.parameters / 3e7) ** -u + (at.examples / 2e4) ** -v)


def few_sizes():
    """Three sizes of networks and of examples, one fewer than an exponent takes."""

    def keep(spec):
        return spec.upstream.model.name != "B-6/Wi-32" and spec.upstream.data.examples != 1000

    return law_records(LAPTOP, power_law(0.2), keep=keep)


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", PROFILES)
def test_every_run_is_one_of_the_scaling_laws(name):
    ours = parameters_or_examples.runs(profile(name), (0, 1))
    theirs = {run_id(spec) for spec in scaling_laws.runs(profile(name), (0, 1))}
    assert ours and {run_id(spec) for spec in ours} <= theirs
    assert {spec.data.name for spec in ours} == {scaling_laws.tasks(profile(name))[0]}


# --------------------------------------------------------------------------- series and shares


def test_series_vary_one_thing():
    found = parameters_or_examples.series(law_records(LAPTOP, power_law(0.2)))
    by_parameters, by_examples = found["parameters"].grid, found["examples"].grid
    assert by_parameters.examples.tolist() == [30_000] * 4
    assert by_examples.examples.tolist() == [1000, 3000, 10_000, 30_000]
    assert set(by_examples.parameters) == {by_parameters.parameters.max()}
    assert set(by_parameters.epochs) == set(by_examples.epochs) == {8}


def test_the_exponents_of_the_series_are_those_of_the_errors():
    found = parameters_or_examples.series(gpu_records(lambda at: at.parameters**-0.2 * at.examples**-0.1))
    assert found["parameters"].alpha.mean == pytest.approx(0.2, abs=0.005)
    assert found["examples"].alpha.mean == pytest.approx(0.1, abs=0.005)
    assert all(s.fit.form == POWER_LAW and not s.problem for s in found.values())


def test_a_floor_is_taken_out_where_the_sizes_show_it():
    records = gpu_records(lambda at: 0.1 + 0.3 * (at.examples / 3000) ** -0.8, noise=1e-4)
    found = parameters_or_examples.series(records)["examples"]
    assert found.fit.form == SATURATING and found.alpha.low <= 0.8 <= found.alpha.high


@pytest.mark.parametrize("name, length", [("laptop", 8), ("gpu", 50), ("paper", 50)])
def test_shares_are_taken_at_the_papers_length_where_it_is(name, length):
    grid = parameters_or_examples.main_grid(law_records(profile(name), power_law(0.2, 0.5, 1e14), (0,)))
    assert set(parameters_or_examples.one_length(grid).epochs) == {length}


def test_shares_of_a_known_law():
    found = parameters_or_examples.shares(gpu_records(balanced(0.65, 0.35)))
    assert found["parameters"].mean == pytest.approx(0.35, abs=0.12)
    assert found["examples"].mean == pytest.approx(1 - found["parameters"].mean, abs=0.05)
    for name in ("parameters", "examples", "difference"):
        assert found[name].low < found[name].mean < found[name].high and found[name].n == 2


def test_the_table_stands_beside_the_papers():
    cells = parameters_or_examples.summary(law_records(LAPTOP, power_law(0.2)), LAPTOP)
    shown = [cell for cell in cells if cell.item == "Fig 7, 8"]
    assert len(shown) == 4
    papers = [paper.value(cell.item, cell.row, cell.column).value for cell in shown]
    assert papers == [1, 0.35, 0.35, 0.65]
    assert all("interval from" in cell.setting for cell in shown)
    assert sum(cell.item == "Errors of the grid" for cell in cells) == 48
    # Of two seeds: four sizes of networks, of examples, and all trainings of one length for both shares.
    assert [len(set(cell.run_ids)) for cell in shown] == [8, 8, 32, 32]


# --------------------------------------------------------------------------- figures


def test_the_figures_hold_what_the_series_hold():
    records = law_records(LAPTOP, power_law(0.2))
    frame = parameters_or_examples.bottleneck_frame(records)
    assert frame.groupby("binds").size().to_dict() == {"parameters": 8, "examples": 8}
    shares = parameters_or_examples.allocation_frame(records)
    optimal = parameters_or_examples.one_length(parameters_or_examples.main_grid(records)).front()
    for name in ("parameters", "examples"):
        part = shares[shares["of"] == name].drop_duplicates("compute_macs")
        assert part["size"].tolist() == getattr(optimal, name).tolist()
        logs = np.log(part["compute_macs"]), np.log(part["line"])
        assert scaling.line(*map(np.asarray, logs))[0] == pytest.approx(part["exponent"].iloc[0])
        theirs = scaling.line(np.asarray(logs[0]), np.log(part["paper"].to_numpy()))[0]
        assert theirs == pytest.approx({"parameters": 0.35, "examples": 0.65}[name])


def test_exponents_that_are_not_determined_are_marked():
    frame = parameters_or_examples.exponents_frame(few_sizes())
    doubts = dict(zip(frame["name"], frame["doubt"], strict=True))
    assert "3 sizes" in doubts["alpha_P"] and "3 sizes" in doubts["alpha_N"]
    assert doubts["P*"] == doubts["N*"] == "none"


# --------------------------------------------------------------------------- the claims


def test_small_pieces_of_the_criteria():
    assert contains(Estimate(1.0, 0.5, 1.5, 2), 0.5) and not contains(Estimate(1.0, 0.5, 1.5, 2), 0.4)
    assert not contains(Estimate(1.0, None, None, 2), 1.0)
    gap = minus(Estimate(1.0, 0.7, 1.3, 3), Estimate(0.4, 0.0, 0.8, 2))
    assert (gap.mean, gap.half_width, gap.n) == pytest.approx((0.6, 0.5, 2))


def test_the_criteria_name_the_constants_of_the_code():
    assert f"at least {parameters_or_examples.LEAST_SIZES} sizes over a decade" in C11.criterion
    assert f"at least {parameters_or_examples.LEAST_SIZES} points" in C12.criterion
    assert f"at {parameters_or_examples.PAPER_LENGTH} epochs" in C12.criterion
    assert parameters_or_examples.LEAST_DECADES == 1


def test_c11_needs_sizes():
    found = C11.judge(few_sizes())
    assert (
        found.verdict == NOT_TESTED and "parameters have 3 sizes" in found.note and "it takes 4" in found.note
    )
    assert C11.judge(law_records(LAPTOP, power_law(0.2))).verdict != NOT_TESTED, "a laptop has enough"


@pytest.mark.parametrize(
    "alpha_p, alpha_n, expected",
    [(1.0, 0.35, REPRODUCED), (0.5, 0.2, PARTLY), (0.2, 0.4, CONTRADICTED)],
)
def test_c11_in_its_outcomes(alpha_p, alpha_n, expected):
    def error(at):
        return 0.3 * (at.parameters / 8e6) ** -alpha_p * (at.examples / 3125) ** -alpha_n

    found = C11.judge(gpu_records(error))
    assert found.verdict == expected
    (part,) = found.parts
    assert part.effect.mean == pytest.approx(alpha_p - alpha_n, abs=0.02) and "alpha_P" in found.note


def test_c11_is_inconclusive_where_scatter_hides_it(monkeypatch):
    real = parameters_or_examples.series(gpu_records(lambda at: 0.3 * (at.parameters / 8e6) ** -0.3))
    unsure = {
        name: dataclasses.replace(found, fit=dataclasses.replace(found.fit, alpha_error=0.2))
        for name, found in real.items()
    }
    monkeypatch.setattr(parameters_or_examples, "series", lambda records: unsure)
    found = C11.judge([])
    assert found.verdict == INCONCLUSIVE and "wide" in found.reason()


def test_c12_where_only_parameters_help():
    """Then the best use of compute is a larger network on the fewest examples."""
    found = C12.judge(gpu_records(lambda at: 0.3 * (at.parameters / 8e6) ** -0.3))
    assert found.verdict == INCONCLUSIVE and found.parts[0].effect.mean < -0.5


@pytest.mark.parametrize(
    "parameters, examples, difference, expected",
    [
        ((0.35, 0.3, 0.4), (0.65, 0.6, 0.7), (0.3, 0.25, 0.35), REPRODUCED),
        ((0.35, 0.3, 0.4), (0.65, 0.6, 0.7), (0.3, 0.2, 0.4), PARTLY),  # the size is undecided
        ((0.45, 0.4, 0.5), (0.75, 0.7, 0.8), (0.3, 0.25, 0.35), PARTLY),  # neither exponent is the paper's
        ((0.2, 0.15, 0.25), (0.8, 0.7, 0.9), (0.6, 0.4, 0.8), PARTLY),
        ((0.6, 0.5, 0.7), (0.4, 0.3, 0.5), (-0.2, -0.3, -0.1), CONTRADICTED),
        ((0.4, 0.2, 0.6), (0.6, 0.4, 0.8), (0.2, -0.2, 0.6), INCONCLUSIVE),
        ((0.35, None, None), (0.65, None, None), (0.3, None, None), INCONCLUSIVE),
    ],
)
def test_c12_by_its_intervals(parameters, examples, difference, expected, monkeypatch):
    own = {"parameters": parameters, "examples": examples, "difference": difference}
    given = {name: Estimate(*numbers, 3) for name, numbers in own.items()}
    monkeypatch.setattr(parameters_or_examples, "shares", lambda records: given)
    assert C12.judge([]).verdict == expected


@pytest.mark.parametrize("claim", [C11, C12])
def test_without_enough_runs_nothing_is_tested(claim):
    few = law_records(LAPTOP, power_law(0.2), (0,))[:3]
    assert claim.judge(few).verdict == NOT_TESTED
    assert parameters_or_examples.summary(diverged(few), LAPTOP) == []
