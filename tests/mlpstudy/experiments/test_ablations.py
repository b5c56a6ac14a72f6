"""Ablations: one change each at equal compute, fair learning rates, C15 and C16 in each of their outcomes."""

import dataclasses
from dataclasses import replace

import pytest
from small_runs import diverged, record, scored

from mlplib.data import catalog
from mlplib.models import count_macs, count_parameters, meta_model
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import ablations
from mlpstudy.experiments.ablations import ARCHITECTURE, BUDGETS, RECIPE, REGULARIZERS
from mlpstudy.experiments.choices import OVERFIT, rate, variant
from mlpstudy.profiles import PROFILES, profile

LAPTOP = profile("laptop")
COMMON = {0: 0.0, 1: 0.05, 2: -0.05}
WIGGLE = {0: 0.0, 1: 0.001, 2: -0.001}
C15, C16 = ablations.CLAIMS
PAPER = {
    **dict.fromkeys(ARCHITECTURE, -0.02),
    **dict.fromkeys(("clipping", "weight decay", "dropout"), 0.01),
    "AdamW": -0.02,
    "no DA": -0.10,
}
"""What each change does if all is as the paper says."""


def records(seeds=(0, 1, 2), lion=None, adamw=None, base=0.60, held_out=None, **effects):
    """Accuracy of the base plus what a change does, ``effects`` overriding :data:`PAPER`.

    ``lion, adamw``: what each learning rate does, on test images; ``held_out``: (name, rate) to what it does
    on held-out images where that is something else. At Lion's own rate nothing.
    """
    effects = PAPER | {name.replace("_", " ").replace("post LN", "post-LN"): v for name, v in effects.items()}
    assert effects.keys() == PAPER.keys()
    budget = BUDGETS["laptop"]
    rates = {"base": lion or (-0.02, 0, -0.01, -0.05), "AdamW": adamw or (-0.05, 0, -0.01, -0.02)}
    at = {
        (name, lr): value
        for name, grid in (("base", budget.lion), ("AdamW", budget.adamw))
        for lr, value in zip(grid, rates[name], strict=True)
    }
    made = []
    for spec in ablations.runs(LAPTOP, seeds):
        name = ablations.change_of(record(spec))
        value = effects.get(name, 0.0)
        value += effects["no DA"] * (name in REGULARIZERS)  # to which they are added
        key = (name, spec.upstream.optimizer.lr)
        value += (held_out or {}).get(key, at.get(key, 0)) if spec.data.held_out else at.get(key, 0)
        value += WIGGLE[spec.seed] * (name != "base")
        made.append(record(spec, test_top1=base + COMMON[spec.seed] + value))
    return made


# --------------------------------------------------------------------------- runs


def differing(a, b):
    """The settings in which two frozen specs differ, by dotted name."""
    found = set()
    for field in dataclasses.fields(a):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if one != two:
            inside = dataclasses.is_dataclass(one) and type(one) is type(two)
            found |= {f"{field.name}.{name}" for name in differing(one, two)} if inside else {field.name}
    return found


@pytest.mark.parametrize("name", PROFILES)
def test_every_change_changes_one_thing(name):
    chosen = profile(name)
    overfit = ablations.upstream_run(chosen, 0, **OVERFIT.get(profile(name).key, {}))
    base = dict.fromkeys(ablations.changes(chosen), ablations.upstream_run(chosen, 0))
    base |= dict.fromkeys(REGULARIZERS, overfit)
    found = {
        change: differing(base[change], ablations.upstream_run(chosen, 0, **settings))
        for change, settings in ablations.changes(chosen).items()
    }
    no_da = found.pop("no DA")
    assert {setting.split(".")[0] for setting in no_da} == {"augment"}
    assert found == {
        "ReLU": {"model.activation"},
        "no skip": {"model.skip"},
        "no bottleneck": {"model.expansion", "model.depth"},
        "post-LN": {"model.norm_position"},
        "clipping": {"optimizer.clip"},
        "weight decay": {"optimizer.weight_decay"},
        "dropout": {"model.dropout"},
    }


