"""Several users share a folder of runs. Collected only for root, who can act as other users (conftest.py)."""

import multiprocessing
import os
import traceback

import pytest
import torch
from small_runs import record, small

from mlplib.errors import MlplibError
from mlplib.store import RunStore
from mlpstudy.planning import Planner

CLASS = 65_530
"""The id of a group that nothing else uses."""

CPU = torch.device("cpu")


def as_user(uid: int, umask: int, action, *args):
    """What ``action`` returns, or the line of its error, in a process of this user and the group CLASS."""

    def work(pipe):
        os.setgroups([])
        os.setgid(CLASS)
        os.setuid(uid)
        os.umask(umask)
        try:
            pipe.send(action(*args))
        except MlplibError as error:
            pipe.send(f"MlplibError: {error}")
        except BaseException:
            pipe.send(traceback.format_exc())

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there,))
    process.start()
    found = here.recv() if here.poll(60) else "no answer"
    process.join()
    return found


@pytest.fixture
def shared(tmp_path):
    """A folder made by `install -d -m 2775 -g class`, as the page on teaching says."""
    root = tmp_path / "shared"
    root.mkdir()
    os.chown(root, 0, CLASS)
    os.chmod(root, 0o2775)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own folders are for root only
        if folder.stat().st_mode & 0o001 == 0:
            os.chmod(folder, folder.stat().st_mode | 0o011)
    return root / "runs"


def finish(root, seed=0):
    RunStore(root).write(record(small(seed=seed)))


def lose(root):
    """Begin a run and leave it, as a process that dies does."""
    with RunStore(root).claim(small()) as folder:
        (folder / "checkpoint.pt").write_bytes(b"half")


def take_over(root):
    with RunStore(root).claim(small()) as folder:
        return (folder / "checkpoint.pt").exists(), RunStore(root).write(record(small()))


def missing(root):
    return len(Planner(RunStore(root), CPU).missing([small()]))


def test_with_the_umask_of_the_manual_users_share_runs(shared):
    assert as_user(1001, 0o002, finish, shared, 1) is None
    assert as_user(1001, 0o002, lose, shared) is None
    assert as_user(1002, 0o002, missing, shared) == 1
    assert as_user(1002, 0o002, take_over, shared) == (True, None)
    assert as_user(1001, 0o002, missing, shared) == 0


@pytest.mark.parametrize("mode", [0o2755, 0o2700], ids=["its runs are closed", "it is closed"])
@pytest.mark.parametrize("action", [missing, take_over])
def test_runs_that_others_may_not_read_are_one_line_that_says_what_to_set(action, mode, shared):
    assert as_user(1001, 0o077, finish, shared) is None
    os.chmod(shared, mode)
    said = as_user(1002, 0o077, action, shared)
    assert said.startswith("MlplibError: ") and "\n" not in said
    assert "umask 002" in said or "MLPLIB_RUNS" in said


def test_a_lost_run_that_others_may_not_write_to_is_one_line(shared):
    assert as_user(1001, 0o022, lose, shared) is None
    said = as_user(1002, 0o022, take_over, shared)
    assert said.startswith("MlplibError: ") and "\n" not in said and "umask 002" in said
