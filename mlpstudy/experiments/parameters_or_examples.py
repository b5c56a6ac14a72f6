"""Parameters or examples (Fig 7, 8): which of the two binds, and how compute is best spent on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlplib.specs import ProbeSpec
from mlplib.store import Record

from .. import paper
from ..claims import Judgement, about, judge, not_tested, positive
from ..laws import scaling
from ..laws.powerlaw import Fit, fit_best
from ..laws.scaling import Grid
from ..profiles import Profile
from ..stats import CONFIDENCE, Estimate, using
from ..words import interval
from . import scaling_laws
from .base import Cell, Figure, claim, completed, dataframe, plot
from .scaling_laws import fronts, interval_source, measured, number_columns

TITLE = "Parameters or examples"
ITEMS = ("Fig 7", "Fig 8")
ITEM = "Fig 7, 8"
COLUMN = "exponent"
SYMBOLS = {"parameters": "P", "examples": "N"}
BOTTLENECK = {name: f"alpha_{symbol}: error against {name}" for name, symbol in SYMBOLS.items()}
SHARE = {name: f"{symbol}*: {name} against compute" for name, symbol in SYMBOLS.items()}
"""The rows of the table: exponents of Fig 7 and of Fig 8."""

PAPER_LENGTH = 50
"""The epochs at which the paper compares parameters with examples (Fig 8)."""

LEAST_SIZES = 4
LEAST_DECADES = 1.0
"""The fewest sizes of a series, and their smallest span, from which an exponent is estimated."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """Those of the chapter on scaling laws, on the main downstream data set."""
    main = scaling_laws.tasks(profile)[0]
    return [spec for spec in scaling_laws.runs(profile, seeds) if spec.data.name == main]


@dataclass(frozen=True)
class Series:
    """Errors limited by ``binds`` (``parameters`` or ``examples``) only, and their law in it."""

    binds: str
    grid: Grid
    fit: Fit

    @property
    def alpha(self) -> Estimate | None:
        """The exponent, None where no law could be fitted."""
        return self.fit.alpha(self.grid.seeds)

    @property
    def problem(self) -> str:
        """Why it cannot decide on an exponent; empty if it can."""
        sizes, decades = len(self.grid), self.fit.decades
        if sizes >= LEAST_SIZES and decades >= LEAST_DECADES:
            return self.fit.why
        needed = f"it takes {LEAST_SIZES} over {LEAST_DECADES:g}"
        return f"{self.binds} have {sizes} sizes over {decades:.1f} decades; {needed}"


def series(records: Sequence[Record]) -> dict[str, Series]:
    """Both series of Fig 7, by what limits the error."""
    parts = {name: scaling.bottleneck(main_grid(records), name) for name in SYMBOLS}
    return {n: Series(n, part, fit_best(getattr(part, n), part.error)) for n, part in parts.items()}


def main_grid(records: Sequence[Record]) -> Grid:
    """The grid of the main downstream data set, the first in the records."""
    return measured(next(iter(fronts(records).values()), []))


def one_length(grid: Grid) -> Grid:
    """The cells of one training length: the paper's 50 epochs where they were measured, else the longest."""
    if not len(grid):
        return grid
    length = PAPER_LENGTH if (grid.epochs == PAPER_LENGTH).any() else grid.epochs.max()
    return grid.take(grid.epochs == length)


def shares(records: Sequence[Record]) -> dict[str, Estimate]:
    """Exponents of P*(C), of N*(C) and their ``difference``; empty where the front has too few points."""
    grid = one_length(main_grid(records))
    if len(grid.front()) < LEAST_SIZES:
        return {}
    found = scaling.estimates(grid, scaling.allocation)
    return dict(zip((*SYMBOLS, "difference"), found, strict=True)) if found else {}


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """The exponents of Fig 7 and 8, and under an item of its own every error they are based on."""
    measures = []
    for name, found in series(records).items():
        if found.alpha is not None:
            setting = f"{found.fit.form}, {len(found.grid)} sizes, {found.fit.decades:.1f} decades"
            measures.append((BOTTLENECK[name], found.alpha, setting, found.grid))
    own, grid = shares(records), one_length(main_grid(records))
    optimal = grid.front()
    for name in SYMBOLS if own else ():
        setting = f"{len(optimal)} points on the front, {optimal.epochs[0]:.0f} epochs"
        measures.append((SHARE[name], own[name], setting, grid))
    return [
        Cell(ITEM, row, COLUMN, estimate, "", f"{setting}; {interval_source(estimate)}", based_on.run_ids)
        for row, estimate, setting, based_on in measures
    ] + scaling_laws.grid_cells(records)


@dataframe
def bottleneck_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Linear-probe error where only one quantity varies: on the left, models of growing size trained on the
    most examples; on the right, the largest model trained on growing numbers of examples; all are trained for
    the longest. Small dots are seeds, large ones their means, the dashed line the fitted law. All scales are
    logarithmic.
    """
    for name, found in series(records).items():
        ids = set(found.grid.run_ids)
        for record in completed(records):
            if record.id in ids:
                at = scaling_laws.point(record)
                yield {
                    "binds": name,
                    "size": getattr(at, name),
                    "seed": at.seed,
                    "error": at.error,
                    "model": record.spec.upstream.model.name,
                    "run": record.id,
                }


@dataframe
def allocation_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Parameters and examples of the compute-optimal training runs of one length, against compute. The dashed
    line is the fitted power law; the solid one has the paper's exponent and passes through the middle of the
    same points. All scales are logarithmic.
    """
    optimal = one_length(main_grid(records)).front()
    for name in SYMBOLS if len(optimal) else ():
        x, y = np.log(optimal.compute), np.log(getattr(optimal, name))
        slope, level = scaling.line(x, y)
        known = paper_value(SHARE[name])
        for i, ids in enumerate(optimal.ids):
            row = {
                "of": name,
                "compute_macs": optimal.compute[i],
                "size": getattr(optimal, name)[i],
                "exponent": slope,
                "line": math.exp(level + slope * x[i]),
                "paper": math.exp(y.mean() + known * (x[i] - x.mean())),
            }
            yield from (row | {"run": run} for run in filter(None, ids))


