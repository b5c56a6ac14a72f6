"""Scaling laws (Fig 1, 6): linear-probe error against compute, over models, examples and epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlplib.specs import OptimizerSpec, ProbeSpec
from mlplib.store import Record

from .. import cost, paper
from ..claims import Judgement, Part, judge, not_tested, positive
from ..laws import scaling
from ..laws.powerlaw import POWER_LAW, SATURATING, Fit
from ..laws.scaling import FrontFit, Grid, Point
from ..profiles import Profile
from ..stats import Estimate
from . import base
from .pretraining import data, epochs, pretraining_run, probe

TITLE = "Scaling laws"
ITEMS = ("Fig 1", "Fig 6")
ITEM = "Fig 1, 6"
TASKS = ("cifar100", "cifar10", "imagenet")
"""The data sets of the paper's scaling figures; a profile without any of them probes its main one."""

LEAST_DECADES = 2.0
"""Span of compute on a front below which a power law cannot be distinguished from many other curves."""


@dataclass(frozen=True)
class Budget:
    """The grid of training runs of a profile.

    ``models``; ``examples``: sizes of nested subsets of the upstream data, None for all of it; ``lengths``:
    growing numbers of epochs, all measured along one training; ``batch_size`` and ``lr`` of pre-training.
    """

    models: tuple[str, ...]
    examples: tuple[int | None, ...]
    lengths: tuple[int, ...]
    batch_size: int
    lr: float


PAPER_MODELS = tuple(f"B-{blocks}/Wi-{width}" for width in (256, 512, 1024) for blocks in (6, 12))
LAPTOP_MODELS = ("B-6/Wi-32", "B-6/Wi-64", "B-6/Wi-128", "B-6/Wi-256")
GPU_EXAMPLES = (3125, 6250, 12500, 25000, 50000, None)
PAPER_EXAMPLES = (370_000, 740_000, 1_480_000, 2_950_000, 5_900_000, None)

BUDGETS = {
    "smoke": Budget(("B-2/Wi-16", "B-2/Wi-32"), (300, None), (2, 4), batch_size=64, lr=2e-3),
    "laptop": Budget(LAPTOP_MODELS, (1000, 3000, 10000, None), (2, 4, 8), batch_size=256, lr=5e-5),
    "gpu": Budget(PAPER_MODELS, GPU_EXAMPLES, (25, 50, 100), batch_size=1024, lr=1e-5),
    "paper": Budget(PAPER_MODELS, PAPER_EXAMPLES, (50, 100, 200, 400, 800), batch_size=16384, lr=1e-5),
}
WEIGHT_DECAY = 1e-3
"""That of the paper's scaling runs."""


def tasks(profile: Profile) -> list[str]:
    """The data sets to probe on, the profile's main one first."""
    found = profile.downstream
    return [name for name in found if name in TASKS] or found[:1]


def grid_runs(
    profile: Profile, seed: int, models: Sequence[str], examples: Sequence[int | None], lengths, names
) -> list[ProbeSpec]:
    """Every model pre-trained on every number of examples, probed at each length on each of the data sets.

    All lengths are measured along one training, which saves its weights at all lengths of the profile's
    budget.
    """
    budget, found = BUDGETS[profile.key], []
    for model in models:
        for count in examples:
            training = pretraining_run(
                profile,
                seed,
                model=model,
                epochs=budget.lengths[-1],
                batch_size=budget.batch_size,
                examples=count,
                optimizer=OptimizerSpec(lr=budget.lr, weight_decay=WEIGHT_DECAY),
                keep_at=budget.lengths[:-1],
            )
            for name in names:
                for epoch in lengths:
                    at = None if epoch == training.epochs else epoch
                    found.append(probe(profile, training, seed, data(profile, name), epoch=at))
    return found


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """Every model on every number of examples, probed at every length."""
    budget = BUDGETS[profile.key]
    grid = budget.models, budget.examples, budget.lengths, tasks(profile)
    return [run for seed in seeds for run in grid_runs(profile, seed, *grid)]


# --------------------------------------------------------------------------- what a probe measures


def error(record: Record) -> float:
    """Top-1 error, a fraction."""
    return 1 - base.top1(record)


def point(record: Record) -> Point:
    """What a probe measured, with the size of the pre-training behind it."""
    training, epoch = record.spec.upstream, epochs(record)
    examples = cost.training_images(training)
    return Point(
        run=(training.model.name, examples),
        seed=record.spec.seed,
        compute=cost.training_macs(training, epoch),
        parameters=cost.model_size(training).parameters,
        examples=examples,
        epochs=epoch,
        error=error(record),
        id=record.id,
    )


def measured(records: Sequence[Record]) -> Grid:
    """The grid of the errors of some probes on one data set."""
    return scaling.grid(point(record) for record in records)


def fronts(records: Sequence[Record], by_family: bool = False) -> dict[str, list[Record]]:
    """The completed probes by front: that of a data set, or with ``by_family`` of a kind of MLP on it."""

    def title(record: Record) -> str:
        family = record.spec.upstream.model.family
        return f"{base.MLP_TITLES[family]}: " * by_family + base.DATASET_TITLES[record.spec.data.name]

    return base.group_by((r for r in base.completed(records) if isinstance(r.spec, ProbeSpec)), title)


