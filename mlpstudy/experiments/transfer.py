"""Transfer (Table 2): pre-training, fine-tuning, test-time augmentation (TTA) and ReaL labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlplib.data import catalog
from mlplib.official import Checkpoint
from mlplib.specs import CheckpointSpec, DataSpec, EvaluateSpec, FineTuneSpec, RunSpec, TrainSpec
from mlplib.stats import Estimate, accuracy_difference
from mlplib.store import Record

from .. import paper
from ..claims import PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from .base import (
    DATASET_TITLES,
    Cell,
    Figure,
    accuracy,
    by_seed,
    completed,
    datasets,
    effect,
    percent,
    run_ids,
    seeds_cell,
    weakest,
)
from .pretraining import downstream, fine_tune, from_scratch, pretraining_run

TITLE = "Transfer"
ITEMS = ("Table 2",)

SCRATCH, WITHOUT_DA, WITH_DA = "from scratch", "pre-trained without DA", "pre-trained with DA"
ARMS = (SCRATCH, WITHOUT_DA, WITH_DA)
"""What is compared on every downstream data set."""

REAL = "ReaL"
AVERAGES = {"logits": "averaged logits", "softmax": "averaged softmax"}
"""What of many views is averaged: the paper's text says logits, its code takes probabilities."""

LARGEST, FROM_SCRATCH = "B-12/Wi-1024", "B-MLP + DA @5000"
"""The paper's rows of Table 2 and Table 1 that its claims compare."""


@dataclass(frozen=True)
class Budget:
    """What this chapter alone decides at one profile: ``crops``, the random views of each test image."""

    crops: int


BUDGETS = {"smoke": Budget(4), "laptop": Budget(32), "gpu": Budget(100), "paper": Budget(100)}


# --------------------------------------------------------------------------- runs


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """On every downstream data set: the network from scratch, and fine-tuned after pre-training without and
    with DA, each of these two also with TTA.
    """
    specs: list[RunSpec] = []
    for seed in seeds:
        for name in downstream(profile):
            without, tuned = (
                fine_tune(profile, pretraining_run(profile, seed, da=da), seed, name) for da in (False, True)
            )
            specs.append(from_scratch(profile, tuned))
            for each in (without, tuned):
                specs += [each, evaluation(profile, each, seed)]
    return specs


def evaluation(
    profile: Profile, trained: FineTuneSpec | CheckpointSpec, seed: int, where: DataSpec | None = None
) -> EvaluateSpec:
    """TTA with the official recipe's views; ``where`` for a checkpoint, which brings no data set."""
    name = (where or trained.data).name
    return EvaluateSpec(
        trained, data=where, crops=BUDGETS[profile.name].crops, real=name == "imagenet", seed=seed
    )


def checkpoint_runs(profile: Profile, seeds: Sequence[int], found: Iterable[Checkpoint]) -> list[RunSpec]:
    """Every official checkpoint fine-tuned on every downstream data set, with TTA; as it is, too, where it
    tells as many classes apart as the data set has.
    """
    specs: list[RunSpec] = []
    for seed in seeds:
        for checkpoint in found:
            for name in downstream(profile):
                where = checkpoint.data(name)
                tuned = fine_tune(profile, checkpoint.spec, seed, data=where)
                specs += [tuned, evaluation(profile, tuned, seed)]
                if checkpoint.classes == catalog.find(name).class_count:
                    specs.append(evaluation(profile, checkpoint.spec, seed, where))
    return specs


# --------------------------------------------------------------------------- picking records


def _arm(spec: RunSpec) -> str | None:
    """Which of :data:`ARMS` a run belongs to, None for an official checkpoint's."""
    trained = spec.trained if isinstance(spec, EvaluateSpec) else spec
    if isinstance(trained, TrainSpec):
        return SCRATCH
    if isinstance(trained, FineTuneSpec) and isinstance(trained.upstream, TrainSpec):
        return WITH_DA if trained.upstream.augment.any else WITHOUT_DA
    return None


