"""What it saves that experiments share runs: a run has one id, whoever needs it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass


def users(needed: Mapping[str, Iterable[Hashable]]) -> dict[Hashable, tuple[str, ...]]:
    """Every different run to the experiments that need it.

    Args:
        needed: experiment to its runs and those that they are made from, as ids or as specs.
    """
    found: dict[Hashable, tuple[str, ...]] = {}
    for name, runs in needed.items():
        for run in dict.fromkeys(runs):
            found[run] = (*found.get(run, ()), name)
    return found


@dataclass(frozen=True)
class Sharing:
    """What it saved that experiments share runs.

    ``different``: runs, each once; ``shared``: those that more than one experiment needs; ``saved``: seconds
    that they would have cost again, once for every further experiment; ``groups``: the experiments that
    share, to how many runs and the seconds saved.
    """

    different: int
    shared: int
    saved: float
    groups: dict[tuple[str, ...], tuple[int, float]]


def sharing(needed: Mapping[str, Iterable[str]], seconds: Mapping[str, float]) -> Sharing:
    """Count by run ids what experiments share.

    Args:
        needed: as for :func:`users`.
        seconds: id to the time that the run took.
    """
    groups: dict[tuple[str, ...], tuple[int, float]] = {}
    every = users(needed)
    for id, names in every.items():
        if len(names) > 1:
            number, saved = groups.get(names, (0, 0.0))
            groups[names] = number + 1, saved + (len(names) - 1) * seconds[id]
    shared = sum(number for number, _ in groups.values())
    return Sharing(len(every), shared, math.fsum(saved for _, saved in groups.values()), groups)