def holes(records: Sequence[Record]) -> str:
    """What a grid lacks; empty if every model was probed on every number of examples at every length. With
    holes, its front may not be compute-optimal. ``records`` are of one data set, and include diverged ones.
    """
    cells = {(r.spec.upstream.model.name, cost.training_images(r.spec.upstream), epochs(r)) for r in records}
    whole = math.prod(len(set(values)) for values in zip(*cells, strict=True)) if cells else 0
    lost = whole - len(cells)
    return f"{lost} of {whole} combinations of model, examples and length are missing" if lost else ""


# --------------------------------------------------------------------------- the table


def fit_setting(fit: Fit) -> str:
    """How much data a fit is based on, in a few words."""
    return f"{fit.points} points on the front, {fit.decades:.1f} decades of compute"


def interval_source(estimate: Estimate) -> str:
    """What an interval of this chapter covers, since it need not be seeds."""
    if estimate.low is None:
        return "no interval: too few resampled grids allow a fit"
    return f"interval from {estimate.source}"


def front_laws(records: Sequence[Record], by_family: bool) -> Iterator[tuple[str, list[Record], FrontFit]]:
    """Both forms of law of every front, with its title and its probes."""
    for title, group in fronts(records, by_family).items():
        for form in (SATURATING, POWER_LAW):
            yield title, group, scaling.fit_front(measured(group), form)


LAW_ROWS = {
    (SATURATING, "alpha"): "exponent with a floor",
    (SATURATING, "E_inf"): "floor",
    (POWER_LAW, "alpha"): "exponent without a floor",
}
"""The rows of the table: the coefficients that have a meaning of their own."""


def law_cells(item: str, records: Sequence[Record], by_family: bool = False) -> list[base.Cell]:
    """Exponents and floors of the fronts' laws, where they are determined."""
    found = []
    for title, group, law in front_laws(records, by_family):
        prefix, colon, column = title.rpartition(": ")
        for (form, name), row in LAW_ROWS.items():
            if form == law.fit.form and law.fit.determined:
                estimate, unit = law.coefficients[name], ""
                if name == "E_inf":
                    estimate, unit = estimate.times(100), "%"
                setting = f"{fit_setting(law.fit)}; {interval_source(estimate)}"
                row = f"{prefix}{colon}{row}"
                found.append(base.Cell(item, row, column, estimate, unit, setting, base.run_ids(group)))
    return found


def grid_cells(records: Sequence[Record]) -> list[base.Cell]:
    """The error of every model, number of examples and length, mean over seeds in percent."""

    def place(record: Record) -> tuple[str, str]:
        at = point(record)
        row = f"{record.spec.upstream.model.name}, {at.examples:,} images, {at.epochs} epochs"
        return row, base.DATASET_TITLES[record.spec.data.name]

    def setting(group: Sequence[Record]) -> str:
        return f"{point(group[0]).compute:.2g} multiply-adds"

    groups = [base.group_by(group, place) for group in fronts(records, by_family=True).values()]
    cells = [base.mean_cells("Errors of the grid", g, setting, lambda r: 100 * error(r)) for g in groups]
    return [cell for part in cells for cell in part]


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """The laws of the fronts, and under an item of its own every error of the grid."""
    return law_cells(ITEM, records) + grid_cells(records)


# --------------------------------------------------------------------------- figures