def _checkpoint(spec: RunSpec) -> CheckpointSpec | None:
    """The official checkpoint that a run started from."""
    trained = spec.trained if isinstance(spec, EvaluateSpec) else spec
    start = trained.upstream if isinstance(trained, FineTuneSpec) else trained
    return start if isinstance(start, CheckpointSpec) else None


def _group(records: Iterable[Record], kind: type[RunSpec], arm: str, dataset: str) -> list[Record]:
    return [
        r
        for r in records
        if isinstance(r.spec, kind) and _arm(r.spec) == arm and r.spec.data_name() == dataset
    ]


def _trained(records: Iterable[Record], arm: str, dataset: str) -> list[Record]:
    """The finished networks of an arm, evaluations left out."""
    return _group(records, TrainSpec if arm == SCRATCH else FineTuneSpec, arm, dataset)


def checkpoint_labels(records: Iterable[Record], of: Callable = _checkpoint) -> dict[CheckpointSpec, str]:
    """A name for every official checkpoint among ``records``, different for different files."""
    found = list(dict.fromkeys(c for c in (of(r.spec) for r in records) if c is not None))
    names = Counter(checkpoint.name for checkpoint in found)
    return {c: f"official {c.name}" + (f" ({c.sha256[:8]})" if names[c.name] > 1 else "") for c in found}


