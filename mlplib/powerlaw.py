"""Power laws: fitted to points, with a reason wherever the points cannot determine them.

The paper (Section 4.3) fits ``E(C) = a (b + C)^-alpha + E_inf`` to errors E against compute C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .stats import Estimate, confidence

POWER_LAW = "power law"
SATURATING = "power law with a floor"

FEWEST_POINTS = {POWER_LAW: 3, SATURATING: 6}
"""Fewest different x that a law is fitted to. Through two points there is always a power law; the one with a
floor has four coefficients, and two points more are the least that can speak against it."""

ALPHA_BOUNDS = (1e-3, 10.0)
"""Where ``alpha`` is searched for in a law with a floor."""

LEAST_OFFSET = 1e-6
"""Least ``b`` as a share of the smallest x, where it no longer matters and counts as 0."""

LARGEST_OFFSET = 10.0
"""Largest ``b`` as a multiple of the largest x, beyond which the law is no power law within the data."""

LARGEST_FLOOR = 0.999
"""Largest ``E_inf`` as a share of the smallest error: a law must lie above its floor."""

LARGEST_X = 1e30
"""Largest x, and one over the smallest, that a law is fitted to; larger ones ask for another unit."""

NEGLIGIBLE = 1e-6
"""Residual of log error that counts as none, so that rounding does not tell one exact fit from another."""

LARGEST_CONDITION = 1e8
"""Condition number of the fit's Jacobian beyond which coefficients trade off against each other freely."""


@dataclass(frozen=True)
class Law:
    """``E(x) = a (b + x)^-alpha + floor``; ``b`` is in the unit of x, ``floor`` is the paper's E_inf."""

    a: float
    alpha: float
    b: float = 0.0
    floor: float = 0.0

    def __call__(self, x):
        """The error at ``x`` (a number or an array)."""
        return self.a * (self.b + np.asarray(x, dtype=float)) ** -self.alpha + self.floor

    def coefficients(self) -> dict[str, float]:
        """By the paper's names."""
        return {"a": self.a, "b": self.b, "alpha": self.alpha, "E_inf": self.floor}


@dataclass(frozen=True)
class Fit:
    """A law fitted to points, or why there is none.

    ``law`` is None where nothing could be fitted. ``why`` is empty where the points determine all of its
    coefficients, else says what is wrong with them. ``points``: how many there were; ``decades``: log10 of
    the largest over the smallest x; ``residual``: root mean square of log error; ``aicc``: Akaike's criterion
    corrected for few points, infinite where there are too few for it; ``free``: coefficients that were
    fitted; ``alpha_error``: standard error of alpha from the scatter around the law; ``at_bounds``:
    coefficients that ended at a bound of the search.
    """

    form: str
    law: Law | None
    points: int
    decades: float
    why: str = ""
    residual: float = math.nan
    aicc: float = math.inf
    free: int = 0
    alpha_error: float = math.inf
    at_bounds: tuple[str, ...] = ()

    @property
    def determined(self) -> bool:
        """Whether its coefficients can be relied on."""
        return self.law is not None and not self.why

    def alpha(self, seeds: int) -> Estimate:
        """The exponent with Student's interval from the scatter of the points around the law.

        For series of few sizes, too few to be resampled. ``seeds``: how many the points are means over.

        Raises:
            ValueError: nothing was fitted.
        """
        if self.law is None:
            raise ValueError(self.why)
        from scipy.stats import t

        half = float(t.ppf((1 + confidence()) / 2, self.points - self.free)) * self.alpha_error
        return Estimate(self.law.alpha, self.law.alpha - half, self.law.alpha + half, seeds, "scatter")


def fit_power_law(x: Sequence[float], error: Sequence[float]) -> Fit:
    """``E = a x^-alpha``: a straight line through the logarithms. ``alpha`` may come out negative.

    Args:
        x, error: (points,); compute, parameters or examples, and errors (fractions).
    """
    x, error = np.asarray(x, dtype=float), np.asarray(error, dtype=float)
    why = _unfit(POWER_LAW, x, error)
    if why:
        return Fit(POWER_LAW, None, len(x), _decades(x), why)
    slope, level = line(np.log(x), np.log(error))
    centered = np.log(x) - np.log(x).mean()
    jacobian = np.stack([-centered, np.ones(len(x))], axis=1)
    residuals = level + slope * np.log(x) - np.log(error)
    return _judged(POWER_LAW, Law(_exp(level), -slope), x, residuals, jacobian)


