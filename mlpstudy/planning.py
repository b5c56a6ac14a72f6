"""Plans: which runs are missing, how long they will take, and what experiments save by sharing runs.

Nothing is trained here.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Collection, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlplib.data import catalog
from mlplib.specs import DataSpec, EvaluateSpec, FineTuneSpec, ProbeSpec, RunSpec, TimingSpec, TrainSpec
from mlplib.store import Record, RunStore, by_id, run_id

from . import cost
from .words import without_threads

if TYPE_CHECKING:  # torch takes seconds to import, and reading records does not need it
    import torch

ASSUMED_FRACTION = 0.4
"""Assumed share of the matrix-product rate for a kind of run that this device has not done yet. Other kinds
are no guide: a tiny model reaches a hundredth of what a large one does."""

OVERHEAD_SECONDS = 1.0
"""Rough time for the start-up, evaluation and checkpoint of a run."""

# --------------------------------------------------------------------------- which runs


def upstream_first(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """The distinct runs among ``specs`` and the runs they depend on, dependencies first."""
    found: dict[RunSpec, None] = {}

    def add(spec: RunSpec) -> None:
        if spec not in found:
            for upstream in spec.needs():
                add(upstream)
            found[spec] = None

    for spec in specs:
        add(spec)
    return list(found)


def with_upstream(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """:func:`upstream_first` by id."""
    return by_id(upstream_first(specs))


@dataclass(frozen=True)
class Plan:
    """``runs``: every distinct run, dependencies included. ``missing``: those to do, dependencies first.

    ``flops`` and ``seconds``: :func:`training_flops` and the estimated time of what is left of the missing
    runs: the epochs in a checkpoint are not repeated.
    """

    runs: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    flops: float
    seconds: float

    @property
    def cached(self) -> int:
        """The number of runs that need not be done."""
        return len(self.runs) - len(self.missing)


class Planner:
    """Plans runs for a store and a device. Ids and finished records are looked up once.

    Valid until another data set is prepared, which may change ids. ``device``: the device or its name.
    """

    def __init__(self, store: RunStore, device: torch.device | str):
        self.store = store
        self.estimator = Estimator(store.records(), device)
        self._ids: dict[RunSpec, str] = {}
        self._finished: set[str] = set()

    def id(self, spec: RunSpec) -> str:
        """The id of a run."""
        if spec not in self._ids:
            self._ids[spec] = run_id(spec)
        return self._ids[spec]

    def done(self, spec: RunSpec) -> bool:
        """Whether the store has the record of a run.

        Raises:
            MlplibError: the record is damaged.
        """
        id = self.id(spec)
        if id in self._finished:
            return True
        # Most runs of a fresh store have no folder, and checking that is quicker than looking for the record.
        # If access is denied, `find` raises the error.
        with suppress(PermissionError):
            if not self.store.folder(id).exists():
                return False
        if self.store.find(spec) is None:
            return False
        self._finished.add(id)
        return True

    def missing(self, specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
        """The runs without a record that ``specs`` still need, by id, dependencies first."""
        # A finished run does not need its dependencies any more.
        needed = upstream_first(spec for spec in specs if not self.done(spec))
        return {self.id(spec): spec for spec in needed if not self.done(spec)}

    def epochs_done(self, spec: RunSpec) -> int | None:
        """The number of epochs in the checkpoint of a run, None without a checkpoint."""
        from mlplib.training import CHECKPOINT, epochs_done

        return epochs_done(self.store.folder(self.id(spec)) / CHECKPOINT)

    def share_left(self, spec: RunSpec) -> float:
        """The share of a run that is not in its checkpoint."""
        epochs = self.epochs_done(spec)
        return 1 - epochs / spec.epochs if epochs else 1.0

    def seconds_left(self, spec: RunSpec) -> float:
        """The estimate for what is left of a run."""
        return self.share_left(spec) * self.estimator.seconds(spec)

    def plan(self, specs: Collection[RunSpec]) -> Plan:
        """The plan for ``specs`` and the runs they depend on."""
        runs = upstream_first(specs)
        missing = tuple(self.missing(specs).values())
        shares = {spec: self.share_left(spec) for spec in missing}
        flops = sum((share * training_flops(spec) for spec, share in shares.items()), 0.0)
        seconds = sum((share * self.estimator.seconds(spec) for spec, share in shares.items()), 0.0)
        return Plan(tuple(runs), missing, flops, seconds)


# --------------------------------------------------------------------------- how long they take


def training_flops(spec: RunSpec) -> float:
    """FLOPs that ``spec`` itself computes: ``6 x forward MACs x images`` where it trains a network, ``2 x``
    where it only evaluates one. Norms, activations and the small heads of probes are not counted.
    """
    if isinstance(spec, TrainSpec):
        return 2.0 * cost.training_macs(spec)
    if isinstance(spec, FineTuneSpec):
        images = spec.epochs * cost.images_per_epoch(spec)
        return 6.0 * _upstream_macs(spec.upstream, spec.data) * images
    if isinstance(spec, EvaluateSpec):
        tested = catalog.find(spec.tested_on.name).test * (1 + spec.crops)
        return 2.0 * _upstream_macs(spec.trained, spec.tested_on) * tested
    if isinstance(spec, ProbeSpec) and spec.upstream is not None:
        entry = catalog.find(spec.data.name)
        images = (spec.data.examples or entry.train) + entry.test
        return 2.0 * _upstream_macs(spec.upstream, spec.data) * images
    return 0.0


def _upstream_macs(upstream: RunSpec, data: DataSpec) -> int:
    """Forward MACs of an upstream network; 0 for a checkpoint, whose size is known only once it is read."""
    while isinstance(upstream, FineTuneSpec):
        upstream = upstream.upstream
    known = isinstance(upstream, TrainSpec)
    return cost.network_size(upstream.model, data).forward_macs if known else 0


class Estimator:
    """Estimates how long runs will take on a device.

    The rate is the device's measured matrix-product rate times the share of it that earlier runs of the same
    model, data set and batch size reached on this device.

    Args:
        records: earlier runs on any device, read once the first estimate needs them.
        device: the device or its name, looked for once the first estimate needs it: that imports torch.
    """

    def __init__(self, records: Iterable[Record], device: torch.device | str):
        self._records, self._device = records, device

    @functools.cached_property
    def device(self) -> torch.device:
        """The device that the estimates are for."""
        from mlplib.machine import pick_device

        return pick_device(self._device)

    @functools.cached_property
    def _fractions(self) -> dict[tuple, list[float]]:
        """The shares of the matrix-product rate that finished runs on this device reached, by kind of run."""
        from mlplib import machine

        found: dict[tuple, list[float]] = {}
        device = without_threads(machine.device_name(self.device))
        for record in self._records:
            here = without_threads(record.environment["device"]) == device
            if isinstance(record.spec, TrainSpec) and here:
                if record.compute.get("matmul_fraction"):
                    found.setdefault(_kind(record.spec), []).append(record.compute["matmul_fraction"])
        return found

    def seconds(self, spec: RunSpec) -> float:
        """The estimate for one run, without the runs it depends on."""
        if isinstance(spec, TimingSpec):  # its length is a setting
            return OVERHEAD_SECONDS + spec.seconds
        flops = training_flops(spec)
        if not flops:  # saves measuring the matrix-product rate
            return OVERHEAD_SECONDS
        from mlplib import machine, timing

        precision = machine.pick_precision(getattr(spec, "precision", "fp32"), self.device)
        fractions = self._fractions.get(_kind(spec)) if isinstance(spec, TrainSpec) else None
        share = statistics.median(fractions) if fractions else ASSUMED_FRACTION
        return OVERHEAD_SECONDS + flops / (share * timing.matmul_rate(self.device, precision))


def _kind(spec: TrainSpec) -> tuple:
    return spec.model, spec.data.name, spec.batch_size


# --------------------------------------------------------------------------- sharing between experiments


def users(needed: Mapping[str, Iterable[Hashable]]) -> dict[Hashable, tuple[str, ...]]:
    """Every distinct run with the names of the experiments that need it.

    Args:
        needed: experiment to its runs and their dependencies, as ids or as specs.
    """
    found: dict[Hashable, tuple[str, ...]] = {}
    for name, runs in needed.items():
        for run in dict.fromkeys(runs):
            found[run] = (*found.get(run, ()), name)
    return found


def sharing(
    needed: Mapping[str, Iterable[str]], seconds: Mapping[str, float]
) -> dict[tuple[str, ...], tuple[int, float]]:
    """What experiments saved by sharing runs.

    Args:
        needed: as for :func:`users`, as ids.
        seconds: id to the time that the run took.

    Returns:
        each set of experiments that share runs, with the number of these runs and the seconds that repeating
        them for every further experiment would have cost.
    """
    groups: dict[tuple[str, ...], tuple[int, float]] = {}
    for id, names in users(needed).items():
        if len(names) > 1:
            number, saved = groups.get(names, (0, 0.0))
            groups[names] = number + 1, saved + (len(names) - 1) * seconds[id]
    return groups
