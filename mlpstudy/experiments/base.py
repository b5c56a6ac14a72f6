"""What experiments share: cells of their tables, figures, and picking records by their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlplib.stats import Estimate, accuracy_difference, over_seeds
from mlplib.store import Record

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


@dataclass(frozen=True)
class Cell:
    """One measured cell of a table, to be set beside the paper's cell of the same (item, row, column).

    ``setting`` says in a few words where this measurement differs from the row's name, e.g. ``40 epochs``.
    ``run_ids`` is empty for what is computed without a run.
    """

    item: str
    row: str
    column: str
    estimate: Estimate
    unit: str
    setting: str = ""
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of a chapter.

    ``data``: records to a pandas DataFrame holding every number that is drawn (with run ids), offered to the
    reader as CSV. ``draw``: (DataFrame, records, store folder or None) to a matplotlib figure. ``alt``: what
    a reader who cannot see it needs; ``caption``: can be read alone.
    """

    data: Callable
    draw: Callable
    caption: str
    alt: str


def percent(estimate: Estimate) -> Estimate:
    """An estimate of a fraction, in percent or points."""
    low, high = (None if v is None else 100 * v for v in (estimate.low, estimate.high))
    return Estimate(100 * estimate.mean, low, high, estimate.n, estimate.source)


def completed(records: Iterable[Record]) -> list[Record]:
    """Those that ended with finite numbers."""
    return [record for record in records if record.status == "completed"]


def run_ids(records: Iterable[Record]) -> tuple[str, ...]:
    """The ids of the completed ones: what a number or a verdict rests on."""
    return tuple(record.id for record in completed(records))


def by_seed(records: Iterable[Record], value: Callable[[Record], float | None]) -> dict[int, float]:
    """Seed to value, for records that differ in their seed only; records without a value are left out."""
    found = {record.spec.seed: value(record) for record in completed(records)}
    return {seed: v for seed, v in sorted(found.items()) if v is not None}


def seeds_cell(
    item: str, row: str, column: str, records: Sequence[Record], value, unit: str, setting: str
) -> list[Cell]:
    """The cell of a mean over seeds, as a list: empty where no record has the value."""
    values = by_seed(records, value)
    if not values:
        return []
    ids = run_ids(records)
    return [Cell(item, row, column, over_seeds(list(values.values())), unit, setting, ids)]


def accuracy(record: Record) -> float:
    """Top-1 accuracy in percent on the images that the run was scored on."""
    return 100 * record.metrics["test_top1"]


def effect(first: Sequence[Record], second: Sequence[Record]) -> Estimate | None:
    """Accuracy of one group minus another's in points, paired by seed; None where they share no seed."""
    a, b = (by_seed(group, lambda r: r.metrics["test_top1"]) for group in (first, second))
    if not a.keys() & b.keys():
        return None
    return percent(accuracy_difference(a, b, completed(first)[0].data["test_images"]))


def weakest(effects: Iterable[Estimate]) -> Estimate:
    """The smallest effect, which a claim about all cases stands or falls with."""
    return min(effects, key=lambda found: found.mean)


def datasets(records: Iterable[Record]) -> list[str]:
    """The names of the data sets that runs were scored on, in order of first mention."""
    return list(dict.fromkeys(record.spec.data_name() for record in records))


def top1_at(record: Record, epoch: int) -> float | None:
    """Test accuracy (fraction) after ``epoch`` epochs, None where it was not measured."""
    return next((entry["top1"] for entry in record.history["test"] if entry["epoch"] == epoch), None)


def checkpoints(epochs: int, also: Iterable[int] = (), points: int = 8) -> tuple[int, ...]:
    """About ``points`` evenly spaced epochs up to ``epochs`` at which to measure a curve,
    with those in ``also``.
    """
    even = {max(1, round(epochs * k / points)) for k in range(1, points + 1)}
    return tuple(sorted(even | {epoch for epoch in also if epoch <= epochs}))
