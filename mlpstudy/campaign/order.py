"""Which runs a campaign does next: those first that add most to the ledger for their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlplib.planning import with_upstream
from mlplib.specs import RunSpec

from ..evidence.records import seed_of
from ..experiments import experiment
from ..profiles import Profile

SEEDS = 5
"""Seeds of experiments whose runs are all short; of others those of the profile."""

SHORT_SECONDS = 60.0
"""A run is short below this."""

FIRST = 3
"""A profile with fewer seeds than this asks for no more of them."""


@dataclass(frozen=True)
class Unit:
    """The runs of an experiment on one data set from one seed: what a column of its table needs once.

    ``value``: what it adds to the ledger, in claims. An experiment's claims are shared out among its data
    sets; a second seed, which brings an interval, counts half as much as the first, a third a quarter, ...
    """

    experiment: str
    seed: int
    data: str | None
    runs: tuple[RunSpec, ...]
    value: float


def seeds_for(profile: Profile) -> tuple[int, ...]:
    """The profile's seeds and those that only short runs get."""
    further = range(max(profile.seeds) + 1, max(profile.seeds) + 1 + SEEDS - len(profile.seeds))
    return (*profile.seeds, *further) if len(profile.seeds) >= FIRST else profile.seeds


def units(names: Iterable[str], profile: Profile, seeds: Sequence[int]) -> list[Unit]:
    """The units of some experiments, in their order: data set by data set, the first seeds first."""
    found = []
    for name in names:
        grouped: dict[tuple[int, str | None], list[RunSpec]] = {}
        for spec in experiment(name).runs(profile, seeds):
            grouped.setdefault((seed_of(spec) or 0, spec.data_name()), []).append(spec)
        claims = len(experiment(name).CLAIMS) or 0.5  # a table that no claim is about is something, too
        share = claims / len({data for _, data in grouped})
        rank = {seed: place for place, seed in enumerate(sorted({seed for seed, _ in grouped}))}
        datasets = list(dict.fromkeys(data for _, data in grouped))
        for seed, data in sorted(grouped, key=lambda key: (datasets.index(key[1]), key[0])):
            found.append(Unit(name, seed, data, tuple(grouped[seed, data]), share / 2 ** rank[seed]))
    return found


def short_enough(unit: Unit, profile: Profile, seconds: Callable[[RunSpec], float]) -> bool:
    """Whether a unit is to be done: beyond the profile's own seeds only if all its runs are short."""
    if unit.seed in profile.seeds:
        return True
    return all(seconds(spec) < SHORT_SECONDS for spec in with_upstream(unit.runs).values())


def in_order(
    found: Sequence[Unit],
    done: Callable[[RunSpec], bool],
    here: Callable[[RunSpec], bool],
    seconds: Callable[[RunSpec], float],
    as_given: bool = False,
    ids: dict[RunSpec, str] | None = None,
) -> Iterator[tuple[Unit, tuple[RunSpec, ...]]]:
    """Every unit with runs that are to be done, with those runs and what has to be there for them, each run
    once and after what it reads from.

    What is chosen next is the unit with the most value for the time that it would take then: runs that units
    share cost nothing any more once one of them has been chosen.

    Args:
        done: whether a run's record is there or published.
        here: whether what a run left (weights, say) is there for others to read.
        seconds: the estimate for a run.
        as_given: keep the order of ``found`` instead.
        ids: as for :func:`mlplib.planning.with_upstream`.
    """
    ids = {} if ids is None else ids

    def missing(unit: Unit) -> dict[str, RunSpec]:
        needed = with_upstream((spec for spec in unit.runs if not done(spec)), ids)
        return {id: spec for id, spec in needed.items() if not here(spec)}

    waiting = {unit: runs for unit in found if (runs := missing(unit))}
    cost = {id: seconds(spec) for runs in waiting.values() for id, spec in runs.items()}

    def worth(unit: Unit) -> float:
        return unit.value / max(sum(cost[id] for id in waiting[unit]), 1e-9)

    while waiting:
        unit = next(iter(waiting)) if as_given else max(waiting, key=worth)
        chosen = waiting.pop(unit)
        yield unit, tuple(chosen.values())
        for other in list(waiting):
            waiting[other] = {id: spec for id, spec in waiting[other].items() if id not in chosen}
            if not waiting[other]:
                del waiting[other]
