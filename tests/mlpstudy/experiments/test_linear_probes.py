"""Linear probes: what is probed and in which order, the rows of Table 8, and claim C17."""

import dataclasses
import itertools

import pytest
from small_runs import record, scored

from mlplib.specs import PROBES, CheckpointSpec, ProbeSpec
from mlplib.store import run_id
from mlpstudy.claims import CONTRADICTED, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import linear_probes, transfer
from mlpstudy.experiments.linear_probes import PIXELS, RANDOM, SCRATCH, TUNED, WITH_DA, WITHOUT_DA
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile

SEEDS = (0, 1, 2)
(C17,) = linear_probes.CLAIMS
USUAL = {PIXELS: 0.3, RANDOM: 0.35, WITHOUT_DA: 0.5, WITH_DA: 0.6, SCRATCH: 0.55, TUNED: 0.7}


def made(budget="laptop", seeds=SEEDS, **accuracy):
    """Records with an accuracy for each kind of features, (features, method) or network trained whole."""
    accuracy = USUAL | accuracy.pop("given", {})
    records = []
    for spec in linear_probes.runs(profile(budget), seeds):
        name = linear_probes.features(spec) or linear_probes.reference(spec)
        top1 = accuracy.get((name, getattr(spec, "method", None)), accuracy[name])
        records.append(record(spec, test_top1=top1 + 0.001 * spec.seed))
    return records


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("budget", PROFILES)
def test_probes_of_the_same_features_follow_each_other(budget):
    probes = [s for s in linear_probes.runs(profile(budget), SEEDS) if isinstance(s, ProbeSpec)]
    keys = [(s.upstream, s.epoch, s.data) for s in probes]
    changes = sum(a != b for a, b in itertools.pairwise(keys))
    # Pixels have no seed, so theirs come once a seed.
    assert changes + 1 == len(probes) / 2
    assert [s.method for s in probes] == list(PROBES) * (len(probes) // 2)
    for linear, ridge in zip(probes[::2], probes[1::2], strict=True):
        assert (linear.upstream, linear.epoch, linear.data) == (ridge.upstream, ridge.epoch, ridge.data)


@pytest.mark.parametrize("budget", PROFILES)
def test_every_kind_of_features_is_probed_on_every_downstream_task(budget):
    specs = linear_probes.runs(profile(budget), (0,))
    for where in dict.fromkeys(s.data for s in specs):
        here = [s for s in specs if s.data == where]
        read = [(linear_probes.features(s), s.method) for s in here if isinstance(s, ProbeSpec)]
        assert read == [(features, method) for features in linear_probes.FEATURES for method in PROBES]
        assert [linear_probes.reference(s) for s in here[-2:]] == [SCRATCH, TUNED]


@pytest.mark.parametrize("budget", PROFILES)
def test_the_random_network_is_the_pre_trained_one_before_training(budget):
    specs = linear_probes.runs(profile(budget), SEEDS)
    random = [s for s in specs if linear_probes.features(s) == RANDOM]
    trained = [s for s in specs if linear_probes.features(s) == WITH_DA]
    assert [s.upstream for s in random] == [s.upstream for s in trained]
    assert not any(s.needs() for s in random) and all(s.needs() for s in trained)


@pytest.mark.parametrize("budget", PROFILES)
def test_everything_that_is_trained_is_shared_with_the_chapter_on_transfer(budget):
    ours, theirs = (with_upstream(m.runs(profile(budget), SEEDS)) for m in (linear_probes, transfer))
    trained = [s for s in ours.values() if not isinstance(s, ProbeSpec)]
    assert trained and {run_id(s) for s in trained} <= set(theirs)


def test_few_images_get_as_many_updates_as_all_of_them():
    probes = [s for s in linear_probes.runs(profile("laptop"), (0,)) if getattr(s, "method", "") == "linear"]
    assert {s.data.examples: s.epochs * (s.data.examples // s.batch_size) for s in probes} == {
        200: 1950,
        1000: 1950,
    }


@pytest.mark.parametrize("budget", ["gpu", "paper"])
def test_the_papers_probe_is_run_as_its_text_says(budget):
    for spec in linear_probes.runs(profile(budget), (0,)):
        if isinstance(spec, ProbeSpec) and spec.method == "linear":
            assert (spec.optimizer.name, spec.optimizer.lr, spec.epochs) == ("lion", 1e-5, 50)


# --------------------------------------------------------------------------- table and figure


def test_rows_hold_both_probes_and_the_networks_trained_whole():
    found = linear_probes.summary(made(), profile("laptop"))
    cells = {c.row: c for c in found if c.column == "4 other CIFAR-10 classes, 200 images"}
    assert len(cells) == 10 and len(found) == 20
    assert cells["pixels, ridge probe"].estimate.mean == pytest.approx(30.1)
    assert cells["pre-trained with DA, linear probe"].estimate.mean == pytest.approx(60.1)
    assert cells["pre-trained with DA, linear probe"].setting.startswith("B-6/Wi-256, 6 CIFAR-10 classes; ")
    assert cells["random weights, ridge probe"].setting == "B-6/Wi-256; closed form"
    assert cells["pixels, linear probe"].setting.endswith("epochs")
    assert cells["fine-tuned, whole network"].estimate.mean == pytest.approx(70.1)


def test_two_files_of_one_network_have_rows_of_their_own():
    where = profile("laptop")
    same = [CheckpointSpec("B-12/Wi-1024", digit * 64) for digit in "ab"]
    probes = [
        dataclasses.replace(linear_probes.probe(where, None, 0, method="ridge"), upstream=checkpoint)
        for checkpoint in same
    ]
    records = [record(spec, test_top1=0.5) for spec in probes]
    rows = [cell.row for cell in linear_probes.summary(records, where)]
    assert rows == [f"official B-12/Wi-1024 ({d * 8}), ridge probe" for d in "ab"]
    assert len(set(linear_probes.accuracies(records)["features"])) == 2
    assert C17.judge(records).verdict == NOT_TESTED, "official checkpoints decide nothing"


def test_directions_are_shown_of_those_records_that_tell():
    specs = linear_probes.runs(profile("laptop"), (0, 1))
    records = [record(spec) for spec in specs]
    frame = linear_probes.spread(records)
    assert list(dict.fromkeys(frame["features"])) == list(linear_probes.FEATURES)
    assert len(frame) == sum(getattr(spec, "method", "") == "ridge" for spec in specs)
    assert set(frame["directions"]) == {7.0}
    earlier = [dataclasses.replace(r, history={}) for r in records]
    assert linear_probes.spread(earlier).empty


def test_the_figure_draws_probes_and_lines():
    frame = linear_probes.accuracies(made())
    assert set(frame["features"]) == {*linear_probes.FEATURES, SCRATCH, TUNED}
    assert set(frame["method"]) == {*PROBES, "whole network"}
    assert linear_probes.FIGURES["probes"].draw(frame).axes


# --------------------------------------------------------------------------- claim


@pytest.mark.parametrize(
    "given, wanted",
    [
        ({}, REPRODUCED),
        ({SCRATCH: 0.65, TUNED: 0.99}, REPRODUCED),  # training the whole network decides nothing
        ({PIXELS: 0.62}, PARTLY),
        ({RANDOM: 0.62}, PARTLY),
        ({PIXELS: 0.62, RANDOM: 0.62}, CONTRADICTED),
        ({(WITH_DA, "ridge"): 0.2}, PARTLY),  # both probes count
        ({WITHOUT_DA: 0.1}, REPRODUCED),
    ],
)
def test_c17(given, wanted):
    assert C17.judge(made(given=given)).verdict == wanted


@pytest.mark.parametrize("share, wanted", [("one", PARTLY), ("all", CONTRADICTED)])
def test_c17_takes_all_data_sets_together(share, wanted):
    def weak(record):
        return linear_probes.features(record.spec) == WITH_DA and (
            share == "all" or record.spec.data.name == "stl10"
        )

    found = C17.judge(scored(made("paper"), 0.1, weak))
    least = min(part.effect.mean for part in found.parts)
    assert found.verdict == wanted and least == pytest.approx(-25 - 0.1)


def test_c17_tells_the_distance_to_training_whole_and_between_the_probes():
    found = C17.judge(made(given={(WITH_DA, "ridge"): 0.58}))
    names = {part.name: part.effect.mean for part in found.parts}
    title = "4 other CIFAR-10 classes, 200 images"
    assert names[f"ridge over random weights, {title}"] == pytest.approx(23) and len(names) == 8
    assert "ridge over from scratch +3.0 [" in found.note and "ridge over fine-tuned -12.0 [" in found.note
    assert "differ by 2.0 points at most" in found.note


def test_without_a_control_or_a_seed_in_common_nothing_is_judged():
    records = made()
    for left_out in (PIXELS, RANDOM, WITH_DA):
        rest = [r for r in records if linear_probes.features(r.spec) != left_out]
        assert C17.judge(rest).verdict == NOT_TESTED
    apart = [r for r in records if (r.spec.seed == 0) == (linear_probes.features(r.spec) == PIXELS)]
    assert C17.judge(apart).verdict == NOT_TESTED


def test_without_the_networks_trained_whole_the_claim_is_still_judged():
    found = C17.judge([r for r in made() if not linear_probes.reference(r.spec)])
    assert found.verdict == REPRODUCED and "scratch" not in found.note and "tuned" not in found.note
