"""Means, differences and their intervals over seeds, at 95 % confidence or as :func:`using` says."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

CONFIDENCE = 0.95
"""The confidence of every interval that the study shows and that its criteria name."""

UNLIKE = 0.05
"""Below this p-value of Bartlett's test, the spreads of groups count as different and are not pooled."""

LITTLE = 2
"""Up to this many degrees of freedom, those of three values, a spread can be small by chance."""

POWER = 0.8
"""The statistical power: the probability of detecting an effect of the size :meth:`Estimate.needed`."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Intervals:
    """How intervals are made.

    ``confidence``: a fraction. ``pooled``: estimate the spread between seeds jointly over groups that are
    alike (:func:`jointly`). ``sampling``: add the sampling error of the test images, for statements about all
    images of their kind rather than these.
    """

    confidence: float = CONFIDENCE
    pooled: bool = True
    sampling: bool = False

    def __post_init__(self):
        if not 0 < self.confidence < 1:
            raise ValueError(f"a confidence lies between 0 and 1, not at {self.confidence!r}")


_intervals: ContextVar[Intervals] = ContextVar("intervals", default=Intervals())  # noqa: B039 (it is frozen)


def confidence() -> float:
    """The confidence of intervals in this context, a fraction: 0.95 outside :func:`using`. Intervals of other
    kinds, such as bootstraps, must use it, too: the robustness table varies it.
    """
    return _intervals.get().confidence


@contextmanager
def using(**changes) -> Iterator[None]:
    """Make every interval in this context in another way: ``changes`` are fields of :class:`Intervals`.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    token = _intervals.set(dataclasses.replace(_intervals.get(), **changes))
    try:
        yield
    finally:
        _intervals.reset(token)


COUNTING = "counting"
"""The source of an estimate that is exact, such as a number of operations: its interval is a point."""


GRID = "grid"
"""Prefix of the source of an estimate whose interval is from resampled runs, with or without seeds."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval [low, high] over ``n`` seeds, at the confidence in effect when it was made.

    With one seed the spread between seeds is unknown unless other groups provide it: ``low`` and ``high`` are
    then None, or, where ``source`` is ``test images``, cover only the sampling of the test set.

    ``error``: the standard error, ``freedom``: its degrees of freedom; None where the interval is neither
    Student's nor normal, such as a bootstrap's.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    source: str = "seeds"
    error: float | None = None
    freedom: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval, None without one."""
        return None if self.low is None else (self.high - self.low) / 2

    def needed(self, sides: int = 1) -> float | None:
        """The smallest true effect that these seeds distinguish from zero in four of five studies
        (:data:`POWER`), or with two ``sides`` the smallest margin around zero within which they locate an
        effect of zero as often; None where the standard error is unknown.
        """
        return None if self.error is None else _reach(self.freedom, sides) * self.error

    def seeds_for(self, effect: float, sides: int = 1) -> int | None:
        """How many seeds would distinguish a true effect of this size from zero (:data:`POWER`); None if
        unknown or more than 1,000. ``sides``: as for :meth:`needed`.
        """
        if self.error is None or self.source != "seeds" or not effect > 0:
            return None
        spread = self.error * math.sqrt(self.n)
        for n in range(self.n, 1001):
            freedom = self.freedom * (n - 1) / (self.n - 1) if self.n > 1 else self.freedom
            if _reach(freedom, sides) * spread / math.sqrt(n) <= effect:
                return n
        return None

    def times(self, factor: float) -> Estimate:
        """The estimate in another unit; a factor of -1 gives the opposite difference."""
        low, high = (None, None) if self.low is None else sorted((factor * self.low, factor * self.high))
        error = None if self.error is None else abs(factor) * self.error
        return dataclasses.replace(self, mean=factor * self.mean, low=low, high=high, error=error)

    def exp(self) -> Estimate:
        """From the estimate of a logarithm, that of the number: a geometric mean, in an interval above 0."""
        low, high = (None, None) if self.low is None else (math.exp(self.low), math.exp(self.high))
        return Estimate(math.exp(self.mean), low, high, self.n, self.source)


