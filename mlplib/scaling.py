"""Scaling laws: what a training costs, the front of what compute can buy, and the power law it follows.

The paper (Section 4.3) counts compute as ``C = FLOP(f) x 3 x N x T`` and fits a power law to the linear-probe
errors of compute-optimal models. Here a law comes with how sure it is: intervals from resampling the grid of
trainings and their seeds, and errors forecast before they are looked at.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

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
from .specs import DataSpec, FineTuneSpec, ModelSpec, TrainSpec
from .stats import Estimate, confidence

PASSES = 3
"""A training step costs as much as three forward passes: the backward pass is taken to cost two."""

DRAWS = 400
"""Bootstrap samples for an interval."""

ENOUGH_DRAWS = 0.9
"""Share of the bootstrap samples that must allow a fit, lest the interval describe the lucky ones only."""

HELD_OUT = 1 / 3
"""Share of a front, its most expensive points, that a forecast is held against."""


# --------------------------------------------------------------------------- compute


def training_macs(spec: TrainSpec, epoch: int | None = None) -> float:
    """Multiply-adds of training until ``epoch`` (the end by default): ``forward MACs x 3 x images seen``.

    This is the paper's C, whose code counts a multiply-add as one operation; :func:`flops` counts it as two.
    Images of an incomplete last batch are not seen, so N x T is taken to be what was really trained on.
    """
    images = (spec.epochs if epoch is None else epoch) * images_per_epoch(spec)
    return float(PASSES * model_size(spec).forward_macs * images)


def flops(macs: float) -> float:
    """Floating-point operations in ``macs`` multiply-adds."""
    return 2.0 * macs


@dataclass(frozen=True)
class ModelSize:
    """A network's number of parameters, and multiply-adds of one image's forward pass, head included."""

    parameters: int
    forward_macs: int


def model_size(spec: TrainSpec) -> ModelSize:
    """How large the network of a training is, for the images and classes that it is trained on."""
    return network_size(spec.model, spec.data)


def network_size(model: ModelSpec, data: DataSpec) -> ModelSize:
    """How large a network is for the images and classes of a data set."""
    from .data import catalog

    entry = catalog.find(data.name)
    return _model_size(model, data.resolution or entry.image_size, entry.class_count)


@functools.lru_cache
def _model_size(model: ModelSpec, side: int, classes: int) -> ModelSize:
    from .models import count_macs, count_parameters, meta_model

    shape = (side, side, 3)
    network = meta_model(model, shape, classes)
    return ModelSize(count_parameters(network), count_macs(network, shape))


def images_per_epoch(spec: TrainSpec | FineTuneSpec) -> int:
    """Images that an epoch trains on: whole batches only."""
    return training_images(spec) // spec.batch_size * spec.batch_size


def training_images(spec: TrainSpec | FineTuneSpec) -> int:
    """N: the number of different images of a training."""
    from .data import catalog

    return spec.data.examples or catalog.find(spec.data.name).train - (spec.data.held_out or 0)


# --------------------------------------------------------------------------- a grid of trainings


@dataclass(frozen=True)
class Point:
    """One measured error (a fraction).

    ``run`` names the training without its seed: points of one run are lengths of the same training, so they
    are resampled together. ``compute`` is in multiply-adds.
    """

    run: Hashable
    seed: int
    compute: float
    parameters: int
    examples: int
    epochs: int
    error: float


@dataclass(frozen=True, eq=False)
class Grid:
    """Errors over a grid of trainings: one *cell* is a model, a number of examples and a length.

    ``run`` (cells,): int, equal for cells of one training; ``compute, parameters, examples, epochs``
    (cells,): float64; ``errors`` (cells, seeds): float64, NaN where there is none.
    """

    run: np.ndarray
    compute: np.ndarray
    parameters: np.ndarray
    examples: np.ndarray
    epochs: np.ndarray
    errors: np.ndarray

    def __len__(self) -> int:
        return len(self.compute)

    def _content(self) -> tuple:
        return (self.errors.shape, *(getattr(self, name).tobytes() for name in _COLUMNS))

    def __eq__(self, other) -> bool:
        return isinstance(other, Grid) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    @property
    def seeds(self) -> int:
        """How many seeds some cell has."""
        return int(np.isfinite(self.errors).any(axis=0).sum())

    @property
    def error(self) -> np.ndarray:
        """float64 (cells,): the mean error over seeds."""
        found = np.isfinite(self.errors)
        sums = np.where(found, self.errors, 0.0).sum(axis=1)
        return np.divide(sums, found.sum(axis=1), out=np.full(len(self), np.nan), where=found.any(axis=1))

    def take(self, cells: np.ndarray) -> Grid:
        """The grid of some cells, by mask or index."""
        return Grid(*(getattr(self, name)[cells] for name in _COLUMNS))

    def front(self) -> Grid:
        """The compute-optimal cells (:func:`front`), the cheapest first."""
        optimal = self.take(front(self.compute, self.error))
        return optimal.take(np.lexsort((optimal.examples, optimal.parameters, optimal.compute)))


_COLUMNS = tuple(column.name for column in fields(Grid))


def grid(points: Iterable[Point]) -> Grid:
    """The grid of some points, whatever their order: its cells are sorted by run, compute and the rest."""
    points = list(points)
    seeds = {seed: column for column, seed in enumerate(sorted({p.seed for p in points}))}
    names = {name: number for number, name in enumerate(sorted({p.run for p in points}, key=repr))}
    keys = sorted({_cell(p, names) for p in points})
    rows = {key: row for row, key in enumerate(keys)}
    errors = np.full((len(keys), len(seeds)), np.nan)
    for point in points:
        errors[rows[_cell(point, names)], seeds[point.seed]] = point.error
    columns = np.array(keys, dtype=float).reshape(len(keys), 5).T
    return Grid(columns[0].astype(int), *columns[1:], errors)


def _cell(point: Point, names: dict) -> tuple:
    return names[point.run], point.compute, point.parameters, point.examples, point.epochs


def front(compute: Sequence[float], error: Sequence[float]) -> np.ndarray:
    """Which points are compute-optimal: nothing at most as expensive has a smaller error, and nothing cheaper
    has the same. So of equal points all are on the front or none.

    Args:
        compute, error: (points,). A point that is not finite is never on the front.

    Returns:
        bool (points,).
    """
    compute, error = np.asarray(compute, dtype=float), np.asarray(error, dtype=float)
    optimal = np.zeros(len(compute), dtype=bool)
    finite = np.flatnonzero(np.isfinite(compute) & np.isfinite(error))
    best, best_at = math.inf, math.nan
    for i in finite[np.lexsort((error[finite], compute[finite]))]:
        if error[i] < best:
            best, best_at = error[i], compute[i]
        optimal[i] = error[i] == best and compute[i] == best_at
    return optimal


# --------------------------------------------------------------------------- how sure


Statistic = Callable[[Grid], "Sequence[float] | None"]
"""Numbers from a grid, always as many; None where that grid allows none."""


@functools.lru_cache(maxsize=256)
def bootstrap(measured: Grid, statistic: Statistic, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """A statistic of resampled grids: trainings are drawn with replacement, and for each of them its seeds.

    All lengths of a training are kept together, since they share their weights. With one seed only
    trainings are drawn. The same arguments give the same samples, and give them at once when asked again.

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
    sample.flags.writeable = False  # it is handed out again
    return sample


