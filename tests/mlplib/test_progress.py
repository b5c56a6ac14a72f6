"""Progress: bars in a terminal, lines in a log, nothing when nobody asked."""

import io
import os
import pty
import re

import pytest
import tiny_data
from rich.console import Console

from mlplib import progress

WORK = """
from mlplib import progress
progress.PLAIN_INTERVAL_S = 0
with progress.bars()(4, "counting") as bar:
    for _ in range(4):
        bar.advance(1)
"""


def test_quiet_shows_nothing(capfd):
    with progress.quiet(10, "work") as bar:
        bar.advance(3)
    assert capfd.readouterr() == ("", "")


def test_log_gets_lines():
    process = tiny_data.start_python(WORK)
    out, errors = process.communicate()
    assert process.returncode == 0 and out == ""
    shares = [re.fullmatch(r"counting: (.*), 0 s", line)[1] for line in errors.splitlines()]
    assert shares == ["25 %", "50 %", "75 %", "100 %", "done"]


def test_short_steps_print_nothing(capfd):
    with progress.plain(3, "short") as bar:
        bar.advance(3)
    assert capfd.readouterr() == ("", "")


def test_unknown_total_is_counted(capfd, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    with progress.plain(None, "open end") as bar:
        bar.advance(7)
    assert capfd.readouterr().err.startswith("open end: 7 done, ")


def test_no_done_line_after_an_error(capfd, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    with pytest.raises(ValueError), progress.plain(2, "breaks") as bar:
        bar.advance(1)
        raise ValueError
    assert capfd.readouterr().err.splitlines() == ["breaks: 50 %, 0 s"]


def test_terminal_gets_a_bar():
    """A real pseudo-terminal, as a person's."""
    ours, theirs = pty.openpty()
    process = tiny_data.start_python(WORK, stderr=theirs, TERM="xterm", COLUMNS="100")
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait() == 0
    assert b"counting" in shown and b"100%" in shown and b"\x1b[" in shown


def test_open_bars_share_one_display():
    out = io.StringIO()
    bars = progress._RichBars(Console(file=out, force_terminal=True, width=100))
    with bars(2, "outer") as outer:
        with bars(None, "inner") as inner:
            inner.advance(5)
        outer.advance(2)
    with bars(1, "later") as later:
        later.advance(1)
    text = out.getvalue()
    assert all(label in text for label in ("outer", "inner", "later"))
    assert bars.open == 0