def fit_saturating(x: Sequence[float], error: Sequence[float], start: Law | None = None) -> Fit:
    """``E = a (b + x)^-alpha + E_inf``, the paper's law, by least squares of log error from many starts.

    ``b`` is 0 unless it pays by Akaike's criterion, so that few points need not carry four coefficients. The
    law counts as determined only where it is better than the pure power law by the same criterion, none of
    its coefficients ended at a bound, and they can be told apart.

    Args:
        x, error: as in :func:`fit_power_law`.
        start: search from this law only, which is quicker: for refits to resampled points.
    """
    x, error = np.asarray(x, dtype=float), np.asarray(error, dtype=float)
    why = _unfit(SATURATING, x, error)
    if why:
        return Fit(SATURATING, None, len(x), _decades(x), why)
    if start is not None:
        return _solved(x, error, bool(start.b), start)
    without, with_offset = (_solved(x, error, offset) for offset in (False, True))
    return without if without.aicc <= with_offset.aicc else with_offset


def _solved(x: np.ndarray, error: np.ndarray, offset: bool, start: Law | None = None) -> Fit:
    """The law with a floor, with or without the offset ``b``."""
    problem = _Saturating(x, error, offset)
    starts = problem.starts() if start is None else [problem.coordinates(start)]
    best = min((problem.solve(guess) for guess in starts), key=lambda found: found.cost)
    law, at_bounds = problem.law(best.x), problem.at_bounds(best.x)
    condition = np.linalg.cond(best.jac)
    jacobian = best.jac / np.where(np.arange(len(best.x)) == 0, law.alpha, 1)  # from log alpha to alpha
    fit = _judged(SATURATING, law, x, best.fun, jacobian, at_bounds)
    if fit.law is None:
        return fit
    return replace(fit, why=_doubt(fit, fit_power_law(x, error), condition))


def fit_best(x: Sequence[float], error: Sequence[float]) -> Fit:
    """The law with a floor where the points determine it, else the pure power law."""
    saturating = fit_saturating(x, error)
    return saturating if saturating.determined else fit_power_law(x, error)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and level of the straight line through points, by least squares; level without a slope."""
    away = x - x.mean()
    spread = float(away @ away)
    slope = float(away @ y) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


class _Saturating:
    """Least squares of log error in coordinates ``(log alpha, log a, E_inf / smallest error, log b)``, the
    last only with ``offset``, without which b is 0.

    x is divided by its geometric mean, so no coordinate is huge, and another unit of x changes nothing.
    """

    NAMES = ("alpha", "a", "E_inf", "b")

    def __init__(self, x: np.ndarray, error: np.ndarray, offset: bool):
        self.unit = math.exp(np.log(x).mean())
        self.x, self.error, self.least = x / self.unit, error, error.min()
        offsets = np.log([LEAST_OFFSET * self.x.min(), LARGEST_OFFSET * self.x.max()])
        bounds = [np.log(ALPHA_BOUNDS), [-np.inf, np.inf], [0.0, LARGEST_FLOOR]]
        self.bounds = np.array([*bounds, offsets] if offset else bounds).T
        self.offset = offset

    def residuals(self, at: np.ndarray) -> np.ndarray:
        return np.log(self._falling(at) + at[2] * self.least) - np.log(self.error)

    def jacobian(self, at: np.ndarray) -> np.ndarray:
        falling, alpha, shifted = self._falling(at), math.exp(at[0]), self._shifted(at)
        columns = [-falling * alpha * np.log(shifted), falling, np.full(len(self.x), self.least)]
        if self.offset:
            columns.append(-falling * alpha * math.exp(at[3]) / shifted)
        return np.stack(columns, axis=1) / (falling + at[2] * self.least)[:, None]

    def _shifted(self, at: np.ndarray) -> np.ndarray:
        return self.x + math.exp(at[3]) if self.offset else self.x

    def _falling(self, at: np.ndarray) -> np.ndarray:
        # Never quite 0, whose logarithm would end the search.
        return np.exp(np.clip(at[1] - math.exp(at[0]) * np.log(self._shifted(at)), -600, 600))

    def solve(self, guess: np.ndarray):
        from scipy.optimize import least_squares

        inside = np.clip(guess, self.bounds[0] + 1e-9, self.bounds[1] - 1e-9)
        return least_squares(self.residuals, inside, jac=self.jacobian, bounds=self.bounds, max_nfev=200)

    def starts(self) -> list[np.ndarray]:
        """Guesses over the floor and the offset; ``a`` and ``alpha`` follow from a line through the logs."""
        found = []
        for share in (0.0, 0.5, 0.9):
            for offset in (self.x.min(), self.x.max()) if self.offset else (0.0,):
                slope, level = line(np.log(offset + self.x), np.log(self.error - share * self.least))
                alpha = np.clip(-slope, 2 * ALPHA_BOUNDS[0], ALPHA_BOUNDS[1] / 2)
                guess = [math.log(alpha), level, share]
                found.append(np.array([*guess, math.log(offset)] if self.offset else guess))
        return found

    def coordinates(self, law: Law) -> np.ndarray:
        log_a = math.log(law.a) - law.alpha * math.log(self.unit)
        at = [math.log(law.alpha), log_a, law.floor / self.least]
        return np.array([*at, math.log(law.b / self.unit)] if self.offset else at)

    def law(self, at: np.ndarray) -> Law:
        alpha = math.exp(at[0])
        b = math.exp(at[3]) * self.unit if self.offset else 0.0
        floor = 0.0 if self._near(at, 2, 0) else float(at[2] * self.least)
        return Law(_exp(at[1] + alpha * math.log(self.unit)), alpha, b, floor)

    def at_bounds(self, at: np.ndarray) -> tuple[str, ...]:
        """The coefficients that ended at a bound."""
        places = [i for i in range(len(at)) if any(self._near(at, i, end) for end in (0, 1))]
        return tuple(self.NAMES[i] for i in places)

    def _near(self, at: np.ndarray, coordinate: int, end: int) -> bool:
        low, high = self.bounds[:, coordinate]
        return bool(np.isfinite(low)) and abs(at[coordinate] - (low, high)[end]) < 1e-3 * (high - low)


def _exp(power: float) -> float:
    """Infinite beyond the largest number and 0 below the smallest, where ``math.exp`` would fail."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(power))


