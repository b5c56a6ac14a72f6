"""Stopping long work cleanly: after a signal, the work stops at its next safe point."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress


def without_traceback() -> None:
    """Let an unhandled Ctrl-C end this process by the signal, without a traceback."""
    usual = sys.excepthook

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, trace)

    sys.excepthook = hook


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGKILL; most real-time signals only have a number."""
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


@contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle these signals with ``handler`` inside the context.

    Signals reach only the main thread, so in other threads this changes nothing.
    """
    here = threading.current_thread() is threading.main_thread()
    previous = {number: signal.signal(number, handler) for number in numbers if here}
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)


class StopRequest:
    """Whether to stop: after Ctrl-C, after SIGTERM, or once ``deadline`` has passed.

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
        """Turn Ctrl-C and SIGTERM into this request inside the context; a second Ctrl-C stops at once."""

        def ask(number, frame):
            if self.signaled and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signaled = True

        with handling((signal.SIGINT, signal.SIGTERM), ask):
            yield self