@base.dataframe
def errors_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Linear-probe error against pre-training compute, both on logarithmic scales, mean over seeds. Color
    shows the model and size the number of pre-training examples; each line is one training, measured at
    growing lengths. Rings mark the front, the points that no training of at most the same compute beats; the
    dashed line is the law fitted to it. The lower axis counts multiply-adds, as the paper does, the upper one
    floating-point operations.
    """
    for group in fronts(records, by_family=True).values():
        optimal = set(measured(group).front().run_ids)
        for record in group:
            at, model = point(record), record.spec.upstream.model
            yield {
                "data": base.DATASET_TITLES[record.spec.data.name],
                "family": model.family,
                "model": model.name,
                "parameters": at.parameters,
                "examples": at.examples,
                "epochs": at.epochs,
                "seed": at.seed,
                "compute_macs": at.compute,
                "error": at.error,
                "on_front": record.id in optimal,
                "run": record.id,
            }


@base.dataframe
def forecast_frame(records: Sequence[Record]) -> Iterator[dict]:
    """The front only. A law is fitted to the filled points; the open ones, the most expensive third, are held
    out. If the law is right, the band contains all open points at once in 95 % of cases; it combines
    resampled training runs with the scatter around the law.
    """
    # If the front is too short, ``predicted`` is the error itself, with an infinite interval.
    for title, group in fronts(records).items():
        found, optimal = scaling.forecast(measured(group)), measured(group).front()
        for i, ids in enumerate(optimal.ids):
            row = {
                "data": title,
                "compute_macs": optimal.compute[i],
                "error": optimal.error[i],
                "forecast": found is not None,
                "held_out": bool(found is not None and found.held_out[i]),
                "predicted": optimal.error[i] if found is None else found.predicted[i],
                "low": -math.inf if found is None else found.low[i],
                "high": math.inf if found is None else found.high[i],
            }
            yield from (row | {"run": run} for run in filter(None, ids))


@base.dataframe
def coefficients_frame(
    records: Sequence[Record], by_family: bool = False, item: str = ITEM
) -> Iterator[dict]:
    """The exponent of each law with its bootstrap interval; crosses are the paper's values, where they are
    known. Pale dots are coefficients that the front does not determine. All coefficients, unrounded, are in
    the data file, next to the paper's.
    """
    for title, _, law in front_laws(records, by_family):
        row = {
            "data": title,
            "law": law.fit.form,
            "points": law.fit.points,
            "decades": law.fit.decades,
            "doubt": law.fit.why or "none",
        }
        for name, estimate in (law.coefficients or {"alpha": None}).items():
            known = paper_coefficient(item, title, law.fit.form, name)
            yield row | {"coefficient": name, "paper": known} | number_columns(estimate)


def paper_coefficient(item: str, title: str, form: str, name: str) -> float | str:
    """The paper's coefficient of a front's law, ``unknown`` where it is not; errors are fractions."""
    prefix, colon, column = title.rpartition(": ")
    row = LAW_ROWS.get((form, name), name)
    known = paper.value(item, f"{prefix}{colon}{row}", column)
    return known.value / (100 if known.unit == "%" else 1) if known else "unknown"


def number_columns(estimate: Estimate | None) -> dict[str, float | str]:
    """An estimate as columns ``value, low, high``, each ``unknown`` where there is none."""
    numbers = (estimate.mean, estimate.low, estimate.high) if estimate else (None, None, None)
    values = ("unknown" if number is None else number for number in numbers)
    return dict(zip(("value", "low", "high"), values, strict=True))


def draw_exponents(frame, folder=None):
    """The exponents in a :func:`coefficients_frame` with the paper's values."""
    from ..plots import scaling as draw

    if not frame.empty:
        frame = frame[frame["coefficient"] == "alpha"].rename(columns={"data": "name"})
    return draw.exponents(frame, "exponent alpha of compute")


FIGURES = {
    "error-against-compute": base.Figure(
        data=errors_frame,
        draw=base.plot("scaling.error_against_compute"),
        alt="Scatter chart of linear-probe error against compute for models of growing size on growing "
        "numbers of examples, with a dashed power-law line along its lower left edge.",
    ),
    "forecast": base.Figure(
        data=forecast_frame,
        draw=base.plot("scaling.forecast"),
        alt="Line chart of compute-optimal error against compute: filled points with a fitted line that "
        "continues, inside a widening band, to open points that were held out.",
    ),
    "exponents": base.Figure(
        data=coefficients_frame,
        draw=draw_exponents,
        alt="Dot plot of fitted exponents with intervals, one row for each data set and form of the law.",
    ),
}


# --------------------------------------------------------------------------- C10


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
    """The power law on one data set as a part of a claim, and what was fitted to its probes; ``records``
    include diverged ones.
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
    for each in (found, scaling.forecast(grid, SATURATING if found.fit.form == POWER_LAW else POWER_LAW)):
        if each is not None:  # small changes decide which law fits better, so both forecasts are shown
            outcome = "holds" if each.holds else "fails"
            note += f"; the forecast by a {each.fit.form} {outcome}, best: {each.best}"
    return part(fitted.coefficients["alpha"], other=found.holds and found.best == scaling.LAW), note


AFTERTHOUGHT = (
    "The offset b was always fitted at first. That it is 0 unless it pays was decided on simulated fronts "
    "of few points, when runs of profile laptop existed, without a look at them; it changed the law of "
    "their forecast and with it the verdict. Other runs have replaced them since."
)
"""Shown with the criterion, since criteria are otherwise settled before there are any results."""


@base.claim(
    "C10",
    ITEM,
    "Compute-optimal error follows a power law in compute.",
    "six decades of compute",
    AFTERTHOUGHT,
)
def c10(records: Sequence[Record]) -> Judgement:
    """For each downstream data set: the front of mean error against compute must have at least six points
    over at least 2 decades, else it decides nothing. A power law (with a floor where the points determine it)
    is fitted to the front; its exponent, with an interval over resampled trainings and seeds, is above 0.
    Partly reproduced unless, besides, the law fitted to all but the most expensive third forecasts it: every
    point held out lies in the forecast's 95 % band, and the power law predicts them better than a straight
    line in log compute and than no change.
    """
    parts, notes = [], []
    for title in fronts(records):
        of_task = [r for r in records if base.DATASET_TITLES[r.spec.data.name] == title]
        part, note = law_part(of_task, title)
        parts.append(part)
        notes.append(f"{part.name}: {note or part.why_not}")
    if not parts:
        return not_tested("needs probes of a grid of pre-training runs")
    decisive = [part for part in parts if part.effect is not None]
    return judge(decisive or parts, "; ".join(notes))


CLAIMS = (c10,)
