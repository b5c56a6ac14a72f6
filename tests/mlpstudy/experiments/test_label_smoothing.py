"""Label smoothing: networks that differ in it alone, Table 7 from records, C14 in each of its outcomes."""

from dataclasses import replace

import pytest
from small_runs import record

from mlplib.specs import ProbeSpec, TrainSpec
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import ablations, label_smoothing, normalization
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile

LAPTOP = profile("laptop")
WIGGLE = {0: 0.0, 1: 0.002, 2: -0.002}
COMMON = {0: 0.0, 1: 0.05, 2: -0.05}
"""What a seed does to all networks alike: pairs must cancel it."""
(CLAIM,) = label_smoothing.CLAIMS


def records(none=0.60, little=0.61, much=0.62, seeds=(0, 1, 2), pretrained=0.4):
    probed = dict(zip(label_smoothing.AMOUNTS, (none, little, much), strict=True))
    made = []
    for spec in label_smoothing.runs(LAPTOP, seeds):
        if isinstance(spec, TrainSpec):
            made.append(record(spec, test_top1=pretrained))
            continue
        amount = spec.upstream.label_smoothing
        wiggle = WIGGLE[spec.seed] * (amount > 0)  # so that the differences have a spread
        made.append(record(spec, test_top1=probed[amount] + COMMON[spec.seed] + wiggle))
    return made


@pytest.mark.parametrize("name", PROFILES)
def test_the_networks_differ_in_label_smoothing_alone(name):
    specs = label_smoothing.runs(profile(name), (0, 1))
    trained = [s for s in specs if isinstance(s, TrainSpec)]
    assert {s.label_smoothing for s in trained} == {0.0, 0.1, 0.3}
    assert len({replace(s, label_smoothing=0.0) for s in trained}) == 2, "one for each seed"
    probes = [s for s in specs if isinstance(s, ProbeSpec)]
    assert [p.upstream for p in probes] == trained and all(p.label_smoothing == 0.0 for p in probes)


@pytest.mark.parametrize("name", ["smoke", "laptop", "gpu"])
def test_the_base_is_trained_once_for_three_chapters(name):
    """The paper's ablations pre-train on other data, so profile ``paper`` is left out.

    At laptop, label smoothing is varied without DA and shares the ablations' network without DA.
    """
    trained = []
    for chapter in (label_smoothing, normalization, ablations):
        runs = with_upstream(chapter.runs(profile(name), (0,)))
        trained.append({id for id, spec in runs.items() if isinstance(spec, TrainSpec)})
    smoothing, norms, changes = trained
    assert len(smoothing & changes) == len(norms & changes) == 1
    assert len(smoothing & norms & changes) == (name != "laptop")


def test_at_laptop_smoothing_is_varied_where_a_network_overfits():
    trained = [s for s in label_smoothing.runs(LAPTOP, (0, 1)) if isinstance(s, TrainSpec)]
    assert not any(s.augment.any for s in trained)
    assert {(s.seed, s.data.draw) for s in trained} == {(0, 1), (1, 2)}, "a seed has images of its own"


def test_the_table_has_what_transfers_and_pre_training_itself():
    cells = {(c.row, c.column): c for c in label_smoothing.summary(records(), LAPTOP)}
    assert len(cells) == 6 and {c.item for c in cells.values()} == {"Table 7"}
    probe = cells["label smoothing 0.3", "4 other CIFAR-10 classes, linear probe"]
    assert probe.estimate.mean == pytest.approx(62.0) and probe.estimate.n == 3
    assert probe.setting == "B-6/Wi-128, 40 epochs on 6 CIFAR-10 classes, 2,000 images, no DA"
    assert cells["label smoothing 0.1", "6 CIFAR-10 classes, pre-training"].estimate.mean == pytest.approx(40)


@pytest.mark.parametrize(
    "little, much, expected",
    [
        (0.62, 0.63, REPRODUCED),
        (0.62, 0.58, PARTLY),
        (0.60, 0.62, PARTLY),
        (0.60, 0.58, INCONCLUSIVE),
        (0.60, 0.60, INCONCLUSIVE),
        (0.58, 0.57, CONTRADICTED),
    ],
)
def test_c14_in_all_its_outcomes(little, much, expected):
    found = CLAIM.judge(records(0.60, little, much))
    assert found.verdict == expected
    assert [part.name for part in found.parts] == ["smoothing 0.1", "smoothing 0.3"]
    means = [part.effect.mean for part in found.parts]
    assert means == pytest.approx([100 * (little - 0.60), 100 * (much - 0.60)])


def test_c14_judges_probes_and_not_pre_training():
    assert CLAIM.judge(records(pretrained=0.1)) == CLAIM.judge(records(pretrained=0.9))


def test_c14_pairs_by_seed():
    """The seeds differ by far more than smoothing does, and the interval does not show it."""
    found = CLAIM.judge(records())
    assert all(part.effect.half_width < 1.0 for part in found.parts) and found.verdict == REPRODUCED


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3])
def test_c14_needs_all_three_amounts(missing):
    left = [r for r in records() if label_smoothing.amount(r) != missing]
    assert CLAIM.judge(left).verdict == NOT_TESTED


def test_c14_from_one_seed_uses_the_test_images():
    found = CLAIM.judge(records(0.5, 0.8, 0.8, seeds=(0,)))
    assert found.verdict == REPRODUCED and found.parts[0].effect.source == "test images"
    assert CLAIM.judge(records(seeds=(0,))).verdict == INCONCLUSIVE, "two points are within the sampling"


def test_the_figure_has_both_columns_of_every_run():
    made = records()
    frame = label_smoothing.values(made)
    assert sorted(frame["run"]) == sorted(r.id for r in made)
    assert list(dict.fromkeys(frame["setting"])) == ["0.0", "0.1", "0.3"]
    assert frame["panel"].iloc[0] == "4 other CIFAR-10 classes, linear probe"
    assert len(label_smoothing.FIGURES["smoothing"].draw(frame).axes) == 2
