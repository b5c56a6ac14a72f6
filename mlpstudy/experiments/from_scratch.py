"""Training from scratch (Table 1): both MLPs, with and without data augmentation, and a convolutional net."""

from __future__ import annotations

from collections.abc import Sequence

from mlplib.specs import FULL_DA, NO_DA, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from mlplib.stats import Estimate, accuracy_difference, paired_difference
from mlplib.store import Record

from .. import paper
from ..claims import PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from . import architectures
from .base import (
    DATASET_TITLES,
    Cell,
    Figure,
    accuracy,
    by_seed,
    checkpoints,
    completed,
    datasets,
    effect,
    percent,
    run_ids,
    seeds_cell,
    top1_at,
    weakest,
)

TITLE = "Training from scratch"
ITEMS = ("Table 1",)
MODELS = {"S-MLP": "s-mlp", "B-MLP": "b-mlp"}
CONVNETS = {"resnet18": "ResNet18", "small-cnn": "small CNN"}
CONVNET_ROW = "ResNet18 + DA"
STAND_IN = "small-cnn"
"""What stands in for ResNet18 where that would take hours: small, and trained briefly and without DA."""

RESNET_EPOCHS, RESNET_BATCH = 200, 512
RESNET_SGD = OptimizerSpec("sgd", lr=0.4, weight_decay=5e-4, schedule="cosine", warmup=5)
"""A usual recipe for ResNet18 on CIFAR: a learning rate of 0.1 for a batch of 128, in proportion, with
momentum 0.9, cosine decay and a warm-up of 5 epochs. The paper does not tell its own."""

CURVE_POINTS = 100
"""About how many epochs of a run's training accuracy are drawn: thousands would only make the page heavy."""

PAPER_EPOCHS = {False: (100,), True: (1000, 5000)}


def training_run(
    profile: Profile, model: str, dataset: str, seed: int, da: bool, examples: int | None = None
) -> TrainSpec:
    """One training run from scratch with the paper's settings:
    Lion at 5e-5, label smoothing 0.3 (Section 4.1).
    """
    epochs = profile.epochs_da[-1] if da else profile.epochs_no_da
    return TrainSpec(
        model=ModelSpec.parse(model),
        data=DataSpec(dataset, examples=examples),
        epochs=epochs,
        batch_size=min(profile.batch_size, examples or profile.batch_size),
        augment=FULL_DA if da else NO_DA,
        optimizer=OptimizerSpec(lr=profile.learning_rate),
        label_smoothing=0.3,
        evaluate_at=checkpoints(epochs, also=profile.epochs_da),
        seed=seed,
    )


def convnet_runs(profile: Profile, seeds: Sequence[int]) -> list[TrainSpec]:
    """ResNet18 with the MLPs' augmentation on every data set, or the small CNN in its stead.

    The small CNN's are runs of the chapter on architectures, on images as they are: they are shared with it.
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
            evaluate_at=checkpoints(RESNET_EPOCHS),
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


def _mlps(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.spec.model.family in MODELS.values()]


def _convnets(records: Sequence[Record], dataset: str) -> list[Record]:
    return [r for r in records if r.spec.model.family in CONVNETS and r.spec.data.name == dataset]


def _group(records: Sequence[Record], family: str, dataset: str, da: bool) -> list[Record]:
    return [
        r
        for r in records
        if r.spec.model.family == family and r.spec.data.name == dataset and r.spec.augment.any == da
    ]


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 1: test accuracy in percent, mean over seeds."""
    cells = []
    for dataset in datasets(records):
        column = DATASET_TITLES[dataset]
        for title, family in MODELS.items():
            for da in (False, True):
                group = _group(records, family, dataset, da)
                if not group:
                    continue
                lengths = profile.epochs_da if da else (profile.epochs_no_da,)
                for paper_epochs, epochs in zip(PAPER_EPOCHS[da], lengths, strict=True):
                    row = f"{title}{' + DA' if da else ''} @{paper_epochs}"

                    def accuracy(record, epochs=epochs):
                        top1 = top1_at(record, epochs)
                        return None if top1 is None else 100 * top1

                    setting = f"{group[0].spec.model}, {epochs} epochs"
                    cells += seeds_cell("Table 1", row, column, group, accuracy, "%", setting)
        cells += _convnet_cell(_convnets(records, dataset), column)
    return cells


def _convnet_cell(group: Sequence[Record], column: str) -> list[Cell]:
    if not group:
        return []
    spec = group[0].spec
    setting = f"{CONVNETS[spec.model.family]}, {spec.epochs} epochs"
    if spec.model.family == STAND_IN:
        setting = f"a stand-in: {setting}, without DA"
    return seeds_cell("Table 1", CONVNET_ROW, column, group, accuracy, "%", setting)


