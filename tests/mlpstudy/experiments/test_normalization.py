"""Normalization: networks that differ in it alone, and C13 in each of its outcomes."""

from dataclasses import replace

import pytest
from small_runs import record

from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import base, normalization
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
    norms = ("LayerNorm", "BatchNorm", "no normalization")
    assert list(cells) == [f"{net}, {norm}" for net in ("B-MLP", "S-MLP") for norm in norms]
    assert cells["S-MLP, no normalization"].estimate.mean == pytest.approx(30)
    assert cells["S-MLP, LayerNorm"].setting == "S-6/Wi-128, 40 epochs on 6 CIFAR-10 classes, 2,000 images"


@pytest.mark.parametrize(
    "b, s, expected",
    [
        ((0.60, 0.60, 0.5), (0.50, 0.50, 0.3), REPRODUCED),
        ((0.62, 0.60, 0.5), (0.51, 0.50, 0.3), REPRODUCED),
        ((0.60, 0.60, 0.5), (0.50, 0.70, 0.3), PARTLY),
        ((0.60, 0.61, 0.5), (0.50, 0.51, 0.3), INCONCLUSIVE),
        ((0.50, 0.60, 0.5), (0.40, 0.50, 0.3), CONTRADICTED),
    ],
)
def test_c13_in_all_its_outcomes(b, s, expected):
    found = CLAIM.judge(records(b, s))
    assert found.verdict == expected
    assert [part.name for part in found.parts] == ["B-MLP", "S-MLP"]
    means = [part.effect.mean for part in found.parts]
    assert means == pytest.approx([100 * (b[0] - b[1]), 100 * (s[0] - s[1])])


def test_c13_is_not_shown_by_pairs_that_scatter():
    """No difference on average, and an interval that allows for one beyond the margin."""
    common, opposite = ({0: 0.0, 1: v, 2: -v} for v in (0.05, -0.10))
    found = CLAIM.judge(records(common=common, own=opposite))
    assert found.verdict == INCONCLUSIVE and found.parts[0].effect.mean == pytest.approx(0.0)
    assert found.parts[0].effect.half_width > 10


def test_c13_does_not_depend_on_networks_without_a_norm():
    whole = CLAIM.judge(records())
    without = CLAIM.judge([r for r in records() if r.spec.upstream.model.norm != "none"])
    assert whole.parts == without.parts


@pytest.mark.parametrize("lost", ["layer", "batch", "b-mlp", "s-mlp"])
def test_c13_needs_both_norms_in_both_networks(lost):
    left = [r for r in records() if lost not in (r.spec.upstream.model.norm, r.spec.upstream.model.family)]
    assert CLAIM.judge(left).verdict == NOT_TESTED


def test_the_figure_has_every_probe():
    made = records()
    frame = normalization.values(made)
    assert sorted(frame["run"]) == sorted(r.id for r in made)
    drawn = normalization.FIGURES["normalization"].draw(frame)
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["B-MLP", "S-MLP"]
