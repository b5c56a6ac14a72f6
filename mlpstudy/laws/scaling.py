"""Compute-optimal fronts: their power law with its uncertainty, forecasts, and the best use of compute.

The paper (Section 4.4) fits a power law to the linear-probe errors of compute-optimal models. Here a law
comes with intervals from resampling the training runs of the grid and their seeds, and with forecasts of
errors that the fit has not seen.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from ..stats import CONFIDENCE, GRID, Estimate, confidence
from .powerlaw import (
    FEWEST_POINTS,
    POWER_LAW,
    SATURATING,
    Fit,
    Law,
    fit_best,
    fit_power_law,
    fit_saturating,
    line,
)

DRAWS = 400
"""Bootstrap samples for an interval."""

ENOUGH_DRAWS = 0.9
"""Share of the bootstrap samples that must allow a fit; otherwise the interval would describe a selection."""

HELD_OUT = 1 / 3
"""Share of a front, its most expensive points, that a forecast is tested on."""

# --------------------------------------------------------------------------- a grid of training runs


@dataclass(frozen=True)
class Point:
    """One measured error (a fraction).

    ``run`` names the training without its seed: points of one run are lengths of the same training, so they
    are resampled together. ``compute`` is in multiply-adds. ``id``: the run that measured it.
    """

    run: Hashable
    seed: int
    compute: float
    parameters: int
    examples: int
    epochs: int
    error: float
    id: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """Errors over a grid of training runs: one *cell* is a model, a number of examples and a length.

    ``run`` (cells,): int, equal for cells of one training; ``compute, parameters, examples, epochs``
    (cells,): float64; ``errors`` (cells, seeds): float64, NaN where there is none; ``ids`` (cells, seeds):
    the runs that measured them, empty where there is none.
    """

    run: np.ndarray
    compute: np.ndarray
    parameters: np.ndarray
    examples: np.ndarray
    epochs: np.ndarray
    errors: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.compute)

    def _content(self) -> tuple:
        return (self.errors.shape, *(getattr(self, name).tobytes() for name in (*_SIZES, "errors")))

    def __eq__(self, other) -> bool:
        return isinstance(other, Grid) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    @property
    def seeds(self) -> int:
        """How many seeds some cell has."""
        return int(np.isfinite(self.errors).any(axis=0).sum())

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs that measured the errors."""
        return tuple(filter(None, self.ids.ravel().tolist()))

    @property
    def error(self) -> np.ndarray:
        """float64 (cells,): the mean error over seeds, NaN where there is none."""
        count = np.isfinite(self.errors).sum(axis=1)
        total = np.where(np.isfinite(self.errors), self.errors, 0.0).sum(axis=1)
        return np.divide(total, count, out=np.full(len(self), np.nan), where=count > 0)

    def take(self, cells: np.ndarray) -> Grid:
        """The grid of some cells, by mask or index."""
        return Grid(*(getattr(self, column.name)[cells] for column in fields(Grid)))

    def front(self) -> Grid:
        """The compute-optimal cells (:func:`front`), the cheapest first."""
        optimal = self.take(front(self.compute, self.error))
        return optimal.take(np.lexsort((optimal.examples, optimal.parameters, optimal.compute)))


_SIZES = ("run", "compute", "parameters", "examples", "epochs")


def grid(points: Iterable[Point]) -> Grid:
    """The grid of some points in any order: its cells are sorted by run, compute and the rest."""
    import pandas as pd

    points = list(points)
    names = {run: number for number, run in enumerate(sorted({p.run for p in points}, key=repr))}
    rows = [astuple(replace(point, run=names[point.run])) for point in points]
    frame = pd.DataFrame(rows, columns=[column.name for column in fields(Point)])
    errors, ids = (frame.pivot(index=list(_SIZES), columns="seed", values=v) for v in ("error", "id"))
    run, *rest = (errors.index.get_level_values(name).to_numpy(dtype=float) for name in _SIZES)
    return Grid(run.astype(int), *rest, errors.to_numpy(float), ids.fillna("").to_numpy(object))


def front(compute: Sequence[float], error: Sequence[float]) -> np.ndarray:
    """Which points are compute-optimal, bool (points,): nothing at most as expensive has a smaller error, and
    nothing cheaper has the same. Of equal points all are or none; a point that is not finite never is.
    """
    x, y = np.asarray(compute, dtype=float), np.asarray(error, dtype=float)
    finite = np.isfinite(x) & np.isfinite(y)
    # better[i, j]: point j is better than point i.
    better = (x <= x[:, None]) & (y <= y[:, None]) & ((x < x[:, None]) | (y < y[:, None]))
    return finite & ~(better & finite).any(axis=1)


# --------------------------------------------------------------------------- intervals


Statistic = Callable[[Grid], "Sequence[float] | None"]
"""Numbers computed from a grid, always equally many; None where the grid does not allow it."""


