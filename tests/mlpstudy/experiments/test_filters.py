"""First-layer filters: the conditions that are compared, C20 and C21 in each of their outcomes."""

import pytest
from small_runs import record

from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import filters
from mlpstudy.experiments.filters import INITIAL
from mlpstudy.profiles import profile

LAPTOP = profile("laptop")
SEEDS = (0, 1, 2)
WIGGLE = {0: 0.0, 1: 0.006, 2: -0.006}
C20, C21 = filters.CLAIMS


def looks(values, of=LAPTOP):
    """Records of first layers. ``values``: condition to both measures
    or to (smoothness, locality), None for none.
    """
    made = []
    for spec in filters.runs(of, SEEDS):
        value = values.get(filters.condition(record(spec)))
        if value is not None:
            pair = value if isinstance(value, tuple) else (value, value)
            # Only one condition moves with the seed, so that differences have a spread.
            wiggle = WIGGLE[spec.upstream.seed] * (filters.condition(record(spec)) == MOST)
            smoothness, locality = (v + wiggle for v in pair)
            made.append(record(spec, smoothness=smoothness, locality=locality))
    return made


FEW, MOST = "1,000 images, with DA", "all images, with DA"
PLAIN = "all images, without DA"


def test_conditions_are_those_of_the_runs():
    found = {filters.condition(record(spec)) for spec in filters.runs(LAPTOP, (0,))}
    assert found == {INITIAL, FEW, MOST, PLAIN}


@pytest.mark.parametrize(
    "start, few, most, expected",
    [
        (0.0, 0.1, 0.3, REPRODUCED),
        (0.0, 0.3, 0.1, PARTLY),
        (0.2, 0.0, 0.1, PARTLY),
        (0.3, 0.2, 0.1, CONTRADICTED),
        (0.1, 0.1, 0.1, CONTRADICTED),
        (0.1, 0.1, 0.105, INCONCLUSIVE),
    ],
)
def test_c20_in_all_its_outcomes(start, few, most, expected):
    found = C20.judge(looks({INITIAL: start, FEW: few, MOST: most, PLAIN: 0.0}))
    assert found.verdict == expected
    assert [part.effect.mean for part in found.parts] == pytest.approx(2 * [most - start, most - few])


@pytest.mark.parametrize(
    "name, note",
    [
        ("laptop", "about equal updates"),
        ("gpu", "equal epochs, so fewer images also mean fewer updates"),
    ],
)
def test_c20_says_what_training_sets_of_different_sizes_have_in_common(name, note):
    """Training without DA is shorter in profile gpu, but is not compared."""
    found = C20.judge(looks({INITIAL: 0.0, FEW: 0.1, MOST: 0.3, PLAIN: 0.0}, of=profile(name)))
    assert found.verdict == REPRODUCED and found.note == note


def test_smooth_filters_that_are_not_local_are_half_of_the_claims():
    found = looks({INITIAL: 0.0, FEW: 0.1, MOST: (0.5, -0.1), PLAIN: (0.1, 0.1)})
    for claim in (C20, C21):
        judgement = claim.judge(found)
        assert judgement.verdict == PARTLY
        for part in judgement.parts:
            assert part.verdict == (REPRODUCED if part.name.startswith("smoothness") else CONTRADICTED)


@pytest.mark.parametrize("claim, missing", [
    (C20, {INITIAL}),
    (C20, {FEW}),
    (C20, {FEW, MOST}),
    (C21, {FEW, INITIAL}),
    (C21, {FEW, PLAIN}),
    (C21, {FEW, MOST}),
    (C21, {MOST}),  # a subset is not taken for all the data
])  # fmt: skip
def test_claims_on_filters_without_one_side_are_not_tested(claim, missing):
    values = {INITIAL: 0.0, FEW: 0.3, MOST: 0.3, PLAIN: 0.1}
    assert claim.judge(looks({k: v for k, v in values.items() if k not in missing})).verdict == NOT_TESTED


@pytest.mark.parametrize(
    "start, with_da, without_da, expected",
    [
        (0.0, 0.3, 0.05, REPRODUCED),
        (0.0, 0.3, 0.2, PARTLY),
        (0.0, 0.1, 0.2, CONTRADICTED),
        (0.0, 0.2, 0.2, CONTRADICTED),
        (0.0, 0.205, 0.2, INCONCLUSIVE),
    ],
)
def test_c21_in_all_its_outcomes(start, with_da, without_da, expected):
    found = C21.judge(looks({INITIAL: start, FEW: 0.05, MOST: with_da, PLAIN: without_da}))
    assert found.verdict == expected
    assert [part.effect.mean for part in found.parts] == pytest.approx(2 * [with_da - without_da])
    assert f"smoothness {(with_da + start) / 2 - without_da:+.3f} [" in found.note
