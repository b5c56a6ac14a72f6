"""What the checks of a rendered book find, and how the engine stops."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from made_books import is_running, small_tree, snakemake, started_by
from small_runs import ROOT

from mlplib.errors import MlplibError
from mlplib.files import is_locked
from mlpstudy.book import check as checks

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES = checks.pages_of(ROOT / "book")


# --------------------------------------------------------------------------- what the checks find


def heading(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": [f"# {text}\n", "\n", "Words."]}


@pytest.fixture
def small(tmp_path) -> Path:
    """A whole small book: sources and pages as Jupyter Book writes them, one chapter."""
    toc = "format: jb-book\nroot: index\nparts:\n- caption: x\n  chapters:\n  - file: chapters/filters\n"
    (tmp_path / "_toc.yml").write_text(toc, encoding="utf-8")
    (tmp_path / "index.md").write_text("# The *question* & why\n\n```\n# no heading\n```\n", encoding="utf-8")
    (tmp_path / "chapters").mkdir()
    notebook = {"cells": [heading("Filters"), heading("With $k=4$ [units](x.md)")]}
    (tmp_path / "chapters" / "filters.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    pages = tmp_path / "_build" / "html"
    (pages / "chapters").mkdir(parents=True)
    (pages / "index.html").write_text("<h1>The <em>question</em> &amp; why</h1>", encoding="utf-8")
    (pages / "chapters" / "filters.html").write_text(
        "<h1>Filters</h1><h2>With <math><mi>k</mi>\n<mn>4</mn></math> <a>units</a></h2>"
        '<div class="cell_output"><pre>1</pre></div>',
        encoding="utf-8",
    )
    return tmp_path


def test_a_whole_book_has_no_problem(small):
    assert checks.problems(small) == []
    assert checks.main(small) == 0


def test_a_missing_page_is_a_problem(small, capsys):
    (small / "_build" / "html" / "chapters" / "filters.html").unlink()
    (problem,) = checks.problems(small)
    assert problem.startswith("page chapters/filters was not rendered")
    assert checks.main(small) == 1
    assert capsys.readouterr().err == f"book: {problem}\n"


@pytest.mark.parametrize("page, old, new, problem", [
    ("index", "question", "answer", "lacks its section 'The question why'"),
    ("chapters/filters", "output", "input", "has no outputs: it was rendered without being executed"),
    ("chapters/filters", "<pre>1", "<pre>Traceback (most recent call last)", "shows a traceback"),
])  # fmt: skip
def test_a_page_that_lacks_something_or_shows_an_error_is_a_problem(page, old, new, problem, small):
    path = small / "_build" / "html" / f"{page}.html"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert checks.problems(small) == [f"page {page} {problem}"]


def test_a_book_without_contents_or_source_is_refused_in_one_line(small, capsys):
    (small / "index.md").unlink()
    with pytest.raises(MlplibError, match=r"lists index, but there is no .*index\.ipynb and no .*index\.md"):
        checks.problems(small)
    (small / "_toc.yml").unlink()
    assert checks.main(small) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_sources_leave_out_what_is_generated(small):
    (small / ".hidden").touch()
    assert checks.pages_of(small) == ["_toc.yml", "index.md"]


@pytest.mark.slow
def test_a_chapter_that_fails_says_why_and_keeps_what_was_executed(tmp_path):
    """The tree is copied and the first code cell of one notebook made to fail; the real engine runs it."""
    name = NOTEBOOKS[0]
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[-1].source = "raise ValueError('a fuse blew\\nand more')"
    small_tree(tmp_path, {name: notebook})
    done = snakemake(tmp_path, root=tmp_path, profile="smoke")
    assert done.returncode != 0
    assert not (tmp_path / "book" / "chapters" / f"{name}.ipynb").exists()
    executed = tmp_path / "book" / "_build" / "executed" / f"{name}.ipynb"
    assert f"book: chapter {name} failed: ValueError: a fuse blew and more (see {executed})" in [
        line.replace("(see book", f"(see {tmp_path}/book") for line in done.stderr.splitlines()
    ]


SLOW_CELL = """import time
try:
    open("started", "w").close()
    time.sleep(300)
finally:
    open("checkpoint", "w").close()
