"""What is still to be done and how long it will take, without training anything."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from . import machine, scaling
from .data import catalog
from .specs import DataSpec, EvaluateSpec, FineTuneSpec, ProbeSpec, RunSpec, TimingSpec, TrainSpec
from .store import Record, RunStore, run_id

ASSUMED_FRACTION = 0.4
"""Share of the matrix-product rate that a run is taken to reach where the store has none of its kind on this
device. Runs of other kinds tell nothing: a tiny model reaches a hundredth of what a large one does."""

OVERHEAD_SECONDS = 1.0
"""A run's evaluation, checkpoint and start-up, roughly."""


@dataclass(frozen=True)
class Plan:
    """``runs``: every run, what it depends on included, each once. ``missing``: those without a record.

    ``flops``: of the missing ones, see :func:`training_flops`.
    ``seconds``: the estimate for them.
    """

    runs: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...]
    flops: float
    seconds: float

    @property
    def cached(self) -> int:
        """How many runs have a record already."""
        return len(self.runs) - len(self.missing)


def with_upstream(specs: Iterable[RunSpec], ids: dict[RunSpec, str] | None = None) -> dict[str, RunSpec]:
    """The different runs among ``specs`` and those they depend on, by id, dependencies first.

    Args:
        ids: known ids, to which those found here are added: an id takes a hundred times as long to make as
            to look up. For as long as no data set is prepared meanwhile.
    """
    ids = {} if ids is None else ids
    found: dict[str, RunSpec] = {}
    seen: set[RunSpec] = set()

    def add(spec: RunSpec) -> None:
        if spec in seen:
            return
        seen.add(spec)
        for upstream in spec.needs():
            add(upstream)
        if spec not in ids:
            ids[spec] = run_id(spec)
        found.setdefault(ids[spec], spec)

    for spec in specs:
        add(spec)
    return found


def training_flops(spec: RunSpec) -> float:
    """FLOPs of what ``spec`` itself computes: ``6 x forward MACs x images`` where it trains a network,
    ``2 x`` where it only looks. Norms, activations and the small heads of probes are not counted.
    """
    if isinstance(spec, TrainSpec):
        return 6.0 * scaling.model_size(spec).forward_macs * _images_seen(spec)
    if isinstance(spec, FineTuneSpec):
        return 6.0 * _upstream_macs(spec.upstream, spec.data) * _images_seen(spec)
    if isinstance(spec, EvaluateSpec):
        tested = catalog.find(spec.tested_on.name).test * (1 + spec.crops)
        return 2.0 * _upstream_macs(spec.trained, spec.tested_on) * tested
    if isinstance(spec, ProbeSpec) and spec.upstream is not None:
        entry = catalog.find(spec.data.name)
        return (
            2.0
            * _upstream_macs(spec.upstream, spec.data)
            * ((spec.data.examples or entry.train) + entry.test)
        )
    return 0.0


def _images_seen(spec: TrainSpec | FineTuneSpec) -> int:
    return scaling.images_per_epoch(spec) * spec.epochs


def _upstream_macs(upstream: RunSpec, data: DataSpec) -> int:
    """Of the network that ``upstream`` left; 0 for a checkpoint, whose size is known only once it is read."""
    while isinstance(upstream, FineTuneSpec):
        upstream = upstream.upstream
    known = isinstance(upstream, TrainSpec)
    return scaling.network_size(upstream.model, data).forward_macs if known else 0


def plan(specs: Iterable[RunSpec], store: RunStore, device: torch.device) -> Plan:
    """Which of ``specs`` are missing in ``store``, and how long they will take on ``device``, judged by the
    store's earlier runs (:class:`Estimator`).
    """
    return plans({"": specs}, store, device)[1]


def plans(
    wanted: Mapping[str, Iterable[RunSpec]], store: RunStore, device: torch.device
) -> tuple[dict[str, Plan], Plan]:
    """A :func:`plan` for each of several experiments, and one for all of them, shared runs counted once.

    Args:
        wanted: the experiments' runs by name.
    """
    wanted = {name: list(specs) for name, specs in wanted.items()}
    place = _Place(store, device)
    found = {name: place.plan(specs) for name, specs in wanted.items()}
    if len(found) == 1:
        return found, *found.values()
    return found, place.plan([spec for specs in wanted.values() for spec in specs])


class Estimator:
    """How long runs will take on a device.

    The rate is the device's measured matrix-product rate times the share of it that earlier runs of the same
    model, data set and batch size reached on this device.

    Args:
        records: earlier runs, of any device; looked at once, when the first estimate needs them.
    """

    def __init__(self, records: Iterable[Record], device: torch.device):
        self._records, self.device = records, device

    @functools.cached_property
    def _reached(self) -> dict[tuple, list[float]]:
        return _fractions(self._records, machine.device_name(self.device))

    def seconds(self, spec: RunSpec) -> float:
        """The estimate for one run, without what it reads from."""
        if isinstance(spec, TimingSpec):  # takes the time that it is given, whatever the machine
            return OVERHEAD_SECONDS + spec.seconds
        flops = training_flops(spec)
        if not flops:  # so that nothing is measured for it
            return OVERHEAD_SECONDS
        precision = machine.pick_precision(getattr(spec, "precision", "fp32"), self.device)
        fractions = self._reached.get(_kind(spec)) if isinstance(spec, TrainSpec) else None
        share = statistics.median(fractions) if fractions else ASSUMED_FRACTION
        return OVERHEAD_SECONDS + flops / (share * machine.matmul_rate(self.device, precision))


class _Place:
    """A store and a device to plan for. What takes time, ids and records, is asked for once."""

    def __init__(self, store: RunStore, device: torch.device):
        self.store = store
        self._estimator = Estimator(store.records(), device)
        self._ids: dict[RunSpec, str] = {}
        self._records: dict[str, bool] = {}

    def plan(self, specs: Sequence[RunSpec]) -> Plan:
        """The plan of some runs and of what they depend on."""
        runs = self._with_upstream(specs)
        # What a finished run once needed is not needed again.
        needed = self._with_upstream(spec for spec in specs if not self._done(spec))
        missing = tuple(spec for spec in needed.values() if not self._done(spec))
        flops = sum(map(training_flops, missing))
        return Plan(tuple(runs.values()), missing, flops, sum(map(self._estimator.seconds, missing), 0.0))

    def _with_upstream(self, specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
        return with_upstream(specs, self._ids)

    def _done(self, spec: RunSpec) -> bool:
        id = self._ids[spec]
        if id not in self._records:
            there = (self.store.folder(id) / "record.json").exists()
            self._records[id] = there and self.store.find(spec) is not None
        return self._records[id]


def _kind(spec: TrainSpec) -> tuple:
    return spec.model, spec.data.name, spec.batch_size


def _fractions(records: Iterable[Record], device: str) -> dict[tuple, list[float]]:
    """The share of the matrix-product rate that finished runs on this device reached, by kind of run."""
    found: dict[tuple, list[float]] = {}
    for record in records:
        if isinstance(record.spec, TrainSpec) and record.environment["device"] == device:
            if record.compute.get("matmul_fraction"):
                found.setdefault(_kind(record.spec), []).append(record.compute["matmul_fraction"])
    return found