def _unfit(form: str, x: np.ndarray, error: np.ndarray) -> str:
    """Why no law of that form can be fitted to the points; empty if it can."""
    if not (np.isfinite(x).all() and np.isfinite(error).all()):
        return "cannot be fitted: some of the points are not finite"
    if (x <= 0).any() or (error <= 0).any():
        return "cannot be fitted: a value of 0 or less has no logarithm"
    if (x < 1 / LARGEST_X).any() or (x > LARGEST_X).any():
        return f"cannot be fitted: choose a unit in which all x are below {LARGEST_X:g}"
    different = len(np.unique(x))
    if different < FEWEST_POINTS[form]:
        return f"cannot be fitted: it needs {FEWEST_POINTS[form]} different points, here are {different}"
    return ""


def _doubt(fit: Fit, plain: Fit, condition: float) -> str:
    """Why not to rely on the coefficients of a law with a floor; empty if there is no reason."""
    if plain.law is not None and plain.law.alpha <= 0:
        return "the error does not fall"
    if fit.at_bounds:
        return f"{' and '.join(fit.at_bounds)} ended at a bound of the search"
    if not fit.aicc < plain.aicc:
        return "a power law without a floor explains the points as well"
    if condition > LARGEST_CONDITION:
        return "the points cannot tell its coefficients apart"
    return ""


def _judged(
    form: str, law: Law, x: np.ndarray, residuals: np.ndarray, jacobian: np.ndarray, at_bounds=()
) -> Fit:
    """The fit of ``law`` with its residuals of log error; the Jacobian's first column is that of alpha."""
    points, free = jacobian.shape
    if not 0 < law.a < math.inf:
        why = "cannot be fitted: its coefficients are beyond the range of numbers"
        return Fit(form, None, points, _decades(x), why)
    squares = max(float(residuals @ residuals), points * NEGLIGIBLE**2)
    spare = points - free - 2  # the spread of the residuals is one coefficient more
    aicc = math.inf
    if spare > 0:
        aicc = points * math.log(squares / points) + 2 * (free + 1) * points / spare
    inverse = np.linalg.pinv(jacobian)
    alpha_error = math.sqrt(squares / (points - free) * float(inverse[0] @ inverse[0]))
    residual = math.sqrt(squares / points)
    return Fit(form, law, points, _decades(x), "", residual, aicc, free, alpha_error, tuple(at_bounds))


def _decades(x: np.ndarray) -> float:
    """log10 of the largest over the smallest, of those that are finite and above 0; 0 without any."""
    x = x[np.isfinite(x) & (x > 0)]
    return float(np.log10(x.max()) - np.log10(x.min())) if len(x) else 0.0