"""


@pytest.fixture
def slow_tree(tmp_path) -> Path:
    """A tree whose one notebook, next to a stranger, takes five minutes."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW_CELL)])
    tree = small_tree(tmp_path / "a reader's $(touch folder)", {"filters": notebook})
    (tree / "notebooks" / "Untitled.ipynb").touch()
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("receiver", ["make", "snakemake", "all"])
def test_a_signal_stops_make_within_seconds_and_leaves_nothing(receiver, number, slow_tree):
    command = ["make", "book", "PROFILE=smoke", f"VENV={sys.prefix}"]
    kernel_files = slow_tree / "kernel files"
    kernel_files.mkdir()
    with subprocess.Popen(
        command,
        cwd=slow_tree,
        env={**os.environ, "TMPDIR": str(kernel_files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        deadline = time.monotonic() + 120
        while not (slow_tree / "started").exists() and make.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        below = started_by(make)
        assert len(below) >= 3, make.communicate()
        assert is_locked(slow_tree / "book" / "_build" / "make.lock")
        if receiver == "all":
            os.killpg(make.pid, number)
        else:
            os.kill(make.pid if receiver == "make" else min(below), number)
        try:
            output, _ = make.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(make.pid, signal.SIGKILL)
            raise
    assert make.returncode != 0
    assert "passed over: Untitled.ipynb (not notebooks of the study)" in output
    assert "stopped in notebook filters: start it again" in output and "Traceback" not in output
    assert (slow_tree / "checkpoint").exists()
    assert not list((slow_tree / "book").rglob(".*.ipynb")) and not list(kernel_files.glob("*.json"))
    deadline = time.monotonic() + 10
    while (left := [pid for pid in below if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == [] and not is_locked(slow_tree / "book" / "_build" / "make.lock")
    assert not list(slow_tree.parent.rglob("folder"))


DEAF = """import signal, threading
from mlpstudy.book import jobs
jobs.PATIENCE_S = 1
jobs.forward_signals()
held = threading.Lock()
held.acquire()
signal.signal(signal.SIGTERM, lambda number, frame: held.acquire())
print("ready", flush=True)
threading.Event().wait()
"""


def test_a_process_whose_signal_handler_waits_forever_ends_all_the_same():
    """As Snakemake's, where a signal comes at a bad moment."""
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=15) == 1
        finally:
            process.kill()


def test_what_a_book_is_made_of_can_be_elsewhere_for_every_job(tmp_path):
    """Folders are relative to whoever types them, and what does the runs is told them as the chapters are."""
    (tmp_path / "records").mkdir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--directory", tmp_path]
    command += "--dry-run --printshellcmds --cores 1 --nolock --config profile=smoke workers=1".split()
    command += "runs_dir=here results_dir=records seeds=[0,1] device=cpu --".split()
    command += ["book/_build/workers/0", "book/chapters/front.md"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and f"--profile smoke --seeds=0,1 --runs={tmp_path}/here --device=cpu" in said
    there = re.search(r"page_front \S+ (\S+)", said).group(1)
    assert (ROOT / there).resolve() == tmp_path / "records"


@pytest.mark.parametrize(("options", "workers"), [("--jobs 8", 0), ("", 1)])
def test_a_dry_run_shows_the_plan_of_a_cluster_or_of_one_machine(tmp_path, options, workers):
    """Snakemake plans a dry run without --cores on one core, as if it were not for a cluster."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--directory", tmp_path]
    command += f"--dry-run --nolock --quiet rules {options} -- book/chapters/filters.ipynb".split()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    assert done.returncode == 0 and jobs["chapter"] == "1" and int(jobs.get("worker", 0)) == workers, jobs


@pytest.mark.parametrize(("gigabytes", "at_once"), [(64, 16), (8, 8), (7, 5), (1, 1), (0, 1)])
def test_no_more_chapters_are_executed_at_once_than_memory_allows(tmp_path, gigabytes, at_once):
    (tmp_path / "sitecustomize.py").write_text(
        f"import mlplib.limits; mlplib.limits.memory = lambda: {gigabytes * 2**30 + 2**29}"
    )
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--directory", tmp_path]
    command += "--dry-run --cores 16 --nolock --config profile=published --".split()
    command.append("book/chapters/filters.ipynb")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=env)
    threads = re.search(r"^ +threads: (\d+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    assert done.returncode == 0 and 16 // (int(threads[1]) if threads else 1) == at_once


def made_book(place: Path):
    """Empty files of a whole book in profile smoke, which Snakemake takes for its own; and a function that
    gives the numbers of jobs, by rule, that the engine would do with them.
    """
    parts = [*(f"chapters/{name}.ipynb" for name in NOTEBOOKS), "chapters/front.md", *PAGES]
    for name in (*parts, "_build/html/index.html"):
        (place / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "book" / name).touch()

    def engine(option: str = "--dry-run", profile: str = "smoke") -> dict[str, str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile"]
        command += ["--directory", str(place), "--cores=1", "--nolock", "--quiet", "rules", option]
        command += ["--config", f"profile={profile}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))

    engine("--touch")
    return engine


@pytest.mark.parametrize("gone", ["chapters/filters.ipynb", "methods.md"])
def test_what_was_deleted_is_made_again(tmp_path, gone):
    """As the page on running it again says; with the book up to date, Snakemake did not miss a chapter."""
    made = made_book(tmp_path)
    assert made() == {}
    (tmp_path / "book" / gone).unlink()
    jobs = made()
    assert jobs["book"] == "1" and ("chapter" in jobs) == gone.startswith("chapters"), jobs


def test_a_second_make_in_the_same_folder_is_refused_and_changes_nothing(tmp_path):
    (tmp_path / "book" / "_build").mkdir(parents=True)
    with (tmp_path / "book" / "_build" / "make.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = snakemake(tmp_path, profile="published")
    said = "make: another make or snakemake is making book: wait until it has ended, or stop it\n"
    assert (done.returncode, done.stdout + done.stderr) == (1, said)
    assert [path.name for path in (tmp_path / "book" / "_build").iterdir()] == ["make.lock"]


def test_chapters_of_another_profile_are_not_taken_for_this_ones(tmp_path):
    """Snakemake's records of how files were made stay behind when their folder is renamed or copied."""
    made = made_book(tmp_path)
    (tmp_path / ".snakemake").rename(tmp_path / "lost")
    assert made() == {}, "chapters of this profile are still good"
    assert made(profile="published")["chapter"] == str(len(NOTEBOOKS))
