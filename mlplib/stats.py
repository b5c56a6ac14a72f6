"""Means, differences and their 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval [low, high] over ``n`` seeds.

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
    """Mean and Student-t interval of independent values, one a seed."""
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
    half = 1.96 * math.sqrt(variance)
    return Estimate(estimate.mean, estimate.mean - half, estimate.mean + half, 1, source="test images")


def _t_quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom))
