"""Scaling laws (Fig 1, 6): linear-probe error against compute, over models, examples and epochs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mlplib import scaling
from mlplib.powerlaw import POWER_LAW, SATURATING, Fit
from mlplib.scaling import Grid, Point
from mlplib.specs import OptimizerSpec, ProbeSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from .. import paper
from ..claims import Judgement, Part, judge, not_tested, positive
from ..profiles import Profile
from . import base
from .pretraining import data, pretraining_run, probe

TITLE = "Scaling laws"
ITEMS = ("Fig 1", "Fig 6")
ITEM = "Fig 1, 6"
TASKS = ("cifar100", "cifar10", "imagenet")
"""The data sets of the paper's scaling figures; a profile without any of them probes its main one."""

LEAST_DECADES = 2.0
"""Span of compute on a front below which a power law cannot be told from many other curves."""


@dataclass(frozen=True)
class Budget:
    """The grid of trainings of a profile.

    ``models``; ``examples``: sizes of nested subsets of the upstream data, None for all of it; ``lengths``:
    epochs, all measured along one training; ``batch_size`` and ``lr`` of pre-training.
    """

    models: tuple[str, ...]
    examples: tuple[int | None, ...]
    lengths: tuple[int, ...]
    batch_size: int
    lr: float


PAPER_MODELS = tuple(f"B-{blocks}/Wi-{width}" for width in (256, 512, 1024) for blocks in (6, 12))

BUDGETS = {
    "smoke": Budget(("B-2/Wi-16", "B-2/Wi-32"), (300, None), (2, 4), batch_size=64, lr=2e-3),
    "laptop": Budget(
        ("B-6/Wi-64", "B-6/Wi-128", "B-6/Wi-256"), (3000, 10000, None), (2, 4, 8), batch_size=256, lr=5e-5
    ),
    "gpu": Budget(
        PAPER_MODELS, (3125, 6250, 12500, 25000, 50000, None), (25, 50, 100), batch_size=1024, lr=1e-5
    ),
    "paper": Budget(
        PAPER_MODELS,
        (370_000, 740_000, 1_480_000, 2_950_000, 5_900_000, None),
        (50, 100, 200, 400, 800),
        batch_size=16384,
        lr=1e-5,
    ),
}
WEIGHT_DECAY = 1e-3
"""That of the paper's scaling runs."""


def tasks(profile: Profile) -> list[str]:
    """The data sets to probe on, the profile's main one first."""
    found = profile.downstream
    return [name for name in found if name in TASKS] or found[:1]


def training_run(
    profile: Profile, budget: Budget, model: str, examples: int | None, lengths: Sequence[int], seed: int
) -> TrainSpec:
    """One pre-training, whose weights are kept at every length but the last, where they are kept anyway."""
    return pretraining_run(
        profile,
        seed,
        model=model,
        epochs=max(lengths),
        batch_size=budget.batch_size,
        examples=examples,
        optimizer=OptimizerSpec(lr=budget.lr, weight_decay=WEIGHT_DECAY),
        keep_at=tuple(sorted(lengths))[:-1],
    )


def probes(
    profile: Profile, training: TrainSpec, lengths: Sequence[int], names: Sequence[str]
) -> list[ProbeSpec]:
    """Linear probes of one pre-training at each length, on each of the data sets."""
    return [
        probe(
            profile,
            training,
            training.seed,
            data(profile, name),
            epoch=None if epoch == training.epochs else epoch,
        )
        for name in names
        for epoch in lengths
    ]


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """Every model on every number of examples, probed at every length."""
    budget = BUDGETS[profile.name]
    found = []
    for seed in seeds:
        for model in budget.models:
            for examples in budget.examples:
                training = training_run(profile, budget, model, examples, budget.lengths, seed)
                found += probes(profile, training, budget.lengths, tasks(profile))
    return found


def error(record: Record) -> float:
    """Top-1 error, a fraction."""
    return 1 - base.top1(record)


def epoch_of(spec: ProbeSpec) -> int:
    """The number of epochs of pre-training after which the probe reads the features."""
    return spec.upstream.epochs if spec.epoch is None else spec.epoch


