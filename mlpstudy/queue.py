"""The run queue of ``mlplib run``: worker processes execute missing runs in a useful order until a deadline.

The run store is the queue and a run's lock is the claim on it. So any number of commands, on any number of
machines that share the folder, work on the same queue.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait

import torch

from mlplib import data, machine
from mlplib.errors import Interrupted, MlplibError
from mlplib.files import require_writable
from mlplib.limits import cores
from mlplib.progress import Bar, Progress, quiet
from mlplib.specs import FineTuneSpec, RunSpec, TimingSpec, TrainSpec
from mlplib.stopping import StopRequest
from mlplib.store import RunStore

from .evidence.records import seed_of
from .experiments import experiment
from .planning import Planner
from .profiles import Profile
from .words import duration
from .workers import OUTCOMES, Settings, Worker

MARGIN_SECONDS = 15.0
"""Runs are asked to stop this long before the end, to write checkpoints; at most a fifth of the time."""

LAST_SECONDS = 5.0
"""Runs that have not stopped are killed this long before the end; at most an eighth of the time."""

PATIENCE_SECONDS = 60.0
"""After Ctrl-C or a common failure, runs have this long to write their checkpoints."""

LOOK_SECONDS = 1.0
"""Time between two checks of runs that could not start: another process has them or what they read from."""

TRIES = 2
"""A run that has killed this many workers is left out."""

FAILURES = 3
"""After this many failures in a row a common reason is assumed, and the work ends."""

RUN_BYTES = 3 * 2**30
"""Memory assumed per run on a CPU, if the number of runs at once is not given: twice what those of profile
``laptop`` took."""


def runs_at_once(device: torch.device) -> int:
    """The default number of concurrent runs. On a GPU one; on a CPU one per core, as memory allows, since two
    cores finish two small training runs sooner at once, with one thread each, than one after the other.
    """
    if device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), cores(), machine.free_memory(device) // RUN_BYTES))


# --------------------------------------------------------------------------- which runs first


@dataclass(frozen=True)
class Unit:
    """The runs that an experiment needs on one data set from one seed.

    ``value``: what they add to the scoreboard, in claims. The claims of an experiment are divided evenly
    between its data sets. A second seed, which gives an interval, counts half as much as the first, a third
    seed a quarter, and so on.
    """

    experiment: str
    runs: tuple[RunSpec, ...]
    value: float


def units(names: Iterable[str], profile: Profile, seeds: Sequence[int]) -> list[Unit]:
    """The units of some experiments: for each data set in turn, by seed."""
    found = []
    for name in names:
        by_data: dict[str | None, dict[int, list[RunSpec]]] = {}
        for spec in experiment(name).runs(profile, seeds):
            by_data.setdefault(spec.data_name(), {}).setdefault(seed_of(spec) or 0, []).append(spec)
        claims = len(experiment(name).CLAIMS) or 0.5  # a table without claims is worth something, too
        every_seed = sorted({seed for by_seed in by_data.values() for seed in by_seed})
        for by_seed in by_data.values():
            for seed, runs in sorted(by_seed.items()):
                value = claims / len(by_data) / 2 ** every_seed.index(seed)
                found.append(Unit(name, tuple(runs), value))
    return found


def in_order(
    units: Iterable[Unit],
    missing: Callable[[Iterable[RunSpec]], dict[str, RunSpec]],
    seconds: Callable[[RunSpec], float],
    as_named: bool = False,
) -> Iterator[tuple[Unit, dict[str, RunSpec]]]:
    """Every unit with the runs to do for it by id, each run once and after the runs it reads from.

    The next unit is always the one with the most value per second. Runs that an earlier unit includes cost
    nothing in a later one.

    Args:
        missing: gives the runs still needed, by id, see :meth:`mlpstudy.planning.Planner.missing`.
        seconds: the estimate for a run.
        as_named: keep the order of ``units`` instead.
    """
    waiting = {unit: runs for unit in units if (runs := missing(unit.runs))}
    cost = {id: seconds(spec) for runs in waiting.values() for id, spec in runs.items()}

    def rate(unit: Unit) -> float:
        return unit.value / max(sum(cost[id] for id in waiting[unit]), 1e-9)

    while waiting:
        unit = next(iter(waiting)) if as_named else max(waiting, key=rate)
        chosen = waiting.pop(unit)
        yield unit, chosen
        rest = {u: {id: s for id, s in runs.items() if id not in chosen} for u, runs in waiting.items()}
        waiting = {unit: runs for unit, runs in rest.items() if runs}


def longest_first(
    runs: Mapping[str, RunSpec], id_of: Callable[[RunSpec], str], seconds: Callable[[RunSpec], float]
) -> dict[str, RunSpec]:
    """Runs by id, ordered so that no worker idles at the end: the run comes first whose time, plus that of
    the longest chain of runs that read from it, is longest.

    Args:
        runs: every run after those it reads from.
    """
    chain: dict[str, float] = {}
    for id, spec in reversed(runs.items()):
        chain[id] = seconds(spec) + chain.get(id, 0.0)
        for parent in map(id_of, spec.needs()):
            chain[parent] = max(chain.get(parent, 0.0), chain[id])
    return dict(sorted(runs.items(), key=lambda item: -chain[item[0]]))


# --------------------------------------------------------------------------- doing them


@dataclass
class Report:
    """How the work ended.

    ``done``: ids of the finished runs; ``failed``: run id to reason; ``left_out``: data set to the reason why
    it is not available and the number of runs that need it; ``left``: experiment to the number of its runs
    that are left, without those counted for an earlier one, and the estimated seconds; ``trouble``: why the
    work ended early, None if by the deadline, the user or the end of the queue; ``stopped``: whether the user
    ended it.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, tuple[str, int]] = field(default_factory=dict)
    left: dict[str, tuple[int, float]] = field(default_factory=dict)
    trouble: str | None = None
    stopped: bool = False


