"""``mlplib status``: every state that a run can be in, seen from another process."""

import dataclasses
import json
import os
import signal

import pytest
from small_runs import leave, record, start, workers
from typer.testing import CliRunner

from mlplib.errors import Interrupted
from mlplib.files import is_locked
from mlplib.specs import TrainSpec
from mlplib.store import ATTEMPT, RunStore, run_id
from mlplib.training import CHECKPOINT, epochs_done
from mlpstudy import cli
from mlpstudy.cli import status as module
from mlpstudy.experiments import experiment
from mlpstudy.profiles import profile

NAME = "label-smoothing"
RUNS = [s for s in experiment(NAME).runs(profile("smoke"), (0,)) if isinstance(s, TrainSpec)]


def status(store: RunStore, *options: str) -> str:
    words = ["status", NAME, "-P", "smoke", "--seeds", "0", "--runs", str(store.root), *options]
    done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def as_json(store: RunStore) -> dict:
    return json.loads(status(store, "--json"))


def test_an_empty_store_has_everything_left(tmp_path):
    found = as_json(RunStore(tmp_path))
    assert (found["done"], found["left"]) == (0, found["runs"]) and found["estimated_seconds"] > 0
    assert not any(found[state] for state in module.STATES)
    assert f"0 of {found['runs']} runs done" in status(RunStore(tmp_path))


def test_a_run_is_running_where_it_is_and_died_once_it_is_killed(tmp_path, monkeypatch):
    """The run is long enough to be looked at; the experiment has no other."""
    long = dataclasses.replace(RUNS[0], epochs=3000, evaluate_at=())
    monkeypatch.setattr(
        "mlpstudy.cli.options.experiment", lambda name: type("", (), {"runs": lambda *_: [long]})
    )
    store, under_way = RunStore(tmp_path), workers().Event()
    process = start(long, tmp_path, checkpoint_every=0.0, under_way=under_way, batches=40)
    assert under_way.wait(60)
    (run,) = as_json(store)["running"]
    assert run["id"] == run_id(long) and run["epochs"] == 3000 and run["epochs_done"] >= 1
    assert f"process {process.pid}" in run["where"]
    process.kill()
    process.join()
    found = as_json(store)
    assert not found["running"] and f"process {process.pid}" in found["died"][0]["where"]
    assert f"died {run_id(long)}" in status(store)


def test_failed_runs_say_why_and_stopped_ones_how_far_they_are(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(ValueError), store.claim(RUNS[0]):
        raise ValueError("not like\nthis")
    with pytest.raises(Interrupted), store.claim(RUNS[1]) as folder:
        import torch

        torch.save({"epoch": 2}, folder / CHECKPOINT)
        raise Interrupted("stopped")
    leave(store, [record(RUNS[2])])
    found = as_json(store)
    assert found["failed"][0]["why"] == "not like this" and found["failed"][0]["id"] == run_id(RUNS[0])
    assert found["stopped"] == [{"id": run_id(RUNS[1]), "epochs_done": 2, "epochs": RUNS[1].epochs}]
    assert found["done"] == 1 and not found["running"] and not found["died"]
    text = status(store)
    assert "1 failed, 1 stopped" in text and "not like this" in text and "2 of " in text
    with store.claim(RUNS[0]):  # a new attempt forgets why the last one failed
        assert as_json(store)["running"] and not as_json(store)["failed"]
    assert store.attempt(RUNS[0]) is None


def test_watching_ends_when_nothing_is_left(tmp_path, monkeypatch):
    store, looks = RunStore(tmp_path), []

    def finish(seconds):
        looks.append(seconds)
        leave(store, map(record, experiment(NAME).runs(profile("smoke"), (0,))))

    monkeypatch.setattr(module.time, "sleep", finish)
    lines = status(store, "--watch", "--json").splitlines()
    assert [json.loads(line)["left"] > 0 for line in lines] == [True, False]
    assert looks == [module.REFRESH_SECONDS]


def test_watching_is_stopped_by_ctrl_c_and_says_no_more(tmp_path, monkeypatch, capsys):
    """It does no runs, so there is none to go on with."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as exit:
        cli.main(["status", NAME, "-P", "smoke", "--runs", str(tmp_path), "--watch"])
    assert exit.value.code == 130 and capsys.readouterr().err == "mlplib: stopped; start it again to go on\n"


def test_what_is_no_checkpoint_has_no_epochs(tmp_path):
    (tmp_path / CHECKPOINT).write_text("none")
    assert epochs_done(tmp_path / CHECKPOINT) is None and epochs_done(tmp_path / "nothing") is None
    assert not is_locked(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["null", "[]", "5", '{"where": "x"}', '{"where": "x", "since": "y"}', "{"])
def test_a_note_of_an_attempt_that_says_nothing_is_none(tmp_path, text):
    store = RunStore(tmp_path)
    store.folder(RUNS[0]).mkdir(parents=True)
    (store.folder(RUNS[0]) / ATTEMPT).write_text(text)
    assert store.attempt(RUNS[0]) is None and "died" not in status(store)
