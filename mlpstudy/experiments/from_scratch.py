"""Training from scratch (Table 1): both MLPs, with and without data augmentation, and a convolutional net."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from mlplib.specs import FULL_DA, NO_DA, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from mlplib.store import Record

from .. import paper, stats
from ..claims import MARGIN, REPRODUCED, Judgement, Part, about, at_least, judge, not_tested, positive
from ..profiles import Profile
from . import architectures, base

TITLE = "Training from scratch"
ITEMS = ("Table 1",)
FAMILIES = ("s-mlp", "b-mlp")
CONVNET_ROW = "ResNet18 + DA"
STAND_IN = "small-cnn"
"""The network that stands in for ResNet18 where that would take hours: small, trained briefly, without DA."""

RESNET_EPOCHS, RESNET_BATCH = 200, 512
RESNET_SGD = OptimizerSpec("sgd", lr=0.4, weight_decay=5e-4, schedule="cosine", warmup=5)
"""A common recipe for ResNet18 on CIFAR: a learning rate of 0.1 per batch of 128, scaled in proportion, with
momentum 0.9, cosine decay and a warm-up of 5 epochs. The paper does not give its own."""

CURVE_POINTS = 100
"""About how many epochs of a run's training accuracy are drawn; thousands would make the page heavy."""

PAPER_EPOCHS = {False: (100,), True: (1000, 5000)}
"""The lengths in Table 1, without and with DA."""


def lengths(profile: Profile, da: bool) -> dict[int, int]:
    """The paper's lengths, which name rows of Table 1, mapped to the profile's; the same if it has them."""
    own = profile.epochs_da if da else (profile.epochs_no_da,)
    if set(own) <= set(PAPER_EPOCHS[da]):
        return {epochs: epochs for epochs in own}
    return dict(zip(PAPER_EPOCHS[da], own, strict=True))


def training_run(
    profile: Profile, model: str, dataset: str, seed: int, da: bool, examples: int | None = None
) -> TrainSpec:
    """One training run with the paper's settings: Lion at 5e-5, label smoothing 0.3 (Section 4.2)."""
    epochs = profile.epochs_da[-1] if da else profile.epochs_no_da
    return TrainSpec(
        model=ModelSpec.parse(model),
        data=DataSpec(dataset, examples=examples),
        epochs=epochs,
        batch_size=min(profile.batch_size, examples or profile.batch_size),
        augment=FULL_DA if da else NO_DA,
        optimizer=OptimizerSpec(lr=profile.learning_rate),
        label_smoothing=0.3,
        evaluate_at=base.checkpoints(epochs, also=profile.epochs_da),
        seed=seed,
    )


def convnet_runs(profile: Profile, seeds: Sequence[int]) -> list[TrainSpec]:
    """ResNet18 with the MLPs' augmentation on every data set, or the small CNN instead.

    The small CNN's runs are those of the chapter on architectures on images as they are.
    """
    if profile.convnet == STAND_IN:
        found = architectures.runs(profile, seeds)
        return [s for s in found if s.model.family == STAND_IN and s.data.pixel_permutation is None]
    return [
        TrainSpec(
            model=ModelSpec.parse(profile.convnet),
            data=DataSpec(dataset),
            epochs=RESNET_EPOCHS,
            batch_size=RESNET_BATCH,
            augment=FULL_DA,
            optimizer=RESNET_SGD,
            evaluate_at=base.checkpoints(RESNET_EPOCHS),
            seed=seed,
        )
        for dataset in profile.datasets
        for seed in seeds
    ]


def runs(profile: Profile, seeds: Sequence[int]) -> list[TrainSpec]:
    """Both MLPs with and without augmentation on every data set, and a convolutional network."""
    mlps = [
        training_run(profile, model, dataset, seed, da)
        for dataset in profile.datasets
        for model in (profile.s_mlp, profile.b_mlp)
        for da in (False, True)
        for seed in seeds
    ]
    return mlps + convnet_runs(profile, seeds)


def _mlps(records: Sequence[Record], family: str, da: bool) -> dict[str, list[Record]]:
    """The runs of one MLP with or without DA, by data set."""
    return base.by_dataset(r for r in records if r.spec.model.family == family and r.spec.augment.any == da)


