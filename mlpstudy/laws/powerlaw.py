"""Fits of power laws, with a reason wherever the points do not determine the coefficients.

The paper (Section 4.4, equation 5) fits ``E(C) = a (b + C)^-alpha + E_inf`` to errors E against compute C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..stats import Estimate, confidence

POWER_LAW = "power law"
SATURATING = "power law with a floor"

FEWEST_POINTS = {POWER_LAW: 3, SATURATING: 6}
"""Fewest different x that a law is fitted to. A power law fits any two points exactly; the law with a floor
has four coefficients, and needs two more points to be contradicted."""

COORDINATES = ("alpha", "a", "E_inf", "b")
"""The coefficients in the order in which they are searched."""

ALPHA_BOUNDS = (1e-3, 10.0)
"""Bounds of ``alpha`` in the fit of a law with a floor."""

LEAST_OFFSET = 1e-6
"""Smallest ``b`` as a share of the smallest x, where it no longer matters and counts as 0."""

LARGEST_OFFSET = 10.0
"""Largest ``b`` as a multiple of the largest x, beyond which the law is no power law within the data."""

LARGEST_FLOOR = 0.999
"""Largest ``E_inf`` as a share of the smallest error: a law must lie above its floor."""

START_INSIDE = 0.01
"""How far from its bounds a coordinate starts, as a share of what lies between them."""

LARGEST_X = 1e30
"""Largest x, and inverse of the smallest, that a law is fitted to; larger values ask for another unit."""

NEGLIGIBLE = 1e-6
"""Residual of log error that counts as zero, so that rounding does not decide between two exact fits."""

LARGEST_CONDITION = 1e8
"""Condition number of the fit's Jacobian beyond which the coefficients are not identifiable."""


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
    """A law fitted to points, or the reason why there is none.

    ``law`` is None where nothing could be fitted. ``why`` is empty where the points determine all
    coefficients; otherwise it says what is wrong with them. ``points``: how many there were; ``decades``:
    log10 of the largest x over the smallest; ``aicc``: Akaike's criterion corrected for few points, infinite
    where there are too few for it; ``free``: number of fitted coefficients; ``alpha_error``: standard error
    of alpha from the scatter around the law; ``at_bounds``: coefficients that ended at a bound of the search.
    """

    form: str
    law: Law | None
    points: int
    decades: float
    why: str = ""
    aicc: float = math.inf
    free: int = 0
    alpha_error: float = math.inf
    at_bounds: tuple[str, ...] = ()

    @property
    def determined(self) -> bool:
        """Whether its coefficients can be relied on."""
        return self.law is not None and not self.why

    def alpha(self, seeds: int) -> Estimate | None:
        """The exponent with Student's interval from the scatter around the law, None without one.

        For series of too few sizes to be resampled. ``seeds``: how many the points are means over.
        """
        if self.law is None:
            return None
        from scipy.stats import t

        low, high = t.interval(confidence(), self.points - self.free, self.law.alpha, self.alpha_error)
        return Estimate(self.law.alpha, float(low), float(high), seeds, "scatter")


def fit_power_law(x: Sequence[float], error: Sequence[float]) -> Fit:
    """``E = a x^-alpha``: a straight line through the logarithms. ``alpha`` may come out negative.

    Args:
        x, error: (points,); compute, parameters or examples, and errors (fractions).
    """
    x, error, unfitted = _checked(POWER_LAW, x, error)
    if unfitted.why:
        return unfitted
    slope, level = line(np.log(x), np.log(error))
    jacobian = np.stack([np.log(x).mean() - np.log(x), np.ones(len(x))], axis=1)
    residuals = level + slope * np.log(x) - np.log(error)
    return _fitted(unfitted, Law(_exp(level), -slope), residuals, jacobian)