@dataclass(frozen=True)
class Spread:
    """The standard deviation between seeds, estimated with ``freedom`` degrees of freedom.

    ``at_least``: the groups are not :func:`alike`, so a group keeps its own spread unless that is smaller and
    has too few degrees of freedom (:data:`LITTLE`).
    """

    deviation: float
    freedom: float
    at_least: bool = False


def spread(*groups: Sequence[float]) -> Spread | None:
    """The standard deviation within groups, estimated jointly; None where no group has two values.

    Its degrees of freedom are the sum of the groups' where their spreads are equal, and fewer the more they
    differ, by Welch and Satterthwaite's rule (https://doi.org/10.2307/3002019).

    Args:
        groups: the values of runs that differ in their seed only, one group per setting.
    """
    own = [(_squares(group), len(group) - 1) for group in groups if len(group) > 1]
    if not own:
        return None
    total, freedom = math.fsum(squares for squares, _ in own), sum(each for _, each in own)
    deviation = math.sqrt(total / freedom)
    if total:
        freedom = 1 / math.fsum((squares / total) ** 2 / each for squares, each in own)
    return Spread(deviation, freedom)


def _squares(group: Sequence[float]) -> float:
    """The sum of squared distances from the mean."""
    mean = math.fsum(group) / len(group)
    return math.fsum((value - mean) ** 2 for value in group)


def alike(groups: Iterable[Sequence[float]]) -> bool:
    """Whether the groups are consistent with one common spread: Bartlett's test at the level :data:`UNLIKE`.
    With two or three seeds it detects gross differences only.
    """
    from scipy.special import chdtrc

    several = [group for group in groups if len(group) > 1]
    if len(several) < 2:
        return True
    varying = [len(set(group)) > 1 for group in several]
    if not all(varying):  # a spread of exactly 0 is unlike any other
        return not any(varying)
    # The same as scipy.stats.bartlett (a test compares them), but much faster: simulations call it often.
    freedom, squares = [len(group) - 1 for group in several], [_squares(group) for group in several]
    total, others = sum(freedom), len(several) - 1
    distance = total * math.log(math.fsum(squares) / total)
    distance -= math.fsum(f * math.log(s / f) for f, s in zip(freedom, squares, strict=True))
    correction = 1 + (math.fsum(1 / f for f in freedom) - 1 / total) / (3 * others)
    # With equal spreads, rounding may make the distance slightly negative.
    return bool(chdtrc(others, max(0.0, distance / correction)) >= UNLIKE)


def shared_spread(groups: Iterable[Sequence[float]]) -> Spread | None:
    """The spread that the intervals of some groups are based on; None if it is unknown, or if intervals are
    not pooled in this context (:class:`Intervals`).

    If groups are not :func:`alike`, it is a lower bound for groups of few values: three that are close
    together by chance would otherwise give an interval of almost no width.
    """
    groups = list(groups)
    found = spread(*groups) if _intervals.get().pooled else None
    return found and dataclasses.replace(found, at_least=not alike(groups))


def _choose_spread(own: Spread | None, shared: Spread | None) -> Spread | None:
    """The spread that an interval is based on: the groups' own, or the one that they share with others."""
    if shared is None or own is None:
        return own or shared
    own_counts = shared.at_least and (own.freedom > LITTLE or own.deviation > shared.deviation)
    return own if own_counts else shared