# --------------------------------------------------------------------------- table


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 2: test accuracy in percent, mean over seeds.

    A row bears the name of the network that ran; fine-tuned after pre-training with DA is the plain row, as
    in the paper. So is an official checkpoint's, unless this study's own network has the same name.
    """
    cells: list[Cell] = []
    own, labels = profile.pretrain_model, checkpoint_labels(records)
    rows = {SCRATCH: f"{own}, from scratch", WITHOUT_DA: f"{own}, no DA in pre-training", WITH_DA: own}
    for dataset in datasets(records):
        column = DATASET_TITLES[dataset]
        for arm, row in rows.items():
            group = _trained(records, arm, dataset)
            cells += seeds_cell("Table 2", row, column, group, accuracy, "%", _setting(group))
            cells += _evaluated(row, column, _group(records, EvaluateSpec, arm, dataset))
        for checkpoint, label in labels.items():
            alone = label == f"official {checkpoint.name}" and checkpoint.name != own
            row = checkpoint.name if alone else label
            of_it = [
                r for r in records if _checkpoint(r.spec) == checkpoint and r.spec.data_name() == dataset
            ]
            tuned = [r for r in of_it if isinstance(r.spec, FineTuneSpec)]
            cells += seeds_cell("Table 2", row, column, tuned, accuracy, "%", _setting(tuned))
            looks = [r for r in of_it if isinstance(r.spec, EvaluateSpec)]
            cells += _evaluated(row, column, [r for r in looks if isinstance(r.spec.trained, FineTuneSpec)])
            as_it_is = [r for r in looks if isinstance(r.spec.trained, CheckpointSpec)]
            row += ", not fine-tuned"
            cells += seeds_cell(
                "Table 2", row, column, as_it_is, accuracy, "%", "official weights as they are"
            )
            cells += _evaluated(row, column, as_it_is)
    return cells


def _setting(group: Sequence[Record]) -> str:
    """What really ran, in a few words."""
    if not group:
        return ""
    spec = group[0].spec
    if isinstance(spec, TrainSpec):
        return f"{spec.epochs} epochs"
    before = "official weights"
    if isinstance(spec.upstream, TrainSpec):
        before = f"{DATASET_TITLES[spec.upstream.data.name]} for {spec.upstream.epochs} epochs"
    return f"{before}, then {spec.epochs} epochs"


def _evaluated(row: str, column: str, group: Sequence[Record]) -> list[Cell]:
    """The cells with TTA, by both averages, and with ReaL labels."""
    cells: list[Cell] = []
    for kind, average in AVERAGES.items():
        name = f"{row} + TTA" if kind == "logits" else f"{row} + TTA ({average})"
        cells += _cell(name, column, group, f"tta_{kind}_top1", average)
        cells += _cell(name, REAL, group, f"real_tta_{kind}_top1", average)
    return cells + _cell(row, REAL, group, "real_test_top1", "")


def _cell(row: str, column: str, group: Sequence[Record], metric: str, average: str) -> list[Cell]:
    having = [r for r in completed(group) if metric in r.metrics]
    if not having:
        return []
    setting = f"{average} of {having[0].spec.crops} views" if average else "one view"
    return seeds_cell("Table 2", row, column, having, lambda r: 100 * r.metrics[metric], "%", setting)


# --------------------------------------------------------------------------- figures


def accuracies(records: Sequence[Record]):
    """Test accuracy of every finished network, without TTA."""
    import pandas as pd

    labels = checkpoint_labels(records)
    rows = []
    for record in completed(records):
        if isinstance(record.spec, EvaluateSpec):
            continue
        rows.append(
            {
                "data": DATASET_TITLES[record.spec.data.name],
                "network": _arm(record.spec) or labels[_checkpoint(record.spec)],
                "seed": record.spec.seed,
                "accuracy": accuracy(record),
                "run": record.id,
            }
        )
    return pd.DataFrame(rows, columns=["data", "network", "seed", "accuracy", "run"])


def draw_accuracies(frame, records, folder):
    """One panel a data set: a row a way to get the network, a line a seed."""
    from ..plots import transfer as draw

    return draw.paired_dots(frame, first=ARMS)


def gains_by_views(records: Sequence[Record]):
    """What TTA adds after the first 1, 2, 4, ... views, in points."""
    import pandas as pd

    labels = checkpoint_labels(records)
    rows = []
    for record in completed(records):
        if not isinstance(record.spec, EvaluateSpec) or not record.history:
            continue
        for kind, average in AVERAGES.items():
            found = zip(record.history["views"], record.history[f"tta_{kind}_top1"], strict=True)
            rows += [
                {
                    "data": DATASET_TITLES[record.spec.data_name()],
                    "network": _arm(record.spec) or labels[_checkpoint(record.spec)],
                    "average": average,
                    "seed": record.spec.seed,
                    "views": views,
                    "gain": 100 * (accuracy - record.metrics["test_top1"]),
                    "run": record.id,
                }
                for views, accuracy in found
            ]
    columns = ["data", "network", "average", "seed", "views", "gain", "run"]
    return pd.DataFrame(rows, columns=columns)


def draw_gains(frame, records, folder):
    """One panel a data set: the gain against the number of views, a color a network, dashes for softmax."""
    from ..plots import transfer as draw

    return draw.gains(frame, known=ARMS)


FIGURES = {
    "scratch-and-transfer": Figure(
        data=accuracies,
        draw=draw_accuracies,
        caption=(
            "Test accuracy of one network on a downstream data set: trained on it from scratch, or "
            "fine-tuned on it after pre-training without and with data augmentation (DA). A line joins the "
            "runs of one seed."
        ),
        alt=(
            "Dot plot of test accuracy on each downstream data set, from scratch, pre-trained without "
            "augmentation and pre-trained with it."
        ),
    ),
    "gain-by-views": Figure(
        data=gains_by_views,
        draw=draw_gains,
        caption=(
            "What test-time augmentation adds to the accuracy of fine-tuned networks, against the number of "
            "random views of each test image whose predictions are averaged, as logits (solid) or as "
            "probabilities (dashed). At zero it makes no difference to looking once at the image as it is. "
            "Lines are means over seeds."
        ),
        alt=(
            "Line chart of the gain from test-time augmentation in points against the number of views, for "
            "averaged logits and averaged probabilities."
        ),
    ),
}


# --------------------------------------------------------------------------- claims


def _differences(records: Sequence[Record], first: str, second: str) -> dict[str, Estimate]:
    """Accuracy of one arm minus another's in points, by data set, paired by seed."""
    found = {}
    for dataset in datasets(records):
        gap = effect(*(_trained(records, arm, dataset) for arm in (first, second)))
        if gap is not None:
            found[dataset] = gap
    return found