# --------------------------------------------------------------------------- figure


def curves(records: Sequence[Record]):
    """Test and training accuracy over epochs: one row for each run, epoch and split."""
    import pandas as pd

    names = {family: title for title, family in MODELS.items()} | CONVNETS
    rows = []
    for record in records:
        spec, history = record.spec, record.history
        common = {
            "data": DATASET_TITLES[spec.data.name],
            "model": names[spec.model.family],
            "augmentation": "with DA" if spec.augment.any else "without DA",
            "seed": spec.seed,
            "run": record.id,
        }
        rows += [
            common | {"split": "test", "epoch": e["epoch"], "accuracy": 100 * e["top1"]}
            for e in history["test"]
        ]
        training = list(zip(history["epoch"], history["train_accuracy"], strict=True))
        step = max(1, len(training) // CURVE_POINTS)
        rows += [
            common | {"split": "train", "epoch": epoch, "accuracy": 100 * accuracy}
            for epoch, accuracy in training[step - 1 :: step]
        ]
    return pd.DataFrame(rows)


def draw_curves(frame, records, folder):
    """One panel a data set: accuracy against epochs;
    line style tells test from training, color the setting.
    """
    from ..plots import look as draw

    return draw.accuracy_curves(frame)


FIGURES = {
    "accuracy-over-epochs": Figure(
        data=curves,
        draw=draw_curves,
        caption=(
            "Accuracy during training from scratch. Solid lines are test accuracy, dotted lines accuracy on "
            "the training batches as the model sees them, which under MixUp is that of the label with the "
            "larger share. A training accuracy that runs away from the test accuracy means that the network "
            "overfits. Bands span the seeds."
        ),
        alt=(
            "Line chart of accuracy against epoch for S-MLP, B-MLP and a convolutional network, in one panel "
            "with and in one without data augmentation, test accuracy solid, training accuracy dotted."
        ),
    )
}


# --------------------------------------------------------------------------- claims


def _final(records: Sequence[Record]) -> dict[int, float]:
    return by_seed(records, lambda r: r.metrics["test_top1"])


def _differences(records: Sequence[Record], first, second) -> dict[str, Estimate]:
    """Accuracy of one group minus another's in points, by data set; groups are (family, da)."""
    found = {}
    for dataset in datasets(records):
        gap = effect(*(_group(records, family, dataset, da) for family, da in (first, second)))
        if gap is not None:
            found[dataset] = gap
    return found


def _note(effects: dict[str, Estimate]) -> str:
    names = ", ".join(
        DATASET_TITLES[key.split("/")[0]] for key in dict.fromkeys(k.split("/")[0] for k in effects)
    )
    return f"on {names} only; the effect shown is the smallest case"


def _paper_gain(model: str, dataset: str) -> float:
    """How much DA adds in the paper's Table 1, in points; its sentence's 20 where the cell is unknown."""
    cells = [
        paper.value("Table 1", f"{model}{row}", DATASET_TITLES[dataset]) for row in (" + DA @5000", " @100")
    ]
    return 20.0 if None in cells else cells[0].value - cells[1].value


def judge_c01(records: Sequence[Record]) -> Judgement:
    """Overfitting without DA, and what DA adds."""
    verdicts, effects = [], {}
    for model, family in MODELS.items():
        for dataset, gain in _differences(records, (family, True), (family, False)).items():
            plain = completed(_group(records, family, dataset, da=False))
            gap = paired_difference(
                by_seed(plain, lambda r: r.metrics["train_top1"]),
                by_seed(plain, lambda r: r.metrics["test_top1"]),
            )
            verdict = judge_sign(gain, enough=_paper_gain(model, dataset))
            overfits = judge_sign(gap) == REPRODUCED
            verdicts.append(verdict if overfits or verdict != REPRODUCED else PARTLY)
            effects[f"{dataset}/{model}"] = gain
    if {key.split("/")[1] for key in effects} != set(MODELS):
        return not_tested("needs runs of both MLPs with and without augmentation")
    ids = run_ids(_mlps(records))
    return Judgement(worst(verdicts), weakest(effects.values()), "points from DA", _note(effects), ids)


def judge_c02(records: Sequence[Record]) -> Judgement:
    """B-MLP minus S-MLP, with DA at the end."""
    effects = _differences(records, ("b-mlp", True), ("s-mlp", True))
    if not effects:
        return not_tested("needs both MLPs with augmentation")
    verdict = worst([judge_sign(effect) for effect in effects.values()])
    smallest, ids = weakest(effects.values()), run_ids(_mlps(records))
    return Judgement(verdict, smallest, "points, B-MLP over S-MLP", _note(effects), ids)


def judge_c03(records: Sequence[Record]) -> Judgement:
    """The end of the long runs with DA minus their epoch 1000."""
    effects = {}
    for dataset in datasets(records):
        for model, family in MODELS.items():
            group = [r for r in completed(_group(records, family, dataset, da=True)) if r.spec.epochs >= 5000]
            early, late = by_seed(group, lambda r: top1_at(r, 1000)), _final(group)
            if early.keys() & late.keys():
                images = group[0].data["test_images"]
                effects[f"{dataset}/{model}"] = percent(accuracy_difference(late, early, images))
    if not effects:
        longest = max((r.spec.epochs for r in _mlps(records) if r.spec.augment.any), default=0)
        return not_tested(f"needs 5000 epochs with augmentation; the longest run here has {longest}")
    verdict = worst([judge_sign(effect) for effect in effects.values()])
    smallest, ids = weakest(effects.values()), run_ids(_mlps(records))
    return Judgement(verdict, smallest, "points from epoch 1000 to 5000", _note(effects), ids)


def _best_mlp(records: Sequence[Record], dataset: str) -> dict[int, float]:
    """Final accuracy by seed of the MLP that does best on a data set, with or without DA.

    Empty unless both were run with and without it: the best of some of them need not be the best.
    """
    runs = [_group(records, family, dataset, da) for family in MODELS.values() for da in (True, False)]
    if not all(runs):
        return {}
    groups = [_final(group) for group in runs]
    return max(filter(None, groups), key=lambda group: sum(group.values()) / len(group), default={})


def _paper_gap(dataset: str) -> float:
    """How far ResNet18 is ahead of the best MLP in the paper's Table 1, in points; 0 where unknown."""
    column = [cell for cell in paper.values().values() if cell.item == "Table 1"]
    column = {cell.row: cell.value for cell in column if cell.column == DATASET_TITLES[dataset]}
    convnet = column.pop(CONVNET_ROW, None)
    return convnet - max(column.values()) if column and convnet is not None else 0.0


def judge_c04(records: Sequence[Record]) -> Judgement:
    """The convolutional network minus the best MLP."""
    verdicts, effects = [], {}
    for dataset in datasets(records):
        convnet, mlp = _final(_convnets(records, dataset)), _best_mlp(records, dataset)
        if convnet.keys() & mlp.keys():
            images = completed(_convnets(records, dataset))[0].data["test_images"]
            effects[dataset] = percent(accuracy_difference(convnet, mlp, images))
            verdicts.append(judge_sign(effects[dataset], enough=_paper_gap(dataset)))
    if not effects:
        return not_tested("needs a convolutional network, and both MLPs with and without augmentation")
    verdict, note = worst(verdicts), _note(effects)
    if any(r.spec.model.family == STAND_IN for r in records):
        verdict = PARTLY if verdict == REPRODUCED else verdict
        note += "; a small CNN without DA stands in for ResNet18, so it is partly at best"
    unit = "points, convolutional network over the best MLP"
    return Judgement(verdict, weakest(effects.values()), unit, note, run_ids(records))


CLAIMS = (
    Claim(
        "C01",
        "Without data augmentation both MLPs overfit; augmentation adds about 20 points across tasks.",
        "Table 1",
        "For each MLP and data set: final test accuracy with DA minus without, paired by seed. Partly "
        "reproduced if the whole 95 % interval is above 0; reproduced if it also reaches the paper's own "
        "gain in that cell (@5000 with DA minus @100 without) and training accuracy exceeds test accuracy "
        "without DA.",
        judge_c01,
    ),
    Claim(
        "C02",
        "The B-MLP beats the S-MLP on every data set.",
        "Table 1",
        "Final test accuracy with DA, B-MLP minus S-MLP, paired by seed: reproduced if the whole 95 % "
        "interval is above 0 on every data set.",
        judge_c02,
    ),
    Claim(
        "C03",
        "With data augmentation, training on to 5000 epochs still helps.",
        "Table 1",
        "Test accuracy at epoch 5000 minus epoch 1000 of the same runs with DA: reproduced if the whole "
        "95 % interval is above 0 for every MLP and data set. Shorter runs do not test it.",
        judge_c03,
    ),
    Claim(
        "C04",
        "A large gap to ResNet18 stays when data is small.",
        "Table 1",
        "Final test accuracy of the convolutional network minus that of the MLP with the highest mean, with "
        "or without DA, paired by seed. Partly reproduced if the whole 95 % interval is above 0; reproduced "
        "if it also reaches the paper's own gap in that column (ResNet18 with DA minus the best MLP), on "
        "every data set. Where the small CNN stands in for ResNet18, partly reproduced at best.",
        judge_c04,
    ),
)
