"""Taking turns: every round times every work once."""

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
"""A turn repeats a work for about that long: starting and ending it then cost little."""

DIGITS = 5
"""Digits of a time that are kept, more than any is good for. Ratios are of kept digits, so a reader who
computes one from the file finds the same."""


@dataclass(frozen=True)
class Work:
    """Something to be timed.

    ``run(n)`` does it ``n`` times. ``calls`` fixes n, as for a loader whose epoch has so many batches; else a
    turn takes as many as fit into its time, at least ``least`` and at most ``most``. One call handles
    ``images``, executes ``flops`` and moves ``bytes``, 0 where that means nothing.
    """

    id: str
    name: str
    run: Callable[[int], None]
    calls: int | None = None
    least: int = 1
    most: int = 1_000_000
    images: int = 0
    flops: float = 0.0
    bytes: float = 0.0


def once(call: Callable[[], object]) -> Callable[[int], None]:
    """``call`` as a work's ``run``."""

    def run(n: int) -> None:
        for _ in range(n):
            call()

    return run


def take_turns(
    works: Sequence[Work],
    rounds: int,
    device: torch.device,
    *,
    group: str,
    progress=quiet,
    turn_seconds: float = TURN_SECONDS,
) -> list[dict]:
    """A row for each work: what it is, and the seconds of one call in every round.

    Two turns come first that do not count: one warms up, one tells how many calls fill a turn.
    """
    counts: dict[str, int] = {}
    seconds: dict[str, list[float]] = {work.id: [] for work in works}
    with progress((rounds + 1) * len(works), f"bench: {group}") as bar:
        for work in works:
            least = work.calls or work.least
            _turn(work, least, device)
            counts[work.id] = work.calls or _calls(work, _turn(work, least, device), turn_seconds)
            bar.advance(1)
        for _ in range(rounds):
            for work in works:
                found = _turn(work, counts[work.id], device)
                seconds[work.id].append(float(f"{found:.{DIGITS}g}"))
                bar.advance(1)
    return [_row(work, group, counts[work.id], seconds[work.id]) for work in works]


def _turn(work: Work, calls: int, device: torch.device) -> float:
    """Seconds of one call."""
    machine.synchronize(device)
    start = time.perf_counter()
    work.run(calls)
    machine.synchronize(device)
    return (time.perf_counter() - start) / calls


def _calls(work: Work, seconds: float, turn_seconds: float) -> int:
    wanted = math.ceil(turn_seconds / max(seconds, 1e-9))
    return max(work.least, min(work.most, wanted))


def _row(work: Work, group: str, calls: int, seconds: list[float]) -> dict:
    row = {"id": work.id, "group": group, "name": work.name, "calls": calls, "seconds": seconds}
    for key in ("images", "flops", "bytes"):
        if getattr(work, key):
            row[key] = getattr(work, key)
    return row


# --------------------------------------------------------------------------- what comes out


def missing(id: str, group: str, name: str, why: str) -> dict:
    """The row of what this machine cannot do."""
    return {"id": id, "group": group, "name": name, "why": why}


def summary(values: Sequence[float]) -> dict[str, float]:
    """``value``, the median, with the quartiles ``q25`` and ``q75``."""
    low, middle, high = (
        values * 3 if len(values) == 1 else statistics.quantiles(values, n=4, method="inclusive")
    )
    return {"value": middle, "q25": low, "q75": high}


def per_round(rows: Mapping[str, dict], compute: Callable[..., float], *ids: str) -> dict:
    """What ``compute`` makes of the seconds of some rows, round by round: median and quartiles, or ``why``
    there is none.

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
    """What a row handles a second of ``images``, ``flops`` or ``bytes``: median and quartiles."""
    return summary([row[of] / seconds for seconds in row["seconds"]])