def _convnets(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of the convolutional network, by data set."""
    return base.by_dataset(r for r in records if r.spec.model.family in base.CONVNET_TITLES)


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 1: test accuracy in percent, mean over seeds."""
    cells = []
    shared = base.table_spread(records, lambda r: (r.spec.data.name, r.spec.model, r.spec.augment.any))
    for dataset, here in base.by_dataset(records).items():
        column = base.DATASET_TITLES[dataset]
        for family in FAMILIES:
            for da in PAPER_EPOCHS:
                group = _mlps(here, family, da).get(dataset, [])
                for paper_epochs, epochs in lengths(profile, da).items():
                    row = f"{base.MLP_TITLES[family]}{' + DA' if da else ''} @{paper_epochs}"
                    cells += _mlp_cells({(row, column): group}, epochs, shared)
        convnet = {(CONVNET_ROW, column): _convnets(here).get(dataset, [])}
        cells += base.mean_cells("Table 1", convnet, _setting, shared=shared)
    return cells


def _mlp_cells(
    groups: dict[tuple[str, str], list[Record]], epochs: int, shared: stats.Spread | None
) -> list[base.Cell]:
    """Accuracy in percent after ``epochs`` epochs, where it was measured."""

    def value(record: Record) -> float | None:
        found = base.top1_at(record, epochs)
        return None if found is None else 100 * found

    def setting(group: Sequence[Record]) -> str:
        return f"{group[0].spec.model}, {epochs} epochs"

    return base.mean_cells("Table 1", groups, setting, value, shared=shared)


def _setting(group: Sequence[Record]) -> str:
    spec = group[0].spec
    setting = f"{base.CONVNET_TITLES[spec.model.family]}, {spec.epochs} epochs"
    return f"a stand-in: {setting}, without DA" if spec.model.family == STAND_IN else setting


@base.dataframe
def curves(records: Sequence[Record]) -> Iterator[dict]:
    """Accuracy during training from scratch. Solid lines are test accuracy, dotted lines accuracy on the
    training batches as the model sees them, which under MixUp is that of the label with the larger share. A
    training accuracy that rises far above the test accuracy means that the network overfits. Bands span the
    seeds.
    """
    for record in records:
        spec, history = record.spec, record.history
        common = {
            "data": base.DATASET_TITLES[spec.data.name],
            "model": (base.MLP_TITLES | base.CONVNET_TITLES)[spec.model.family],
            "augmentation": "with DA" if spec.augment.any else "without DA",
            "seed": spec.seed,
            "run": record.id,
        }
        for entry in history["test"]:
            yield common | {"split": "test", "epoch": entry["epoch"], "accuracy": 100 * entry["top1"]}
        training = list(zip(history["epoch"], history["train_accuracy"], strict=True))
        step = max(1, len(training) // CURVE_POINTS)
        for epoch, value in training[step - 1 :: step]:
            yield common | {"split": "train", "epoch": epoch, "accuracy": 100 * value}


FIGURES = {
    "accuracy-over-epochs": base.Figure(
        data=curves,
        draw=base.plot("curves.accuracy_curves"),
        alt="Line chart of accuracy against epoch for S-MLP, B-MLP and a convolutional network, in one panel "
        "with and in one without data augmentation, test accuracy solid, training accuracy dotted.",
    )
}


def _note(datasets: Iterable[str]) -> str:
    return f"on {', '.join(base.DATASET_TITLES[name] for name in dict.fromkeys(datasets))} only"


def _unchecked(part: Part, family: str, dataset: str) -> str:
    """How far off an unchecked value of the paper may be for a reproduced gain to stay so; else nothing."""
    cells = _paper_cells(base.MLP_TITLES[family], dataset)
    if part.verdict != REPRODUCED or None in cells or {cell.source for cell in cells} == {"checked"}:
        return ""
    size = part.sought
    spare = min(part.effect.low / (1 - MARGIN) - size, size - part.effect.high / (1 + MARGIN))
    return f"; {part.name}: partly, if the paper's unchecked gain of {size:.1f} is off by {spare:.1f} points"


def _case(family: str, dataset: str) -> str:
    return f"{base.MLP_TITLES[family]}, {base.DATASET_TITLES[dataset]}"


def _paper_cells(model: str, dataset: str) -> list[paper.PaperValue | None]:
    """The paper's accuracies with DA and without in Table 1."""
    rows = (f"{model} + DA @5000", f"{model} @100")
    return [paper.value("Table 1", row, base.DATASET_TITLES[dataset]) for row in rows]


def _paper_gain(model: str, dataset: str) -> float:
    """How much DA adds in the paper's Table 1, in points; its sentence's 20 where the cell is unknown."""
    cells = _paper_cells(model, dataset)
    return 20.0 if None in cells else cells[0].value - cells[1].value


def _overfits(group: Sequence[Record]) -> bool:
    """Whether training accuracy exceeds test accuracy."""
    trained, tested = base.by_seed(group, lambda r: r.metrics["train_top1"]), base.by_seed(group, base.top1)
    found = stats.over_seeds(stats.paired(trained, tested))
    return (found.mean if found.low is None else found.low) > 0


@base.claim(
    "C01",
    "Table 1",
    "Without data augmentation both MLPs overfit; augmentation adds about 20 points across tasks.",
)
def c01(records: Sequence[Record]) -> Judgement:
    """For each MLP and data set: final test accuracy with DA minus without, paired by seed, is above 0, about
    as large as the paper's own gain in that cell (@5000 with DA minus @100 without), and without DA training
    accuracy exceeds test accuracy.
    """
    augmented, plain = (
        {(f, name): group for f in FAMILIES for name, group in _mlps(records, f, da).items()}
        for da in (True, False)
    )
    gains = base.effects(augmented, plain)
    if {family for family, _ in gains} != set(FAMILIES):
        return not_tested("needs runs of both MLPs with and without augmentation")

    def part(family: str, dataset: str) -> Part:
        size = about(_paper_gain(base.MLP_TITLES[family], dataset))
        name, overfits = _case(family, dataset), _overfits(plain[family, dataset])
        return positive(gains[family, dataset], "points from DA", name, size=size, other=overfits)

    parts = {key: part(*key) for key in gains}
    unchecked = "".join(_unchecked(found, *key) for key, found in parts.items())
    return judge(list(parts.values()), _note(name for _, name in gains) + unchecked)


@base.claim("C02", "Table 1", "The B-MLP beats the S-MLP on every data set.")
def c02(records: Sequence[Record]) -> Judgement:
    """Final test accuracy with DA, B-MLP minus S-MLP, is above 0 on every data set. Not paired: the two
    networks share nothing by their seed. The spread between seeds is that of both MLPs with and without DA.
    """
    plain = [group for family in FAMILIES for group in _mlps(records, family, da=False).values()]
    gains = base.unpaired_effects(_mlps(records, "b-mlp", da=True), _mlps(records, "s-mlp", da=True), *plain)
    if not gains:
        return not_tested("needs both MLPs with augmentation")
    unit = "points, B-MLP over S-MLP"
    parts = [positive(gain, unit, base.DATASET_TITLES[dataset]) for dataset, gain in gains.items()]
    return judge(parts, _note(gains))


@base.claim("C03", "Table 1", "With data augmentation, training on to 5000 epochs still helps.")
def c03(records: Sequence[Record]) -> Judgement:
    """Test accuracy at epoch 5000 minus epoch 1000 of the same runs with DA is above 0 for every MLP and data
    set. Shorter runs do not test it.
    """
    augmented = [r for r in records if r.spec.model.family in FAMILIES and r.spec.augment.any]
    long = base.group_by(
        (r for r in base.completed(augmented) if r.spec.epochs >= 5000),
        lambda r: (r.spec.model.family, r.spec.data.name),
    )
    gains = base.effects(long, long, base.top1, lambda r: base.top1_at(r, 1000))
    if not gains:
        longest = max((r.spec.epochs for r in augmented), default=0)
        return not_tested(f"needs 5000 epochs with augmentation; the longest run here has {longest}")
    unit = "points from epoch 1000 to 5000"
    parts = [positive(gain, unit, _case(*key)) for key, gain in gains.items()]
    return judge(parts, _note(name for _, name in gains))


def _best_mlp(records: Sequence[Record], dataset: str) -> list[Record]:
    """The runs of the MLP with the highest final accuracy on a data set, with or without DA.

    Empty unless both were run with and without it: the best of a subset need not be the best of all.
    """
    groups = [_mlps(records, family, da).get(dataset) for family in FAMILIES for da in (True, False)]
    if not all(groups):
        return []
    finished = filter(None, map(base.completed, groups))
    return max(finished, key=lambda group: statistics.fmean(map(base.top1, group)), default=[])


def _paper_gap(dataset: str) -> float:
    """How far ResNet18 is ahead of the best MLP in the paper's Table 1, in points; 0 where unknown."""
    column = [cell for cell in paper.values().values() if cell.item == "Table 1"]
    column = {cell.row: cell.value for cell in column if cell.column == base.DATASET_TITLES[dataset]}
    convnet = column.pop(CONVNET_ROW, None)
    return convnet - max(column.values()) if column and convnet is not None else 0.0


@base.claim(
    "C04",
    "Table 1",
    "A large gap to ResNet18 stays when data is small.",
    afterthought="The criterion was written when runs of profile laptop had been seen.",
)
def c04(records: Sequence[Record]) -> Judgement:
    """Final test accuracy of the convolutional network minus that of the MLP with the highest mean, with or
    without DA, is above 0 and not clearly smaller than the paper's own gap in that column (ResNet18 with DA
    minus the best MLP), on every data set. Not paired. Where the small CNN stands in for ResNet18, partly
    reproduced at best.
    """
    convnets = _convnets(records)
    mlps = [g for f in FAMILIES for da in (True, False) for g in _mlps(records, f, da).values()]
    gaps = base.unpaired_effects(convnets, {name: _best_mlp(records, name) for name in convnets}, *mlps)
    if not gaps:
        return not_tested("needs a convolutional network, and both MLPs with and without augmentation")
    stand_in = any(r.spec.model.family == STAND_IN for r in records)
    unit = "points, convolutional network over the best MLP"

    def part(dataset: str) -> Part:
        size = at_least(_paper_gap(dataset))
        return positive(gaps[dataset], unit, base.DATASET_TITLES[dataset], size=size, other=not stand_in)

    note = _note(gaps)
    note += "; a small CNN without DA stands in for ResNet18, so it is partly at best" if stand_in else ""
    return judge([part(dataset) for dataset in gaps], note)


CLAIMS = (c01, c02, c03, c04)