def over_seeds(values: Sequence[float], shared: Spread | None = None) -> Estimate:
    """Mean and Student-t interval of independent values, one per seed.

    Args:
        shared: the spread between seeds, if it is known from more than these values (:func:`shared_spread`).
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    found = _choose_spread(spread(values), shared)
    mean = math.fsum(values) / n
    return _student(mean, n, found and found.deviation / math.sqrt(n), found and found.freedom)


def jointly(groups: Mapping[Key, Sequence[float]]) -> dict[Key, Estimate]:
    """The mean of each group, with an interval from the spread that the groups share (:func:`shared_spread`).

    With n seeds in each of k groups it has up to k (n - 1) degrees of freedom instead of n - 1. For two seeds
    in five groups Student's factor falls from 12.7 to 2.6.
    """
    shared = shared_spread(groups.values())
    return {key: over_seeds(values, shared) for key, values in groups.items()}


def difference(first: Sequence[float], second: Sequence[float], shared: Spread | None = None) -> Estimate:
    """Mean of ``first`` minus that of ``second``, which are not paired by seed.

    Args:
        shared: the spread between seeds (:func:`shared_spread`); None uses each group's own, as in Welch's
            test, or one for both if a group has one value.
    """
    groups = (first, second)
    mean, n = math.fsum(first) / len(first) - math.fsum(second) / len(second), min(map(len, groups))
    scale = math.sqrt(1 / len(first) + 1 / len(second))
    own = spread(*groups)
    if own is not None:
        own = Spread(own.deviation * scale, own.freedom)
    if n > 1:
        # If the groups differ in size, the smaller one contributes more, and so must its own spread.
        parts = [(_squares(group) / (len(group) - 1) / len(group), len(group) - 1) for group in groups]
        total = math.fsum(part for part, _ in parts)
        if total:
            own = Spread(math.sqrt(total), total**2 / math.fsum(part**2 / each for part, each in parts))
    joint = shared and dataclasses.replace(shared, deviation=shared.deviation * scale)
    found = _choose_spread(own, joint)
    return _student(mean, n, found and found.deviation, found and found.freedom)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """``first - second``, both by seed, for the seeds that both have, in their order."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def with_sampling(estimate: Estimate, accuracies: Sequence[float], test_images: int) -> Estimate:
    """A difference of accuracies with the sampling error of ``test_images`` images: added if intervals in
    this context include it (:class:`Intervals`), used alone if one seed gives no other (``source`` says so).

    It assumes independent binomial samples, one per accuracy. Both networks see the same images and tend to
    err on the same ones, so the true error is smaller.

    Args:
        accuracies: the accuracies (fractions) whose difference ``estimate`` is.
    """
    variance = sum(p * (1 - p) / test_images for p in accuracies)
    if estimate.error is None and estimate.n == 1:
        return _student(estimate.mean, 1, math.sqrt(variance), math.inf, source="test images")
    if estimate.error is None or not _intervals.get().sampling:
        return estimate
    error = math.hypot(estimate.error, math.sqrt(variance))
    # Welch and Satterthwaite: the binomial part is practically known, so the freedom grows with its share.
    ratio = error / estimate.error if estimate.error else math.inf
    freedom = estimate.freedom * ratio**4 if ratio < 1e6 else math.inf
    sampled = _student(estimate.mean, estimate.n, error, freedom)
    # With more freedom Student's factor falls, sometimes by more than the error grows.
    return max(estimate, sampled, key=lambda each: each.half_width)


def _student(
    mean: float, n: int, error: float | None, freedom: float | None, source: str = "seeds"
) -> Estimate:
    if error is None:
        return Estimate(mean, None, None, n)
    half = _quantile(0.5 + confidence() / 2, freedom) * error
    return Estimate(mean, mean - half, mean + half, n, source, error, freedom)


def _reach(freedom: float, sides: int) -> float:
    """The effect, in standard errors, that is detected with probability :data:`POWER`. An interval that must
    stay clear of a margin on two sides can fail on either, so each side gets half the probability of failing.
    """
    return _quantile(0.5 + confidence() / 2, freedom) + _quantile(1 - (1 - POWER) / sides, freedom)


def _quantile(p: float, freedom: float) -> float:
    """Quantile of Student's t, and of the normal distribution for infinite degrees of freedom."""
    if math.isinf(freedom):
        return statistics.NormalDist().inv_cdf(p)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))
