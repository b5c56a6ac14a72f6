"""Stopping long work cleanly: a signal asks, the work stops at its next safe point."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


def without_traceback() -> None:
    """Let a Ctrl-C that nobody handles end this process by the signal, without words."""
    usual = sys.excepthook

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, trace)

    sys.excepthook = hook


class StopRequest:
    """Whether somebody asked to stop: by Ctrl-C, by SIGTERM, or because ``deadline`` has passed.

    Args:
        deadline: seconds on the clock of ``time.monotonic``, or None.
    """

    def __init__(self, deadline: float | None = None):
        self.deadline = deadline
        self.signaled = False

    def __bool__(self) -> bool:
        return self.signaled or (self.deadline is not None and time.monotonic() >= self.deadline)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Turn Ctrl-C and SIGTERM into this request while inside; a second Ctrl-C stops at once.

        Signals reach the main thread only, so elsewhere nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def ask(number, frame):
            if self.signaled and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signaled = True

        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
