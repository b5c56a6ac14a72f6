"""Means, differences and their intervals over seeds: at 95 % confidence, or as :func:`at_confidence` says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

CONFIDENCE = 0.95
"""The confidence of every interval that the study shows and that its criteria name."""

_level: ContextVar[float] = ContextVar("confidence", default=CONFIDENCE)


def confidence() -> float:
    """The confidence of the intervals made here and now, a fraction: 0.95 outside :func:`at_confidence`.

    Whoever makes an interval of another kind, by bootstrap say, takes its level from here, so that the
    sensitivity table moves that one, too.
    """
    return _level.get()


@contextmanager
def at_confidence(level: float) -> Iterator[None]:
    """Make every interval at another confidence meanwhile: what would the verdicts be then?

    Args:
        level: between 0 and 1, such as 0.9.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {level!r}")
    token = _level.set(level)
    try:
        yield
    finally:
        _level.reset(token)


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval [low, high] over ``n`` seeds, at the confidence that held when it was made.

    From one seed the spread between seeds is unknown: ``low`` and ``high`` are None then, or, where
    ``source`` says ``test images``, cover the sampling of the test set only.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    source: str = "seeds"

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval, None without one."""
        return None if self.low is None else (self.high - self.low) / 2


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean and Student-t interval of independent values, one per seed."""
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = _t_quantile(n - 1) * spread / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """Mean of ``first - second`` over the seeds that both have, with its paired t interval.

    Args:
        first, second: seed to value.
    """
    return over_seeds([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def accuracy_difference(
    first: Mapping[int, float], second: Mapping[int, float], test_images: int
) -> Estimate:
    """As :func:`paired_difference` for accuracies (fractions), with an interval even from one seed.

    The interval of one seed is that of two independent binomial samples of ``test_images`` images. It leaves
    the spread between seeds out and says so in ``source``.
    """
    estimate = paired_difference(first, second)
    if estimate.n > 1:
        return estimate
    (seed,) = first.keys() & second.keys()
    variance = sum(p * (1 - p) / test_images for p in (first[seed], second[seed]))
    half = statistics.NormalDist().inv_cdf(0.5 + confidence() / 2) * math.sqrt(variance)
    return Estimate(estimate.mean, estimate.mean - half, estimate.mean + half, 1, source="test images")


def _t_quantile(freedom: int) -> float:
    """Two-sided quantile of Student's t at the confidence that holds."""
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence() / 2, freedom))