@pytest.mark.parametrize("name", PROFILES)
def test_all_networks_cost_the_same(name):
    """Multiply-adds within a thousandth, parameters within a twentieth of the base's."""
    specs = ablations.runs(profile(name), (0,))
    data = specs[0].upstream.data
    entry = catalog.find(data.name)
    side = data.resolution or entry.image_size

    def cost(model):
        network = meta_model(model, (side, side, 3), entry.class_count)
        return count_macs(network, (side, side, 3)), count_parameters(network)

    macs, parameters = cost(specs[0].upstream.model)
    for model in {spec.upstream.model for spec in specs}:
        ours = cost(model)
        assert ours[0] == pytest.approx(macs, rel=1e-3), model
        assert ours[1] == pytest.approx(parameters, rel=0.05), model
    assert len({(s.upstream.epochs, s.upstream.batch_size, s.upstream.data) for s in specs}) == 1
    assert len({s.upstream.model.width for s in specs}) == 1, "probes read equally many features"


@pytest.mark.parametrize("name", PROFILES)
def test_both_optimizers_get_as_many_rates_and_their_own_constants(name):
    budget, chosen = BUDGETS[profile(name).key], profile(name)
    assert len(budget.lion) == len(budget.adamw) >= 2
    assert chosen.learning_rate in budget.lion, "the paper's rate is one of them"
    assert list(budget.lion) == sorted(budget.lion) and list(budget.adamw) == sorted(budget.adamw)
    optimizers = {s.upstream.optimizer for s in ablations.runs(chosen, (0,))}
    assert {o.betas for o in optimizers if o.name == "adamw"} == {(0.9, 0.999)}
    assert {o.betas for o in optimizers if o.name == "lion"} == {(0.9, 0.99)}
    assert all(o.weight_decay == 0 for o in optimizers if o.name == "adamw")


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_rate_is_chosen_by_are_training_images(name):
    specs = ablations.runs(profile(name), (0, 1))
    tuning = [s for s in specs if s.data.held_out is not None]
    assert len(tuning) == 2 * (len(BUDGETS[profile(name).key].lion) + len(BUDGETS[profile(name).key].adamw))
    for spec in tuning:
        assert replace(spec, data=replace(spec.data, held_out=None)) in specs, "judged on test images, too"
        assert 0 < spec.data.held_out < catalog.find(spec.data.name).train / 2
        assert spec.upstream.data.held_out is None


