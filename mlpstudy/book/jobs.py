"""Stop Snakemake's jobs on SIGINT and SIGTERM; Snakemake itself would wait for them to finish.

This needs ``/proc``, which every batch system has; without it nothing is changed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path

POLL_S = 0.5

PATIENCE_S = 10.0
"""A process that was told to stop exits this long after its last job has ended."""


def forward_signals() -> None:
    """From now on, stop this process's jobs when it is sent SIGINT or SIGTERM, or its ``make`` is.

    ``make`` does not pass SIGINT on, and waits for its recipe, which is this process.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer), daemon=True).start()


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for signals; ``writer`` is passed only to keep it open."""
    parent = os.getppid()
    under_make = _name(parent) in ("make", "gmake") and _catches_interrupts(parent)
    busy = None  # when a job was last seen, after they were told to stop
    while True:
        if select.select([reader], [], [], POLL_S if under_make or busy else None)[0]:
            if {signal.SIGINT, signal.SIGTERM} & set(reader.recv(4096)):
                busy = time.monotonic()
                for job in _jobs():
                    with contextlib.suppress(OSError):
                        os.kill(job, signal.SIGTERM)  # SIGINT would be ignored in a script's background job
        elif busy and _jobs():
            busy = time.monotonic()
        elif busy and time.monotonic() - busy > PATIENCE_S:
            # Snakemake 9.27 may wait forever: its handler takes a lock that the interrupted code may hold.
            os._exit(1)
        elif under_make and not _catches_interrupts(parent):
            under_make = False
            os.kill(os.getpid(), signal.SIGTERM)  # which arrives through the socket, too


def _jobs() -> list[int]:
    """The programs that jobs run, without shells, which wait for their program, and without kernels, which
    have process groups of their own and are stopped by their program.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            state, parent, group, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(group) == os.getpgrp() and state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found = []
    for process in parents:
        ancestor = parents[process]
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and _name(process) not in ("sh", "bash", "dash"):
            found.append(process)
    return found


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
