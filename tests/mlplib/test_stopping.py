"""Requests to stop: by signal, by deadline, and only as long as somebody listens."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mlplib.stopping import StopRequest, signal_name

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python runs the handler before the next line


def test_nobody_asked():
    assert not StopRequest() and not StopRequest(deadline=time.monotonic() + 100)


def test_a_deadline_that_passed_is_a_request():
    stop = StopRequest(deadline=time.monotonic() + 0.05)
    assert not stop
    time.sleep(0.06)
    assert stop and not stop.signaled


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_and_interrupts_nothing(number):
    stop = StopRequest()
    with stop.listening() as listened:
        assert listened is stop
        send(number)
        assert stop and stop.signaled
    assert stop, "the request stays"


def test_a_second_ctrl_c_stops_at_once():
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt), stop.listening():
        send(signal.SIGINT)
        send(signal.SIGINT)
        pytest.fail("went on")


def test_a_second_sigterm_only_asks_again():
    stop = StopRequest()
    with stop.listening():
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert stop


@pytest.mark.parametrize("fails", [False, True])
def test_earlier_handlers_come_back(fails):
    seen = []
    before = {number: signal.signal(number, lambda n, frame: seen.append(n)) for number in SIGNALS}
    mine = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(KeyError) if fails else StopRequest().listening():
            with StopRequest().listening():
                assert all(signal.getsignal(n) is not mine[n] for n in SIGNALS)
                if fails:
                    raise KeyError
        assert {number: signal.getsignal(number) for number in SIGNALS} == mine
        send(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_other_threads_leave_signals_alone():
    seen = []

    def listen():
        stop = StopRequest()
        with stop.listening() as listened:
            seen.append((listened is stop, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [(True, before)]


INTERRUPTED = """
import runpy, sys

class CtrlC:
    def find_spec(self, name, *rest):
        if name == importing:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
module, importing = sys.argv.pop(1), sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module as a program that gets Ctrl-C while it imports another one."""


@pytest.mark.parametrize(
    ("module", "importing"), [("mlplib.run", "torch"), ("mlpstudy.book.pdf", "pypdf")], ids=str
)
def test_ctrl_c_in_the_first_seconds_shows_no_traceback(module, importing, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, module, importing, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", -signal.SIGINT)


def test_signals_without_a_name_are_told_by_their_number():
    names = [signal_name(number) for number in (signal.SIGKILL, signal.SIGRTMIN, signal.SIGRTMIN + 1)]
    assert names == ["SIGKILL", "SIGRTMIN", f"signal {signal.SIGRTMIN + 1}"]
