"""What experiments share: picking records by their settings, table cells, effects, claims and figures."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlplib.stats import Estimate, accuracy_difference, over_seeds
from mlplib.store import Record

from ..claims import Claim, Judgement, judge_sign, worst

DATASET_TITLES = {
    "shapes-16": "drawn shapes",
    "shapes-16-upstream": "6 drawn shapes",
    "shapes-16-downstream": "4 drawn shapes",
    "cifar10": "CIFAR-10",
    "cifar10-animals": "CIFAR-10 animals",
    "cifar10-vehicles": "CIFAR-10 vehicles",
    "cifar100": "CIFAR-100",
    "tinyimagenet": "TinyImageNet",
    "stl10": "STL-10",
    "imagenet": "ImageNet",
    "imagenet21k": "ImageNet-21k",
}
MLP_TITLES = {"b-mlp": "B-MLP", "s-mlp": "S-MLP"}
CONVNET_TITLES = {"resnet18": "ResNet18", "small-cnn": "small CNN"}
"""Titles of data sets by catalog name, and of networks by the family of their model."""

Key = TypeVar("Key", bound=Hashable)


# --------------------------------------------------------------------------- picking records


def completed(records: Iterable[Record]) -> list[Record]:
    """The records of runs that ended with finite numbers."""
    return [record for record in records if record.status == "completed"]


def run_ids(records: Iterable[Record]) -> tuple[str, ...]:
    """The ids of the completed runs, on which a number or a verdict rests."""
    return tuple(record.id for record in completed(records))


def group_by(records: Iterable[Record], key: Callable[[Record], Key | None]) -> dict[Key, list[Record]]:
    """Records by ``key``, in order of first appearance; records whose key is None are left out."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        if (found := key(record)) is not None:
            groups.setdefault(found, []).append(record)
    return groups


