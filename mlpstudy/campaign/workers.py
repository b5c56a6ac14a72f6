"""The processes that do a campaign's runs, one run at a time each, and what they tell meanwhile.

A process of its own for runs means that one that is killed, for memory say, takes nothing else along, and
that several can share a device.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from mlplib.errors import Interrupted, MlplibError
from mlplib.specs import RunSpec
from mlplib.stopping import StopRequest

if TYPE_CHECKING:
    from mlplib.executor import Executor

CONTEXT = "spawn"
"""How processes start: a CUDA device does not survive a fork."""

TELL_SECONDS = 0.2
"""How often a worker tells how far it is."""

# --------------------------------------------------------------------------- what is told


@dataclass(frozen=True)
class Said:
    """A line for the reader."""

    line: str


@dataclass(frozen=True)
class Began:
    """A piece of work of ``total`` steps (None: nobody knows)."""

    total: int | None


@dataclass(frozen=True)
class Advanced:
    """``steps`` more of them are done."""

    steps: int


@dataclass(frozen=True)
class Done:
    """The run has its record."""

    seconds: float


@dataclass(frozen=True)
class Stopped:
    """The run was stopped where it can be gone on with."""


@dataclass(frozen=True)
class Failed:
    """The run cannot be done; ``why`` in one line."""

    why: str


@dataclass(frozen=True)
class Died:
    """The worker's process is gone without a word; ``how`` in a few."""

    how: str


END = (Done, Stopped, Failed, Died)
"""What a run ends with."""

# --------------------------------------------------------------------------- in the worker's process


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know.

    ``deadline``: on the clock of ``time.monotonic``; ``threads``: of the CPU, None for torch's own choice.
    """

    runs: Path
    device: str
    deadline: float
    loader: str = "auto"
    threads: int | None = None


def work(connection: Connection, settings: Settings) -> None:
    """Do the runs that come through ``connection`` until None comes, or nobody is at its other end."""
    stop = StopRequest(settings.deadline)
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(stop, "signaled", True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    with suppress(EOFError, OSError):  # the campaign is gone
        executor = _executor(settings, connection, stop)
        while (spec := connection.recv()) is not None:
            connection.send(_outcome(executor, spec))


def _outcome(executor: Executor, spec: RunSpec) -> Done | Stopped | Failed:
    begin = time.monotonic()
    try:
        if executor.stop:
            return Stopped()
        executor.record(spec)
    except Interrupted:
        return Stopped()
    except MlplibError as error:
        return Failed(str(error))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Failed(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    return Done(time.monotonic() - begin)


def _executor(settings: Settings, connection: Connection, stop: StopRequest) -> Executor:
    """It keeps data sets and features from run to run."""
    import torch

    from mlplib.executor import Executor
    from mlplib.machine import pick_device
    from mlplib.store import RunStore

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return Executor(
        RunStore(settings.runs),
        device=pick_device(settings.device),
        progress=_Teller(connection, stop),
        log=lambda line: connection.send(Said(line)),
        loader=settings.loader,
        stop=stop,
    )


class _Teller:
    """A progress factory (:mod:`mlplib.progress`) that tells the campaign. When that is gone, work stops."""

    def __init__(self, connection: Connection, stop: StopRequest):
        self.connection, self.stop = connection, stop
        self.waiting, self.last = 0, 0.0

    @contextmanager
    def __call__(self, total: int | None, label: str) -> Iterator[_Teller]:
        self._send(Began(total))
        self.waiting, self.last = 0, 0.0  # the first steps are told at once
        yield self

    def advance(self, n: int = 1) -> None:
        self.waiting += n
        if time.monotonic() - self.last >= TELL_SECONDS:
            self.last = time.monotonic()
            self._send(Advanced(self.waiting))
            self.waiting = 0

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except OSError:
            self.stop.signaled = True


# --------------------------------------------------------------------------- in the campaign's process


class Worker:
    """A worker's process and the run that it is at.

    ``spec``: that run, None when it waits for one; ``steps``: how many it has made since it began, which was
    at ``begin`` on the clock of ``time.monotonic``; ``asked``: whether it was asked to stop.
    """

    def __init__(self, settings: Settings):
        context = multiprocessing.get_context(CONTEXT)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, settings), daemon=True)
        # Ctrl-C reaches the campaign, which then asks by SIGTERM; that has to wait until it is listened for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the end of the process is the end of the pipe
        self.asked = False
        self.spec: RunSpec | None = None
        self.steps, self.begin, self._earlier = 0, 0.0, True

    def start(self, spec: RunSpec) -> None:
        """Let it do a run. Of a process that is gone, :meth:`messages` tells."""
        self.spec, self.steps, self.begin = spec, 0, time.monotonic()
        with suppress(OSError):
            self.connection.send(spec)

    def messages(self) -> Iterator[object]:
        """What it has told since it was last asked, ending with :class:`Died` if its process has."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, Began):
                    self.steps, self._earlier = 0, True
                elif isinstance(message, Advanced):
                    # First come the steps of earlier times, none for a fresh run.
                    self.steps += 0 if self._earlier else message.steps
                    self._earlier = False
                yield message
        except (EOFError, OSError):
            self.process.join()
            yield Died(_how(self.process.exitcode))

    def ask_to_stop(self) -> None:
        """Have it stop at the next safe point."""
        if not self.asked:
            self.asked = True
            self.process.terminate()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=0 if self.spec is not None else 5)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"ended with status {exitcode}"