def fit_saturating(x: Sequence[float], error: Sequence[float], start: Law | None = None) -> Fit:
    """``E = a (b + x)^-alpha + E_inf``, the paper's law, by least squares of log error from several starts.

    ``b`` is 0 unless Akaike's criterion prefers it, so that few points need not carry four coefficients. The
    law counts as determined only if the same criterion prefers it to the pure power law, none of its
    coefficients ended at a bound, and they are identifiable.

    Args:
        x, error: as in :func:`fit_power_law`.
        start: search from this law only, which is faster: for refits to resampled points.
    """
    x, error, unfitted = _checked(SATURATING, x, error)
    if unfitted.why:
        return unfitted
    offsets = (False, True) if start is None else (start.b > 0,)
    return min((_search(unfitted, x, error, b, start) for b in offsets), key=lambda fit: fit.aicc)


def fit_best(x: Sequence[float], error: Sequence[float]) -> Fit:
    """The law with a floor where the points determine it, otherwise the pure power law."""
    saturating = fit_saturating(x, error)
    return saturating if saturating.determined else fit_power_law(x, error)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the least-squares line through points; slope 0 if all x are equal."""
    away = x - x.mean()
    spread = float(away @ away)
    slope = float(away @ y) / spread if spread > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _search(unfitted: Fit, x: np.ndarray, error: np.ndarray, offset: bool, start: Law | None) -> Fit:
    """The law with a floor, with or without the offset ``b``, from the start that leads to the best fit.

    x is divided by its geometric mean, so that no coordinate is huge and the unit of x does not matter.
    """
    unit, least = math.exp(np.log(x).mean()), float(error.min())
    if start is None:
        guesses = _guesses(x / unit, error, offset)
    else:
        log_a = math.log(start.a) - start.alpha * math.log(unit)
        guesses = [[math.log(start.alpha), log_a, start.floor / least, math.log(start.b / unit or 1)]]
    residuals, jacobian, (low, high) = _problem(x / unit, error, offset)
    found = [_least_squares(residuals, jacobian, guess[: len(low)], low, high) for guess in guesses]
    at = min(found, key=lambda at: float(np.square(residuals(at)).sum()))
    misses, slopes, alpha = residuals(at), jacobian(at), math.exp(at[0])
    margin = np.where(np.isfinite(low), 1e-3 * (high - low), 0)
    at_low, at_high = at < low + margin, at > high - margin
    floor = 0.0 if at_low[2] else float(at[2] * least)
    law = Law(_exp(at[1] + alpha * math.log(unit)), alpha, math.exp(at[3]) * unit if offset else 0.0, floor)
    at_bounds = tuple(name for name, ended in zip(COORDINATES, at_low | at_high, strict=False) if ended)
    in_alpha = slopes / np.array([alpha, 1, 1, 1])[: len(at)]  # the first column is that of log alpha
    fit = _fitted(unfitted, law, misses, in_alpha, at_bounds)
    if fit.law is None:
        return fit
    return replace(fit, why=_doubt(fit, fit_power_law(x, error), float(np.linalg.cond(slopes))))


def _least_squares(residuals, jacobian, start: Sequence[float], low, high) -> np.ndarray:
    """The point within bounds where the sum of squares is least.

    A coordinate x with bounds is searched as the angle t of ``x = low + (high - low) sin(t)^2``, by MINPACK,
    which takes a quarter of the time of SciPy's methods with bounds. The slope in t is zero at a bound, so
    the search starts a little inside.
    """
    from scipy.optimize import leastsq

    bounded = np.isfinite(low)
    least, span = np.where(bounded, low, 0.0), np.where(bounded, high - low, 1.0)

    def place(t: np.ndarray) -> np.ndarray:
        return np.where(bounded, least + span * np.sin(t) ** 2, t)

    start = np.array(start)
    share = np.clip((start - least) / span, START_INSIDE, 1 - START_INSIDE)
    with np.errstate(over="ignore"):  # in the covariance, which is unused; without it leastsq warns
        t, *_ = leastsq(
            lambda t: residuals(place(t)),
            np.where(bounded, np.arcsin(np.sqrt(share)), start),
            Dfun=lambda t: jacobian(place(t)) * np.where(bounded, span * np.sin(2 * t), 1.0),
            full_output=True,
            ftol=1e-12,
            xtol=1e-10,
        )
    return place(t)


def _problem(x: np.ndarray, error: np.ndarray, offset: bool):
    """Residuals of log error, their Jacobian, and bounds (2, n) in coordinates ``(log alpha, log a, E_inf /
    smallest error, log b)``, the last only with ``offset``.
    """
    least, log_x, log_error = error.min(), np.log(x), np.log(error)
    offsets = np.log([LEAST_OFFSET * x.min(), LARGEST_OFFSET * x.max()])
    bounds = [np.log(ALPHA_BOUNDS), (-np.inf, np.inf), (0.0, LARGEST_FLOOR), offsets][: 3 + offset]

    def parts(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``log(b + x)`` and ``a (b + x)^-alpha``, kept above 0, since its logarithm is taken."""
        shifted = np.log(x + math.exp(at[3])) if offset else log_x
        return shifted, np.exp(np.minimum(np.maximum(at[1] - math.exp(at[0]) * shifted, -600), 600))

    def residuals(at: np.ndarray) -> np.ndarray:
        return np.log(parts(at)[1] + at[2] * least) - log_error

    def jacobian(at: np.ndarray) -> np.ndarray:
        shifted, falling = parts(at)
        columns = np.empty((3 + offset, len(x)))
        columns[0], columns[1], columns[2] = -falling * math.exp(at[0]) * shifted, falling, least
        if offset:
            columns[3] = -falling * math.exp(at[0] + at[3]) / np.exp(shifted)
        return (columns / (falling + at[2] * least)).T

    return residuals, jacobian, np.array(bounds).T


