"""Permuted pixels: C22 in each of its outcomes."""

import pytest
from small_runs import record

from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import architectures
from mlpstudy.profiles import profile

LAPTOP = profile("laptop")
SEEDS = (0, 1, 2)
WIGGLE = {0: 0.0, 1: 0.002, 2: -0.002}
(C22,) = architectures.CLAIMS


def permuted(mlp_cost, cnn_cost, seeds=SEEDS, leave_out=lambda spec: False):
    made = []
    for spec in architectures.runs(LAPTOP, seeds):
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
        (0.004, 0.2, REPRODUCED),
        (0.009, 0.2, PARTLY),
        (0.1, 0.2, PARTLY),
        (0.0, 0.0, PARTLY),
        (0.009, 0.002, INCONCLUSIVE),
        (0.1, 0.0, CONTRADICTED),
        (-0.1, -0.1, CONTRADICTED),
    ],
)
def test_c22_in_all_its_outcomes(mlp_cost, cnn_cost, expected):
    found = C22.judge(permuted(mlp_cost, cnn_cost))
    assert found.verdict == expected
    assert [part.effect.mean for part in found.parts] == pytest.approx(
        [100 * mlp_cost, 100 * cnn_cost], abs=0.01
    )


@pytest.mark.parametrize("family", ["b-mlp", "small-cnn"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_c22_needs_all_four_groups(family, shuffled):
    def one_group(spec):
        return spec.model.family == family and (spec.data.pixel_permutation is not None) == shuffled

    assert C22.judge(permuted(0.0, 0.2, leave_out=one_group)).verdict == NOT_TESTED


def test_c22_from_one_seed_uses_the_test_images():
    found = C22.judge(permuted(0.0, 0.2, seeds=(0,)))
    assert found.verdict == PARTLY, "500 images do not show that the MLP loses less than a point"
    assert {part.effect.source for part in found.parts} == {"test images"}
