"""What experiments share: picking records by their settings, table cells, effects, claims and figures."""

from __future__ import annotations

import functools
import importlib
import inspect
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlplib.store import Record

from .. import stats
from ..claims import Claim, Judgement
from ..stats import Estimate

DATASET_TITLES = {
    "shapes-16": "drawn shapes",
    "shapes-16-upstream": "6 drawn shapes",
    "shapes-16-downstream": "4 drawn shapes",
    "cifar10": "CIFAR-10",
    "cifar10-animals": "CIFAR-10 animals",
    "cifar10-vehicles": "CIFAR-10 vehicles",
    "cifar10-upstream": "6 CIFAR-10 classes",
    "cifar10-downstream": "4 other CIFAR-10 classes",
    "cifar100": "CIFAR-100",
    "tinyimagenet": "TinyImageNet",
    "stl10": "STL-10",
    "imagenet": "ImageNet",
    "imagenet21k": "ImageNet-21k",
}
MLP_TITLES = {"b-mlp": "B-MLP", "s-mlp": "S-MLP"}
CONVNET_TITLES = {"resnet18": "ResNet18", "small-cnn": "small CNN"}
"""Titles of data sets by catalog name, and of networks by the family of their model."""

Item, Key = TypeVar("Item"), TypeVar("Key", bound=Hashable)


# --------------------------------------------------------------------------- picking records


def completed(records: Iterable[Record]) -> list[Record]:
    """The records of runs that ended with finite numbers."""
    return [record for record in records if record.status == "completed"]


def run_ids(records: Iterable[Record]) -> tuple[str, ...]:
    """The ids of the completed runs, on which a number or a verdict rests."""
    return tuple(record.id for record in completed(records))