@functools.lru_cache(maxsize=256)
def bootstrap(measured: Grid, statistic: Statistic, draws: int, seed: int = 0) -> np.ndarray:
    """A statistic of resampled grids: training runs are drawn with replacement, and for each its seeds.

    All lengths of a training run are kept together, since they share their weights. With one seed, only
    the training runs are resampled. The same arguments give the same samples, from a cache.

    Returns:
        float64 (successful draws, numbers): fewer rows than ``draws`` where the statistic was None or not
        finite for some; (0, 0) if for all.
    """
    if not len(measured):
        return np.empty((0, 0))
    random = np.random.default_rng(seed)
    trainings = [np.flatnonzero(measured.run == run) for run in np.unique(measured.run)]
    seeds = measured.errors.shape[1]
    found = []
    for _ in range(draws):
        drawn = random.integers(len(trainings), size=len(trainings))
        chosen = random.integers(seeds, size=(len(trainings), seeds))
        cells = np.concatenate([trainings[t] for t in drawn])
        columns = np.repeat(chosen, [len(trainings[t]) for t in drawn], axis=0)
        again = replace(measured.take(cells), errors=measured.errors[cells[:, None], columns])
        numbers = statistic(again)
        if numbers is not None and np.isfinite(numbers).all():
            found.append(np.asarray(numbers, dtype=float))
    sample = np.array(found) if found else np.empty((0, 0))
    sample.flags.writeable = False  # it is shared through the cache
    return sample


def _estimate(mean: float, sample: np.ndarray, seeds: int) -> Estimate:
    """``mean`` with the central interval of a bootstrap sample, without one if too few draws succeeded."""
    low = high = None
    if len(sample) >= ENOUGH_DRAWS * DRAWS:
        low, high = map(float, np.quantile(sample, [(1 - confidence()) / 2, (1 + confidence()) / 2]))
    return Estimate(float(mean), low, high, seeds, f"{GRID} and seeds" if seeds > 1 else GRID)


def estimates(measured: Grid, statistic: Statistic) -> list[Estimate]:
    """A statistic of the grid with bootstrap intervals, one estimate per number; empty where it is None."""
    numbers = statistic(measured)
    if numbers is None or not np.isfinite(numbers).all():
        return []
    sample = bootstrap(measured, statistic, DRAWS)
    columns = sample.T if len(sample) else [()] * len(numbers)
    pairs = zip(numbers, columns, strict=True)
    return [_estimate(number, column, measured.seeds) for number, column in pairs]


# --------------------------------------------------------------------------- the law of the front


ALPHA = 2
"""Which number of a :class:`FrontLaw` is the exponent."""


@dataclass(frozen=True)
class FrontLaw:
    """The coefficients ``(a, b, alpha, E_inf)`` of the law of a grid's front: a :data:`Statistic`.

    ``start``: where the search begins, for a law with a floor. ``cutoff``: leave out what costs more.
    """

    form: str
    start: Law | None = None
    cutoff: float = math.inf

    def __call__(self, measured: Grid) -> tuple[float, ...] | None:
        optimal = measured.take(measured.compute <= self.cutoff).front()
        points = optimal.compute, optimal.error
        fit = fit_saturating(*points, self.start) if self.form == SATURATING else fit_power_law(*points)
        law = fit.law
        return None if law is None else tuple(law.coefficients().values())


@dataclass(frozen=True)
class FrontFit:
    """The law of a grid's front: ``fit`` and its coefficients by name, empty where nothing was fitted."""

    fit: Fit
    coefficients: dict[str, Estimate]


@functools.lru_cache(maxsize=256)
def _fit(form: str | None, x: tuple[float, ...], error: tuple[float, ...]) -> Fit:
    """A fit, cached because claims are judged again with intervals made in other ways."""
    return {None: fit_best, POWER_LAW: fit_power_law, SATURATING: fit_saturating}[form](x, error)


def fit_front(measured: Grid, form: str | None = None) -> FrontFit:
    """The law that the front's errors follow in compute, with bootstrap intervals.

    Args:
        form: ``POWER_LAW`` or ``SATURATING``; None takes the latter where the front determines it.
    """
    optimal = measured.front()
    fit = _fit(form, tuple(optimal.compute), tuple(optimal.error))
    if fit.law is None:
        return FrontFit(fit, {})
    found = estimates(measured, FrontLaw(fit.form, fit.law))
    # Use the values of the fit: the search from one start, on which the intervals are based, may end slightly
    # off it.
    exact = zip(fit.law.coefficients().items(), found, strict=True)
    return FrontFit(fit, {name: replace(estimate, mean=value) for (name, value), estimate in exact})


def alpha_gap(first: Grid, second: Grid, of_first: FrontLaw, of_second: FrontLaw) -> Estimate:
    """The exponent of the law of the first grid's front minus that of the second's; they are independent."""
    gap = of_first(first)[ALPHA] - of_second(second)[ALPHA]
    samples = bootstrap(first, of_first, DRAWS), bootstrap(second, of_second, DRAWS, seed=1)
    rows = min(map(len, samples))
    gaps = samples[0][:rows, ALPHA] - samples[1][:rows, ALPHA] if rows else ()
    return _estimate(gap, gaps, min(first.seeds, second.seeds))


