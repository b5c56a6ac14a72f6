"""What all tests share: no test touches the reader's own runs, and where CI asks for it a skip is a failure.

A test skips, by name, where something is not installed that the study works without (Chromium, FFCV). With
``CI=true`` or ``MLPLIB_NO_SKIPS=1`` everything is expected to be there, so every skip fails. A GPU is not
expected anywhere: without one test_cuda.py is not collected at all. test_users.py
acts as other users, so it is collected for root only.

``make test`` runs three processes (pytest-xdist), a file in one of them, and then the tests marked ``alone``.
Three keep two cores busy, since many tests wait for processes that they have started.
"""

import os
import signal

# A background job ignores Ctrl-C, and so would the processes that the tests of Ctrl-C start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores; torch reads this when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

from mlplib.errors import MlplibError

STRICT = os.environ.get("MLPLIB_NO_SKIPS", "") not in ("", "0") or os.environ.get("CI", "").lower() == "true"

collect_ignore = [] if torch.cuda.is_available() else ["mlplib/test_cuda.py"]
collect_ignore += [] if os.geteuid() == 0 else ["mlplib/test_users.py"]

hypothesis.settings.register_profile("study", deadline=None, derandomize=STRICT)
hypothesis.settings.load_profile("study")


def pytest_configure(config):
    if STRICT:
        # A module that is skipped as a whole becomes a collection error; the other tests run all the same.
        config.option.continue_on_collection_errors = True


def _fail_if_skipped(report):
    expected_failure = hasattr(report, "wasxfail")
    if STRICT and report.outcome == "skipped" and not expected_failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = (
            f"{reason.removeprefix('Skipped: ')} (a skip counts as a failure here: see tests/conftest.py)"
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _fail_if_skipped((yield))


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts():
    """Waiting for the disk after every file takes up to a fifth of a second, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Runs and the cache of the tests are folders of their own, for this process and the ones it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("MLPLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def errors_are_one_line():
    """Whatever test meets one of the library's errors: its message has no line break."""

    def init(error, message=""):
        assert "\n" not in message, message
        Exception.__init__(error, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlplibError, "__init__", init)
        yield


@pytest.fixture(scope="module")
def one_thread():
    """Small models are faster on one thread, and sums have the same order as in worker processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few_draws(monkeypatch):
    """Bootstraps of a tenth of the size, for tests of what is made of them."""
    from mlpstudy.laws import scaling

    monkeypatch.setattr(scaling, "DRAWS", 40)
