"""Verdicts: every claim decided by code, on records made by hand, in each of its outcomes."""

import dataclasses

import pytest
from scipy import stats as reference
from small_runs import record

from mlplib.stats import Estimate, over_seeds, paired_difference
from mlpstudy import paper
from mlpstudy.claims import (
    NOT_REPRODUCED,
    NOT_TESTED,
    PARTLY,
    REPRODUCED,
    VERDICTS,
    Claim,
    Judgement,
    decide,
    judge_equal,
    judge_sign,
    not_tested,
    worst,
)
from mlpstudy.evidence import verdicts
from mlpstudy.experiments.architectures import exact_difference
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.experiments.architectures import runs as architecture_runs
from mlpstudy.experiments.filters import INITIAL, condition
from mlpstudy.experiments.filters import runs as filter_runs
from mlpstudy.experiments.from_scratch import runs as scratch_runs
from mlpstudy.profiles import PROFILES, profile

CLAIMS = {claim.id: claim for name in EXPERIMENTS for claim in experiment(name).CLAIMS}
LAPTOP, GPU = profile("laptop"), profile("gpu")
SEEDS = (0, 1, 2)
WIGGLE = {0: 0.0, 1: 0.002, 2: -0.002}
"""What a seed adds, so that there is a spread between seeds but no doubt about signs."""


def judge(name, records):
    found = CLAIMS[name].judge(records)
    assert isinstance(found, Judgement) and found.verdict in VERDICTS
    assert (found.effect is None) == (found.verdict == NOT_TESTED)
    assert set(found.run_ids) <= {r.id for r in records}
    return found


def verdict(name, records):
    return judge(name, records).verdict


# --------------------------------------------------------------------------- claims and rules


def test_claims_are_complete():
    """Every claim is decided by exactly one experiment."""
    ids = [claim.id for name in EXPERIMENTS for claim in experiment(name).CLAIMS]
    assert sorted(ids) == [f"C{number:02d}" for number in range(1, 23)]


def test_claims_say_how_they_are_judged():
    for name in EXPERIMENTS:
        assert experiment(name).CLAIMS, name
        for claim in experiment(name).CLAIMS:
            assert claim.sentence.endswith(".") and claim.criterion.endswith(".") and claim.item
            assert len(claim.criterion) > 40


def test_an_unknown_verdict_is_a_mistake():
    with pytest.raises(ValueError, match="unknown verdict 'maybe'"):
        Judgement("maybe")


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_without_records_nothing_is_tested(name):
    found = judge(name, [])
    assert found.verdict == NOT_TESTED and found.note and found.effect_text() == "–"


@pytest.mark.parametrize("low, high, enough, expected", [
    (1.0, 3.0, 0.0, REPRODUCED),
    (0.0, 3.0, 0.0, NOT_REPRODUCED),
    (-1.0, 3.0, 0.0, NOT_REPRODUCED),
    (-3.0, -1.0, 0.0, NOT_REPRODUCED),
    (1.0, 3.0, 2.0, REPRODUCED),
    (1.0, 3.0, 3.0, REPRODUCED),
    (1.0, 3.0, 3.1, PARTLY),
    (-1.0, 9.0, 3.1, NOT_REPRODUCED),
])  # fmt: skip
def test_judging_a_sign(low, high, enough, expected):
    assert judge_sign(Estimate((low + high) / 2, low, high, 3), enough) == expected


def test_judging_a_sign_without_an_interval_takes_the_mean():
    assert judge_sign(Estimate(0.1, None, None, 1)) == REPRODUCED
    assert judge_sign(Estimate(0.0, None, None, 1)) == NOT_REPRODUCED
    assert judge_sign(Estimate(1.0, None, None, 1), enough=2.0) == PARTLY


@pytest.mark.parametrize("low, high, expected", [
    (-0.9, 0.9, REPRODUCED),
    (0.2, 0.8, REPRODUCED),  # a difference that is sure, and too small to matter
    (-1.0, 0.9, PARTLY),
    (-0.1, 1.5, PARTLY),
    (-9.0, 9.0, PARTLY),  # an interval that contains 0 because it contains everything
    (0.5, 1.5, NOT_REPRODUCED),
    (-5.0, 1.0, NOT_REPRODUCED),
    (2.0, 3.0, NOT_REPRODUCED),
])  # fmt: skip
def test_judging_that_nothing_matters(low, high, expected):
    assert judge_equal(Estimate((low + high) / 2, low, high, 3), 1.0) == expected
    mirrored = Estimate(-(low + high) / 2, -high, -low, 3)
    assert judge_equal(mirrored, 1.0) == expected


