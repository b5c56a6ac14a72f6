"""Rendering the book: the address behind its buttons, and what an earlier rendering left."""

import fcntl
import os
import re
import signal
import subprocess
import sys

import pytest
import yaml
from small_runs import ROOT

from mlpstudy.book import render

ADDRESS = "https://github.com/ada/study"


@pytest.fixture
def clone(tmp_path):
    """A function that gives a repository with one remote of that address."""

    def make(remote: str | None):
        subprocess.run(["git", "init", "-q", "-b", "trunk", tmp_path], check=True)
        if remote:
            subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "remote",
    [
        ADDRESS,
        f"{ADDRESS}.git/",
        "git@github.com:ada/study.git",
        "ssh://git@github.com/ada/study",
        ADDRESS.replace("//", "//token" + "@"),
    ],
)
def test_a_github_remote_gives_address_and_branch(clone, remote):
    assert render.repository(clone(remote)) == (ADDRESS, "trunk")


@pytest.mark.parametrize(
    "remote", ["https://gitlab.com/ada/study", "/mirrors/github.com/ada/study/x", "https://notgithub.com/a/b"]
)
def test_another_remote_gives_no_buttons_and_one_line(clone, remote):
    lines = []
    assert render.repository(clone(remote), lines.append) is None
    assert lines == [render.OTHER_REMOTE]


def test_no_remote_gives_no_buttons_and_no_line(clone, tmp_path):
    assert render.repository(clone(None), pytest.fail) is None
    (copy := tmp_path / "copy of the files").mkdir()
    assert render.repository(copy, pytest.fail) is None


def test_settings_have_buttons_with_a_repository_only():
    text = (ROOT / "book" / "_config.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(render.settings(text, None)) == yaml.safe_load(text)
    options = yaml.safe_load(render.settings(text, (ADDRESS, "trunk")))["sphinx"]["config"][
        "html_theme_options"
    ]
    assert options["repository_url"] == ADDRESS and options["use_edit_page_button"]
    assert options["search_bar_text"] and set(options["launch_buttons"]) > {"colab_url", "binderhub_url"}


def test_links_lead_to_the_notebooks_in_the_repository(tmp_path):
    book = "".join(f'<a href="{ADDRESS}/{kind}/trunk/book/{page}">' for kind, page in
                   [("edit", "chapters/filters.ipynb"), ("edit", "re-run.md")])  # fmt: skip
    page = tmp_path / "a.html"
    page.write_text(f"{book} git clone {render.ADDRESS}", encoding="utf-8")
    render.finish(tmp_path, ADDRESS)
    text = page.read_text(encoding="utf-8")
    linked = re.findall(r'trunk/([^"]+)"', text)
    assert linked == ["notebooks/filters.ipynb", "book/re-run.md"] and all(
        (ROOT / p).is_file() for p in linked
    )
    assert text.endswith(f"git clone {ADDRESS}")


RENDERER = """#!/bin/sh
echo start >> "$0.log"
sleep 1
echo end >> "$0.log"
exit 1
"""


@pytest.fixture
def renderer(tmp_path, monkeypatch):
    """A program that takes the place of Jupyter Book; next to it are the sources of a book."""
    program = tmp_path / "renderer"
    program.write_text(RENDERER, encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "_config.yml").write_text("title: A book\n", encoding="utf-8")
    monkeypatch.setattr(render, "JUPYTER_BOOK", program)
    return program


WRITER = """#!/bin/sh
while [ "$1" != --path-output ]; do shift; done
mkdir -p "$2/_build/html/_static"
touch "$2/_build/html/index.html"
ls "$3/_build/html" > "$0.seen"
"""


def test_the_new_pages_replace_the_old_ones_all_at_once(renderer, monkeypatch):
    """A front page without its style sheet, left by a process that was killed, would count as a book."""
    renderer.write_text(WRITER, encoding="utf-8")
    monkeypatch.setattr(render.check, "main", lambda out: 0)
    build = renderer.parent / "_build"
    (build / "html").mkdir(parents=True)
    (build / "html" / "gone.html").touch()
    assert render.main(str(renderer.parent)) == 0
    assert renderer.with_suffix(".seen").read_text().split() == ["gone.html"], "while it was rendered"
    assert sorted(path.name for path in (build / "html").iterdir()) == ["_static", "index.html"]
    assert (build / "html" / "_static" / "book.css").is_file()
    assert not (build / "unfinished").exists()


def test_what_cannot_be_rendered_leaves_the_old_pages(renderer):
    old = renderer.parent / "_build" / "html" / "index.html"
    old.parent.mkdir(parents=True)
    old.touch()
    assert render.main(str(renderer.parent)) == 1 and old.exists()


def test_one_renders_at_a_time_also_when_the_first_was_killed_without_its_jupyter_book(renderer, capfd):
    pid = os.fork()
    if pid == 0:
        os._exit(render.main(str(renderer.parent)))
    log = renderer.with_suffix(".log")
    while not log.exists():
        pass
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    render.main(str(renderer.parent))
    assert log.read_text(encoding="utf-8").split() == ["start", "end"] * 2
    assert "book: waiting for another process that renders it" in capfd.readouterr().err


def test_ctrl_c_ends_it_without_a_traceback(tmp_path):
    build = tmp_path / "_build"
    build.mkdir()
    with (build / "rendering.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "mlpstudy.book.render", tmp_path]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stderr.readline() == "book: waiting for another process that renders it\n"
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=60)[1], process.returncode) == ("", -signal.SIGINT)
