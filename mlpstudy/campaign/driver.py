"""A campaign from start to end: what is still to be done, as much of it as time allows, and what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import torch

from mlplib import data
from mlplib.errors import MlplibError
from mlplib.planning import Estimator, with_upstream
from mlplib.progress import Bar, Progress, quiet
from mlplib.specs import FineTuneSpec, RunSpec, TimingSpec, TrainSpec
from mlplib.stopping import StopRequest
from mlplib.store import Record, RunStore, run_id

from ..evidence.records import ARTIFACTS, read_folder
from ..profiles import Profile
from . import order, workers
from .crowd import Crowd, Window
from .order import Unit
from .parcel import Item, Parcel
from .workers import Settings, Worker

MOST_WORKERS = 4
"""Runs that share a GPU, at most."""

MARGIN_SECONDS = 15.0
"""Before the end of its time a campaign asks its runs to stop, so that the largest checkpoint can be written.
Of a short time a fifth."""

LAST_SECONDS = 5.0
"""What it takes to tell what is left. Of a short time an eighth."""

PATIENCE_SECONDS = 60.0
"""Stopped by a person, a campaign waits so long for its runs' checkpoints."""

TRIES = 2
"""How often a run may lose its worker before it is given up."""

FAILURES = 3
"""So many failures one after the other have a common reason; the campaign ends."""


@dataclass(frozen=True)
class Left:
    """What is still to be done of an experiment: runs that no other experiment has been counted for, and
    the seconds that they are going to take.
    """

    experiment: str
    runs: int
    seconds: float