def _gains(records: Sequence[Record], first: str, second: str) -> dict[str, Estimate]:
    """One metric minus another of the same evaluations after pre-training with DA, in points, by data set."""
    found = {}
    for dataset in datasets(records):
        group = completed(_group(records, EvaluateSpec, WITH_DA, dataset))
        a, b = (by_seed(group, lambda r, m=metric: r.metrics.get(m)) for metric in (first, second))
        if a.keys() & b.keys():
            found[dataset] = percent(accuracy_difference(a, b, group[0].data["test_images"]))
    return found


def _names(effects: Iterable[str]) -> str:
    return ", ".join(DATASET_TITLES[name] for name in effects)


def _used(records: Sequence[Record]) -> tuple[str, ...]:
    """The runs that verdicts rest on: this study's own, not those of official checkpoints."""
    return run_ids(r for r in records if _arm(r.spec) is not None)


def _paper_points(row: str, item: str, column: str) -> float | None:
    known = paper.value(item, row, column)
    return None if known is None else known.value


def paper_gaps() -> dict[str, float]:
    """By data set, how far the paper's best fine-tuned network is above its best from scratch, in points."""
    found = {}
    for name, column in DATASET_TITLES.items():
        tuned = _paper_points(LARGEST, "Table 2", column)
        scratch = _paper_points(FROM_SCRATCH, "Table 1", column)
        if tuned is not None and scratch is not None:
            found[name] = tuned - scratch
    return found


def judge_c05(records: Sequence[Record]) -> Judgement:
    """Fine-tuned after pre-training with DA, minus from scratch."""
    effects = _differences(records, WITH_DA, SCRATCH)
    if not effects:
        return not_tested("needs fine-tuned networks and the same from scratch")
    gaps = paper_gaps()
    verdicts = [
        judge_sign(effect, enough=gaps.get(name, min(gaps.values()))) for name, effect in effects.items()
    ]
    upstream = _trained(records, WITH_DA, next(iter(effects)))[0].spec.upstream
    note = (
        f"pre-trained on {DATASET_TITLES[upstream.data.name]} for {upstream.epochs} epochs; on "
        f"{_names(effects)} only; the effect shown is the smallest case"
    )
    return Judgement(
        worst(verdicts), weakest(effects.values()), "points over from scratch", note, _used(records)
    )


C06_POINTS = 30.0
"""The paper's sentence: "up to 30 points", on CIFAR-100."""


def judge_c06(records: Sequence[Record]) -> Judgement:
    """Fine-tuned after pre-training with DA, minus without."""
    effects = _differences(records, WITH_DA, WITHOUT_DA)
    if not effects:
        return not_tested("needs networks pre-trained with and without DA")
    verdict = worst([judge_sign(effect) for effect in effects.values()])
    largest = max(effects, key=lambda name: effects[name].mean)
    where = "cifar100" if "cifar100" in effects else largest
    if verdict == REPRODUCED:
        verdict = judge_sign(effects[where], enough=C06_POINTS)
    note = (
        f"on {_names(effects)} only; the effect shown is the smallest case, "
        f"on {DATASET_TITLES[where]} it is {effects[where].mean:+.1f} points"
    )
    return Judgement(
        verdict, weakest(effects.values()), "points from DA in pre-training", note, _used(records)
    )


def judge_c07(records: Sequence[Record]) -> Judgement:
    """Averaged logits minus one look at the image as it is."""
    effects = _gains(records, "tta_logits_top1", "test_top1")
    if not effects:
        return not_tested("needs test-time augmentation of fine-tuned networks")
    verdict = worst([judge_sign(effect) for effect in effects.values()])
    note = f"on {_names(effects)} only; the effect shown is the smallest case"
    if "imagenet" not in effects:
        note += "; without ImageNet, that it helps most there is not tested"
        verdict = PARTLY if verdict == REPRODUCED else verdict
    elif verdict == REPRODUCED:
        there = effects["imagenet"]
        most = all(there.mean >= effect.mean for effect in effects.values())
        verdict = judge_sign(there, enough=_paper_tta_gain()) if most else PARTLY
        note += f"; on ImageNet it is {there.mean:+.1f} points"
    return Judgement(verdict, weakest(effects.values()), "points from TTA", note, _used(records))