def test_a_single_value_never_shows_equality():
    assert judge_equal(Estimate(0.0, None, None, 1), 1.0) == PARTLY
    assert judge_equal(Estimate(1.5, None, None, 1), 1.0) == NOT_REPRODUCED


def test_two_scattered_seeds_show_no_equality_but_many_equal_ones_do():
    """What the interval's containing 0 would have got wrong."""
    two = paired_difference({0: 0.60, 1: 0.50}, {0: 0.55, 1: 0.56})
    assert two.low < 0 < two.high and judge_equal(two, 0.01) == PARTLY
    many = {seed: 0.5 + WIGGLE[seed % 3] for seed in range(9)}
    same = paired_difference(many, {seed: 0.5 - WIGGLE[seed % 3] for seed in range(9)})
    assert judge_equal(same, 0.01) == REPRODUCED


def test_equality_is_two_one_sided_tests():
    sample = [0.3, -0.1, 0.2, 0.05]
    effect = over_seeds(sample)
    for margin in (0.2, 0.3, 0.35, 0.4, 0.5, 1.0):
        above = reference.ttest_1samp(sample, -margin, alternative="greater").pvalue
        below = reference.ttest_1samp(sample, margin, alternative="less").pvalue
        both = max(above, below) < 0.025
        assert (judge_equal(effect, margin) == REPRODUCED) == both, margin


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_equality_needs_a_margin(margin):
    with pytest.raises(ValueError, match="a margin is above 0"):
        judge_equal(Estimate(0.0, -1.0, 1.0, 3), margin)


def test_a_claim_about_several_cases():
    assert worst([REPRODUCED, REPRODUCED]) == REPRODUCED
    assert worst([REPRODUCED, NOT_REPRODUCED]) == PARTLY
    assert worst([PARTLY, PARTLY]) == PARTLY
    assert worst([PARTLY, NOT_REPRODUCED]) == PARTLY
    assert worst([NOT_REPRODUCED, NOT_REPRODUCED]) == NOT_REPRODUCED


def test_drawn_shapes_never_decide_a_claim():
    claim = Claim("C99", "s.", "i", "c.", lambda records: Judgement(REPRODUCED, Estimate(1.0, 0.5, 1.5, 3)))
    shapes = decide(claim, [], "smoke")
    assert shapes.verdict == NOT_TESTED and "drawn shapes" in shapes.note
    assert all(decide(claim, [], name).verdict == REPRODUCED for name in PROFILES if name != "smoke")


@pytest.mark.parametrize(
    "effect, text",
    [
        (Estimate(12.345, 10.0, 14.69, 3), "+12.3 [+10.0, +14.7] points (3 seeds)"),
        (Estimate(-0.1234, -0.2, 0.05, 2), "-0.12 [-0.20, +0.05] points (2 seeds)"),
        (Estimate(0.5, None, None, 1), "+0.50 points (1 seed)"),
        (
            Estimate(3.0, 2.0, 4.0, 1, "test images"),
            "+3.0 [+2.0, +4.0] points (1 seed, interval from test images only)",
        ),
    ],
)
def test_effects_are_printed_with_interval_and_seeds(effect, text):
    assert Judgement(REPRODUCED, effect, "points").effect_text() == text


def test_not_tested_says_why():
    assert not_tested("because").note == "because" and not_tested("because").verdict == NOT_TESTED


# --------------------------------------------------------------------------- which records decide


def evidence(**records):
    """What :func:`verdicts.published_evidence` gives for records of from-scratch by profile."""
    return {
        name: [verdicts.Evidence("from-scratch", name, found, f"{name}, a device")]
        for name, found in records.items()
    }


def origins(found):
    return {entry.claim.id: entry.origin for entry in verdicts.judged(verdicts.best(found))}


def test_each_claim_is_decided_by_the_best_profile_that_tests_it():
    whole = scratch(table())
    mlps = scratch({("b-mlp", True): 0.8, ("s-mlp", True): 0.7}, GPU)
    found = evidence(gpu=mlps, laptop=whole)
    assert origins(found) == {
        "C01": "laptop, a device",  # the gpu has no runs without augmentation
        "C02": "gpu, a device",
        "C03": "gpu, a device",
        "C04": "gpu, a device",  # nobody tests it, so the best that there is says so
    }
    entries = {entry.claim.id: entry for entry in verdicts.judged(verdicts.best(found))}
    assert entries["C01"].profile == "laptop" and entries["C01"].judgement.verdict != NOT_TESTED
    assert entries["C04"].judgement.verdict == NOT_TESTED
    assert set(origins(evidence(gpu=[], laptop=whole)).values()) == {"laptop, a device", "gpu, a device"}
    assert set(origins(evidence(gpu=whole, laptop=whole)).values()) == {"gpu, a device"}


