"""Progress of long steps: Rich bars in a terminal or notebook, plain lines in a log, or nothing.

The protocol is one call: ``progress(total, label)`` returns a context manager whose value has
``advance(n)``. ``total`` is a number of steps of any unit (images, bytes, batches), ``None`` if it is not
known. Library functions take such a factory as ``progress``.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Protocol

import rich.progress
from rich.console import Console

PLAIN_INTERVAL_S = 5.0
"""Seconds between two plain lines; a step shorter than this prints nothing."""


class Bar(Protocol):
    """What a progress factory's context manager yields."""

    def advance(self, n: int) -> None:
        """Count ``n`` more steps as done."""


Progress = Callable[[int | None, str], AbstractContextManager[Bar]]
"""``progress(total, label)``: see the module's docstring."""


@contextmanager
def quiet(total: int | None, label: str) -> Iterator[Bar]:
    """The progress factory that shows nothing."""
    yield SimpleNamespace(advance=lambda n: None)


def bars() -> Progress:
    """The factory for interactive use: Rich bars in a terminal or notebook, else plain lines on stderr."""
    console = Console(stderr=True)
    return _RichBars(console) if console.is_terminal or console.is_jupyter else plain


class Lines:
    """A bar that calls ``show`` with the share done and the seconds since its start, at intervals."""

    def __init__(self, total: int | None, interval: float, show: Callable[[str, float], None]):
        self.total, self.interval, self.show, self.done = total, interval, show, 0
        self.start = self.last = time.monotonic()

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last >= self.interval:
            self.last = now
            share = f"{100 * self.done / self.total:.0f} %" if self.total else f"{self.done} done"
            self.show(share, now - self.start)


@contextmanager
def plain(total: int | None, label: str) -> Iterator[Bar]:
    """A line on stderr every :data:`PLAIN_INTERVAL_S` seconds, and at the end of a step that printed any."""
    printed = False

    def show(what: str, seconds: float) -> None:
        nonlocal printed
        printed = True
        print(f"{label}: {what}, {seconds:.0f} s", file=sys.stderr, flush=True)

    lines = Lines(total, PLAIN_INTERVAL_S, show)
    yield lines
    if printed:
        show("done", time.monotonic() - lines.start)


COLUMNS = (
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.TaskProgressColumn(text_format_no_percentage=""),
    rich.progress.TimeElapsedColumn(),
    rich.progress.TimeRemainingColumn(),
)


class _RichBars:
    """A live display that all open bars share, because Rich may refuse to nest two displays."""

    def __init__(self, console):
        self.console, self.display, self.open = console, None, 0
        self.lock = threading.Lock()

    @contextmanager
    def __call__(self, total: int | None, label: str) -> Iterator[Bar]:
        with self.lock:
            if self.open == 0:
                # A finished bar would stay in a notebook's saved output; in a terminal it is a useful trace.
                transient = self.console.is_jupyter
                self.display = rich.progress.Progress(*COLUMNS, console=self.console, transient=transient)
                self.display.start()
            self.open += 1
            display = self.display
        task = display.add_task(label, total=total)
        try:
            yield SimpleNamespace(advance=lambda n: display.advance(task, n))
        finally:
            with self.lock:
                display.stop_task(task)
                self.open -= 1
                if self.open == 0:
                    display.stop()
