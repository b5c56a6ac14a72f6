"""``make book`` killed at random moments: the next one completes, and its pages are as if nothing happened.

``MLPLIB_BOOK_STORM=20`` is the number of books; each is killed twice.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from made_books import is_running, small_tree, started_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

BOOKS = int(os.environ.get("MLPLIB_BOOK_STORM", 1))
TOC = "format: jb-book\nroot: index\nchapters:\n- file: chapters/filters\n- file: chapters/label-smoothing\n"


def chapter(title: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell(f"# {title}", id="title")]
    source = "import time\ntime.sleep(0.2)\nprint('one line')"
    cells += [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number in range(2)]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A study whose book has a page and two chapters."""
    chapters = {name: chapter(name.capitalize()) for name in ("filters", "label-smoothing")}
    tree = small_tree(tmp_path_factory.mktemp("storm") / "tree", chapters)
    for path in (tree / "book").glob("*.md"):
        path.unlink()
    (tree / "book/_toc.yml").write_text(TOC, encoding="utf-8")
    (tree / "book/index.md").write_text("# A book\n\n```{include} chapters/front.md\n```\n", encoding="utf-8")
    return tree


def make(tree: Path) -> subprocess.Popen:
    """``make book`` in a session of its own; what it says is in the file ``said``."""
    command = ["make", "book", "PROFILE=smoke", f"VENV={sys.prefix}"]
    with (tree / "said").open("w") as said:
        return subprocess.Popen(command, cwd=tree, stdout=said, stderr=said, start_new_session=True)


def finish(tree: Path) -> dict[str, bytes]:
    """``make book`` to its end; gives every file that is there then, without random cell ids; not what only
    Sphinx reads.
    """
    assert make(tree).wait() == 0, (tree / "said").read_text()
    notes = (".doctree", ".pickle", ".inv", ".log")
    files = [path for path in (tree / "book").rglob("*") if path.is_file() and path.suffix not in notes]
    return {str(path): re.sub(rb'"id": "[0-9a-f]{8}"', b"", path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def undisturbed(tree) -> tuple[dict[str, bytes], float]:
    """The files of a book that nobody disturbed, and its seconds."""
    start = time.monotonic()
    return finish(tree), time.monotonic() - start


def kill(process: subprocess.Popen, draw: random.Random) -> set[int]:
    """Kill ``make`` and its process group, or any one process of those it started, which are given."""
    started = started_by(process)
    if draw.random() < 0.3:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(sorted(started | {process.pid})), signal.SIGKILL)
    process.wait()
    return started


@pytest.mark.parametrize("seed", range(BOOKS))
def test_a_book_killed_at_random_is_the_same_book(seed, tree, undisturbed):
    expected, seconds = undisturbed
    draw, started, kills = random.Random(seed), set(), 0
    subprocess.run(["make", "clean"], cwd=tree, check=True)
    while kills < 2:
        process = make(tree)
        try:
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            started |= kill(process, draw)
            kills += 1
    found = finish(tree)
    assert sorted(found) == sorted(expected), "nothing is lost or left over"
    assert [name for name in found if found[name] != expected[name]] == []
    deadline = time.monotonic() + 60
    while (left := [pid for pid in started if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