def test_the_sensitivity_of_a_verdict_is_that_of_the_records_that_decide_it():
    found = verdicts.best(evidence(gpu=scratch({("b-mlp", True): 0.8}, GPU), laptop=scratch(table())))
    at_usual = {entry.claim.id: entry.judgement.verdict for entry in verdicts.judged(found)}
    for tally in verdicts.sensitivity(lambda: verdicts.judged(found)):
        assert sum(tally.counts.values()) == len(at_usual) == 4


# --------------------------------------------------------------------------- from scratch


def scratch(values, prof=LAPTOP, seeds=SEEDS, **more):
    """Records of Table 1's runs. ``values``: (family, da) to test accuracy, or None to leave the runs out."""
    made = []
    for spec in scratch_runs(prof, seeds):
        accuracy = values.get((spec.model.family, spec.augment.any))
        if accuracy is None:
            continue
        metrics = dict(test_top1=accuracy + WIGGLE.get(spec.seed, 0.0), train_top1=0.99)
        made.append(record(spec, **{**metrics, **more}))
    return made


def table(s_plain=0.50, s_da=0.70, b_plain=0.55, b_da=0.75):
    return {
        ("s-mlp", False): s_plain,
        ("s-mlp", True): s_da,
        ("b-mlp", False): b_plain,
        ("b-mlp", True): b_da,
    }


def test_c01_reaches_the_papers_own_gains():
    gains = {
        model: paper.value("Table 1", f"{model} + DA @5000", "CIFAR-10").value
        - paper.value("Table 1", f"{model} @100", "CIFAR-10").value
        for model in ("S-MLP", "B-MLP")
    }
    assert gains == pytest.approx({"S-MLP": 18.1, "B-MLP": 17.3})
    assert verdict("C01", scratch(table(s_da=0.50 + 0.185, b_da=0.55 + 0.178))) == REPRODUCED
    # Both gains are sure but one is too small, then none is there at all.
    assert verdict("C01", scratch(table(s_da=0.50 + 0.185, b_da=0.55 + 0.10))) == PARTLY
    assert verdict("C01", scratch(table(s_da=0.50, b_da=0.50))) == NOT_REPRODUCED


def test_c01_needs_overfitting_without_augmentation():
    records = scratch(table(s_da=0.70, b_da=0.75), train_top1=0.3)
    assert verdict("C01", records) == PARTLY


def test_c01_effect_is_the_smallest_case_in_points():
    found = judge("C01", scratch(table(s_plain=0.50, s_da=0.70, b_plain=0.55, b_da=0.65)))
    assert found.effect.mean == pytest.approx(10.0) and found.effect.n == 3
    assert "CIFAR-10" in found.note and "points" in found.unit


@pytest.mark.parametrize("missing", [{("s-mlp", True): None, ("b-mlp", True): None},
                                     {("s-mlp", False): None, ("b-mlp", False): None}])  # fmt: skip
def test_c01_without_one_side_is_not_tested(missing):
    assert verdict("C01", scratch(table() | missing)) == NOT_TESTED


def test_c02_in_all_its_outcomes():
    assert verdict("C02", scratch(table(s_da=0.70, b_da=0.75))) == REPRODUCED
    assert verdict("C02", scratch(table(s_da=0.75, b_da=0.70))) == NOT_REPRODUCED
    assert verdict("C02", scratch(table(s_da=0.70, b_da=0.70))) == NOT_REPRODUCED, "no difference is no win"
    assert verdict("C02", scratch({("b-mlp", True): 0.7, ("b-mlp", False): 0.6})) == NOT_TESTED
    two = dataclasses.replace(LAPTOP, datasets=("cifar10", "cifar100"))
    records = [
        dataclasses.replace(r, metrics={**r.metrics, "test_top1": 1 - r.metrics["test_top1"]})
        if r.spec.data.name == "cifar100"
        else r
        for r in scratch(table(), two)
    ]
    assert verdict("C02", records) == PARTLY, "won on one data set, lost on the other"


def test_c03_is_not_tested_by_short_runs():
    found = judge("C03", scratch(table()))
    assert found.verdict == NOT_TESTED and "the longest run here has 40" in found.note


