"""Works to time, and the rows of a results file: all works of a group in turns (:mod:`mlplib.timing`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from mlplib import timing
from mlplib.progress import quiet

TURN_SECONDS = 0.3
"""Time that a turn fills with calls of a work, so that its overhead is small."""


@dataclass(frozen=True)
class Work:
    """Something to time.

    ``run(n)`` does it ``n`` times. ``calls`` fixes n, e.g. to the batches of a loader's epoch; otherwise a
    turn makes as many calls as fit into its time, from ``least`` to ``most``. One call handles
    ``images``, executes ``flops`` and moves ``bytes``; 0 where that has no meaning. ``why`` says why this
    machine cannot do it; then ``run`` is not needed.
    """

    id: str
    name: str
    run: Callable[[int], object] | None = None
    calls: int | None = None
    least: int = 1
    most: int = 1_000_000
    images: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    why: str = ""

    def seconds(self, calls: int, device: torch.device) -> float:
        """Seconds per call in a turn of ``calls`` calls."""
        return timing.seconds_per_call(self.run, calls, device)

    def calls_per_turn(self, device: torch.device, turn_seconds: float) -> int:
        """Warm up, then find how many calls fill a turn."""
        self.seconds(self.calls or self.least, device)
        if self.calls:
            return self.calls
        return timing.calls_in(turn_seconds, self.seconds(self.least, device), self.least, self.most)

    def row(self, group: str, calls: int, seconds: Sequence[float]) -> dict:
        """The row of a results file."""
        row = {"id": self.id, "group": group, "name": self.name}
        if self.why:
            return row | {"why": self.why}
        sizes = {key: getattr(self, key) for key in ("images", "flops", "bytes")}
        return row | {"calls": calls, "seconds": list(seconds)} | {k: v for k, v in sizes.items() if v}


def time_works(
    works: Sequence[Work],
    rounds: int,
    device: torch.device,
    *,
    group: str,
    progress=quiet,
    turn_seconds: float = TURN_SECONDS,
) -> list[dict]:
    """Time the works in turns. One row per work: what it is, and its seconds per call in every round."""
    possible = [work for work in works if not work.why]
    calls: dict[str, int] = {}
    with progress((rounds + 1) * len(possible), f"bench: {group}") as bar:
        for work in possible:
            calls[work.id] = work.calls_per_turn(device, turn_seconds)
            bar.advance(1)
        timers = {work.id: partial(work.seconds, calls[work.id], device) for work in possible}
        seconds = timing.take_turns(timers, rounds, after_each=lambda: bar.advance(1))
    return [work.row(group, calls.get(work.id, 0), seconds.get(work.id, ())) for work in works]