@pytest.mark.parametrize("name", ["laptop", "gpu"])
def test_weight_decay_adds_up_to_the_papers(name):
    """Learning rate x decay x updates, as in the paper's longest scaling run."""
    paper = 1e-5 * BUDGETS["paper"].weight_decay * 800 * (catalog.find("imagenet21k").train // 16384)
    run = ablations.upstream_run(profile(name), 0)
    updates = run.epochs * ((run.data.examples or catalog.find(run.data.name).train) // run.batch_size)
    ours = run.optimizer.lr * BUDGETS[profile(name).key].weight_decay * updates
    assert ours == pytest.approx(paper, rel=0.05)


def test_the_paper_pre_trains_on_imagenet_and_probes_cifar_100():
    specs = ablations.runs(profile("paper"), (0,))
    assert {s.upstream.data.name for s in specs} == {"imagenet"} and {s.data.name for s in specs} == {
        "cifar100"
    }


def test_the_base_is_the_one_of_the_other_chapters():
    assert ablations.upstream_run(LAPTOP, 0) == variant(LAPTOP, 0)
    tested = [s.upstream for s in ablations.runs(LAPTOP, (0,))]
    assert variant(LAPTOP, 0) in tested


# --------------------------------------------------------------------------- picking


@pytest.mark.parametrize("name", PROFILES)
def test_changes_are_recognized(name):
    chosen = profile(name)
    for change, settings in ablations.changes(chosen).items():
        spec = ablations.upstream_run(chosen, 0, **settings)
        probes = [s for s in ablations.runs(chosen, (0,)) if s.upstream == spec]
        assert [ablations.change_of(record(s)) for s in probes] == [change]
    names = {ablations.change_of(record(s)) for s in ablations.runs(chosen, (0,))}
    assert names == {"base", *ARCHITECTURE, *RECIPE}


def test_held_out_images_choose_the_rate_and_test_images_do_not():
    budget = BUDGETS["laptop"]
    peek = {("base", budget.lion[2]): 0.05, ("AdamW", budget.adamw[0]): 0.04}
    made = records(held_out=peek)
    assert ablations.chosen_rates(made) == {"base": budget.lion[2], "AdamW": budget.adamw[0]}
    found = ablations.groups(made)
    assert {rate(r) for r in found["Lion"]} == {budget.lion[2]}
    assert {rate(r) for r in found["AdamW"]} == {budget.adamw[0]}
    assert {rate(r) for r in found["base"]} == {LAPTOP.learning_rate}, "the base keeps the paper's rate"
    worse = scored(made, 0.1, lambda r: r.spec.data.held_out is None and rate(r) == budget.lion[2])
    assert ablations.chosen_rates(worse) == ablations.chosen_rates(made)


def test_a_rate_that_diverged_for_a_seed_is_not_chosen():
    budget = BUDGETS["laptop"]
    made = records(held_out={("AdamW", budget.adamw[2]): 0.2})
    assert ablations.chosen_rates(made)["AdamW"] == budget.adamw[2]
    failed = "AdamW", budget.adamw[2], 1
    gone = diverged(made, lambda r: (ablations.change_of(r), rate(r), r.spec.seed) == failed)
    assert ablations.chosen_rates(gone)["AdamW"] == budget.adamw[1]


def test_the_table_has_each_rate_of_the_optimizers_and_each_change():
    cells = {(c.row, c.column): c for c in ablations.summary(records(), LAPTOP)}
    tested, tuning = (
        "4 other CIFAR-10 classes, linear probe",
        "4 other CIFAR-10 classes, linear probe, held out",
    )
    rows = {row for row, column in cells if column == tested}
    assert rows == {
        *ARCHITECTURE,
        *(name for name in RECIPE if name != "AdamW"),
        *(f"Lion, learning rate {lr:g}" for lr in BUDGETS["laptop"].lion),
        *(f"AdamW, learning rate {lr:g}" for lr in BUDGETS["laptop"].adamw),
    }
    assert {row for row, column in cells if column == tuning} == {r for r in rows if "learning rate" in r}
    assert cells["no DA", tested].estimate.mean == pytest.approx(50)
    assert cells["no bottleneck", tested].setting.startswith("B-24/Wi-128")


def test_the_figure_shows_differences_with_their_intervals():
    made = records()
    frame = ablations.differences(made)
    assert set(frame["change"]) == {*ARCHITECTURE, *RECIPE} and len(frame) == 3 * 9
    for change, rows in frame.groupby("change"):
        assert rows["difference"].mean() == pytest.approx(100 * PAPER[change])
        assert rows["mean"].iloc[0] == pytest.approx(100 * PAPER[change])
        assert (rows["low"] < rows["mean"]).all() and (rows["mean"] < rows["high"]).all()
    axes = ablations.FIGURES["one-change-at-a-time"].draw(frame).axes[0]
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[-1] == "no DA" and set(labels[:3]) == {"clipping", "weight decay", "dropout"}


# --------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    "effects, expected",
    [
        ({}, REPRODUCED),
        ({"ReLU": 0.02}, PARTLY),
        ({"no_skip": 0.0}, PARTLY),
        ({name: 0.01 for name in ("ReLU", "no_skip", "no_bottleneck", "post_LN")}, CONTRADICTED),
        ({name: 0.0 for name in ("ReLU", "no_skip", "no_bottleneck", "post_LN")}, CONTRADICTED),
    ],
)
def test_c15_in_all_its_outcomes(effects, expected):
    found = C15.judge(records(**effects))
    assert found.verdict == expected
    means = {part.name: part.effect.mean for part in found.parts}
    assert list(means) == ["GELU", "skips", "bottleneck", "pre-LN"]
    assert min(means.values()) == pytest.approx(-100 * max([PAPER["ReLU"], *effects.values()]))


@pytest.mark.parametrize(
    "effects, expected",
    [
        ({}, REPRODUCED),
        ({"clipping": 0.0}, PARTLY),
        ({"dropout": -0.01}, PARTLY),
        ({"AdamW": 0.02}, PARTLY),
        ({"no_skip": -0.20}, PARTLY),
        ({"no_DA": 0.10}, PARTLY),
        (
            {"clipping": -0.01, "weight_decay": -0.01, "dropout": -0.01, "AdamW": 0.01, "no_DA": 0.10},
            CONTRADICTED,
        ),
        # No DA is below the base and above another network: partly is all that is left.
        (
            {"clipping": -0.01, "weight_decay": -0.01, "dropout": -0.01, "AdamW": 0.01, "no_skip": -0.20},
            PARTLY,
        ),
    ],
)
def test_c16_in_all_its_outcomes(effects, expected):
    found = C16.judge(records(**effects))
    assert found.verdict == expected
    names = [part.name for part in found.parts]
    assert names[:5] == [*REGULARIZERS, "Lion over AdamW", "base over no DA"]
    means = {part.name: part.effect.mean for part in found.parts}
    assert means["dropout"] == pytest.approx(100 * (PAPER | effects)["dropout"]), "over no DA, at laptop"
    assert not any(name in names[5:] for name in (f"{r} over no DA" for r in REGULARIZERS))


def test_c16_compares_the_optimizers_at_their_best_rates():
    """At one and the same rate AdamW would lose; tuned, it wins."""
    made = records(AdamW=0.0, adamw=(-0.30, 0.03, -0.30, -0.30), lion=(-0.3, 0, 0.01, -0.3))
    found = C16.judge(made)
    (part,) = (part for part in found.parts if part.name == "Lion over AdamW")
    assert part.effect.mean == pytest.approx(-2.0) and part.verdict == CONTRADICTED
    assert found.verdict == PARTLY


def test_c16_says_where_a_grid_may_have_been_too_short():
    budget = BUDGETS["laptop"]
    found = C16.judge(records(lion=(0.01, 0, -0.01, -0.05)))
    assert f"Lion is best at {budget.lion[0]:g}, the end of its grid" in found.note
    assert f"AdamW is best at {budget.adamw[1]:g}" in found.note
    assert f"AdamW is best at {budget.adamw[1]:g}, the end" not in found.note


def test_c16_says_what_other_rates_would_have_shown_where_two_are_close():
    """Held-out images prefer AdamW's second rate by a hair; on test images its third is two points better."""
    budget = BUDGETS["laptop"]
    close = {
        ("AdamW", budget.adamw[1]): 0.05,
        ("AdamW", budget.adamw[2]): 0.0499,
        ("base", budget.lion[1]): 0.05,
    }
    made = records(AdamW=0.0, adamw=(-0.3, 0, 0.02, -0.3), lion=(-0.3, 0, 0, -0.3), held_out=close)
    (part,) = (part for part in C16.judge(made).parts if part.name == "Lion over AdamW")
    assert part.effect.mean == pytest.approx(0.0)
    assert (
        "with the best or second-best rate of each, Lion is -2.00 to +0.00 points ahead"
        in C16.judge(made).note
    )


@pytest.mark.parametrize("part", ["base", *ARCHITECTURE, *RECIPE])
def test_every_part_is_needed(part):
    left = [r for r in records() if ablations.change_of(r) != part]
    assert C16.judge(left).verdict == NOT_TESTED
    assert part in RECIPE or C15.judge(left).verdict == NOT_TESTED


@pytest.mark.parametrize("claim", [C15, C16])
def test_one_seed_is_not_enough(claim):
    assert claim.judge(records(seeds=(0,))).verdict in (PARTLY, INCONCLUSIVE)
