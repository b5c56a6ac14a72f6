"""Verdicts: the rules that make them from effects, and which records decide."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats as reference
from small_runs import ROOT, record

from mlpstudy.claims import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_TESTED,
    PARTLY,
    REPRODUCED,
    Claim,
    Part,
    Range,
    about,
    all_of,
    at_least,
    decide,
    equal,
    judge,
    not_tested,
    not_worse,
    positive,
)
from mlpstudy.evidence import verdicts
from mlpstudy.evidence.records import ExperimentRecords, every_published
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.experiments.from_scratch import runs as scratch_runs
from mlpstudy.profiles import PROFILES, profile
from mlpstudy.stats import Estimate, over_seeds

CLAIMS = {claim.id: claim for name in EXPERIMENTS for claim in experiment(name).CLAIMS}
LAPTOP, GPU = profile("laptop"), profile("gpu")


# --------------------------------------------------------------------------- parts


def between(low, high, n=3, **more):
    """An estimate with this interval."""
    return Estimate((low + high) / 2, low, high, n, **more)


NOTHING, NO_INTERVAL = None, Estimate(1.0, None, None, 1)


@pytest.mark.parametrize("effect, expected", [
    (between(0.1, 3.0), REPRODUCED),
    (between(0.0, 3.0), INCONCLUSIVE),
    (between(-1.0, 9.0), INCONCLUSIVE),
    (between(-1.0, 0.6), INCONCLUSIVE),  # it may still be as large as the sentence means
    (between(-1.0, 0.5), CONTRADICTED),
    (between(0.1, 0.4), CONTRADICTED),  # sure, and too small to be what the sentence means
    (between(-3.0, -1.0), CONTRADICTED),
    (NO_INTERVAL, INCONCLUSIVE),
    (NOTHING, NOT_TESTED),
])  # fmt: skip
def test_an_effect_above_zero(effect, expected):
    assert positive(effect, "points", least=0.5).verdict == expected


@pytest.mark.parametrize("effect, about_it, at_least_it", [
    (between(8.0, 12.0), REPRODUCED, REPRODUCED),
    (between(7.0, 12.0), PARTLY, PARTLY),  # it may be smaller than the paper's
    (between(1.0, 99.0), PARTLY, PARTLY),  # imprecision does not reach a size
    (between(1.0, 7.5), PARTLY, PARTLY),
    (between(8.0, 13.0), PARTLY, REPRODUCED),
    (between(20.0, 30.0), PARTLY, REPRODUCED),
    (between(-1.0, 30.0), INCONCLUSIVE, INCONCLUSIVE),
    (between(-3.0, 0.2), CONTRADICTED, CONTRADICTED),
])  # fmt: skip
def test_an_effect_of_the_papers_size(effect, about_it, at_least_it):
    assert positive(effect, "points", size=about(10)).verdict == about_it
    assert positive(effect, "points", size=at_least(10)).verdict == at_least_it


def test_a_condition_that_fails_leaves_it_partly():
    assert positive(between(1, 3), "points", other=False).verdict == PARTLY
    assert positive(between(-1, 3), "points", other=False).verdict == INCONCLUSIVE


@pytest.mark.parametrize("low, high, same, no_worse", [
    (-0.9, 0.9, REPRODUCED, REPRODUCED),
    (0.2, 0.8, REPRODUCED, REPRODUCED),  # a difference that is sure, and too small to matter
    (-0.1, 1.5, INCONCLUSIVE, REPRODUCED),
    (-1.0, 0.9, INCONCLUSIVE, INCONCLUSIVE),
    (-9.0, 9.0, INCONCLUSIVE, INCONCLUSIVE),  # it contains 0 because it contains everything
    (1.0, 3.0, CONTRADICTED, REPRODUCED),
    (-3.0, -1.0, CONTRADICTED, CONTRADICTED),
])  # fmt: skip
def test_an_effect_that_does_not_matter(low, high, same, no_worse):
    assert equal(between(low, high), "points", margin=1.0).verdict == same
    assert equal(between(-high, -low), "points", margin=1.0).verdict == same
    assert not_worse(between(low, high), "points", margin=1.0).verdict == no_worse


def test_equality_is_two_one_sided_tests():
    sample = [0.3, -0.1, 0.2, 0.05]
    effect = over_seeds(sample)
    for margin in (0.2, 0.3, 0.35, 0.4, 0.5, 1.0):
        above = reference.ttest_1samp(sample, -margin, alternative="greater").pvalue
        below = reference.ttest_1samp(sample, margin, alternative="less").pvalue
        both = max(above, below) < 0.025
        assert (equal(effect, "", margin=margin).verdict == REPRODUCED) == both, margin


@pytest.mark.parametrize("part, sought", [
    (positive(None, "", least=0.2), 0.2),
    (positive(None, "", size=about(10)), 10),
    (positive(None, "", size=at_least(10)), 10),
    (equal(None, "", margin=1.0), 1.0),
    (not_worse(None, "", margin=1.0), 1.0),
])  # fmt: skip
def test_the_effect_that_runs_should_show_is_the_papers_else_the_smallest_meant(part, sought):
    assert part.sought == pytest.approx(sought)


WIDE = over_seeds([-1.0, 3.0])


@pytest.mark.parametrize("part, reason", [
    (positive(between(1, 3), "points"), ""),
    (positive(between(1, 3), "points", other=False), "a further condition is not met"),
    (positive(between(1, 3), "points", size=about(10)), "smaller than in the paper"),
    (positive(between(20, 30), "points", size=about(10)), "larger than in the paper"),
    (positive(between(5, 30), "points", size=about(10)), "the size is undecided"),
    (positive(between(-3, -1), "points"), "the interval excludes even +0.5"),
    (equal(between(2, 3), "points", margin=1.0), "the interval excludes even +1.0"),
    (equal(between(-3, -2), "points", margin=1.0), "the interval excludes even -1.0"),
    (positive(NO_INTERVAL, "points"), "1 seed: no interval"),
    (positive(between(-1, 3), "points"), "3 seeds: interval 4.0 wide"),
    (positive(WIDE, "points", size=about(4)), "2 seeds: interval 50.8 wide; 254 would do"),
    (
        positive(between(-1, 3, source="grid and seeds"), ""),
        "3 seeds: interval 4.0 wide; more training runs would narrow it rather than more seeds",
    ),
    (positive(None, "points", why_not="it needs a GPU"), "it needs a GPU"),
])  # fmt: skip
def test_a_part_says_why(part, reason):
    assert part.reason() == reason


def test_an_effect_that_does_not_matter_takes_more_seeds():
    same, no_worse = (make(WIDE, "points", margin=2.0) for make in (equal, not_worse))
    assert (same.sides, no_worse.sides, positive(WIDE, "points").sides) == (2, 1, 1)
    assert f"; {WIDE.seeds_for(2.0, sides=2)} would do" in same.reason()
    assert f"; {WIDE.seeds_for(2.0)} would do" in no_worse.reason()
    assert same.detectable > no_worse.detectable == WIDE.needed()


def test_the_seeds_that_would_do_are_those_for_the_smallest_effect_meant():
    part = positive(WIDE, "points", least=3.0, size=about(9))
    assert f"; {WIDE.seeds_for(3.0)} would do" in part.reason() and WIDE.seeds_for(3.0) > 2
    assert part.smallest == 3.0 and part.sought == pytest.approx(9)
    assert Part("", None, "times", Range(1.0), Range(1.1)).smallest == pytest.approx(0.1)


# --------------------------------------------------------------------------- judgements


@pytest.mark.parametrize("parts, whole", [
    ([REPRODUCED, REPRODUCED], REPRODUCED),
    ([CONTRADICTED, CONTRADICTED], CONTRADICTED),
    ([NOT_TESTED, NOT_TESTED], NOT_TESTED),
    ([PARTLY], PARTLY),
    ([REPRODUCED, CONTRADICTED], PARTLY),
    ([REPRODUCED, NOT_TESTED], PARTLY),
    ([PARTLY, INCONCLUSIVE], PARTLY),
    ([CONTRADICTED, INCONCLUSIVE], INCONCLUSIVE),
    ([CONTRADICTED, NOT_TESTED], INCONCLUSIVE),
    ([INCONCLUSIVE, NOT_TESTED], INCONCLUSIVE),
])  # fmt: skip
def test_a_claim_that_says_several_things(parts, whole):
    assert all_of(parts) == all_of(parts[::-1]) == whole


EFFECTS = between(1, 3), None, between(2, 4, 2)


@pytest.mark.parametrize("parts, text", [
    ([positive(between(9.99, 14.7), "points")], "+12.3 [+10.0, +14.7] points (3 seeds)"),
    ([positive(between(-0.3, 0.05, 2), "points")], "-0.12 [-0.30, +0.05] points (2 seeds)"),
    ([positive(Estimate(0.5, None, None, 1), "points")], "+0.50 points (1 seed)"),
    (
        [positive(between(2, 4, 1, source="test images"), "points")],
        "+3.0 [+2.0, +4.0] points (1 seed, interval from test images only)",
    ),
    (
        [positive(effect, "points", name) for name, effect in zip("ABC", EFFECTS, strict=True)],
        "A +2.0 [+1.0, +3.0]; C +3.0 [+2.0, +4.0] points (2 seeds, 3 seeds)",
    ),
    (
        [positive(between(1, 3), "points", "A"), positive(between(0.1, 0.3), "more", "B", form="+.3f")],
        "A +2.0 [+1.0, +3.0] points; B +0.200 [+0.100, +0.300] more (3 seeds)",
    ),
    ([positive(between(0.1, 0.3), "", "local", form="+.3f")], "local +0.200 [+0.100, +0.300] (3 seeds)"),
    ([positive(None, "points")], "–"),
])  # fmt: skip
def test_effects_are_printed_with_interval_and_seeds(parts, text):
    assert judge(parts, ()).effect_text() == text


def test_a_judgement_gives_the_reasons_of_its_parts():
    good, bad = positive(between(1, 3), "points", "A"), positive(between(-3, -1), "points", "B")
    absent = [positive(None, "points", name, why_not="no GPU") for name in "CD"]
    assert judge([good]).reason() == "" == judge([good, good]).reason()
    assert judge([bad]).reason() == judge([bad, bad]).reason() == bad.reason()
    assert judge(absent).reason() == "no GPU"
    found = judge([good, bad, *absent], "a note")
    assert (found.verdict, found.note) == (PARTLY, "a note")
    assert found.measured == [good, bad]
    assert found.reason() == (
        "A reproduced; B contradicted (the interval excludes even +0.5); "
        "C, D not tested at this scale (no GPU)"
    )


def test_not_tested_says_why():
    assert not_tested("because").note == "because" and not_tested("because").verdict == NOT_TESTED


def decided(effect, profile_name, regime="", note=""):
    part = positive(effect, "points")
    claim = Claim("C99", "s.", "i", "c.", lambda records: judge([part], note), regime)
    return decide(claim, [], profile_name)


def test_drawn_shapes_never_decide_a_claim():
    shapes = decided(between(1, 3), "smoke")
    assert shapes.verdict == NOT_TESTED and "drawn shapes" in shapes.reason()
    assert all(decided(between(1, 3), name).verdict == REPRODUCED for name in PROFILES if name != "smoke")


def test_small_profiles_cannot_contradict_a_claim_about_scale():
    against, regime = between(-3, -1), "millions of images"
    found = decided(against, "laptop", regime, "6 epochs")
    assert found.verdict == found.words == NOT_TESTED and len(found.measured) == 1
    assert found.note == "6 epochs"
    assert found.reason() == "it does not hold at laptop scale, but is about millions of images"
    for name, about_scale in (("laptop", ""), ("gpu", regime), ("paper", regime)):
        assert decided(against, name, about_scale).words == CONTRADICTED


@pytest.mark.parametrize("effect, expected", [
    (between(1, 3), REPRODUCED),
    (between(-1, 3), INCONCLUSIVE),
    (NOTHING, NOT_TESTED),
])  # fmt: skip
def test_small_profiles_say_at_what_scale_they_judge(effect, expected):
    found = decided(effect, "laptop", "millions of images")
    assert found.verdict == expected
    assert found.words == (expected if effect is None else f"{expected}, at laptop scale")
    assert decided(effect, "gpu", "millions of images").words == decided(effect, "laptop").words == expected


# --------------------------------------------------------------------------- the claims


def test_claims_are_complete():
    """Every claim is decided by exactly one experiment."""
    ids = [claim.id for name in EXPERIMENTS for claim in experiment(name).CLAIMS]
    assert sorted(ids) == [f"C{number:02d}" for number in range(1, 23)]


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_claims_say_how_they_are_judged_and_nothing_is_tested_without_records(name):
    claim, found = CLAIMS[name], CLAIMS[name].judge([])
    assert claim.sentence.endswith(".") and claim.criterion.endswith(".") and claim.item
    assert len(claim.criterion) > 40
    assert found.verdict == NOT_TESTED and found.note and found.effect_text() == "–"


# --------------------------------------------------------------------------- which records decide


def from_scratch_at_laptop():
    return [each for each in every_published("from-scratch", ROOT / "results") if each.profile == LAPTOP]


def test_each_profile_has_its_own_verdicts_and_none_stands_in_for_another():
    little = [record(spec) for spec in scratch_runs(GPU, (0, 1, 2)) if spec.augment.any]
    at_gpu = [ExperimentRecords("from-scratch", GPU, little, Path())]
    board = {"gpu": verdicts.judged(at_gpu), "laptop": verdicts.judged(from_scratch_at_laptop())}
    assert board["gpu"]["C01"].judgement.verdict == NOT_TESTED != board["laptop"]["C01"].judgement.verdict
    head, _, *rows = verdicts.markdown(board).splitlines()
    assert head == "| claim | the paper says | gpu | laptop |" and len(rows) == len(CLAIMS)
    c18 = next(row for row in rows if row.startswith("| C18"))
    assert c18.count("no records") == 2


def test_robustness_judges_every_claim_in_every_way():
    found = from_scratch_at_laptop()
    ways = verdicts.robustness(found)
    assert list(ways) == [*verdicts.VARIANTS, verdicts.HOLM]
    assert {frozenset(of) for of in ways.values()} == {frozenset({"C01", "C02", "C03", "C04"})}
    assert ways[verdicts.AS_JUDGED] == {
        id: entry.judgement.verdict for id, entry in verdicts.judged(found).items()
    }


def test_holms_correction_judges_undecided_parts_at_a_stricter_level_each_time():
    """Two claims with three parts, whose intervals are above zero up to confidences of 99, 97.2 and 90 %."""
    limits = {"A": [0.99], "B": [0.972, 0.90]}

    def parts(confidence):
        return {
            id: [positive(Estimate(1.0, limit - confidence, 2.0, 3), "") for limit in each]
            for id, each in limits.items()
        }

    def found():
        return {id: [part.verdict for part in each] for id, each in verdicts.holm(parts(0.95), parts).items()}

    # A at 1 - 0.05 / 3, then B's first at 1 - 0.05 / 2 = 97.5 %, which is too strict for it.
    assert found() == {"A": [REPRODUCED], "B": [INCONCLUSIVE, INCONCLUSIVE]}
    limits["B"][0] = 0.976
    assert found()["B"] == [REPRODUCED, INCONCLUSIVE]


def test_holms_correction_keeps_the_chance_of_any_false_verdict():
    """One part that looks true makes a claim partly reproduced, so a claim of many parts must not count once:
    where no effect exists, any verdict is false.
    """
    random, studies, wrong = np.random.default_rng(0), 1000, 0
    for _ in range(studies):
        means = random.normal(size=(2, 10))  # two claims of ten parts, with known standard errors of 1

        def parts(confidence, means=means):
            half = NormalDist().inv_cdf(0.5 + confidence / 2)
            return {
                id: [positive(Estimate(m, m - half, m + half, 3), "", least=1e-9) for m in each]
                for id, each in enumerate(means)
            }

        verdict = [judge(each).verdict for each in verdicts.holm(parts(0.95), parts).values()]
        wrong += any(each != INCONCLUSIVE for each in verdict)
    assert 0 < wrong / studies < 0.05


def test_the_part_that_is_hardest_to_see_is_named():
    small, large = (positive(over_seeds([0, d]), "", name=str(d)) for d in (0.1, 5.0))
    counted = positive(Estimate(3.0, 3.0, 3.0, 1), "", name="counted")
    assert verdicts.hardest(judge([small, large, counted])).name == "5.0"
    assert verdicts.hardest(judge([counted])) is None