def group_by(items: Iterable[Item], key: Callable[[Item], Key | None]) -> dict[Key, list[Item]]:
    """Items by ``key``, in order of first appearance; those whose key is None are left out."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        if (found := key(item)) is not None:
            groups.setdefault(found, []).append(item)
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


def checkpoints(epochs: int, also: Iterable[int] = ()) -> tuple[int, ...]:
    """At most 8 evenly spaced epochs up to ``epochs`` at which to measure a curve, and ``also``."""
    even = {max(1, round(epochs * k / 8)) for k in range(1, 9)}
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


def trained(group: Sequence[Record]) -> str:
    """The network that a group of runs trains, and for how long: a setting of :class:`Cell`."""
    spec = group[0].spec
    return f"{getattr(spec, 'upstream', spec).model}, {spec.epochs} epochs"


def mean_cells(
    item: str,
    groups: Mapping[tuple[str, str], Sequence[Record]],
    setting: Callable[[Sequence[Record]], str],
    value: Callable[[Record], float | None] = accuracy,
    unit: str = "%",
    shared: stats.Spread | None = None,
) -> list[Cell]:
    """One cell per group: the mean of ``value`` over seeds. Groups in which no record has it are left out.

    The spread between seeds is estimated from all groups together (:func:`mlpstudy.stats.jointly`).

    Args:
        groups: (row, column) to records that differ in their seed only.
        setting: what a group was measured on, in a few words.
        shared: the spread of the whole table, where these groups are a part of it (:func:`table_spread`).
    """
    values = {key: list(by_seed(group, value).values()) for key, group in groups.items()}
    values = {key: found for key, found in values.items() if found}
    if shared is None:
        estimates = stats.jointly(values)
    else:
        estimates = {key: stats.over_seeds(found, shared) for key, found in values.items()}
    return [
        Cell(item, *key, estimate, unit, setting(groups[key]), run_ids(groups[key]))
        for key, estimate in estimates.items()
    ]


def table_spread(records: Iterable[Record], key: Callable[[Record], Hashable]) -> stats.Spread | None:
    """The spread between seeds, in percent, that all cells of a table share if it is made cell by cell: that
    of final accuracies, counting each network once, whatever else is measured of it.

    Args:
        key: equal for records that differ in their seed only; None for records that do not count.
    """
    groups = group_by(completed(records), key).values()
    return stats.shared_spread([list(by_seed(group, accuracy).values()) for group in groups])


# --------------------------------------------------------------------------- effects


def effects(
    first: Mapping[Key, Sequence[Record]],
    second: Mapping[Key, Sequence[Record]],
    value: Callable[[Record], float | None] = top1,
    other: Callable[[Record], float | None] | None = None,
) -> dict[Key, Estimate]:
    """Accuracy of one group minus another's in points, paired by seed, per name such as a data set's.

    Names under which the groups share no seed are left out. The spread between seeds is estimated from all
    names together (:func:`mlpstudy.stats.jointly`).

    Args:
        value: the accuracy (fraction) of a record.
        other: that of the second group's, if it is another.
    """
    differences, accuracies = {}, {}
    for name, group in first.items():
        a, b = by_seed(group, value), by_seed(second.get(name, ()), other or value)
        if shared := [seed for seed in a if seed in b]:
            differences[name] = stats.paired(a, b)
            accuracies[name] = [a[seed] for seed in shared], [b[seed] for seed in shared]
    found = stats.jointly(differences)
    return {name: _points(found[name], both, first[name]) for name, both in accuracies.items()}


def _points(found: Estimate, both: Iterable[Sequence[float]], records: Sequence[Record]) -> Estimate:
    """A difference of accuracies (fractions) in points, with the sampling of test images if included."""
    means = list(map(statistics.fmean, both))
    return stats.with_sampling(found, means, completed(records)[0].data["test_images"]).times(100)


def effect(first: Sequence[Record], second: Sequence[Record]) -> Estimate | None:
    """:func:`effects` of a single pair of groups; None where they share no seed."""
    return effects({"": first}, {"": second}).get("")


def unpaired_effects(
    first: Mapping[Key, Sequence[Record]], second: Mapping[Key, Sequence[Record]], *others: Sequence[Record]
) -> dict[Key, Estimate]:
    """As :func:`effects`, but unpaired: for networks that share nothing but the number of their seed.

    Args:
        others: further groups, each of runs that differ in their seed only, from which the spread between
            seeds is estimated, too.
    """

    def top1s(group: Sequence[Record]) -> list[float]:
        return list(by_seed(group, top1).values())

    values = [{name: top1s(group) for name, group in side.items()} for side in (first, second)]
    every = {run_ids(group): group for group in (*first.values(), *second.values(), *others)}  # each once
    shared, found = stats.shared_spread(filter(None, map(top1s, every.values()))), {}
    for name in first:
        both = [side.get(name) for side in values]
        if all(both):
            found[name] = _points(stats.difference(*both, shared), both, first[name])
    return found


# --------------------------------------------------------------------------- claims


def claim(id: str, item: str, sentence: str, regime: str = "", afterthought: str = "") -> Callable:
    """Make a :class:`Claim` of the function that judges it; its docstring is the criterion."""

    def decorate(judge: Callable[[Sequence[Record]], Judgement]) -> Claim:
        criterion = " ".join(inspect.getdoc(judge).split())
        return Claim(id, sentence, item, criterion, judge, regime, afterthought)

    return decorate


# --------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Figure:
    """A figure of a chapter.

    ``data``: records to a pandas DataFrame holding every number that is drawn (with run ids), offered to the
    reader as CSV. ``draw``: (DataFrame, store folder or None) to a matplotlib figure. ``alt``: text for
    readers who cannot see it.
    """

    data: Callable
    draw: Callable
    alt: str

    @property
    def caption(self) -> str:
        """The docstring of ``data``; it must be self-contained."""
        return " ".join(inspect.getdoc(self.data).split())


def dataframe(rows: Callable[..., Iterable[dict]]) -> Callable:
    """Make a function that yields rows return them as a DataFrame; pandas is imported when it is called."""

    @functools.wraps(rows)
    def made(*args):
        import pandas as pd

        return pd.DataFrame(list(rows(*args)))

    return made


def accuracy_row(record: Record, **columns) -> dict:
    """A row of a figure's data: ``columns``, then the accuracy of a run in percent, with its seed and id."""
    return columns | {"seed": record.spec.seed, "accuracy": accuracy(record), "run": record.id}


def plot(name: str, **options) -> Callable:
    """The ``draw`` of a :class:`Figure` that needs its DataFrame only: a function of :mod:`mlpstudy.plots`.

    Args:
        name: module and function, such as ``"transfer.gains"``; it is imported when it is called.
    """
    module, function = name.split(".")

    def draw(frame, folder=None):
        drawn = importlib.import_module(f"mlpstudy.plots.{module}")
        return getattr(drawn, function)(frame, **options)

    return draw
