"""Worker processes: each does one run at a time and reports its progress through a pipe.

A worker that is killed, by the out-of-memory killer for example, takes no other run with it. The run's lock
dies with the process, and another worker continues from the run's last checkpoint.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from mlplib.errors import Interrupted, MlplibError
from mlplib.executor import Executor
from mlplib.machine import pick_device
from mlplib.specs import RunSpec, TimingSpec
from mlplib.stopping import StopRequest, signal_name
from mlplib.store import RunClaimed, RunStore

START_METHOD = "spawn"
"""Start method of worker processes: CUDA cannot be used after a fork."""

REPORT_SECONDS = 0.2
"""Time between two progress reports of a worker."""


class Message(NamedTuple):
    """What a worker reports, and what a run ends with.

    During it: ``line``, text for the user; ``began``, a piece of work of ``value`` steps (None if unknown);
    ``advanced``, ``value`` more steps of it are done. At the end: ``done`` after ``value`` seconds;
    ``stopped`` on request; ``claimed`` by another process; ``failed`` for the reason ``value``, one line;
    ``broke``: the same for an unexpected reason, and the process ends, since a CUDA device does not recover
    from some errors; ``died``: the process ended, ``value`` completes "its process ...".
    """

    kind: str
    value: object = None


OUTCOMES = ("done", "stopped", "claimed", "failed", "broke", "died")
"""The kinds of messages that end a run."""

# --------------------------------------------------------------------------- in the worker's process


@dataclass(frozen=True)
class Settings:
    """What a worker needs to do runs.

    ``runs``: the folder of the store; ``deadline``: when to stop, on the clock of ``time.monotonic``;
    ``threads``: CPU threads, None for torch's default; ``options``: further arguments of
    :class:`~mlplib.executor.Executor`.
    """

    runs: Path
    device: str
    deadline: float | None = None
    threads: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)


def work(connection: Connection, settings: Settings) -> None:
    """Do the runs that arrive through ``connection`` until its other end is closed."""
    stop = StopRequest(settings.deadline)
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(stop, "signaled", True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    whole = torch.get_num_threads()
    with suppress(EOFError, OSError):  # the main process is gone
        executor = Executor(
            RunStore(settings.runs, wait=False),
            device=pick_device(settings.device),
            progress=_Reporter(connection, stop),
            log=lambda text: connection.send(Message("line", text)),
            stop=stop,
            **settings.options,
        )
        while True:
            spec = connection.recv()
            # A timing has the machine to itself, so it uses all threads.
            torch.set_num_threads(whole if isinstance(spec, TimingSpec) else settings.threads or whole)
            outcome = _outcome(executor, spec)
            connection.send(outcome)
            if outcome.kind == "broke":
                return


def _outcome(executor: Executor, spec: RunSpec) -> Message:
    begin = time.monotonic()
    try:
        if executor.how.stop:
            return Message("stopped")
        record = executor.record(spec)
    except Interrupted:
        return Message("stopped")
    except RunClaimed:
        return Message("claimed")
    except MlplibError as error:
        return Message("failed", str(error))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Message("broke", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    if record.id not in executor.store.written:  # another process was quicker
        return Message("claimed")
    return Message("done", time.monotonic() - begin)


class _Reporter:
    """A progress factory (:mod:`mlplib.progress`) that reports to the main process, and stops the work once
    that is gone.
    """

    def __init__(self, connection: Connection, stop: StopRequest):
        self.connection, self.stop = connection, stop

    @contextmanager
    def __call__(self, total: int | None, label: str) -> Iterator[_Reporter]:
        self._send(Message("began", total))
        self.waiting, self.last = 0, 0.0
        yield self

    def advance(self, n: int) -> None:
        self.waiting += n
        if time.monotonic() - self.last >= REPORT_SECONDS:
            self.last = time.monotonic()
            self._send(Message("advanced", self.waiting))
            self.waiting = 0

    def _send(self, message: Message) -> None:
        try:
            self.connection.send(message)
        except OSError:
            self.stop.signaled = True


# --------------------------------------------------------------------------- in the main process


class Worker:
    """A worker process and the run that it does: ``spec``, None while it waits for one."""

    def __init__(self, settings: Settings):
        context = multiprocessing.get_context(START_METHOD)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, settings), daemon=True)
        # Ctrl-C reaches every process of a terminal, but only the main process may act on it: it asks the
        # workers by SIGTERM. Both signals are blocked until the worker handles SIGTERM.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the pipe ends with the process
        self.spec: RunSpec | None = None
        self.asked_to_stop = False

    def start(self, spec: RunSpec) -> None:
        """Start a run. If the process is gone, :meth:`messages` says so."""
        self.spec = spec
        with suppress(OSError):
            self.connection.send(spec)

    def messages(self) -> Iterator[Message]:
        """The messages since the last call; the last one is ``died`` if the process has ended."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            yield Message("died", _exit_reason(self.process.exitcode))

    def ask_to_stop(self) -> None:
        """Ask the process to stop at its next safe point."""
        if not self.asked_to_stop:
            self.asked_to_stop = True
            self.process.terminate()

    def close(self) -> None:
        """Kill the process; a run that is still going ends with its last checkpoint."""
        # An idle one has nothing to lose and would take a second to leave by itself
        # (findings/torch-leaves-as-slowly-as-it-comes.sh).
        self.process.kill()
        self.process.join()
        self.connection.close()


def _exit_reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was killed by {signal_name(-exitcode)}"
    return f"ended with status {exitcode}"