@dataclass
class RunQueue:
    """The missing runs of some experiments, done by ``jobs`` worker processes.

    Args:
        names: the experiments.
        minutes: how long to work; None: until everything is done.
        as_named: keep the order of ``names``. Otherwise the longest runs come first, or, where the time is
            too short for all, those that add most to the scoreboard.
        published: ids of runs to leave out, unless another run reads from them.
        options: further arguments of the workers' :class:`~mlplib.executor.Executor`.
        log: called with one line of text at a time.
        begin: when the minutes began, on the clock of ``time.monotonic``; None: now.
    """

    names: Sequence[str]
    profile: Profile
    seeds: Sequence[int]
    store: RunStore
    device: torch.device
    jobs: int | None = None
    minutes: float | None = None
    as_named: bool = False
    published: Collection[str] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    progress: Progress = quiet
    log: Callable[[str], None] = print
    begin: float | None = None

    def __post_init__(self):
        self.jobs = self.jobs or runs_at_once(self.device)
        self.stop, self.end = StopRequest(), math.inf
        if self.minutes is not None:
            begin, whole = self.begin or time.monotonic(), 60 * self.minutes
            self.stop.deadline = begin + whole - min(MARGIN_SECONDS, whole / 5)
            self.end = begin + whole - min(LAST_SECONDS, whole / 8)
        self.report = Report()
        self.planner = Planner(self.store, self.device)
        self.crew: list[Worker] = []
        self._unfinished: dict[str, RunSpec] = {}
        self._claimed: dict[str, float] = {}  # run id to when to look at it again
        self._deaths: dict[str, int] = {}
        self._to_do: dict[str, float] = {}  # run id to the estimate for it when it was last started
        self._bars: dict[Worker, tuple[ExitStack, Bar]] = {}
        self._estimated = self._spent = self._next_look = 0.0
        self._failures = 0

    def run(self) -> Report:
        """Do as many of the runs as the time allows."""
        found = self._with_data(units(self.names, self.profile, self.seeds))
        self.planner = Planner(self.store, self.device)  # preparing data may have changed ids
        for _, runs in in_order(found, self._missing, self.planner.seconds_left, self.as_named):
            self._unfinished |= runs
        if not self.as_named and self._all_fit():
            self._unfinished = longest_first(self._unfinished, self.planner.id, self.planner.seconds_left)
        if self._unfinished:
            require_writable(self.store.root, "--runs or MLPLIB_RUNS")
            with self.stop.listening():
                self._work()
        self.report.stopped = self.stop.signaled
        left = list(in_order(found, self._missing, self._seconds, as_named=True))
        parallelism = self._parallelism(sum(len(runs) for _, runs in left))
        for unit, runs in left:
            number, seconds = self.report.left.get(unit.experiment, (0, 0.0))
            seconds += sum(map(self._seconds, runs.values())) / parallelism
            self.report.left[unit.experiment] = number + len(runs), seconds
        return self.report

    def _all_fit(self) -> bool:
        """Whether there is time for all runs, even if they take twice as long as estimated."""
        return self.stop.deadline is None or 2 * self._time_left() < self.stop.deadline - time.monotonic()

    def _missing(self, specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
        return self.planner.missing(spec for spec in specs if self.planner.id(spec) not in self.published)

    def _with_data(self, found: Sequence[Unit]) -> list[Unit]:
        """The units whose data sets are available. They are fetched now, once for all workers."""
        missing = {unit: self._missing(unit.runs).values() for unit in found}
        needed = {
            unit: {name for spec in runs for name in spec.data_names()} for unit, runs in missing.items()
        }
        refused: dict[str, str] = {}
        for name in sorted(set().union(*needed.values())):
            if self.stop:
                break
            try:
                data.load(name, self.progress)
            except MlplibError as error:
                refused[name] = str(error)
        for name, why in refused.items():
            runs = {spec for unit in found if name in needed[unit] for spec in missing[unit]}
            self.report.left_out[name] = (why, len(runs))
        return [unit for unit in found if not needed[unit] & refused.keys()]

    def _seconds(self, spec: RunSpec) -> float:
        """The estimate for what is left of a run, corrected by how long finished runs took compared with
        theirs.
        """
        pace = self._spent / self._estimated if self._estimated else 1.0
        return self.planner.seconds_left(spec) * pace

    def _parallelism(self, runs: int) -> int:
        """By how much running ``runs`` runs concurrently divides the sum of their seconds; 1 until a run has
        finished, since estimates are for a run that has the device to itself before that.
        """
        return max(1, min(self.jobs, runs)) if self._estimated else 1

    def _time_left(self) -> float:
        """The estimate for all unfinished runs."""
        return sum(map(self._seconds, self._unfinished.values())) / self._parallelism(len(self._unfinished))

    # ------------------------------------------------------------------ the main loop

    def _work(self) -> None:
        try:
            while True:
                self._start_runs()
                if not self._busy() and (self._ending() or not self._claimed):
                    return
                wait([worker.connection for worker in self.crew], timeout=0.1)
                for worker in list(self.crew):
                    self._receive(worker)
                self._enforce_end()
        finally:
            # All of them, even if one raises: this process could not end before those that are left.
            with ExitStack() as stack:
                for worker in self.crew:
                    stack.callback(self._dismiss, worker)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self.crew if worker.spec is not None]

    def _ending(self) -> bool:
        return bool(self.stop) or self.report.trouble is not None

    def _start_runs(self) -> None:
        while not self._ending() and len(self._busy()) < self.jobs and time.monotonic() >= self._next_look:
            spec = self._next()
            if spec is None:
                self._next_look = time.monotonic() + LOOK_SECONDS
                return
            worker = next((worker for worker in self.crew if worker.spec is None), None) or self._hire()
            self._to_do[self.planner.id(spec)] = self.planner.seconds_left(spec)
            worker.start(spec)

    def _hire(self) -> Worker:
        share = self.device.type == "cpu" and self.jobs > 1
        threads = max(1, torch.get_num_threads() // self.jobs) if share else None
        root = self.store.root.resolve()
        self.crew.append(Worker(Settings(root, str(self.device), self.stop.deadline, threads, self.options)))
        return self.crew[-1]

    def _next(self) -> RunSpec | None:
        """The first run that can start now and fits into the time left, else the first that can be resumed
        another time.
        """
        now, resumable = time.monotonic(), None
        remaining = math.inf if self.stop.deadline is None else self.stop.deadline - now
        busy = [worker.spec for worker in self._busy()]
        for id, spec in list(self._unfinished.items()):
            # A timing needs the device to itself.
            alone = busy and any(isinstance(each, TimingSpec) for each in (spec, *busy))
            if alone or spec in busy or now < self._claimed.get(id, 0.0):
                continue
            if self.planner.done(spec):  # by another process in the meantime
                self._forget(id)
            elif not all(map(self.planner.done, spec.needs())):
                continue
            elif self._seconds(spec) <= remaining:
                return spec
            elif resumable is None and isinstance(spec, TrainSpec | FineTuneSpec):
                resumable = spec
        return resumable

    def _forget(self, id: str) -> None:
        self._unfinished.pop(id, None)
        self._claimed.pop(id, None)

    def _enforce_end(self) -> None:
        """Ask workers to stop when the work has to end, and kill those that do not stop in time."""
        if self.stop.signaled or self.report.trouble is not None:
            self.end = min(self.end, time.monotonic() + PATIENCE_SECONDS)
            for worker in self._busy():
                worker.ask_to_stop()
        if time.monotonic() >= self.end:
            for worker in self._busy():
                id = self.planner.id(worker.spec)
                self.log(f"{id} did not stop in time and was killed: a training keeps its last checkpoint")
                self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        worker.close()
        self.crew.remove(worker)
        self._close_bar(worker, done=False)

    # ------------------------------------------------------------------ what workers report

    def _receive(self, worker: Worker) -> None:
        for kind, value in worker.messages():
            if kind == "line":
                self.log(value)
            elif kind == "began" and worker.spec is not None:
                self._close_bar(worker)
                stack = ExitStack()
                self._bars[worker] = stack, stack.enter_context(self.progress(value, worker.spec.slug()))
            elif kind == "advanced" and worker in self._bars:
                self._bars[worker][1].advance(value)
            elif kind in OUTCOMES:
                self._close_bar(worker, done=kind == "done")
                spec, worker.spec = worker.spec, None
                if spec is not None:
                    asked = worker.asked_to_stop and kind == "died"
                    self._ended(spec, "stopped" if asked else kind, value)
                if kind in ("stopped", "broke", "died"):  # it takes no further runs
                    self._dismiss(worker)
                    return

    def _close_bar(self, worker: Worker, done: bool = True) -> None:
        if worker in self._bars:
            with suppress(Interrupted), self._bars.pop(worker)[0]:
                if not done:  # a bar says that its work is done, unless an error ends it
                    raise Interrupted

    def _ended(self, spec: RunSpec, outcome: str, value: object) -> None:
        id, self._next_look = self.planner.id(spec), 0.0
        self._claimed.pop(id, None)
        if outcome == "done":
            self._forget(id)
            self._failures = 0
            self._estimated += self._to_do[id]
            self._spent += value
            self.report.done.append(id)
            self.log(f"{id}: done in {value:.0f} s{self._outlook()}")
        elif outcome == "claimed":
            self._claimed[id] = time.monotonic() + LOOK_SECONDS
        elif outcome in ("failed", "broke"):
            self._fail(id, value)
        elif outcome == "died":
            self._deaths[id] = self._deaths.get(id, 0) + 1
            if self._deaths[id] >= TRIES:
                self._fail(id, f"its process {value}, again")
            else:
                begun = self.planner.epochs_done(spec) is not None
                then = "continuing from its last checkpoint" if begun else "starting it again"
                self.log(f"{id}: its process {value}; {then}")

    def _outlook(self) -> str:
        if not self._unfinished:
            return ""
        return f", {len(self._unfinished)} left: about {duration(self._time_left())}"

    def _fail(self, id: str, why: str) -> None:
        self._leave_out(id, why)
        self._failures += 1
        if self._failures >= FAILURES:
            self.report.trouble = f"{FAILURES} runs failed one after the other, the last one because: {why}"

    def _leave_out(self, id: str, why: str) -> None:
        """Leave out a run and those that read from it."""
        self._forget(id)
        self.report.failed[id] = why
        self.log(f"{id} failed: {why}")
        for other, spec in list(self._unfinished.items()):
            if other in self._unfinished and id in map(self.planner.id, spec.needs()):
                self._leave_out(other, f"needs {id}, which failed")
