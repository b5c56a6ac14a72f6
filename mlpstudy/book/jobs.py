"""Stopping the jobs of Snakemake, which itself waits for running jobs when it is sent SIGINT or SIGTERM.

Works where there is a ``/proc``, as on every batch system; elsewhere nothing is changed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from pathlib import Path

POLL_S = 0.5


def forward_signals() -> None:
    """From now on, interrupt this process's jobs when it is sent SIGINT or SIGTERM, or its ``make`` is.

    ``make`` keeps SIGINT to itself and then waits for its recipe, which is this process.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer), daemon=True).start()


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for signals; ``writer`` is only here to stay open."""
    parent = os.getppid()
    under_make = _name(parent) in ("make", "gmake") and _catches_interrupts(parent)
    while True:
        if select.select([reader], [], [], POLL_S if under_make else None)[0]:
            if {signal.SIGINT, signal.SIGTERM} & set(reader.recv(4096)):
                _interrupt_jobs()
        elif under_make and not _catches_interrupts(parent):
            under_make = False
            os.kill(os.getpid(), signal.SIGTERM)  # which comes back through the socket


def _interrupt_jobs() -> None:
    """Send SIGTERM to the programs that jobs run. SIGINT would be ignored in a script's background job.

    Shells are left to wait for their program, and kernels, in process groups of their own, to theirs.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            _, parent, group, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(group) == os.getpgrp():
                parents[int(path.parent.name)] = int(parent)
    for process in parents:
        ancestor = parents[process]
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and _name(process) not in ("sh", "bash", "dash"):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGTERM)


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _catches_interrupts(process: int) -> bool:
    """Whether a process has a handler for SIGINT. ``make`` has, until a first SIGINT arrives."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return False
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