@pytest.mark.parametrize(
    "early, expected",
    [
        ({"s-mlp": 0.68, "b-mlp": 0.70}, REPRODUCED),
        ({"s-mlp": 0.68, "b-mlp": 0.80}, PARTLY),
        ({"s-mlp": 0.80, "b-mlp": 0.80}, NOT_REPRODUCED),
    ],
)
def test_c03_in_all_its_outcomes(early, expected):
    records = []
    for spec in scratch_runs(GPU, SEEDS):
        if spec.model.family not in early:
            continue
        final = table()[spec.model.family, spec.augment.any] + WIGGLE[spec.seed]
        curve = {1000: early[spec.model.family], 5000: final} if spec.augment.any else {}
        records.append(record(spec, test_top1=final, curve=curve))
    assert verdict("C03", records) == expected


# --------------------------------------------------------------------------- architectures


def permuted(mlp_cost, cnn_cost, seeds=SEEDS, leave_out=lambda spec: False):
    made = []
    for spec in architecture_runs(LAPTOP, seeds):
        if leave_out(spec):
            continue
        cost = {"b-mlp": mlp_cost, "small-cnn": cnn_cost}[spec.model.family]
        shuffled = spec.data.pixel_permutation is not None
        # The cost itself differs between seeds, so that its interval is not a point.
        accuracy = 0.6 - (cost + WIGGLE.get(spec.seed, 0.0) if shuffled else 0.0)
        made.append(record(spec, test_top1=accuracy))
    return made


@pytest.mark.parametrize(
    "mlp_cost, cnn_cost, expected",
    [
        (0.0, 0.2, REPRODUCED),
        (0.001, 0.2, REPRODUCED),
        (0.1, 0.2, PARTLY),
        (0.0, 0.0, PARTLY),
        (0.2, 0.1, NOT_REPRODUCED),
        (0.1, 0.0, NOT_REPRODUCED),
        (-0.1, -0.1, NOT_REPRODUCED),
    ],
)
def test_c22_in_all_its_outcomes(mlp_cost, cnn_cost, expected):
    found = judge("C22", permuted(mlp_cost, cnn_cost))
    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(100 * cnn_cost, abs=0.01)


