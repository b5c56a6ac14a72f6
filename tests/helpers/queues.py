"""Run queues small enough for a test: experiments made by hand, and processes to kill."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from small_runs import small
from small_runs import workers as fork_server

from mlplib.specs import DataSpec, FilterSpec, ProbeSpec
from mlplib.store import RunStore
from mlpstudy import queue, workers
from mlpstudy.planning import Estimator
from mlpstudy.profiles import profile

SMOKE = profile("smoke")

RUNS, JOBS, KILLS = map(int, os.environ.get("MLPLIB_STORM", "10,4,6").split(","))
"""How many runs, workers and SIGKILLs a storm has."""


def experiment(runs) -> SimpleNamespace:
    """An experiment of which only the runs matter; ``runs``: from a seed to its specs."""
    return SimpleNamespace(
        runs=lambda profile, seeds: [spec for seed in seeds for spec in runs(seed)], CLAIMS=[None]
    )


def start_quickly() -> None:
    """Start workers from a server that has everything imported."""
    fork_server()
    workers.START_METHOD = "forkserver"


def run_queue(folder: Path, names, seeds=(0,), **how) -> queue.RunQueue:
    """A queue whose store is below ``folder``, of one worker."""
    how = {"log": lambda line: None, "jobs": 1} | how
    cpu = torch.device("cpu")
    return queue.RunQueue(list(names), SMOKE, seeds, RunStore(folder / "runs"), cpu, **how)


def results(folder: Path) -> dict[str, dict]:
    """What must not depend on how often work was stopped: the records by id, without what describes one
    execution.
    """
    names = ("status", "data", "metrics", "history")
    records = [record.to_json() for record in RunStore(folder / "runs").records()]
    return {values["id"]: {name: values[name] for name in names} for values in records}


def looks(seed: int) -> list:
    """A training of a moment, and two runs that read from it."""
    trained = small(seed=seed)
    return [trained, FilterSpec(trained), ProbeSpec(DataSpec("shapes-16"), trained, epochs=2)]


def several(seed: int) -> list:
    """:data:`RUNS` runs: trainings, ten of which take two seconds together, and looks at their filters."""
    places = range(RUNS // 2)
    runs = [small(epochs=10 + 4 * (i % 5), batch_size=32, seed=seed + 1000 * (i // 5)) for i in places]
    return [*runs, *(FilterSpec(run) for run in runs)]


class Killer:
    """Kills workers in the middle of a run, after random pauses: ``times`` in all.

    ``work``: the queue that has the workers; it may be replaced.
    """

    def __init__(self, work: queue.RunQueue, times: int, seed: int = 0):
        self.work, self.times, self.killed = work, times, set()
        self.draw = random.Random(seed)
        self.thread = threading.Thread(target=self._kill, daemon=True)
        self.thread.start()

    def _kill(self) -> None:
        while len(self.killed) < self.times:
            time.sleep(self.draw.uniform(0.02, 0.3))
            busy = [worker for worker in list(self.work.crew) if worker.spec is not None]
            pids = [worker.process.pid for worker in busy if worker.process.pid not in self.killed]
            if pids:
                pid = self.draw.choice(pids)
                os.kill(pid, signal.SIGKILL)
                self.killed.add(pid)


def storm(folder: Path, seed: int) -> tuple[int, list[str]]:
    """Do the runs of an experiment by :data:`JOBS` workers while random ones are killed, until all are done;
    gives the number of kills and the finished runs.
    """
    done, killer = [], None
    for _ in range(KILLS // queue.TRIES + 1):  # only so many runs can be left out
        work = run_queue(folder, ["several"], jobs=JOBS, options={"checkpoint_every": 0.05})
        killer = killer or Killer(work, KILLS, seed)
        killer.work = work
        report = work.run()
        done += report.done
        # A run may have lost two workers, and is left out then. Nothing else may fail.
        assert all("SIGKILL, again" in why or "needs" in why for why in report.failed.values()), report.failed
        if not report.left:
            killer.times = 0
            return len(killer.killed), done
    raise AssertionError(f"not finished: {report}")


def command(folder: Path, jobs: int = 1) -> None:
    """The runs of :func:`several`, done by a main process of its own; ``folder/<process id>.json`` gets its
    report.
    """
    queue.experiment = {"several": experiment(several)}.__getitem__
    Estimator.seconds = lambda self, spec: 0.5
    start_quickly()
    report = run_queue(folder, ["several"], jobs=jobs, options={"checkpoint_every": 0.05}).run()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{os.getpid()}.json").write_text(json.dumps(dataclasses.asdict(report)), encoding="utf-8")


def start_command(folder: Path, **how):
    """:func:`command` in a process that has started."""
    process = fork_server().Process(target=command, args=(folder,), kwargs=how)
    process.start()
    return process


def finished(folder: Path, process) -> dict:
    """The report of a command's process, once it has ended."""
    process.join(300 + 5 * RUNS)
    return json.loads((folder / f"{process.pid}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":  # on a disk that is full: no file may be longer than some bytes
    # Python may write only a part of a compiled module without noticing, and fail to import it later.
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    command(Path(sys.argv[1]))