def paper_value(row: str) -> float:
    """The paper's exponent of a row of the table."""
    return paper.value(ITEM, row, COLUMN).value


@dataframe
def exponents_frame(records: Sequence[Record]) -> Iterator[dict]:
    """The four exponents of this chapter with their intervals; crosses are the paper's values. Pale exponents
    are not determined by the grid.
    """
    own = shares(records)
    rows = [
        (f"alpha_{SYMBOLS[name]}", found.fit.form, BOTTLENECK[name], found.problem, found.alpha)
        for name, found in series(records).items()
    ]
    doubt = "" if own else "too few points on the front"
    rows += [(f"{s}*", "power of compute", SHARE[n], doubt, own.get(n)) for n, s in SYMBOLS.items()]
    for name, law, row, problem, estimate in rows:
        columns = {"name": name, "law": law, "paper": paper_value(row), "doubt": problem or "none"}
        yield columns | number_columns(estimate)


FIGURES = {
    "bottlenecks": Figure(
        data=bottleneck_frame,
        draw=plot("scaling.bottlenecks"),
        alt="Two charts of linear-probe error, against parameters and against examples, with fitted lines.",
    ),
    "allocation": Figure(
        data=allocation_frame,
        draw=plot("scaling.allocation"),
        alt="Two charts: parameters and examples of compute-optimal runs against compute, with lines.",
    ),
    "exponents": Figure(
        data=exponents_frame,
        draw=plot("scaling.exponents", label="exponent"),
        alt="Dot plot of four exponents with intervals, each next to a cross for the paper's value.",
    ),
}


def contains(estimate: Estimate, value: float) -> bool:
    """Whether the interval holds ``value``; not without an interval."""
    return estimate.low is not None and estimate.low <= value <= estimate.high


def minus(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two estimates, treated as independent: half widths add in quadrature. The series of
    Fig 7 share a training whose error moves both exponents alike, so the interval is a little too wide.
    """
    mean = first.mean - second.mean
    half = math.hypot(first.half_width, second.half_width)
    return Estimate(mean, mean - half, mean + half, min(first.n, second.n), first.source)


LEAST_GAP = 0.05
"""The smallest difference of exponents that the sentences mean."""


def judge_exponents(
    difference: Estimate, own: dict[str, Estimate], rows: dict[str, str], unit: str, note: str
) -> Judgement:
    """The difference of two exponents is the paper's, and each one's interval holds the paper's value.

    ``own``: always at 95 %, whatever the confidence of the difference, since wider intervals would contain
    the paper's values more easily.
    """
    papers = {name: paper_value(rows[name]) for name in SYMBOLS}
    alike = all(contains(own[name], papers[name]) for name in SYMBOLS)
    size = about(abs(papers["parameters"] - papers["examples"]))
    part = positive(difference, unit, least=LEAST_GAP, size=size, other=alike, form="+.2f")
    return judge([part], note)


@claim(
    "C11",
    "Fig 7",
    "The exponent of error is about 1 in parameters and about 0.35 in examples: data is the tighter "
    "bottleneck.",
    "millions of images",
)
def c11(records: Sequence[Record]) -> Judgement:
    """On the main downstream data set. Both series of Fig 7 need at least 4 sizes over a decade; each
    exponent is that of the law with a floor where the sizes determine it, else of the pure power law, with
    Student's 95 % interval from the scatter around the law. alpha_P minus alpha_N is above 0; partly
    reproduced unless, besides, each exponent's interval holds the paper's value.
    """
    found = series(records)
    problems = [s.problem for s in found.values() if s.problem]
    if problems:
        return not_tested("; ".join(problems))
    difference = minus(*(found[name].alpha for name in SYMBOLS))
    with using(confidence=CONFIDENCE):
        own = {name: s.alpha for name, s in found.items()}
    note = "; ".join(
        f"alpha_{SYMBOLS[name]} {interval(alpha, '.2f')} ({found[name].fit.form})"
        for name, alpha in own.items()
    )
    return judge_exponents(difference, own, BOTTLENECK, "alpha_P minus alpha_N", note)


@claim(
    "C12",
    "Fig 8",
    "The compute-optimal number of parameters grows as compute to the 0.35, of examples to the 0.65.",
    "millions of images",
)
def c12(records: Sequence[Record]) -> Judgement:
    """On the main downstream data set, at 50 epochs where they were measured, else at the longest training:
    the front needs at least 4 points. Exponents are slopes of the front's log sizes against log compute, with
    95 % intervals over resampled trainings and seeds. N*'s exponent minus P*'s is above 0 and about the
    paper's; partly reproduced unless, besides, each exponent's interval holds the paper's value.
    """
    lacking = scaling_laws.holes(records)
    if lacking:
        return not_tested(lacking)
    found = shares(records)
    if not found:
        points = len(one_length(main_grid(records)).front())
        return not_tested(f"the front of one length has {points} points; it takes {LEAST_SIZES}")
    with using(confidence=CONFIDENCE):
        own = shares(records)
    note = "; ".join(f"{SYMBOLS[name]}* {interval(own[name], '.2f')}" for name in SYMBOLS)
    return judge_exponents(found["difference"], own, SHARE, "exponent of N* minus that of P*", note)


CLAIMS = (c11, c12)
