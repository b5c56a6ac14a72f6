"""Batch size: the ladder of runs, three comparisons, C09 in each of its outcomes."""

import itertools
from dataclasses import replace

import pytest
from small_runs import record

from mlplib.data import catalog
from mlplib.specs import TrainSpec
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, REPRODUCED
from mlpstudy.experiments import batch_size
from mlpstudy.experiments.batch_size import BUDGETS
from mlpstudy.experiments.choices import rate
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile

LAPTOP = profile("laptop")
BUDGET = BUDGETS["laptop"]
COMMON = {0: 0.0, 1: 0.05, 2: -0.05}
WIGGLE = {0: 0.0, 1: 0.001, 2: -0.001}
(CLAIM,) = batch_size.CLAIMS


def records(accuracy, seeds=(0, 1, 2), held_out=None):
    """``accuracy``: (batch, epochs, learning rate) to accuracy; ``held_out``: that on held-out images."""
    made = []
    for spec in batch_size.runs(LAPTOP, seeds):
        run = spec.upstream
        at = (run.batch_size, spec.epoch or run.epochs, run.optimizer.lr)
        value = (held_out or accuracy)(*at) if spec.data.held_out else accuracy(*at)
        # So that differences between batch sizes have a spread.
        value += COMMON[spec.seed] + WIGGLE[spec.seed] * run.batch_size / 1000
        made.append(record(spec, test_top1=value))
    return made