def _guesses(x: np.ndarray, error: np.ndarray, offset: bool) -> list[list[float]]:
    """Where to start: several floors and offsets, each with the line through the logarithms."""
    found = []
    for share in (0.0, 0.5, 0.9):
        for b in (x.min(), x.max()) if offset else (0.0,):
            slope, level = line(np.log(b + x), np.log(error - share * error.min()))
            alpha = np.clip(-slope, 2 * ALPHA_BOUNDS[0], ALPHA_BOUNDS[1] / 2)
            found.append([math.log(alpha), level, share, math.log(b or 1)])
    return found


def _exp(power: float) -> float:
    """The exponential; infinite beyond the range of floats, where ``math.exp`` would raise an error."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(power))


def _checked(form: str, x, error) -> tuple[np.ndarray, np.ndarray, Fit]:
    """The points as arrays, and a fit without a law; its ``why`` is empty if a law can be fitted."""
    x, error = np.asarray(x, dtype=float), np.asarray(error, dtype=float)
    usable = np.log10(x[np.isfinite(x) & (x > 0)])
    decades = float(usable.max() - usable.min()) if len(usable) else 0.0
    different, why = len(np.unique(x)), ""
    if not (np.isfinite(x).all() and np.isfinite(error).all()):
        why = "some of the points are not finite"
    elif (x <= 0).any() or (error <= 0).any():
        why = "a value of 0 or less has no logarithm"
    elif (x < 1 / LARGEST_X).any() or (x > LARGEST_X).any():
        why = f"choose a unit in which all x are below {LARGEST_X:g}"
    elif different < FEWEST_POINTS[form]:
        why = f"it needs {FEWEST_POINTS[form]} different points, here are {different}"
    return x, error, Fit(form, None, len(x), decades, why and f"cannot be fitted: {why}")


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


def _fitted(unfitted: Fit, law: Law, residuals: np.ndarray, jacobian: np.ndarray, at_bounds=()) -> Fit:
    """The fit of ``law`` with its residuals of log error; the Jacobian's first column is that of alpha."""
    if not 0 < law.a < math.inf:
        return replace(unfitted, why="cannot be fitted: its coefficients are beyond the range of numbers")
    points, free = jacobian.shape
    squares = max(float(residuals @ residuals), points * NEGLIGIBLE**2)
    spare = points - free - 2  # the spread of the residuals counts as one more coefficient
    penalty = 2 * (free + 1) * points / spare if spare > 0 else math.inf
    inverse = np.linalg.pinv(jacobian)[0]
    return replace(
        unfitted,
        law=law,
        aicc=points * math.log(squares / points) + penalty,
        free=free,
        alpha_error=math.sqrt(squares / (points - free) * float(inverse @ inverse)),
        at_bounds=at_bounds,
    )