@dataclass
class Report:
    """How a campaign ended.

    ``done``: ids of the runs that it finished; ``failed``: id to why not; ``left_out``: data set to why it
    cannot be had and how many runs that costs; ``left``: by experiment; ``trouble``: what ended it early,
    None if that was the clock, a person, or nothing left to do; ``stopped``: whether it was a person.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, tuple[str, int]] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    trouble: str | None = None
    stopped: bool = False


@dataclass
class Campaign:
    """The runs of some experiments at a profile that are not published yet, in ``minutes``.

    Args:
        names: the experiments.
        seeds: None takes those of the profile, and more for experiments whose runs are all short.
        as_given: keep the order of ``names`` instead of choosing what adds most for its cost.
        results: the folder of the profile's published records.
        count: how many runs at once; None measures how many pay on a GPU, and takes one on a CPU, which one
            run can fill.
        log: called with one line when there is something to say.
        begin: when the minutes began, on the clock of ``time.monotonic``; None: now.
    """

    names: Sequence[str]
    profile: Profile
    store: RunStore
    parcel: Parcel
    results: Path
    device: torch.device
    minutes: float
    seeds: Sequence[int] | None = None
    as_given: bool = False
    count: int | None = None
    loader: str = "auto"
    progress: Progress = quiet
    log: Callable[[str], None] = print
    begin: float | None = None

    def __post_init__(self):
        begin, whole = self.begin or time.monotonic(), 60 * self.minutes
        self.stop = StopRequest(begin + whole - min(MARGIN_SECONDS, whole / 5))
        self.end = begin + whole - min(LAST_SECONDS, whole / 8)  # of runs that did not stop
        self.report = Report()
        self.published = read_folder(self.results).records
        self.known: list[Record] = [*self.published.values(), *self.store.records()]
        self.estimator = Estimator(self.known, self.device)
        self._ids: dict[RunSpec, str] = {}
        self._tries: dict[str, int] = {}
        self._estimated = self._spent = self._worked = 0.0
        self._failures = 0

    # ------------------------------------------------------------------ what there is to do

    def run(self) -> Report:
        """Do as many runs as fit, keep what they leave in the parcel, and tell how it went."""
        with self.stop.listening():
            units = self._possible(self._units())
            self._hand_in(units)
            self.queue = [spec for _, runs in self._missing(units, self.as_given) for spec in runs]
            if self.queue and self.report.trouble is None:
                self._work()
        self.report.stopped = self.stop.signaled
        self.report.left = self._left(units)
        return self.report

    def _units(self) -> list[Unit]:
        if self.seeds is not None:
            return order.units(self.names, self.profile, self.seeds)
        found = order.units(self.names, self.profile, order.seeds_for(self.profile))
        return [unit for unit in found if order.short_enough(unit, self.profile, self.estimator.seconds)]

    def _possible(self, units: list[Unit]) -> list[Unit]:
        """The units whose data can be had; those data are got now, once for all workers."""
        needed = {unit: {name for spec in unit.runs for name in spec.data_names()} for unit in units}
        missing: dict[str, str] = {}
        got: set[str] = set()
        for names in needed.values():
            for name in sorted(names - got - missing.keys()):
                if self.stop or names & missing.keys():
                    break
                try:
                    data.load(name, self.progress)
                    got.add(name)
                except MlplibError as error:
                    missing[name] = str(error)
        for name, why in missing.items():
            runs = {spec for unit, names in needed.items() if name in names for spec in unit.runs}
            self.report.left_out[name] = (why, len(runs))
        return [unit for unit, names in needed.items() if not names & missing.keys()]

    def _id(self, spec: RunSpec) -> str:
        if spec not in self._ids:
            self._ids[spec] = run_id(spec)
        return self._ids[spec]

    def _done(self, spec: RunSpec) -> bool:
        id = self._id(spec)
        return id in self.published or id in self.parcel.ids or self._here(spec)

    def _here(self, spec: RunSpec) -> bool:
        return (self.store.folder(self._id(spec)) / "record.json").exists()

    def _missing(self, units: Sequence[Unit], as_given: bool) -> Iterator[tuple[Unit, tuple[RunSpec, ...]]]:
        """What is still to be done, see :func:`mlpstudy.campaign.order.in_order`."""
        seconds = self.estimator.seconds
        return order.in_order(units, self._done, self._here, seconds, as_given, self._ids)

    def _hand_in(self, units: Sequence[Unit]) -> None:
        """Put into the parcel what an earlier campaign, stopped before it could, has finished."""
        for unit in units:
            for spec in with_upstream(unit.runs, self._ids).values():
                if self._here(spec) and self._id(spec) not in self.published.keys() | self.parcel.ids:
                    self._keep(spec)

    def _left(self, units: Sequence[Unit]) -> list[Left]:
        found = {name: Left(name, 0, 0.0) for name in self.names}
        for unit, runs in self._missing(units, as_given=True):
            before = found[unit.experiment]
            seconds = before.seconds + sum(map(self._seconds, runs)) / self._at_once
            found[unit.experiment] = Left(unit.experiment, before.runs + len(runs), seconds)
        return [left for left in found.values() if left.runs]

    # ------------------------------------------------------------------ how long it takes

    def _seconds(self, spec: RunSpec) -> float:
        """How long a run is going to take at the pace of those that this campaign has finished."""
        pace = self._spent / self._estimated if self._estimated else 1.0
        return self.estimator.seconds(spec) * pace

    @property
    def _at_once(self) -> float:
        """How many runs went on at once, on average."""
        return max(1.0, self._spent / self._worked) if self._worked else 1.0

    # ------------------------------------------------------------------ the work

    def _work(self) -> None:
        self.crew: list[Worker] = []
        self.bars: dict[Worker, tuple[ExitStack, Bar]] = {}
        most = self.count or (MOST_WORKERS if self.device.type == "cuda" else 1)
        self.crowd, self.window = Crowd(most), Window()
        self._news, mark = True, time.monotonic()
        try:
            while self._news or self._busy():
                if self._news:  # else what could not start before still cannot
                    self._news = False
                    self._start_runs()
                wait([worker.connection for worker in self.crew], timeout=0.1)
                now = time.monotonic()
                self._worked, mark = self._worked + (now - mark if self._busy() else 0.0), now
                for worker in list(self.crew):
                    self._hear(worker)
                self._measure()
                self._press()
        finally:
            for worker in list(self.crew):
                self._dismiss(worker)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self.crew if worker.spec is not None]

    def _press(self) -> None:
        """Have everybody stop who has to, and end those who do not in time."""
        if self.stop.signaled or self.report.trouble is not None:
            self.end = min(self.end, time.monotonic() + PATIENCE_SECONDS)
            for worker in self._busy():
                worker.ask_to_stop()
        if time.monotonic() >= self.end:
            for worker in self._busy():
                self.log(f"{self._id(worker.spec)} did not stop in time: its last checkpoint counts")
                self._dismiss(worker)

    def _start_runs(self) -> None:
        """Start what may start now."""
        while not self.stop and self.report.trouble is None:
            spec = self._next()
            if spec is None:
                return
            self.queue.remove(spec)
            worker = next((w for w in self.crew if w.spec is None), None) or self._hire()
            worker.start(spec)

    def _hire(self) -> Worker:
        shared = self.device.type == "cpu" and self.count is not None
        threads = max(1, torch.get_num_threads() // self.count) if shared else None
        settings = Settings(
            self.store.root.resolve(), str(self.device), self.stop.deadline, self.loader, threads
        )
        self.crew.append(Worker(settings))
        return self.crew[-1]

    def _dismiss(self, worker: Worker) -> None:
        self._close_bar(worker)
        worker.end()
        self.crew.remove(worker)

    def _next(self) -> RunSpec | None:
        """The next run that may start beside those that go on: the first that fits into the time that is
        left, or, with nothing going on, the first that can be gone on with another time.
        """
        going, remaining = self._busy(), self.stop.deadline - time.monotonic()
        ready = [
            spec for spec in self.queue if self._may_start(spec, going) and all(map(self._here, spec.needs()))
        ]
        fitting = (spec for spec in ready if self._seconds(spec) <= remaining)
        resumable = (spec for spec in ready if isinstance(spec, TrainSpec | FineTuneSpec) and not going)
        return next(fitting, None) or next(resumable, None)

    def _may_start(self, spec: RunSpec, going: Sequence[Worker]) -> bool:
        if not going:
            return True
        if any(isinstance(s, TimingSpec) for s in (spec, *(worker.spec for worker in going))):
            return False  # what is timed has the device to itself
        if self.count is not None:
            return len(going) < self.count
        kinds = {_kind(s) for s in (spec, *(worker.spec for worker in going))}
        return len(kinds) == 1 and None not in kinds and len(going) < self.crowd.wanted(_kind(spec))

    def _measure(self) -> None:
        """Learn how many runs of a kind go best together, and send the last one away if it is too many."""
        if self.count is not None:
            return
        going = self._busy()
        kinds = {_kind(worker.spec) for worker in going}
        if len(kinds) != 1 or None in kinds:
            return
        (kind,) = kinds
        rate = self.window.rate({self._id(worker.spec): worker.steps for worker in going})
        if rate is None or not self.crowd.measuring(kind, len(going)):
            return
        self.crowd.measured(kind, len(going), rate)
        self._news = True
        if self.crowd.wanted(kind) < len(going):
            max(going, key=lambda worker: worker.begin).ask_to_stop()

    # ------------------------------------------------------------------ what workers tell

    def _hear(self, worker: Worker) -> None:
        for message in worker.messages():
            spec = worker.spec
            if isinstance(message, workers.Said):
                self.log(message.line)
            elif isinstance(message, workers.Began):
                self._open_bar(worker, message.total)
            elif isinstance(message, workers.Advanced) and worker in self.bars:
                self.bars[worker][1].advance(message.steps)
            elif isinstance(message, workers.END):
                worker.spec = None
                self._close_bar(worker)
                if spec is not None:
                    asked = isinstance(message, workers.Died) and worker.asked
                    self._ended(spec, workers.Stopped() if asked else message)
                if isinstance(message, workers.Stopped | workers.Died):  # it takes no more runs
                    self._dismiss(worker)
                    return

    def _ended(self, spec: RunSpec, how: object) -> None:
        self._news, id = True, self._id(spec)
        if isinstance(how, workers.Done):
            self._failures = 0
            self._estimated += self.estimator.seconds(spec)
            self._spent += how.seconds
            self.report.done.append(id)
            self.log(f"{id}: done in {how.seconds:.0f} s")
            self._keep(spec)
        elif isinstance(how, workers.Stopped):
            self.queue.insert(0, spec)
        elif isinstance(how, workers.Died) and self._tries.get(id, 0) + 1 < TRIES:
            self._tries[id] = self._tries.get(id, 0) + 1
            self.log(f"{id}: its process {how.how}; going on from its last checkpoint")
            self.queue.insert(0, spec)
        else:
            why = how.why if isinstance(how, workers.Failed) else f"its process {how.how}, again"
            self._fail(id, why)

    def _fail(self, id: str, why: str) -> None:
        self._give_up(id, why)
        self._failures += 1
        if self._failures >= FAILURES:
            self.report.trouble = f"{FAILURES} runs failed one after the other, the last one because: {why}"

    def _give_up(self, id: str, why: str) -> None:
        """Do without a run, and without those that read from it."""
        self.report.failed[id] = why
        self.log(f"{id} failed: {why}")
        for spec in [spec for spec in self.queue if id in map(self._id, spec.needs())]:
            self.queue.remove(spec)
            self._give_up(self._id(spec), f"needs {id}, which failed")

    def _keep(self, spec: RunSpec) -> None:
        """Put a finished run into the parcel."""
        try:
            record = self.store.find(spec)
            self.known.append(record)
            self.estimator = Estimator(self.known, self.device)
            known = self.published.get(record.id)
            if known is None or not record.same_results(known):
                self.parcel.add(
                    Item(
                        record,
                        {
                            name: (self.store.folder(record.id) / name).read_bytes()
                            for name in ARTIFACTS
                            if (self.store.folder(record.id) / name).exists()
                        },
                    )
                )
        except MlplibError as error:
            self.report.trouble = f"{error}. Finished runs are kept in {self.store.root}"

    # ------------------------------------------------------------------ bars

    def _open_bar(self, worker: Worker, total: int | None) -> None:
        self._close_bar(worker)
        if worker.spec is not None:
            stack = ExitStack()
            self.bars[worker] = stack, stack.enter_context(self.progress(total, worker.spec.slug()))

    def _close_bar(self, worker: Worker) -> None:
        if worker in self.bars:
            self.bars.pop(worker)[0].close()


def _kind(spec: RunSpec) -> Hashable:
    """What runs have to share for their steps to be alike; None for runs that are not counted in steps."""
    if not isinstance(spec, TrainSpec | FineTuneSpec):
        return None
    model = spec.model if isinstance(spec, TrainSpec) else None
    return spec.kind, model, spec.data.name, spec.data.resolution, spec.batch_size, spec.augment.any
