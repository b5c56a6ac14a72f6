"""Scaling laws (Fig 1, 6): linear-probe error against compute, over models, examples and epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlplib import scaling
from mlplib.powerlaw import POWER_LAW, SATURATING, Fit
from mlplib.scaling import Grid, Point
from mlplib.specs import OptimizerSpec, ProbeSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from .. import paper
from ..claims import PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from .base import DATASET_TITLES, Cell, Figure, completed, percent, run_ids, seeds_cell
from .pretraining import downstream, pretraining_run, probe

TITLE = "Scaling laws"
ITEMS = ("Fig 1", "Fig 6")
ITEM = "Fig 1, 6"
TASKS = ("cifar100", "cifar10", "imagenet")
"""The data sets of the paper's scaling figures; a profile without any of them probes its main one."""

LEAST_DECADES = 2.0
"""Span of compute on a front, below which a power law looks like many other curves."""


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


# --------------------------------------------------------------------------- runs


def tasks(profile: Profile) -> list[str]:
    """The data sets to probe on, the profile's main one first."""
    found = downstream(profile)
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
        probe(profile, training, training.seed, name, epoch=None if epoch == training.epochs else epoch)
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


# --------------------------------------------------------------------------- what was measured


def error(record: Record) -> float:
    """Top-1 error, a fraction."""
    return 1 - record.metrics["test_top1"]


def epoch_of(spec: ProbeSpec) -> int:
    """After how many epochs of pre-training the probe looks."""
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
    found: dict[str, list[Record]] = {}
    for record in completed(records):
        found.setdefault(record.spec.data.name, []).append(record)
    return found


def measured(records: Sequence[Record]) -> Grid:
    """The grid of the errors of some probes on one data set."""
    return scaling.grid(point(record) for record in records)


def holes(records: Sequence[Record]) -> str:
    """How much a grid lacks; empty where every model was probed on every number of examples at every length.

    The front of a grid with holes need not be the best that its compute can buy.

    Args:
        records: probes on one data set, those that diverged among them.
    """
    cells = {
        (r.spec.upstream.model.name, scaling.training_images(r.spec.upstream), epoch_of(r.spec))
        for r in records
    }
    whole = math.prod(len(set(values)) for values in zip(*cells, strict=True)) if cells else 0
    lost = whole - len(cells)
    return f"{lost} of {whole} combinations of model, examples and length are missing" if lost else ""


def cell_name(record: Record) -> str:
    """Model, examples and epochs of a probe, the name of its row."""
    training = record.spec.upstream
    images = f"{scaling.training_images(training):,} images"
    return f"{training.model.name}, {images}, {epoch_of(record.spec)} epochs"


# --------------------------------------------------------------------------- table


def fit_setting(fit: Fit) -> str:
    """How much a fit rests on, in a few words."""
    return f"{fit.points} points on the front, {fit.decades:.1f} decades of compute"


def interval_source(estimate: Estimate) -> str:
    """What an interval of this chapter covers, since it need not be seeds."""
    if estimate.low is None:
        return "no interval: too few resampled grids allow a fit"
    return f"interval from {estimate.source}"


def law_cells(item: str, prefix: str, column: str, records: Sequence[Record]) -> list[Cell]:
    """The coefficients that have a meaning of their own: exponent and floor, where they are determined."""
    found, ids = [], run_ids(records)
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
                estimate, unit = percent(estimate), "%"
            setting = f"{fit_setting(fitted.fit)}; {interval_source(estimate)}"
            found.append(Cell(item, f"{prefix}{row}", column, estimate, unit, setting, ids))
    return found