def interval(sample: np.ndarray, draws: int = DRAWS) -> tuple[float, float] | None:
    """The central part of a bootstrap sample, None where too few of the ``draws`` succeeded."""
    if len(sample) < ENOUGH_DRAWS * draws:
        return None
    low, high = np.quantile(sample, [(1 - confidence()) / 2, (1 + confidence()) / 2])
    return float(low), float(high)


def estimates(measured: Grid, statistic: Statistic, draws: int = DRAWS, seed: int = 0) -> list[Estimate]:
    """A statistic of the grid with bootstrap intervals, one estimate for each of its numbers.

    An interval is missing (None) where too few resampled grids allow the statistic. Empty if the grid
    itself does not.
    """
    numbers = statistic(measured)
    if numbers is None or not np.isfinite(numbers).all():
        return []
    sample = bootstrap(measured, statistic, draws, seed)
    source = "grid and seeds" if measured.seeds > 1 else "grid"
    found = []
    for column, number in enumerate(numbers):
        ends = (interval(sample[:, column], draws) if len(sample) else None) or (None, None)
        found.append(Estimate(float(number), *ends, measured.seeds, source))
    return found


def difference(
    first: Grid,
    second: Grid,
    of_first: Statistic,
    of_second: Statistic,
    number: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """A number of the first grid's statistic minus that of the second's, which are independent.

    Args:
        number: which one of the statistics' numbers.

    Raises:
        ValueError: a grid does not allow its statistic.
    """
    found = of_first(first), of_second(second)
    if None in found:
        raise ValueError("a grid allows no such statistic")
    samples = bootstrap(first, of_first, draws, seed), bootstrap(second, of_second, draws, seed + 1)
    rows = min(map(len, samples))
    ends = (None, None)
    if rows:
        ends = interval(samples[0][:rows, number] - samples[1][:rows, number], draws) or ends
    seeds = min(first.seeds, second.seeds)
    source = "grid and seeds" if seeds > 1 else "grid"
    return Estimate(found[0][number] - found[1][number], *ends, seeds, source)


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
        if self.form == POWER_LAW:
            law = fit_power_law(optimal.compute, optimal.error).law
        else:
            law = fit_saturating(optimal.compute, optimal.error, self.start).law
        return None if law is None else tuple(law.coefficients().values())


@dataclass(frozen=True)
class FrontFit:
    """The law of a grid's front: ``fit`` and its coefficients by name, empty where nothing was fitted."""

    fit: Fit
    coefficients: dict[str, Estimate]


def fit_front(measured: Grid, form: str | None = None, draws: int = DRAWS, seed: int = 0) -> FrontFit:
    """The law that the front's errors follow in compute, with bootstrap intervals.

    Args:
        form: ``POWER_LAW`` or ``SATURATING``; None takes the latter where the front determines it.
    """
    optimal = measured.front()
    fitted = {None: fit_best, POWER_LAW: fit_power_law, SATURATING: fit_saturating}[form]
    fit = fitted(optimal.compute, optimal.error)
    if fit.law is None:
        return FrontFit(fit, {})
    found = estimates(measured, FrontLaw(fit.form, fit.law), draws, seed)
    # From the fit itself: the search from one start that the intervals rest on may end a little beside it.
    exact = fit.law.coefficients()
    return FrontFit(
        fit, {name: replace(e, mean=value) for (name, value), e in zip(exact.items(), found, strict=True)}
    )


# --------------------------------------------------------------------------- forecasts


@dataclass(frozen=True)
class Forecast:
    """A law fitted to the cheaper part of a front, held against the rest.

    ``compute, error, held_out, predicted, low, high`` (points,): the front, which of it the law has not seen,
    what the law says, and the interval in which it expects a measured error. ``misses``: root mean
    square of log error on the points held out, for the law and for what else might describe the front.
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
        """Whether every point held out lies in its interval, as it does not where the interval is unknown."""
        inside = (self.low <= self.error) & (self.error <= self.high) & np.isfinite(self.high)
        return bool(inside[self.held_out].all())

    @property
    def best(self) -> str:
        """What predicts the points held out best: a key of ``misses``."""
        return min(self.misses, key=self.misses.get)


LAW, STRAIGHT, CONSTANT = "power law", "straight line in log compute", "no change"
"""What a forecast compares: the power law (with or without a floor), an error that falls by the same amount
with every tenfold of compute, and one that stays as it was."""


def forecast(measured: Grid, draws: int = DRAWS, seed: int = 0) -> Forecast | None:
    """How well the cheaper part of the front foretells its most expensive third.

    None where the front is too short: it takes four points to fit and two to hold out. The interval of a
    prediction adds the scatter around the law to the uncertainty of the law itself, and is as wide as it must
    be for all points held out to lie in theirs at once.
    """
    optimal = measured.front()
    x, error = optimal.compute, optimal.error
    held = max(2, math.ceil(HELD_OUT * len(x)))
    if len(x) - held <= FEWEST_POINTS[POWER_LAW] or (error <= 0).any():
        return None
    unseen = np.arange(len(x)) >= len(x) - held
    seen = ~unseen
    fit = fit_best(x[seen], error[seen])
    if fit.law is None:
        return None
    low, high = _prediction_band(measured, fit, x[seen], error[seen], x, unseen, draws, seed)
    slope, level = line(np.log(x[seen]), error[seen])
    others = {
        LAW: fit.law(x),
        STRAIGHT: level + slope * np.log(x),
        CONSTANT: np.full(len(x), error[seen].min()),
    }
    misses = {name: _log_miss(says[unseen], error[unseen]) for name, says in others.items()}
    return Forecast(fit, x, error, unseen, fit.law(x), low, high, misses)


def _prediction_band(
    measured: Grid, fit: Fit, x, error, at: np.ndarray, out: np.ndarray, draws: int, seed: int
):
    """Low and high (points,) at ``at`` for the law ``fit`` of the points (x, error): a band that all points
    ``out`` lie in together with the confidence asked for. Infinitely wide where resampling fails.
    """
    statistic = FrontLaw(fit.form, fit.law, cutoff=float(x.max()))
    laws = [Law(a, alpha, b, floor) for a, b, alpha, floor in bootstrap(measured, statistic, draws, seed)]
    if len(laws) < ENOUGH_DRAWS * draws:
        return np.full(len(at), -np.inf), np.full(len(at), np.inf)
    # Residuals of a fit are smaller than errors are, by what the fit has swallowed.
    scatter = (np.log(error) - np.log(fit.law(x))) * math.sqrt(len(x) / (len(x) - fit.free))
    noise = np.random.default_rng(seed).choice(scatter, size=(len(laws), len(at)))
    center = np.log(fit.law(at))
    away = np.log([law(at) for law in laws]) + noise - center
    spread = np.sqrt(np.square(away).mean(axis=0)) + np.finfo(float).tiny
    reach = np.quantile(np.abs(away / spread)[:, out].max(axis=1), confidence()) * spread
    return np.exp(center - reach), np.exp(center + reach)


def _log_miss(predicted: np.ndarray, error: np.ndarray) -> float:
    """Root mean square of log error; infinite where an error below 0 is predicted."""
    if (predicted <= 0).any():
        return math.inf
    return float(np.sqrt(np.mean(np.square(np.log(predicted) - np.log(error)))))


# --------------------------------------------------------------------------- parameters or examples


def bottleneck(measured: Grid, name: str) -> Grid:
    """The series in which only ``name`` (``parameters`` or ``examples``) binds: the longest trainings with
    the most of the other, by growing ``name``. Cells without a finite error are left out.
    """
    other = {"parameters": "examples", "examples": "parameters"}[name]
    finite = measured.take(np.isfinite(measured.error))
    for binding in (other, "epochs"):
        values = getattr(finite, binding)
        finite = finite.take(values == values.max()) if len(finite) else finite
    return finite.take(np.argsort(getattr(finite, name), kind="stable"))


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