def point(record: Record) -> Point:
    """What a probe measured, with the size of the pre-training behind it."""
    training, epoch = record.spec.upstream, epoch_of(record.spec)
    return Point(
        run=(training.model.name, scaling.training_images(training)),
        seed=record.spec.seed,
        compute=scaling.training_macs(training, epoch),
        parameters=scaling.model_size(training).parameters,
        examples=scaling.training_images(training),
        epochs=epoch,
        error=error(record),
    )


def by_task(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The completed probes by the data set that they probe on, in order."""
    return base.by_dataset(base.completed(records))


def measured(records: Sequence[Record]) -> Grid:
    """The grid of the errors of some probes on one data set."""
    return scaling.grid(point(record) for record in records)


def size_of(at: Point | Record) -> Hashable:
    """Compute, parameters, examples and epochs of a probe, which its seeds share."""
    at = point(at) if isinstance(at, Record) else at
    return at.compute, at.parameters, at.examples, at.epochs


def sizes_in(grid: Grid) -> list[Hashable]:
    """:func:`size_of` each cell of a grid."""
    return list(zip(grid.compute, grid.parameters, grid.examples, grid.epochs, strict=True))


def holes(records: Sequence[Record]) -> str:
    """What a grid lacks; empty where every model was probed on every number of examples at every length.

    The front of a grid with holes need not be the best that its compute can buy.

    Args:
        records: probes on one data set, including diverged ones.
    """
    cells = {
        (r.spec.upstream.model.name, scaling.training_images(r.spec.upstream), epoch_of(r.spec))
        for r in records
    }
    whole = math.prod(len(set(values)) for values in zip(*cells, strict=True)) if cells else 0
    lost = whole - len(cells)
    return f"{lost} of {whole} combinations of model, examples and length are missing" if lost else ""


def fit_setting(fit: Fit) -> str:
    """How much a fit rests on, in a few words."""
    return f"{fit.points} points on the front, {fit.decades:.1f} decades of compute"


def interval_source(estimate: Estimate) -> str:
    """What an interval of this chapter covers, since it need not be seeds."""
    if estimate.low is None:
        return "no interval: too few resampled grids allow a fit"
    return f"interval from {estimate.source}"


def law_cells(item: str, prefix: str, column: str, records: Sequence[Record]) -> list[base.Cell]:
    """The coefficients that have a meaning of their own: exponent and floor, where they are determined."""
    found, ids = [], base.run_ids(records)
    for form, rows in (
        (SATURATING, {"alpha": "exponent with a floor", "E_inf": "floor"}),
        (POWER_LAW, {"alpha": "exponent without a floor"}),
    ):
        fitted = scaling.fit_front(measured(records), form)
        if not fitted.fit.determined:
            continue
        for name, row in rows.items():
            estimate, unit = fitted.coefficients[name], ""
            if name == "E_inf":
                estimate, unit = estimate.times(100), "%"
            setting = f"{fit_setting(fitted.fit)}; {interval_source(estimate)}"
            found.append(base.Cell(item, f"{prefix}{row}", column, estimate, unit, setting, ids))
    return found


def grid_cells(records: Sequence[Record]) -> list[base.Cell]:
    """The error of every model, number of examples and length, mean over seeds in percent."""

    def place(record: Record) -> tuple[str, str]:
        training, images = record.spec.upstream, scaling.training_images(record.spec.upstream)
        row = f"{training.model.name}, {images:,} images, {epoch_of(record.spec)} epochs"
        return row, base.DATASET_TITLES[record.spec.data.name]

    return base.mean_cells(
        "Errors of the grid",
        base.group_by(records, place),
        lambda group: f"{point(group[0]).compute:.2g} multiply-adds",
        lambda record: 100 * error(record),
    )


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """The laws of the fronts, and under an item of its own every error of the grid."""
    laws, errors = [], []
    for name, group in by_task(records).items():
        laws += law_cells(ITEM, "", base.DATASET_TITLES[name], group)
        errors += grid_cells(group)
    return laws + errors


def error_rows(records: Sequence[Record]) -> Iterator[dict]:
    """Every measured error with its cost; ``on_front`` tells whether the mean over seeds of its cell is
    compute-optimal.
    """
    for name, group in by_task(records).items():
        optimal = set(sizes_in(measured(group).front()))
        for record in group:
            at = point(record)
            yield {
                "data": base.DATASET_TITLES[name],
                "family": record.spec.upstream.model.family,
                "model": record.spec.upstream.model.name,
                "parameters": at.parameters,
                "examples": at.examples,
                "epochs": at.epochs,
                "seed": at.seed,
                "compute_macs": at.compute,
                "compute_flops": scaling.flops(at.compute),
                "error": at.error,
                "on_front": size_of(at) in optimal,
                "run": record.id,
            }


errors_frame = base.dataframe(error_rows)


def draw_errors(frame, records: Sequence[Record], folder):
    """Fig 1 and 6: error against compute with the front and its law."""
    from ..plots import scaling as draw

    laws = {
        base.DATASET_TITLES[name]: {"": scaling.fit_front(measured(group)).fit}
        for name, group in by_task(records).items()
    }
    return draw.error_against_compute(frame, laws)


@base.dataframe
def forecast_frame(records: Sequence[Record]) -> Iterator[dict]:
    """The front of every data set, one row per run, with the forecast by the law of its cheaper part.

    Where the front is too short for that, its points are there with ``predicted`` equal to ``error`` and an
    interval without ends.
    """
    for name, group in by_task(records).items():
        grid, runs_of = measured(group), base.group_by(group, size_of)
        found, optimal = scaling.forecast(grid), grid.front()
        for i, size in enumerate(sizes_in(optimal)):
            row = {
                "data": base.DATASET_TITLES[name],
                "compute_macs": optimal.compute[i],
                "error": optimal.error[i],
                "forecast": found is not None,
                "held_out": bool(found is not None and found.held_out[i]),
                "predicted": optimal.error[i] if found is None else found.predicted[i],
                "low": float("-inf") if found is None else found.low[i],
                "high": float("inf") if found is None else found.high[i],
            }
            yield from (row | {"run": record.id} for record in runs_of[size])


@base.dataframe
def coefficients_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Every coefficient of both laws of every front, unrounded, with its interval.

    ``doubt`` is a reason not to rely on a law, if there is one; where nothing could be fitted, value and
    interval are ``unknown``. ``run`` lists the ids of all runs, since all take part in finding the front.
    """
    for name, group in by_task(records).items():
        yield from coefficient_rows(base.DATASET_TITLES[name], group)


def coefficient_rows(title: str, records: Sequence[Record]) -> Iterator[dict]:
    """The rows of :func:`coefficients_frame` for the probes on one data set."""
    for form in (SATURATING, POWER_LAW):
        fitted = scaling.fit_front(measured(records), form)
        row = {
            "data": title,
            "law": form,
            "points": fitted.fit.points,
            "decades": fitted.fit.decades,
            "doubt": fitted.fit.why or "none",
            "run": " ".join(base.run_ids(records)),
        }
        for name, estimate in (fitted.coefficients or {"none": None}).items():
            yield row | {"coefficient": name} | number_columns(estimate)


def number_columns(estimate: Estimate | None) -> dict[str, float | str]:
    """An estimate as columns ``value, low, high``, each ``unknown`` where there is none."""
    numbers = (estimate.mean, estimate.low, estimate.high) if estimate else (None, None, None)
    values = ("unknown" if number is None else number for number in numbers)
    return dict(zip(("value", "low", "high"), values, strict=True))


def exponents_of(frame, item: str = ITEM):
    """The exponents in a :func:`coefficients_frame` with the paper's values, to be drawn."""
    if frame.empty:
        return frame
    frame = frame[frame["coefficient"].isin(("alpha", "none"))]

    def paper_value(data: str, law: str) -> float:
        prefix, colon, column = data.rpartition(": ")
        known = paper.value(item, f"{prefix}{colon}exponent with a floor", column)
        return known.value if known and law == SATURATING else math.nan

    known = [paper_value(data, law) for data, law in zip(frame["data"], frame["law"], strict=True)]
    return frame.assign(name=frame["data"], paper=known)


def draw_exponents(frame, records: Sequence[Record], folder, item: str = ITEM):
    """The exponents of both laws, with their intervals and the paper's values."""
    from ..plots import scaling as draw

    return draw.exponents(exponents_of(frame, item), "exponent alpha of compute")


FIGURES = {
    "error-against-compute": base.Figure(
        data=errors_frame,
        draw=draw_errors,
        caption=(
            "Linear-probe error against pre-training compute, both on logarithmic scales, mean over seeds. "
            "Color shows the model and size the number of pre-training examples; each line is one training, "
            "measured at growing lengths. Rings mark the front, the points that no training of at most the "
            "same compute beats; the dashed line is the law fitted to it. The lower axis counts "
            "multiply-adds, as the paper does, the upper one floating-point operations."
        ),
        alt=(
            "Scatter chart of linear-probe error against compute for models of growing size on growing "
            "numbers of examples, with a dashed power-law line along its lower left edge."
        ),
    ),
    "forecast": base.Figure(
        data=forecast_frame,
        draw=base.plot("scaling.forecast"),
        caption=(
            "The front only. A law is fitted to the filled points; the open ones, the most expensive third, "
            "are held out. The band is where the law expects measured errors, all of the open points at "
            "once: from resampled trainings and the scatter around the law."
        ),
        alt=(
            "Line chart of compute-optimal error against compute: filled points with a fitted line that "
            "continues, inside a widening band, to open points that were held out."
        ),
    ),
    "exponents": base.Figure(
        data=coefficients_frame,
        draw=draw_exponents,
        caption=(
            "The exponent of each law with its bootstrap interval; crosses are the paper's values, where "
            "they are known. Pale dots are coefficients that the front does not determine. All coefficients, "
            "unrounded, are in the data file."
        ),
        alt="Dot plot of fitted exponents with intervals, one row for each data set and form of the law.",
    ),
}


def span_problem(fit: Fit) -> str:
    """Why a front cannot decide on a law; empty if it can."""
    if fit.law is None:
        return fit.why
    if fit.decades < LEAST_DECADES:
        return f"the front spans {fit.decades:.1f} decades of compute, fewer than {LEAST_DECADES:g}"
    return ""


LEAST_EXPONENT = 0.01
"""The smallest exponent that counts as a power law: error falls by 2 % with every tenfold of compute."""


def law_part(records: Sequence[Record], name: str) -> tuple[Part, str]:
    """The power law on one data set as a part of a claim, and what was fitted.

    Args:
        records: probes on one data set, including diverged ones.
        name: the part's.
    """

    def part(alpha: Estimate | None = None, **more) -> Part:
        return positive(alpha, "exponent alpha", name, least=LEAST_EXPONENT, form="+.3f", **more)

    lacking = holes(records)
    if lacking:
        return part(why_not=lacking), ""
    grid = measured(base.completed(records))
    fitted, found = scaling.fit_front(grid), scaling.forecast(grid)
    problem = span_problem(fitted.fit)
    if not problem and found is None:
        problem = f"{fitted.fit.points} points on the front are too few to hold some out"
    if not problem and fitted.coefficients["alpha"].low is None:
        problem = "too few resampled grids allow a fit"
    if problem:
        return part(why_not=problem), ""
    note = f"{fitted.fit.form}, {fit_setting(fitted.fit)}"
    note += f"; the forecast by a {found.fit.form} {'holds' if found.holds else 'fails'}, best: {found.best}"
    return part(fitted.coefficients["alpha"], other=found.holds and found.best == scaling.LAW), note


AFTERTHOUGHT = (
    " The offset b was always fitted at first. That it is 0 unless it pays was decided on simulated fronts "
    "of few points, when runs of profile laptop existed, without a look at them; it changed the law of "
    "their forecast, and with it the verdict of that profile from reproduced to partly."
)
"""Shown with the criterion, since criteria are otherwise settled before there are any results."""


@base.claim(
    "C10",
    ITEM,
    "Compute-optimal error follows a power law in compute.",
    "six decades of compute",
    AFTERTHOUGHT.strip(),
)
def c10(records: Sequence[Record]) -> Judgement:
    """For each downstream data set: the front of mean error against compute must have at least six points
    over at least 2 decades, else it decides nothing. A power law (with a floor where the points determine it)
    is fitted to the front; its exponent, with an interval over resampled trainings and seeds, is above 0.
    Partly reproduced unless, besides, the law fitted to all but the most expensive third forecasts it: every
    point held out lies in the forecast's 95 % band, and the power law predicts them better than a straight
    line in log compute and than no change.
    """
    tasks = by_task(records)
    if not tasks:
        return not_tested("needs probes of a grid of pre-trainings")
    grouped, parts, notes = base.by_dataset(records), [], []
    for name in tasks:
        part, note = law_part(grouped[name], base.DATASET_TITLES[name])
        parts.append(part)
        notes.append(f"{part.name}: {note or part.why_not}")
    return judge(parts, base.run_ids(records), "; ".join(notes))


CLAIMS = (c10,)