def grid_cells(item: str, column: str, records: Sequence[Record]) -> list[Cell]:
    """The error of every model, number of examples and length, mean over seeds in percent."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(cell_name(record), []).append(record)
    found = []
    for row, group in groups.items():
        macs = point(group[0]).compute
        found += seeds_cell(
            item, row, column, group, lambda r: 100 * error(r), "%", f"{macs:.2g} multiply-adds"
        )
    return found


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """The laws of the fronts, and under an item of its own every error of the grid."""
    laws, errors = [], []
    for name, group in by_task(records).items():
        laws += law_cells(ITEM, "", DATASET_TITLES[name], group)
        errors += grid_cells("Errors of the grid", DATASET_TITLES[name], group)
    return laws + errors


# --------------------------------------------------------------------------- figures


def errors_frame(records: Sequence[Record]):
    """Every measured error with what it cost; ``on_front`` tells whether the mean over seeds of its cell is
    compute-optimal.
    """
    import pandas as pd

    rows = []
    for name, group in by_task(records).items():
        optimal = measured(group).front()
        cells = set(zip(optimal.compute, optimal.parameters, optimal.examples, optimal.epochs, strict=True))
        for record in group:
            at = point(record)
            rows.append(
                {
                    "data": DATASET_TITLES[name],
                    "family": record.spec.upstream.model.family,
                    "model": record.spec.upstream.model.name,
                    "parameters": at.parameters,
                    "examples": at.examples,
                    "epochs": at.epochs,
                    "seed": at.seed,
                    "compute_macs": at.compute,
                    "compute_flops": scaling.flops(at.compute),
                    "error": at.error,
                    "on_front": (at.compute, at.parameters, at.examples, at.epochs) in cells,
                    "run": record.id,
                }
            )
    return pd.DataFrame(rows)


def draw_errors(frame, records, folder):
    """Fig 1 and 6: error against compute with the front and its law."""
    from ..plots import scaling as draw

    laws = {
        DATASET_TITLES[name]: {"": scaling.fit_front(measured(group)).fit}
        for name, group in by_task(records).items()
    }
    return draw.error_against_compute(frame, laws)


def forecast_frame(records: Sequence[Record]):
    """The front of every data set, each of its runs a row: what the law of its cheaper part says of it.

    Where the front is too short for that, its points are there with ``predicted`` equal to ``error`` and an
    interval without ends.
    """
    import pandas as pd

    rows = []
    for name, group in by_task(records).items():
        grid = measured(group)
        found, optimal = scaling.forecast(grid), grid.front()
        runs_of = {}
        for record in group:
            at = point(record)
            runs_of.setdefault((at.compute, at.parameters, at.examples, at.epochs), []).append(record.id)
        for i in range(len(optimal)):
            cell = tuple(getattr(optimal, k)[i] for k in ("compute", "parameters", "examples", "epochs"))
            row = {
                "data": DATASET_TITLES[name],
                "compute_macs": cell[0],
                "error": optimal.error[i],
                "forecast": found is not None,
                "held_out": bool(found is not None and found.held_out[i]),
                "predicted": optimal.error[i] if found is None else found.predicted[i],
                "low": float("-inf") if found is None else found.low[i],
                "high": float("inf") if found is None else found.high[i],
            }
            rows += [row | {"run": run} for run in runs_of[cell]]
    return pd.DataFrame(rows)


def draw_forecast(frame, records, folder):
    """The front, the law of its cheaper part, and what came of the rest."""
    from ..plots import scaling as draw

    return draw.forecast(frame)


def coefficients_frame(records: Sequence[Record]):
    """Every coefficient of both laws of every front, unrounded, with its interval.

    ``doubt`` says why not to rely on a law, if there is a reason; where nothing could be fitted, value and
    interval are ``unknown``. ``run`` lists the ids of all runs, since all take part in finding the front.
    """
    import pandas as pd

    rows = []
    for name, group in by_task(records).items():
        rows += coefficient_rows(DATASET_TITLES[name], group)
    return pd.DataFrame(rows)


def coefficient_rows(title: str, records: Sequence[Record]) -> list[dict]:
    """The rows of :func:`coefficients_frame` for the probes on one data set."""
    rows = []
    for form in (SATURATING, POWER_LAW):
        fitted = scaling.fit_front(measured(records), form)
        row = {
            "data": title,
            "law": form,
            "points": fitted.fit.points,
            "decades": fitted.fit.decades,
            "doubt": fitted.fit.why or "none",
            "run": " ".join(run_ids(records)),
        }
        for name, e in fitted.coefficients.items():
            rows.append(row | {"coefficient": name, "value": e.mean} | ends(e))
        if not fitted.coefficients:
            rows.append(row | {"coefficient": "none"} | dict.fromkeys(("value", "low", "high"), "unknown"))
    return rows


def ends(estimate: Estimate) -> dict[str, float | str]:
    """An interval as columns ``low`` and ``high``, ``unknown`` without one."""
    if estimate.low is None:
        return {"low": "unknown", "high": "unknown"}
    return {"low": estimate.low, "high": estimate.high}


def draw_exponents(frame, records, folder):
    """The exponents of both laws, with their intervals and the paper's values."""
    from ..plots import scaling as draw

    return draw.exponents(exponent_rows(frame), "exponent alpha of compute")


def exponent_rows(frame, item: str = ITEM) -> list[dict]:
    """What :func:`mlpstudy.plots.scaling.exponents` draws, from a :func:`coefficients_frame`."""
    rows = []
    if frame.empty:
        return rows
    for (data, law), group in frame.groupby(["data", "law"], sort=False):
        prefix, colon, column = data.rpartition(": ")
        known = paper.value(item, f"{prefix}{colon}exponent with a floor", column)
        row = {"name": data, "law": law, "doubt": group["doubt"].iloc[0]}
        row["paper"] = known.value if known and law == SATURATING else None
        for alpha in group[group["coefficient"] == "alpha"].itertuples():
            row |= {"value": alpha.value, "low": alpha.low, "high": alpha.high}
        rows.append(row)
    return rows