# --------------------------------------------------------------------------- forecasts


LAW, STRAIGHT, CONSTANT = "power law", "straight line in log compute", "no change"
"""What a forecast compares: the power law (with or without a floor), an error that falls by the same amount
with every tenfold of compute, and one that stays as it was."""


@dataclass(frozen=True)
class Forecast:
    """A law fitted to the cheaper part of a front and tested on the rest.

    ``compute, error, held_out, predicted, low, high`` (points,): the front, which of it the law has not seen,
    what the law predicts, and the interval in which it expects a measured error. ``misses``: root mean square
    of log error on the points held out, for the law and for the alternatives.
    """

    fit: Fit
    compute: np.ndarray
    error: np.ndarray
    held_out: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    misses: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every point held out lies in its interval; False where the interval is unknown."""
        inside = (self.low <= self.error) & (self.error <= self.high) & np.isfinite(self.high)
        return bool(inside[self.held_out].all())

    @property
    def best(self) -> str:
        """What predicts the points held out best: a key of ``misses``."""
        return min(self.misses, key=self.misses.get)


def forecast(measured: Grid, form: str | None = None) -> Forecast | None:
    """How well the cheaper part of the front predicts its most expensive third, by the law of ``form``, or by
    that which suits that part best.

    None where the front is too short: it takes four points to fit and two to hold out. The interval of a
    prediction adds the scatter around the law to the uncertainty of the law itself. It is wide enough for all
    held-out points to lie in their intervals simultaneously in 95 % of cases. Its level is fixed, unlike that
    of other intervals (:func:`mlpstudy.stats.using`), since with a wider one a forecast holds more easily.
    """
    optimal = measured.front()
    x, error = optimal.compute, optimal.error
    held = max(2, math.ceil(HELD_OUT * len(x)))
    seen, unseen = slice(None, -held), slice(-held, None)
    if len(x[seen]) <= FEWEST_POINTS[POWER_LAW] or (error <= 0).any():
        return None
    fit = _fit(form, tuple(x[seen]), tuple(error[seen]))
    if fit.law is None:
        return None
    predicted = fit.law(x)
    slope, level = line(np.log(x[seen]), error[seen])
    others = {
        LAW: predicted,
        STRAIGHT: level + slope * np.log(x),
        CONSTANT: np.full(len(x), error[seen].min()),
    }
    misses = {name: _log_miss(values[unseen], error[unseen]) for name, values in others.items()}

    low, high = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    statistic = FrontLaw(fit.form, fit.law, cutoff=float(x[seen].max()))
    laws = [Law(a, alpha, b, floor) for a, b, alpha, floor in bootstrap(measured, statistic, DRAWS)]
    if len(laws) >= ENOUGH_DRAWS * DRAWS:
        # Residuals of a fit are smaller than the errors of its points, since the fit has adapted to them.
        scatter = np.log(error / predicted)[seen] * math.sqrt(fit.points / (fit.points - fit.free))
        noise = np.random.default_rng(0).choice(scatter, size=(len(laws), len(x)))
        away = np.log([law(x) for law in laws]) + noise - np.log(predicted)
        spread = np.sqrt(np.square(away).mean(axis=0)) + np.finfo(float).tiny
        farthest = np.abs(away / spread)[:, unseen].max(axis=1)
        reach = np.exp(np.quantile(farthest, CONFIDENCE) * spread)
        low, high = predicted / reach, predicted * reach
    held_out = np.arange(len(x)) >= len(x) - held
    return Forecast(fit, x, error, held_out, predicted, low, high, misses)


def _log_miss(predicted: np.ndarray, error: np.ndarray) -> float:
    """Root mean square of log error; infinite where an error of 0 or less is predicted."""
    if (predicted <= 0).any():
        return math.inf
    return float(np.sqrt(np.mean(np.square(np.log(predicted / error)))))


# --------------------------------------------------------------------------- parameters or examples


def bottleneck(measured: Grid, name: str) -> Grid:
    """The series in which only ``name`` (``parameters`` or ``examples``) limits the error: the longest
    training runs with the most of the other, by growing ``name``. Cells without a finite error are left out.
    """
    other = {"parameters": "examples", "examples": "parameters"}[name]
    found = measured.take(np.isfinite(measured.error))
    for ample in (other, "epochs"):
        values = getattr(found, ample)
        found = found.take(values == values.max(initial=-math.inf))
    return found.take(np.argsort(getattr(found, name), kind="stable"))


def allocation(measured: Grid) -> tuple[float, float, float] | None:
    """How compute is best spent: exponents of ``P* ~ C^p`` and ``N* ~ C^n`` on the front, and ``n - p``.

    A :data:`Statistic` of a grid of one training length; None where its front has one compute only.
    """
    optimal = measured.front()
    if len(np.unique(optimal.compute)) < 2:
        return None
    x = np.log(optimal.compute)
    parameters, examples = (line(x, np.log(y))[0] for y in (optimal.parameters, optimal.examples))
    return parameters, examples, examples - parameters
