"""Stopping the jobs of Snakemake, which itself waits for running jobs when it is sent SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from pathlib import Path

import psutil  # comes with Snakemake

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
    make = psutil.Process().parent()
    under_make = make is not None and make.name() in ("make", "gmake") and _catches_interrupts(make.pid)
    while True:
        if select.select([reader], [], [], POLL_S if under_make else None)[0]:
            if {signal.SIGINT, signal.SIGTERM} & set(reader.recv(4096)):
                _interrupt_jobs()
        elif under_make and not (os.getppid() == make.pid and _catches_interrupts(make.pid)):
            under_make = False
            os.kill(os.getpid(), signal.SIGTERM)  # which comes back through the socket


def _interrupt_jobs() -> None:
    """Send SIGINT to all descendants but kernels, which are in process groups of their own."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == os.getpgrp():
                process.send_signal(signal.SIGINT)


def _catches_interrupts(process: int) -> bool:
    """Whether a process has a handler for SIGINT. ``make`` has, until a first SIGINT arrives."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # gone, or not Linux
        return False
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)
