"""The command line as a person meets it: run as a process, read as text."""

import json
import os
import pwd
import shlex
import subprocess
import sys

import pytest
from small_runs import ROOT
from typer.testing import CliRunner

from mlpstudy.cli import app, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the runs; ``none`` in it is a folder of results that has none."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "none").mkdir()
    return folder


@pytest.fixture(scope="module")
def mlplib(folder):
    """Run ``mlplib`` with words in an empty folder; gives the finished process."""

    def call(*words, **environment):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **environment}
        env["MLPLIB_RUNS"] = str(folder / "runs")
        command = [sys.executable, "-m", "mlplib", *words]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)

    return call


COMMANDS = ["plan", "run", "status", "notebook", "teach", "claims", "bench", "data", "results"]


def test_help_names_every_command(mlplib):
    text = mlplib("--help").stdout
    assert all(command in text for command in COMMANDS)


def test_a_terminal_without_a_width_gets_tables(mlplib):
    assert "cifar10" in mlplib("data", "list", COLUMNS="0").stdout


PARTS = ["data prepare", "data list", "data verify", "data export"]
PARTS += ["results publish", "results merge", "results check"]


@pytest.mark.parametrize("command", [*COMMANDS, *PARTS])
def test_every_command_explains_itself(command):
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0 and "Usage:" in done.output and len(done.output) > 200


def test_run_then_plan_then_claims_then_publish(mlplib, folder):
    process = mlplib("run", "architectures", "--profile", "smoke", "--seeds", "0")
    assert process.returncode == 0, process.stderr
    assert "small CNN" in process.stdout and "B-12/Wi-1024" in process.stdout

    records = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/record.json")}
    # A terminal that lacks some characters ends no work.
    words = "run architectures --profile smoke --seeds 0 --runs runs".split()
    again = mlplib(*words, PYTHONIOENCODING="ascii")
    assert again.returncode == 0 and "0 runs done, none left" in again.stdout
    assert "publish --profile smoke --runs runs --to DIR" in again.stdout
    assert "small CNN" in again.stdout and again.stdout.isascii()
    assert records == {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/record.json")}

    words = "plan architectures from-scratch parameters-or-examples --profile smoke --seeds 0".split()
    plan = mlplib(*words, COLUMNS="80").stdout
    rows = {line.split("│")[1].strip(): line for line in plan.splitlines() if "│" in line}
    _, _, runs, shared, done, *_ = rows["architectures"].split("│")
    assert int(done) == int(runs) > int(shared) > 0, plan
    assert rows["from-scratch"].split("│")[4].strip() == shared.strip(), "what is shared is done"
    assert "parameters-or-examples" in rows, "no name is cut off"

    claims = mlplib("claims", "--profile", "smoke", "--seeds", "0").stdout
    assert "C22" in claims and "not tested at this scale" in claims
    markdown = mlplib("claims", "--format", "markdown", "--results", str(folder / "none")).stdout
    assert markdown.startswith("| claim | the paper says |") and "C22" in markdown

    words = "results publish architectures --profile smoke --seeds 0 --results".split()
    published = mlplib(*words, str(folder / "out"))
    assert published.returncode == 0, published.stderr
    lines = (folder / "out" / "smoke" / "runs.jsonl").read_text().splitlines()
    assert len(lines) == len(records) and all(json.loads(line)["status"] == "completed" for line in lines)
    assert "of them had other results" not in published.stdout


TINY_BENCH = ["--model", "B-2/Wi-32", "--data", "shapes-16", "--batch-size", "256"]


def test_bench_measures(mlplib, folder):
    file = folder / "b.json"
    process = mlplib("bench", *TINY_BENCH, "--parts", "steps, start-up", "--rounds", "1", "--json", str(file))
    assert process.returncode == 0, process.stderr
    found = json.loads(file.read_text())
    assert found["command"].endswith("--rounds 1 --json b.json") and str(folder) not in file.read_text()
    rows = {row["id"]: row for row in found["rows"]}
    assert {"matmul", "end-to-end", "step", "products", "start-up"} <= set(rows)
    assert all(row["seconds"][0] > 0 for row in rows.values())
    assert "end to end, with DA" in process.stdout and "not measured" in process.stdout
    assert "[quartiles]" in process.stdout and "\\[" not in process.stdout


def test_bench_compares_bf16_with_float32(mlplib, folder):
    file = folder / "a.json"
    process = mlplib("bench", "accuracy", *TINY_BENCH, "--epochs", "2", "--seeds", "0,1", "--json", str(file))
    assert process.returncode == 0, process.stderr
    difference = json.loads(file.read_text())["differences"][0]
    assert difference["n"] == 2 and difference["low"] < difference["points"] < difference["high"]
    assert "bf16 over float32" in process.stdout and "n = 2" in process.stdout


def test_data_list_and_verify(mlplib):
    listed = mlplib("data", "list").stdout
    assert "cifar10-animals" in listed and "50,000" in listed
    assert "shapes-16: content hash: ok" in mlplib("data", "verify", "shapes-16").stdout


NOT_UTF8 = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("environment", NOT_UTF8, ids=lambda names: " ".join(names.values()))
def test_output_in_another_encoding_lacks_nothing_but_characters(mlplib, environment):
    listed = mlplib("data", "list", **environment)
    assert listed.returncode == 0 and not listed.stderr
    assert "cifar10-animals" in listed.stdout and "50,000" in listed.stdout


@pytest.mark.parametrize("words", ["data list", "claims --format markdown --results none"])
def test_a_reader_that_leaves_gets_no_complaint(words, folder):
    """As in ``mlplib claims | head -1``."""
    command = [sys.executable, "-m", "mlplib", *words.split()]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(300) == 1
    process.stderr.close()


@pytest.mark.parametrize(
    ("target", "code", "said"), [("/dev/full", 2, "mlplib: No space left on device\n"), ("&-", 0, "")]
)
def test_output_that_cannot_be_written_is_one_line_and_a_closed_one_none(target, code, said, folder):
    command = f"{shlex.quote(sys.executable)} -m mlplib data list >{target}"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    "words", [["data", "list"], ["notebook", "filters", "--profile", "smoke", "--out", "~/out.ipynb"]]
)
def test_a_user_without_a_home_is_told_what_to_set(words, folder, monkeypatch, capsys):
    """As in a container that was started under an id that it does not know."""
    for name in ("HOME", "XDG_CACHE_HOME", "MLPLIB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as exit:
        main(words)
    (error,) = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and error.startswith("mlplib: ")
    assert "set HOME" in error and "MLPLIB_CACHE" in error
