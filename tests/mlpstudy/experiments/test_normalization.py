"""Normalization: networks that differ in it alone, the margin from seeds, C13 in each of its outcomes."""

import math
from dataclasses import replace

import pytest
from scipy.stats import t
from small_runs import record

from mlplib.stats import Estimate
from mlpstudy.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import base, normalization
from mlpstudy.experiments.normalization import by_network_and_norm
from mlpstudy.profiles import PROFILES, profile

LAPTOP = profile("laptop")
SCATTER = {0: 0.0, 1: 0.02, 2: -0.02}
WIGGLE = {0: 0.0, 1: 0.001, 2: -0.001}
(CLAIM,) = normalization.CLAIMS


def records(b=(0.60, 0.60, 0.5), s=(0.50, 0.50, 0.3), seeds=(0, 1, 2), common=SCATTER, own=WIGGLE):
    """Accuracy with LayerNorm, BatchNorm and none.
    ``common``: what a seed does to all networks, ``own``: to LayerNorm alone.
    """
    made = []
    for spec in normalization.runs(LAPTOP, seeds):
        model = spec.upstream.model
        values = dict(zip(normalization.NORMS, b if model.family == "b-mlp" else s, strict=True))
        seed = common[spec.seed] + own[spec.seed] * (model.norm == "layer")
        made.append(record(spec, test_top1=values[model.norm] + seed))
    return made


@pytest.mark.parametrize("name", PROFILES)
def test_the_networks_of_a_family_differ_in_the_norm_alone(name):
    specs = normalization.runs(profile(name), (0, 1))
    assert len(specs) == 2 * 3 * 2
    for family in base.MLP_TITLES:
        trained = [s.upstream for s in specs if s.upstream.model.family == family]
        assert {s.model.norm for s in trained} == {"layer", "batch", "none"}
        alike = {replace(s, model=replace(s.model, norm="layer")) for s in trained}
        assert len(alike) == 2, "one for each seed"
    sizes = {(s.upstream.model.depth, s.upstream.model.width) for s in specs}
    assert len(sizes) == 1, "both families have one size"
    s_mlps = [s.upstream.model for s in specs if s.upstream.model.family == "s-mlp"]
    assert all(not m.skip and m.activation == "relu" for m in s_mlps)


def test_the_table_names_both_networks():
    cells = {c.row: c for c in normalization.summary(records(), LAPTOP)}
    assert list(cells) == [
        f"{net}, {norm}"
        for net in ("B-MLP", "S-MLP")
        for norm in ("LayerNorm", "BatchNorm", "no normalization")
    ]
    assert cells["S-MLP, no normalization"].estimate.mean == pytest.approx(30)
    assert cells["S-MLP, LayerNorm"].setting == "S-6/Wi-128, 6 epochs on 6 CIFAR-10 classes"


def test_the_margin_is_what_another_seed_does():
    """Of two groups with the same spread, of one, and of none."""
    made = records(own={0: 0, 1: 0, 2: 0})
    groups = [by_network_and_norm(made)["b-mlp", norm] for norm in ("layer", "batch")]
    assert normalization.seed_margin(*groups) == pytest.approx(t.ppf(0.975, 4) * 2.0 * math.sqrt(2))
    one, two = normalization.seed_margin(groups[0]), normalization.seed_margin(*groups)
    assert one > two, "two groups know the spread better than one"
    assert normalization.seed_margin([groups[0][0]]) is None
    same = records(common=dict.fromkeys(range(3), 0.0), own=dict.fromkeys(range(3), 0.0))
    assert normalization.seed_margin(by_network_and_norm(same)["b-mlp", "layer"]) is None


def test_the_margin_covers_nineteen_of_twenty_pairs():
    np = pytest.importorskip("numpy")
    made = records()
    group = by_network_and_norm(made)["b-mlp", "layer"]
    draws = np.random.default_rng(0)
    inside, trials = 0, 600
    for _ in range(trials):
        values = 0.5 + 0.01 * draws.normal(size=5)
        seeds = [replace(r, metrics={"test_top1": v}) for r, v in zip(group, values, strict=False)]
        inside += abs(100 * (values[3] - values[4])) < normalization.seed_margin(seeds)
    assert inside / trials == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("mean, low, expected", [
    (0.0, -0.9, REPRODUCED),
    (5.0, 4.0, REPRODUCED),
    (5.0, -0.9, REPRODUCED),
    (0.0, -1.0, PARTLY),
    (-0.9, -3.0, PARTLY),
    (5.0, -2.0, PARTLY),
    (0.0, None, PARTLY),
    (-1.0, -1.1, NOT_REPRODUCED),
    (-3.0, -9.0, NOT_REPRODUCED),
    (-3.0, None, NOT_REPRODUCED),
])  # fmt: skip
def test_judging_that_something_is_not_worse(mean, low, expected):
    high = None if low is None else 2 * mean - low
    assert normalization.judge_not_worse(Estimate(mean, low, high, 3), 1.0) == expected


@pytest.mark.parametrize(
    "b, s, expected",
    [
        ((0.60, 0.60, 0.5), (0.50, 0.50, 0.3), REPRODUCED),
        ((0.62, 0.60, 0.5), (0.51, 0.50, 0.3), REPRODUCED),
        ((0.60, 0.60, 0.5), (0.50, 0.70, 0.3), PARTLY),
        ((0.50, 0.60, 0.5), (0.40, 0.50, 0.3), NOT_REPRODUCED),
    ],
)
def test_c13_in_all_its_outcomes(b, s, expected):
    found = CLAIM.judge(records(b, s))
    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(100 * min(b[0] - b[1], s[0] - s[1]))
    assert "B-MLP: " in found.note and "S-MLP: " in found.note and "would matter" in found.note


def test_c13_is_only_partly_shown_by_pairs_that_scatter():
    """No difference on average, and an interval that allows for one beyond the margin."""
    common, opposite = ({0: 0.0, 1: v, 2: -v} for v in (0.05, -0.10))
    found = CLAIM.judge(records(common=common, own=opposite))
    assert found.effect.mean == pytest.approx(0.0) and found.effect.half_width > 20
    assert found.verdict == PARTLY


def test_c13_does_not_depend_on_networks_without_a_norm():
    with_none, without = (
        CLAIM.judge([r for r in records() if keep or r.spec.upstream.model.norm != "none"])
        for keep in (True, False)
    )
    assert (with_none.verdict, with_none.effect) == (without.verdict, without.effect)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_c13_needs_both_norms_and_two_seeds(norm):
    left = [r for r in records() if r.spec.upstream.model.norm != norm]
    assert CLAIM.judge(left).verdict == NOT_TESTED
    alone = CLAIM.judge(records(seeds=(0,)))
    assert alone.verdict == NOT_TESTED and "two seeds" in alone.note


def test_c13_needs_both_networks():
    for family, other in (("b-mlp", "S-MLP"), ("s-mlp", "B-MLP")):
        found = CLAIM.judge([r for r in records() if r.spec.upstream.model.family == family])
        assert found.verdict == NOT_TESTED and f"two seeds of the {other}" in found.note


def test_the_figure_has_every_probe():
    made = records()
    frame = normalization.values(made)
    assert sorted(frame["run"]) == sorted(r.id for r in made)
    drawn = normalization.FIGURES["normalization"].draw(frame)
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["B-MLP", "S-MLP"]
