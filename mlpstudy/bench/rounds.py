"""The timing harness: every round times every work once, so a slow spell of the machine slows all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mlplib import machine
from mlplib.progress import quiet

TURN_SECONDS = 0.3
"""About how long a turn repeats a work: starting and ending it then cost little."""

DIGITS = 5
"""Significant digits kept of a time, more than the clock deserves. Ratios use the rounded times, so that a
reader who computes them from the file gets the same."""


@dataclass(frozen=True)
class Work:
    """Something to time.

    ``run(n)`` does it ``n`` times. ``calls`` fixes n, e.g. to the batches of a loader's epoch; otherwise a
    turn makes as many calls as fit into its time, between ``least`` and ``most``. One call handles
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
        """Seconds per call in a turn of ``calls`` calls, to :data:`DIGITS` digits."""
        machine.synchronize(device)
        start = time.perf_counter()
        self.run(calls)
        machine.synchronize(device)
        return rounded((time.perf_counter() - start) / calls)

    def calls_per_turn(self, device: torch.device, turn_seconds: float) -> int:
        """Warm up, then find how many calls fill a turn."""
        self.seconds(self.calls or self.least, device)
        if self.calls:
            return self.calls
        wanted = math.ceil(turn_seconds / max(self.seconds(self.least, device), 1e-9))
        return max(self.least, min(self.most, wanted))

    def row(self, group: str, calls: int, seconds: Sequence[float]) -> dict:
        """The row of a results file."""
        row = {"id": self.id, "group": group, "name": self.name}
        if self.why:
            return row | {"why": self.why}
        sizes = {key: getattr(self, key) for key in ("images", "flops", "bytes")}
        return row | {"calls": calls, "seconds": list(seconds)} | {k: v for k, v in sizes.items() if v}


def repeat(call: Callable[[], object]) -> Callable[[int], None]:
    """The ``run`` of a work from a function that does it once."""

    def run(n: int) -> None:
        for _ in range(n):
            call()

    return run


def rounded(seconds: float) -> float:
    """``seconds`` to :data:`DIGITS` significant digits."""
    return float(f"{seconds:.{DIGITS}g}")


def take_turns(
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
    seconds: dict[str, list[float]] = {work.id: [] for work in works}
    with progress((rounds + 1) * len(possible), f"bench: {group}") as bar:
        for work in possible:
            calls[work.id] = work.calls_per_turn(device, turn_seconds)
            bar.advance(1)
        for _ in range(rounds):
            for work in possible:
                seconds[work.id].append(work.seconds(calls[work.id], device))
                bar.advance(1)
    return [work.row(group, calls.get(work.id, 0), seconds[work.id]) for work in works]


# --------------------------------------------------------------------------- summaries


def summary(values: Sequence[float]) -> dict[str, float]:
    """``value``, the median, with the quartiles ``q25`` and ``q75``."""
    if len(values) == 1:
        return dict.fromkeys(("value", "q25", "q75"), values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"value": middle, "q25": low, "q75": high}


def per_round(rows: Mapping[str, Mapping], compute: Callable[..., float], *ids: str) -> dict:
    """Apply ``compute`` to the seconds of some rows in every round: median and quartiles, or ``why`` not.

    Args:
        rows: by id, all of one group.
    """
    for id in ids:
        if id not in rows:
            return {"why": "it was not asked for"}
        if "why" in rows[id]:
            return {"why": rows[id]["why"]}
    return summary([compute(*values) for values in zip(*(rows[id]["seconds"] for id in ids), strict=True)])


def rate(row: Mapping, of: str) -> dict:
    """``images``, ``flops`` or ``bytes`` of a row per second: median and quartiles."""
    return summary([row[of] / seconds for seconds in row["seconds"]])
