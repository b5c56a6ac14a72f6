"""How many runs share the device: as many as make it do more altogether, which is measured.

One training of a small network leaves most of a large GPU idle, and only the GPU knows how much. So runs of
one kind are added one by one for as long as that pays, while what they do counts.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

GAIN = 1.1
"""One run more has to make all of them together faster by this factor to stay."""

SETTLE_STEPS = 20
"""Steps after which a run goes at its usual rate: the first ones compile, and fill memory."""

WINDOW_SECONDS = 4.0
"""How long a rate is measured for."""


@dataclass
class Crowd:
    """What is known of how many runs of each kind go best together, at most ``limit``.

    ``rates``: kind to number of runs to their steps a second, all together; ``decided``: kind to the best
    number, once that is known.
    """

    limit: int
    rates: dict[Hashable, dict[int, float]] = field(default_factory=dict)
    decided: dict[Hashable, int] = field(default_factory=dict)

    def wanted(self, kind: Hashable) -> int:
        """How many runs of a kind are to go on at once now: the best number, or the next one to try."""
        if kind in self.decided:
            return self.decided[kind]
        return min(max(self.rates.get(kind, {}), default=0) + 1, self.limit)

    def measured(self, kind: Hashable, count: int, rate: float) -> None:
        """``count`` runs of a kind made ``rate`` steps a second together."""
        known = self.rates.setdefault(kind, {})
        known[count] = rate
        if count > 1 and count - 1 in known and rate < GAIN * known[count - 1]:
            self.decided[kind] = count - 1
        elif count >= self.limit:
            self.decided[kind] = count

    def measuring(self, kind: Hashable, count: int) -> bool:
        """Whether a rate of so many runs would be news."""
        return kind not in self.decided and count == self.wanted(kind)


class Window:
    """The time in which a rate is measured: the same runs, all of them past their first steps.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock=time.monotonic):
        self.clock = clock
        self._who: frozenset = frozenset()
        self._start: tuple[float, int] | None = None

    def rate(self, steps: Mapping[Hashable, int]) -> float | None:
        """Steps a second of all runs together, once a window is over.

        Args:
            steps: how many each run has made.
        """
        now, total = self.clock(), sum(steps.values())
        settled = bool(steps) and min(steps.values()) >= SETTLE_STEPS
        if frozenset(steps) != self._who or not settled:
            self._who, self._start = frozenset(steps), None
            return None
        if self._start is None:
            self._start = now, total
            return None
        begin, before = self._start
        if now - begin < WINDOW_SECONDS:
            return None
        self._start = None
        return (total - before) / (now - begin)