def by_batch(gain, per_epoch=0.01, at_best=0.0):
    """Accuracy that gains with every doubling of batch and epochs, and with a learning rate of 2e-4."""

    def accuracy(batch, epochs, lr):
        doublings = (batch // BUDGET.batches[0]).bit_length() - 1
        return 0.5 + gain * doublings + per_epoch * (epochs.bit_length() - 1) + at_best * (lr == 2e-4)

    return accuracy


# --------------------------------------------------------------------------- runs


EVERY_PROFILE = pytest.mark.parametrize("name", PROFILES)


@EVERY_PROFILE
def test_batches_and_lengths_double(name):
    budget, chosen = BUDGETS[profile(name).key], profile(name)
    for ladder in (budget.batches, budget.lengths):
        assert all(after == 2 * before for before, after in itertools.pairwise(ladder))
    assert len(budget.lengths) >= len(budget.batches), "the smallest batch has a length of equal updates"
    assert {budget.batches[0], budget.batches[-1]} <= set(budget.tuned) <= set(budget.batches)
    assert chosen.learning_rate in budget.rates, "the paper's rate is one of them"
    assert budget.batches[-1] <= catalog.find(chosen.upstream).train


@EVERY_PROFILE
def test_lines_come_from_one_run_each_and_differ_in_the_batch_alone(name):
    chosen, budget = profile(name), BUDGETS[profile(name).key]
    specs = batch_size.runs(chosen, (0,))
    trained = [s for s in with_upstream(specs).values() if isinstance(s, TrainSpec)]
    lines = [s for s in trained if s.keep_at]
    assert [s.batch_size for s in lines] == list(budget.batches)
    assert len({replace(s, batch_size=1) for s in lines}) == 1
    assert {s.optimizer.lr for s in lines} == {chosen.learning_rate}
    assert {s.epochs for s in trained} == {budget.lengths[-1]}
    assert all(s.optimizer.schedule == "constant" and not s.optimizer.warmup for s in trained)
    for line in lines:
        probed = [s.epoch or line.epochs for s in specs if s.upstream == line and not s.data.held_out]
        assert sorted(probed) == list(budget.lengths)


@EVERY_PROFILE
def test_every_tuned_batch_size_gets_the_same_rates_and_is_chosen_by_training_images(name):
    rates = {}
    for spec in batch_size.runs(profile(name), (0,)):
        if spec.epoch is None:
            of = spec.upstream.batch_size, bool(spec.data.held_out)
            rates.setdefault(of, set()).add(spec.upstream.optimizer.lr)
    for tuned, held_out in itertools.product(BUDGETS[profile(name).key].tuned, (True, False)):
        assert rates.pop((tuned, held_out)) == set(BUDGETS[profile(name).key].rates)
    assert not any(held_out for _, held_out in rates)


@EVERY_PROFILE
def test_equal_updates_are_equal_but_for_incomplete_batches(name):
    groups = batch_size.at_equal_updates([record(s) for s in batch_size.runs(profile(name), (0,))])
    assert list(groups) == list(BUDGETS[profile(name).key].batches)
    counts = [batch_size.updates(group[0]) for group in groups.values()]
    assert max(counts) <= 1.05 * min(counts)
    epochs = [batch_size.epochs(group[0]) for group in groups.values()]
    assert epochs == list(BUDGETS[profile(name).key].lengths)[-len(epochs) :]


# --------------------------------------------------------------------------- comparisons


def test_the_three_comparisons_pick_their_runs():
    made = records(by_batch(0.01), held_out=by_batch(0.01, at_best=0.1))
    ends = batch_size.at_equal_epochs(made)
    assert list(ends) == list(BUDGET.batches)
    assert {(batch_size.epochs(r), rate(r)) for g in ends.values() for r in g} == {(4, 5e-5)}
    tuned = batch_size.at_best_rates(made)
    assert list(tuned) == list(BUDGET.tuned)
    assert {(batch_size.epochs(r), rate(r)) for g in tuned.values() for r in g} == {(4, 2e-4)}
    for groups in (ends, tuned, batch_size.at_equal_updates(made)):
        assert all(sorted(r.spec.seed for r in g) == [0, 1, 2] for g in groups.values())
        assert all(r.spec.data.held_out is None for g in groups.values() for r in g)


def test_test_images_choose_no_rate():
    honest = records(by_batch(0.01))
    peeking = records(by_batch(0.01, at_best=0.3), held_out=by_batch(0.01))
    assert batch_size.best_rates(honest) == batch_size.best_rates(peeking)
    assert batch_size.best_rates(honest) == dict.fromkeys(BUDGET.tuned, 5e-5), "of equal rates the smallest"


def test_the_table_has_lines_and_rates():
    cells = {(c.row, c.column): c for c in batch_size.summary(records(by_batch(0.01)), LAPTOP)}
    tested = "4 other CIFAR-10 classes, linear probe"
    line = cells["batch 2,048, 1 epoch", tested]
    assert line.estimate.mean == pytest.approx(52) and line.setting == "B-6/Wi-128, 14 updates"
    assert cells["batch 512, 4 epochs", tested].setting == "B-6/Wi-128, 232 updates"
    assert ("batch 512, 4 epochs, learning rate 0.0002", tested) in cells
    held_out = [row for row, column in cells if column == f"{tested}, held out"]
    assert len(held_out) == len(BUDGET.tuned) * len(BUDGET.rates)


def test_figures_show_errors_on_logarithmic_axes():
    made = records(by_batch(0.01))
    lengths, comparisons = batch_size.length_lines(made), batch_size.comparison_lines(made)
    assert list(dict.fromkeys(lengths["series"])) == ["1 epoch", "2 epochs", "4 epochs"]
    assert len(lengths) == 3 * 3 * 3 and lengths["error"].max() == pytest.approx(55, abs=0.1)
    assert list(dict.fromkeys(comparisons["series"])) == list(batch_size.COMPARISONS)
    for frame, figure in ((lengths, "batch-size"), (comparisons, "batch-size-apart")):
        axes = batch_size.FIGURES[figure].draw(frame).axes[0]
        assert axes.get_xscale() == axes.get_yscale() == "log"


# --------------------------------------------------------------------------- the claim


@pytest.mark.parametrize(
    "gain, expected",
    [(0.02, REPRODUCED), (0.001, INCONCLUSIVE), (0.0, CONTRADICTED), (-0.02, CONTRADICTED)],
)
def test_c09_in_all_its_outcomes(gain, expected):
    found = CLAIM.judge(records(by_batch(gain)))
    (part,) = found.parts
    assert found.verdict == expected and part.unit == "points, batch 2,048 over 512"
    assert part.effect.mean == pytest.approx(200 * gain) and part.effect.n == 3


def test_c09_is_decided_at_equal_epochs_alone():
    """Larger batches lose per epoch, win per update and win with tuned rates: the note says so."""

    def accuracy(batch, epochs, lr):
        tuned = 0.2 * (lr == 8e-4 and batch == 2048)
        return by_batch(-0.02, per_epoch=0.05)(batch, epochs, lr) + tuned

    found = CLAIM.judge(records(accuracy))
    assert found.verdict == CONTRADICTED and found.parts[0].effect.mean == pytest.approx(-4)
    assert "at equal updates: +6.0" in found.note and "at equal epochs, tuned rates: +16.0" in found.note
    assert (
        "learning rates: 5e-05 for 512, the end of its grid; 0.0008 for 2,048, the end of its grid"
        in found.note
    )


def test_c09_says_what_was_not_measured():
    made = [r for r in records(by_batch(0.02)) if r.spec.data.held_out is None]
    found = CLAIM.judge([r for r in made if r.spec.epoch is None])
    assert found.verdict == REPRODUCED and found.note.count("not measured") == 2


def test_c09_needs_two_batch_sizes():
    one = [r for r in records(by_batch(0.02)) if batch_size.batch(r) == 512]
    assert CLAIM.judge(one).verdict == NOT_TESTED