FIGURES = {
    "error-against-compute": Figure(
        data=errors_frame,
        draw=draw_errors,
        caption=(
            "Linear-probe error against pre-training compute, both on logarithmic scales, mean over seeds. "
            "Color tells the model and size the number of pre-training examples; a line is one "
            "training, measured at growing lengths. Rings mark the front, the points that no training of at "
            "most the same compute beats; the dashed line is the law fitted to it. The axis below "
            "counts multiply-adds, as the paper does, the one above floating-point operations."
        ),
        alt=(
            "Scatter chart of linear-probe error against compute for models of growing size on growing "
            "numbers of examples, with a dashed power-law line along its lower left edge."
        ),
    ),
    "forecast": Figure(
        data=forecast_frame,
        draw=draw_forecast,
        caption=(
            "The front alone. A law is fitted to the filled points only; the open ones, the most expensive "
            "third, are held out. The band is where the law expects measured errors, all of the open points "
            "at once: from resampled trainings and the scatter around the law."
        ),
        alt=(
            "Line chart of compute-optimal error against compute: filled points with a fitted line that "
            "continues, inside a widening band, to open points that were held out."
        ),
    ),
    "exponents": Figure(
        data=coefficients_frame,
        draw=draw_exponents,
        caption=(
            "The exponent of each law with its bootstrap interval; a cross is the paper's value, where it is "
            "known. A pale dot is a coefficient that the front does not determine. All coefficients, "
            "unrounded, are in the file."
        ),
        alt="Dot plot of fitted exponents with intervals, one row for each data set and form of the law.",
    ),
}


# --------------------------------------------------------------------------- claim


def span_problem(fit: Fit) -> str:
    """Why a front cannot decide on a law; empty if it can."""
    if fit.law is None:
        return fit.why
    if fit.decades < LEAST_DECADES:
        return f"the front spans {fit.decades:.1f} decades of compute, fewer than {LEAST_DECADES:g}"
    return ""


def judge_front(grid: Grid) -> tuple[str, Estimate | None, str]:
    """Verdict, exponent and reason for one data set; the verdict is empty where the grid decides nothing."""
    fitted, found = scaling.fit_front(grid), scaling.forecast(grid)
    problem = span_problem(fitted.fit)
    if problem:
        return "", None, problem
    if found is None:
        return "", None, f"{fitted.fit.points} points on the front are too few to hold some out"
    alpha = fitted.coefficients["alpha"]
    if alpha.low is None:
        return "", None, "too few resampled grids allow a fit"
    note = f"{fitted.fit.form}, {fit_setting(fitted.fit)}"
    note += f"; the forecast by a {found.fit.form} {'holds' if found.holds else 'fails'}, best: {found.best}"
    sign = judge_sign(alpha)
    if sign == REPRODUCED and not (found.holds and found.best == scaling.LAW):
        sign = PARTLY
    return sign, alpha, note


def judge_c10(records: Sequence[Record]) -> Judgement:
    """The law of the front must foretell its expensive end, better than what else might."""
    verdicts, effects, notes = [], [], []
    for name, group in by_task(records).items():
        lacking = holes([r for r in records if r.spec.data.name == name])
        verdict, alpha, note = ("", None, lacking) if lacking else judge_front(measured(group))
        notes.append(f"{DATASET_TITLES[name]}: {note}")
        if verdict:
            verdicts.append(verdict)
            effects.append(alpha)
    if not verdicts:
        return not_tested("; ".join(notes) or "needs probes of a grid of pre-trainings")
    effect = min(effects, key=lambda e: e.mean)
    return Judgement(worst(verdicts), effect, "exponent alpha", "; ".join(notes), run_ids(records))


AFTERTHOUGHT = (
    " The offset b was always fitted at first. That it is 0 unless it pays was decided on simulated fronts "
    "of few points, when runs of profile laptop existed, without a look at them; it changed the law of "
    "their forecast, and with it the verdict of that profile from reproduced to partly."
)
"""Told with the criterion, since criteria are otherwise settled before there are any results."""

CLAIMS = (
    Claim(
        "C10",
        "Compute-optimal error follows a power law in compute.",
        ITEM,
        "For each downstream data set: the front of mean error against compute must have at least six "
        f"points over at least {LEAST_DECADES:g} decades, else it decides nothing. A power law (with a floor "
        "where the points determine it) is fitted to all but the most expensive third. Not reproduced unless "
        "the whole 95 % interval of the whole front's exponent, over resampled trainings and seeds, is above "
        "0. Reproduced if, besides, every point held out lies in the forecast's 95 % band and the power law "
        "predicts them better than a straight line in log compute and than no change; else partly. "
        "Reproduced on all data sets that decide: reproduced; on none: not reproduced; otherwise partly. "
        "The effect shown is the smallest exponent." + AFTERTHOUGHT,
        judge_c10,
    ),
)
