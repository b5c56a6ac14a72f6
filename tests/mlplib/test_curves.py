"""TensorBoard's curves of a run: every epoch once, however many processes did it and were killed."""

import os
import signal
import sys
import time

import pytest
from event_files import curves, recorded
from shared_runs import finish, start, written
from small_runs import small

from mlplib import run
from mlplib.store import RESULTS, RunStore, run_id
from mlplib.training import CHECKPOINT

needs_tensorboard = pytest.mark.usefixtures("tensorboard")


@pytest.fixture
def tensorboard():
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed (pip install tensorboard)")


@needs_tensorboard
def test_a_run_of_two_processes_that_one_resumes_has_one_curve(tmp_path):
    """Two processes write curves and are killed; so is one that writes none; one more writes the whole."""
    spec = small(epochs=40, evaluate_at=(1, 20))
    option = ("--tensorboard", str(tmp_path / "curves"))
    checkpoint = RunStore(tmp_path).folder(spec) / CHECKPOINT
    for count, options in ((2, option), (1, ())):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        processes = start(tmp_path, spec, count, "--checkpoint-every", "0.02", *options)
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.001)
        os.kill(processes[0].pid, signal.SIGKILL)
        finish(processes)
    assert run.main([*written(tmp_path, spec), *option]) == 0
    assert len(list(tmp_path.glob("curves/*/*"))) == 2, "a file of every process that wrote"
    found = RunStore(tmp_path).find(spec)
    assert curves(tmp_path / "curves" / run_id(spec)) == recorded(found)


@needs_tensorboard
@pytest.mark.usefixtures("one_thread")
def test_curves_change_neither_ids_nor_results(tmp_path):
    spec = small(evaluate_at=(1,))
    for name, options in (("with", ("--tensorboard", str(tmp_path / "curves"))), ("without", ())):
        assert run.main([*written(tmp_path / name, spec), *options]) == 0
    ours, theirs = (RunStore(tmp_path / name).find(spec) for name in ("with", "without"))
    assert all(getattr(ours, part) == getattr(theirs, part) for part in ("id", "spec", *RESULTS))


def test_without_tensorboard_one_line_says_so_before_the_training(tmp_path, monkeypatch, capsys):
    command = [*written(tmp_path, small()), "--tensorboard"]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert run.main([*command, str(tmp_path / "curves")]) == 2
    line = capsys.readouterr().err
    assert "TensorBoard cannot be imported" in line and line.endswith("pip install tensorboard\n")
    assert line.count("\n") == 1 and {path.name for path in tmp_path.iterdir()} == {"spec.json"}


@needs_tensorboard
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    command = written(tmp_path, small())
    assert run.main([*command, "--tensorboard", command[0]]) == 2
    line = capsys.readouterr().err
    assert "cannot write" in line and command[0] in line and line.count("\n") == 1
    assert RunStore(tmp_path).find(small()) is None