def _paper_tta_gain() -> float:
    """What TTA adds on ImageNet in the paper, in points."""
    plain, views = (_paper_points(row, "Table 2", "ImageNet") for row in (LARGEST, f"{LARGEST} + TTA"))
    return views - plain


def paper_real_gains() -> list[float]:
    """ReaL minus ImageNet accuracy in every row of the paper that has both, in points."""
    rows = dict.fromkeys(row for item, row, _ in paper.values() if item == "Table 2")
    both = [[_paper_points(row, "Table 2", column) for column in (REAL, "ImageNet")] for row in rows]
    return [real - plain for real, plain in both if None not in (real, plain)]


def judge_c08(records: Sequence[Record]) -> Judgement:
    """Accuracy by ReaL labels minus by ImageNet's own."""
    effects = _gains(records, "real_test_top1", "test_top1")
    if not effects:
        return not_tested("needs ImageNet with its ReaL labels")
    (effect,) = effects.values()
    verdict = judge_sign(effect)
    if verdict == REPRODUCED:
        low, high = (effect.mean if end is None else end for end in (effect.low, effect.high))
        known = paper_real_gains()
        verdict = REPRODUCED if low <= max(known) and high >= min(known) else PARTLY
    return Judgement(verdict, effect, "points from ReaL labels", "without TTA", _used(records))


CLAIMS = (
    Claim(
        "C05",
        "Pre-training, then fine-tuning, lifts accuracy far above training from scratch.",
        "Table 2",
        "For each downstream data set: test accuracy of the fine-tuned network (pre-trained with DA, no TTA) "
        "minus that of the same network from scratch, trained on that data set for as long, paired by seed. "
        "A data set counts as reproduced if the whole 95 % interval is above 0 and reaches the paper's own "
        "gap there (B-12/Wi-1024 of Table 2 minus B-MLP + DA @5000 of Table 1; where the paper has none, the "
        "smallest that it has), as partly reproduced if it is only above 0. The claim is reproduced if all "
        "are, not reproduced if none is even partly, else partly reproduced.",
        judge_c05,
    ),
    Claim(
        "C06",
        "Data augmentation in pre-training is essential: it is worth up to 30 points on CIFAR-100.",
        "Table 2",
        "For each downstream data set: test accuracy after pre-training with DA minus without, same "
        "fine-tuning, paired by seed. Reproduced if the whole 95 % interval is above 0 on every data set and "
        "reaches 30 points on CIFAR-100, or without CIFAR-100 on the data set with the largest gain; not "
        "reproduced if it is above 0 on none; else partly reproduced.",
        judge_c06,
    ),
    Claim(
        "C07",
        "Test-time augmentation helps on every task, most on ImageNet (8 points).",
        "Table 2",
        "For each downstream data set: accuracy of averaged logits minus that of the image as it is, same "
        "network (pre-trained with DA), paired by seed. Reproduced if the whole 95 % interval is above 0 on "
        "every data set, and the gain on ImageNet is the largest and reaches the paper's; not reproduced if "
        "it is above 0 on none; else partly reproduced, which is the most that can be had without ImageNet.",
        judge_c07,
    ),
    Claim(
        "C08",
        "Counting by ReaL labels adds about 7 points on ImageNet.",
        "Table 2",
        "Accuracy of the fine-tuned network (pre-trained with DA, no TTA) by ReaL labels minus by ImageNet's "
        "own, paired by seed. Partly reproduced if the whole 95 % interval is above 0; reproduced if it also "
        "meets the range of this difference over the rows of the paper's table.",
        judge_c08,
    ),
)