@pytest.mark.parametrize("family", ["b-mlp", "small-cnn"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_c22_needs_all_four_groups(family, shuffled):
    def one_group(spec):
        return spec.model.family == family and (spec.data.pixel_permutation is not None) == shuffled

    assert verdict("C22", permuted(0.0, 0.2, leave_out=one_group)) == NOT_TESTED


def test_c22_is_an_identity_for_mlps_up_to_rounding():
    assert 0 < exact_difference() < 1e-5 and exact_difference("S-2/Wi-32", side=16, seed=3) < 1e-5


def test_c22_from_one_seed_uses_the_test_images():
    found = judge("C22", permuted(0.0, 0.2, seeds=(0,)))
    assert found.verdict == REPRODUCED and found.effect.source == "test images"


# --------------------------------------------------------------------------- filters


def looks(values, seeds=SEEDS, prof=LAPTOP):
    """Records of first layers. ``values``: condition to both measures
    or to (smoothness, locality), None for none.
    """
    made = []
    for spec in filter_runs(prof, seeds):
        value = values.get(condition(record(spec)))
        if value is not None:
            pair = value if isinstance(value, tuple) else (value, value)
            smoothness, locality = (
                v + WIGGLE.get(spec.upstream.seed, 0.0) * (spec.at == "final") for v in pair
            )
            made.append(record(spec, smoothness=smoothness, locality=locality))
    return made


FEW, MORE, MOST = "1,000 images, with DA", "10,000 images, with DA", "all images, with DA"
PLAIN = "all images, without DA"


def test_conditions_are_those_of_the_runs():
    found = {condition(record(spec)) for spec in filter_runs(LAPTOP, (0,))}
    assert found == {INITIAL, FEW, MORE, MOST, PLAIN}


@pytest.mark.parametrize(
    "start, few, most, expected",
    [
        (0.0, 0.1, 0.3, REPRODUCED),
        (0.0, 0.3, 0.1, PARTLY),
        (0.2, 0.0, 0.1, PARTLY),
        (0.3, 0.2, 0.1, NOT_REPRODUCED),
        (0.1, 0.1, 0.1, NOT_REPRODUCED),
    ],
)
def test_c20_in_all_its_outcomes(start, few, most, expected):
    # What a seed adds is the same everywhere here, so the pairs have no spread; their signs stay.
    found = judge("C20", looks({INITIAL: start, FEW: few, MORE: 0.15, MOST: most, PLAIN: 0.0}))
    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(most - few)


def test_smooth_filters_that_are_not_local_are_half_of_the_claims():
    found = looks({INITIAL: 0.0, FEW: 0.1, MORE: 0.2, MOST: (0.5, -0.1), PLAIN: (0.1, 0.1)})
    for claim in ("C20", "C21"):
        judgement = judge(claim, found)
        assert judgement.verdict == PARTLY and judgement.effect.mean == pytest.approx(0.4)
        assert judgement.note.startswith("by locality: not reproduced, -0.200")


@pytest.mark.parametrize("missing", [(INITIAL,), (FEW, MORE), (FEW, MORE, MOST)])
def test_c20_needs_initialization_and_two_sizes(missing):
    values = {INITIAL: 0.0, FEW: 0.1, MORE: 0.2, MOST: 0.3, PLAIN: 0.0}
    assert verdict("C20", looks({k: v for k, v in values.items() if k not in missing})) == NOT_TESTED


@pytest.mark.parametrize(
    "start, with_da, without_da, expected",
    [
        (0.0, 0.3, 0.05, REPRODUCED),
        (0.0, 0.3, 0.2, PARTLY),
        (0.0, 0.1, 0.2, NOT_REPRODUCED),
        (0.0, 0.2, 0.2, NOT_REPRODUCED),
    ],
)
def test_c21_in_all_its_outcomes(start, with_da, without_da, expected):
    found = judge("C21", looks({INITIAL: start, FEW: 0.05, MOST: with_da, PLAIN: without_da}))
    assert found.verdict == expected
    assert found.effect.mean == pytest.approx(with_da - without_da)


@pytest.mark.parametrize("missing", [INITIAL, PLAIN, MOST])
def test_c21_needs_both_full_runs_and_the_start(missing):
    values = {INITIAL: 0.0, MOST: 0.3, PLAIN: 0.1}
    assert verdict("C21", looks({k: v for k, v in values.items() if k != missing})) == NOT_TESTED


def test_c21_does_not_take_a_subset_for_all_the_data():
    assert verdict("C21", looks({INITIAL: 0.0, FEW: 0.3, MORE: 0.3, PLAIN: 0.1})) == NOT_TESTED


# --------------------------------------------------------------------------- diverged and scattered runs


def all_records(seeds=SEEDS):
    return {
        "C01": scratch(table(), seeds=seeds),
        "C02": scratch(table(), seeds=seeds),
        "C20": looks({INITIAL: 0.0, FEW: 0.1, MORE: 0.2, MOST: 0.3, PLAIN: 0.0}, seeds),
        "C21": looks({INITIAL: 0.0, FEW: 0.1, MORE: 0.2, MOST: 0.3, PLAIN: 0.0}, seeds),
        "C22": permuted(0.0, 0.2, seeds),
    }


def diverged(made):
    return dataclasses.replace(made, status="diverged", metrics={})


def seed_of(made):
    return getattr(made.spec, "upstream", made.spec).seed


@pytest.mark.parametrize("name", sorted(all_records()))
def test_diverged_runs_are_left_out(name):
    records = all_records()[name]
    judged = judge(name, records)
    assert judged.verdict != NOT_TESTED
    assert verdict(name, [diverged(r) for r in records]) == NOT_TESTED
    mixed = [diverged(r) if seed_of(r) == 1 else r for r in records]
    without = [r for r in records if seed_of(r) != 1]
    assert judge(name, mixed) == judge(name, without)
    assert judge(name, mixed).effect.n == 2


@pytest.mark.parametrize("name", sorted(all_records()))
def test_any_part_of_the_records_gets_a_verdict(name):
    """Runs may be missing or diverged in any pattern: while runs are being done, all patterns occur."""
    records = all_records()[name]
    for k in range(len(records)):
        verdict(name, records[:k])
        verdict(name, records[k:])
        verdict(name, records[k::3])
        verdict(name, [diverged(r) if i % 4 == k % 4 else r for i, r in enumerate(records)])


def test_groups_without_a_common_seed_are_not_tested():
    by_seed = {
        "C01": [r for r in all_records()["C01"] if r.spec.augment.any == (seed_of(r) == 0)],
        "C02": [r for r in all_records()["C02"] if (r.spec.model.family == "b-mlp") == (seed_of(r) == 0)],
        "C20": [r for r in all_records()["C20"] if (condition(r) == MOST) == (seed_of(r) == 0)],
        "C21": [r for r in all_records()["C21"] if (condition(r) == MOST) == (seed_of(r) == 0)],
        "C22": [
            r for r in all_records()["C22"] if (r.spec.data.pixel_permutation is None) == (seed_of(r) == 0)
        ],
    }
    for name, records in by_seed.items():
        assert verdict(name, records) == NOT_TESTED, name