def by_dataset(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the name of the data set that they were scored on."""
    return group_by(records, lambda record: record.spec.data_name())


def by_seed(records: Iterable[Record], value: Callable[[Record], float | None]) -> dict[int, float]:
    """Seed to value, for records that differ in their seed only; records without a value are left out."""
    found = {record.spec.seed: value(record) for record in completed(records)}
    return {seed: v for seed, v in sorted(found.items()) if v is not None}


# --------------------------------------------------------------------------- values of a record


def top1(record: Record) -> float:
    """Top-1 accuracy (fraction) on the images that the run was scored on."""
    return record.metrics["test_top1"]


def accuracy(record: Record) -> float:
    """Top-1 accuracy in percent on the images that the run was scored on."""
    return 100 * top1(record)


def top1_at(record: Record, epoch: int) -> float | None:
    """Test accuracy (fraction) after ``epoch`` epochs, None where it was not measured."""
    return next((entry["top1"] for entry in record.history["test"] if entry["epoch"] == epoch), None)


def checkpoints(epochs: int, also: Iterable[int] = (), points: int = 8) -> tuple[int, ...]:
    """About ``points`` evenly spaced epochs up to ``epochs`` at which to measure a curve, and ``also``."""
    even = {max(1, round(epochs * k / points)) for k in range(1, points + 1)}
    return tuple(sorted(even | {epoch for epoch in also if epoch <= epochs}))


# --------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Cell:
    """One measured cell of a table, shown next to the paper's cell of the same (item, row, column).

    ``setting`` says in a few words where this measurement differs from the row's name, such as ``40 epochs``.
    ``run_ids`` is empty for what is computed without a run.
    """

    item: str
    row: str
    column: str
    estimate: Estimate
    unit: str
    setting: str = ""
    run_ids: tuple[str, ...] = ()


def mean_cells(
    item: str,
    groups: Mapping[tuple[str, str], Sequence[Record]],
    setting: Callable[[Sequence[Record]], str],
    value: Callable[[Record], float | None] = accuracy,
    unit: str = "%",
) -> list[Cell]:
    """One cell per group: the mean of ``value`` over seeds. Groups in which no record has it are left out.

    Args:
        groups: (row, column) to records that differ in their seed only.
        setting: what a group was measured on, in a few words.
    """
    cells = []
    for (row, column), group in groups.items():
        if values := by_seed(group, value):
            estimate = over_seeds(list(values.values()))
            cells.append(Cell(item, row, column, estimate, unit, setting(group), run_ids(group)))
    return cells


# --------------------------------------------------------------------------- effects


def percent(estimate: Estimate) -> Estimate:
    """An estimate of a fraction, in percent or points."""
    low, high = (None if v is None else 100 * v for v in (estimate.low, estimate.high))
    return Estimate(100 * estimate.mean, low, high, estimate.n, estimate.source)


def effect(
    first: Sequence[Record],
    second: Sequence[Record],
    value: Callable[[Record], float | None] = top1,
    other: Callable[[Record], float | None] | None = None,
) -> Estimate | None:
    """Accuracy of one group minus another's in points, paired by seed; None where they share no seed.

    ``value`` is the accuracy (fraction) of a record, ``other`` that of the second group if it is another.
    """
    a, b = by_seed(first, value), by_seed(second, other or value)
    if not a.keys() & b.keys():
        return None
    return percent(accuracy_difference(a, b, completed(first)[0].data["test_images"]))


def effects(
    first: Mapping[Key, Sequence[Record]], second: Mapping[Key, Sequence[Record]], *values
) -> dict[Key, Estimate]:
    """:func:`effect` per name, such as per data set; names for which there is none are left out."""
    found = {name: effect(group, second.get(name, ()), *values) for name, group in first.items()}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def weakest(found: Iterable[Estimate]) -> Estimate:
    """The smallest effect, with which a claim about all cases stands or falls."""
    return min(found, key=lambda estimate: estimate.mean)


def in_words(estimate: Estimate, form: str = "+.1f", unit: str = "") -> str:
    """An estimate with its interval, for a note; ``unit`` follows the mean."""
    interval = "" if estimate.low is None else f" [{estimate.low:{form}}, {estimate.high:{form}}]"
    return f"{estimate.mean:{form}}{unit}{interval}"


def dataset_titles(names: Iterable[str]) -> str:
    """The titles of data sets, separated by commas."""
    return ", ".join(DATASET_TITLES[name] for name in names)


# --------------------------------------------------------------------------- claims


def claim(id: str, item: str, sentence: str, afterthought: str = "") -> Callable[[Callable], Claim]:
    """Make a claim of the function that judges it, whose docstring is the criterion.

    Args:
        id, item, sentence: as in :class:`~mlpstudy.claims.Claim`.
        afterthought: what about the criterion was decided after results were there.
    """

    def decorate(judge: Callable[[Sequence[Record]], Judgement]) -> Claim:
        criterion = " ".join(inspect.getdoc(judge).split())
        return Claim(id, sentence, item, criterion + afterthought, judge)

    return decorate


def judge_all(found: Mapping[str, Estimate], unit: str, note: str, ids: tuple[str, ...]) -> Judgement:
    """The judgement on "every effect is positive"; the effect shown is the smallest."""
    verdict = worst([judge_sign(estimate) for estimate in found.values()])
    return Judgement(verdict, weakest(found.values()), unit, note, ids)


# --------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Figure:
    """A figure of a chapter.

    ``data``: records to a pandas DataFrame holding every number that is drawn (with run ids), offered to the
    reader as CSV. ``draw``: (DataFrame, records, store folder or None) to a matplotlib figure. ``alt``: what
    a reader who cannot see it needs; ``caption``: can be read alone; the docstring of ``data`` by default.
    """

    data: Callable
    draw: Callable
    alt: str
    caption: str = ""

    def __post_init__(self):
        if not self.caption:
            object.__setattr__(self, "caption", " ".join(inspect.getdoc(self.data).split()))


def dataframe(rows: Callable[..., Iterable[dict]]) -> Callable:
    """Make a function that yields rows return them as a DataFrame; pandas is imported when it is called."""

    @functools.wraps(rows)
    def made(*args):
        import pandas as pd

        return pd.DataFrame(list(rows(*args)))

    return made


def plot(name: str, **options) -> Callable:
    """The ``draw`` of a :class:`Figure` that needs its DataFrame only: a function of :mod:`mlpstudy.plots`.

    Args:
        name: module and function, such as ``"transfer.gains"``; it is imported when it is called.
        options: its further arguments.
    """
    module, function = name.split(".")

    def draw(frame, records=(), folder=None):
        drawn = importlib.import_module(f"mlpstudy.plots.{module}")
        return getattr(drawn, function)(frame, **options)

    return draw
