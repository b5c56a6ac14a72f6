"""Repeated runs: what is drawn, what is written down, and what the methods page says of it."""

import dataclasses
import json
import shutil
from unittest.mock import Mock

import pytest
from small_runs import ROOT
from typer.testing import CliRunner

from mlplib.errors import MlplibError
from mlplib.specs import TrainSpec
from mlplib.store import Record
from mlpstudy import cli
from mlpstudy.evidence import rerun
from mlpstudy.evidence.check import check
from mlpstudy.evidence.records import to_line


def test_trainings_of_minutes_are_drawn_the_same_for_the_same_seed():
    drawn = rerun.sample("laptop", 5, seed=1, folder=ROOT / "results")
    assert drawn == rerun.sample("laptop", 5, seed=1, folder=ROOT / "results")
    assert len({record.id for record in drawn}) == 5
    assert all(isinstance(r.spec, TrainSpec) and r.compute["training_flops"] < 2e15 for r in drawn)


def test_a_record_that_says_little_of_its_execution_can_be_repeated(tmp_path):
    """As other versions leave them: what is not in the schema may be missing."""
    (one,) = rerun.sample("laptop", 1, seed=1, folder=ROOT / "results")
    bare = dataclasses.replace(
        one, compute={}, environment={"device": "a CPU"}, metrics={"test_top1": 0.5, "train_top1": 0.5}
    )
    assert Record.from_json(bare.to_json()) == bare
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / "runs.jsonl").write_bytes(to_line(bare))
    assert rerun.sample("laptop", 1, seed=0, folder=tmp_path) == [bare]
    (row,) = rerun.rerun([bare], lambda record: record, tmp_path)
    assert row["first"] == "a CPU, torch unknown, unknown" and not row["same_weights"]


def test_too_few_trainings_are_one_line():
    done = CliRunner().invoke(cli.app, ["results", "rerun", "--sample", "99999"])
    assert done.exit_code != 0
    assert "published training runs to repeat, not 99999: choose a smaller --sample" in str(done.exception)


def test_every_repetition_is_written_down_once_and_told_in_points(tmp_path):
    drawn = rerun.sample("laptop", 3, seed=0, folder=ROOT / "results")

    def again(points, weights="same"):
        def repeat(record):
            changed = {"test_top1": record.metrics["test_top1"] + points / 100}
            changed |= {} if weights == "same" else {"weights_sha256": "0" * 64}
            return dataclasses.replace(
                record,
                metrics=record.metrics | changed,
                environment=record.environment | {"device": "another CPU"},
            )

        return repeat

    rerun.rerun(drawn, again(1.0, "others"), tmp_path)
    assert len(rerun.rerun(drawn[:1], again(0.0), tmp_path)) == 1
    assert len((tmp_path / rerun.FILE).read_text().splitlines()) == 3, (
        "the first run's new result replaces the old"
    )
    table = rerun.markdown(rerun.read(tmp_path)).splitlines()
    assert len(table) == 2 + len({rerun.machine(record) for record in drawn})
    assert sum(int(line.split(" | ")[2]) for line in table[2:]) == 3
    assert sum(int(line.split(" | ")[3]) for line in table[2:]) == 1, "one had the same weights"
    assert all("another CPU" in line for line in table[2:])
    assert json.loads((tmp_path / rerun.FILE).read_text().splitlines()[0]).keys() >= {"published", "again"}


@pytest.mark.parametrize("diverged", [1, 3])
def test_repetitions_that_diverged_are_counted_and_leave_a_file_that_can_be_read(tmp_path, diverged):
    drawn = rerun.sample("laptop", 40, seed=0, folder=ROOT / "results")
    drawn = [record for record in drawn if rerun.machine(record) == rerun.machine(drawn[0])][:3]
    lost = {record.id for record in drawn[:diverged]}

    def repeat(record):
        return dataclasses.replace(record, metrics={}) if record.id in lost else record

    rerun.rerun(drawn, repeat, tmp_path)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in open(tmp_path / rerun.FILE)]
    assert {row["id"] for row in rows if row["again"] is None} == lost
    *_, line = rerun.markdown(rerun.read(tmp_path)).splitlines()
    means = "+0.00 ± 0.00 | 0.00 | 0.00" if diverged == 1 else "– | – | –"
    assert f"3, {diverged} diverged | {3 - diverged} | {means} |" in line


def test_two_commands_at_once_lose_no_repetition(tmp_path):
    drawn = rerun.sample("laptop", 4, seed=0, folder=ROOT / "results")
    others = iter([drawn[2:]])

    def repeat(record):  # during the first one, another process does two
        rerun.rerun(next(others, []), lambda record: record, tmp_path)
        return record

    rerun.rerun(drawn[:2], repeat, tmp_path)
    assert {row["id"] for row in rerun.read(tmp_path)} == {record.id for record in drawn}


def test_without_repetitions_the_table_is_empty(tmp_path):
    assert rerun.read(tmp_path) == [] and len(rerun.markdown([]).splitlines()) == 2


@pytest.mark.parametrize(
    "line",
    [b"{bad", b"[]", b'{"id": 1}', b"\xff", b'{"again": 0.5, "id": "b"}', b"[" * 100_000],
)
def test_a_damaged_line_is_named_by_reading_and_by_the_check(tmp_path, line):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    with open(tmp_path / "results" / rerun.FILE, "ab") as file:
        file.write(line + b"\n")
    for look in (rerun.read, check):
        with pytest.raises(MlplibError, match=rf"{rerun.FILE}, line \d+, is not a repeated run: restore it"):
            look(tmp_path / "results")


@pytest.mark.slow
def test_a_training_is_really_repeated(tmp_path, monkeypatch):
    """On drawn shapes, published by a run of its own: the same machine gives the same weights."""
    runs, results = tmp_path / "runs", tmp_path / "results"
    invoke = CliRunner().invoke
    for words in (
        ["run", "label-smoothing", "--runs", str(runs)],
        ["results", "publish", "label-smoothing", "--runs", str(runs), "--results", str(results)],
    ):
        assert invoke(cli.app, [*words, "--profile", "smoke"]).exit_code == 0
    done = invoke(
        cli.app, ["results", "rerun", "--profile", "smoke", "--sample", "2", "--results", str(results)]
    )
    assert done.exit_code == 0, done.exception
    assert [row["same_weights"] for row in rerun.read(results)] == [True, True]


@pytest.mark.parametrize("why", ["read-only", "damaged"])
def test_nothing_is_repeated_whose_result_could_not_be_written(tmp_path, monkeypatch, why):
    drawn = rerun.sample("laptop", 1, seed=0, folder=ROOT / "results")
    if why == "damaged":
        (tmp_path / rerun.FILE).write_text("{}\n")
    else:  # root may write to every folder
        monkeypatch.setattr(
            "tempfile.TemporaryFile", Mock(side_effect=PermissionError(13, "Permission denied"))
        )
    with pytest.raises(MlplibError, match=r"cannot write .* \(--results|line 1, is not a repeated run"):
        rerun.rerun(drawn, lambda record: pytest.fail("repeated"), tmp_path)
