"""Render the book from its sources and the executed chapters. For the Snakefile.

``python -m mlpstudy.book.render FOLDER`` calls Jupyter Book and checks what it wrote. The address behind the
buttons (repository, suggest edit, Binder, Colab) is that of the clone's own git remote.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mlplib.files import wait_for
from mlplib.stopping import without_traceback

from . import check, light

ROOT = Path(__file__).resolve().parents[2]
JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")
GITHUB = re.compile(r"(?:^|//|@)github\.com[:/]+([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")
OTHER_REMOTE = (
    "this clone's git remote is not on github.com: the pages get no buttons for repository, Binder and Colab"
)
ADDRESS = "&lt;address of this repository&gt;"
"""The placeholder for the address in pages, as HTML."""


def _git(root: Path, *arguments: str) -> str:
    """The output of a git command; empty if it fails or git is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def repository(root: Path = ROOT, log: Callable[[str], None] = lambda line: None) -> tuple[str, str] | None:
    """Address and default branch of the GitHub repository that ``root`` is a clone of.

    The remote is ``origin``, or the first one if none has that name. None without a remote; also for a remote
    that is not on GitHub, which is logged.
    """
    if not (root / ".git").exists():
        return None  # a copy of the files; a repository that encloses it is another one
    remotes = _git(root, "remote").splitlines()
    if not remotes:
        return None
    remote = "origin" if "origin" in remotes else remotes[0]
    found = GITHUB.search(_git(root, "remote", "get-url", remote))
    if not found:
        log(OTHER_REMOTE)
        return None
    head = _git(root, "symbolic-ref", "--short", f"refs/remotes/{remote}/HEAD")
    branch = head.removeprefix(f"{remote}/") or _git(root, "branch", "--show-current") or "main"
    return f"https://github.com/{found[1]}/{found[2]}", branch


def settings(text: str, found: tuple[str, str] | None) -> str:
    """The book's settings (YAML) with the buttons of its repository, if it has one."""
    import yaml

    config = yaml.safe_load(text)
    if found:
        # Jupyter Book's own `repository` and `launch_buttons` are lost where `html_theme_options` is given.
        config["sphinx"]["config"]["html_theme_options"] |= {
            "repository_url": found[0],
            "repository_branch": found[1],
            "path_to_docs": "book",
            "use_repository_button": True,
            "use_edit_page_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "notebook_interface": "jupyterlab",
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
            },
        }
    return yaml.safe_dump(config, sort_keys=False)


ROLES = {
    '"pst-primary-sidebar" class': '"pst-primary-sidebar" role="complementary" aria-label="Contents" class',
    ' role="doc-biblioentry"': "",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}
"""What theme and Sphinx tell screen readers wrongly or not at all, and its replacement."""


def finish(pages: Path, address: str | None) -> None:
    """Correct :data:`ROLES` and lighten every page. With an ``address``, point the buttons of chapters to
    ``notebooks``, where their sources are, and insert it for :data:`ADDRESS`.
    """
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for wrong, right in ROLES.items():
            text = text.replace(wrong, right)
        text = light.lighten(page, text)
        if address:
            text = re.sub(r'(href="https://[^"]*/)book/chapters/', r"\1notebooks/", text)
            text = text.replace(ADDRESS, address)
        page.write_text(text, encoding="utf-8")


def main(folder: str) -> int:
    """Render the book in ``folder``; return exit status 0 if it is complete. Jupyter Book writes to a log."""
    build = Path(folder) / "_build"
    build.mkdir(exist_ok=True)
    with (build / "rendering.lock").open("w") as lock:
        wait_for(lock, lambda: print("book: waiting for another process that renders it", file=sys.stderr))
        return _render(Path(folder), build, lock.fileno())


def _render(out: Path, build: Path, lock: int) -> int:
    found = repository(log=lambda line: print(f"book: {line}", file=sys.stderr))
    config = build / "_config.yml"
    config.write_text(settings((out / "_config.yml").read_text(encoding="utf-8"), found), encoding="utf-8")
    # Sphinx refers differently to files that already exist, and keeps pages that the book no longer has.
    unfinished = build / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    # --all: Sphinx does not repeat the warnings of pages that it rendered earlier.
    command = [JUPYTER_BOOK, "build", "--all", "-W", "-n", "--keep-going", "--config", config]
    command += ["--path-output", unfinished, out]
    log = build / "book.log"
    with log.open("w", encoding="utf-8") as lines:
        env = {**os.environ, "NO_COLOR": "1"}
        # It inherits the lock, since it goes on writing pages if this process is killed.
        done = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, env=env, pass_fds=[lock])
    if done.returncode:
        text = log.read_text(encoding="utf-8").splitlines()
        print(
            *[s for s in text if re.search("WARNING|ERROR|Error", s)] or text[-20:], sep="\n", file=sys.stderr
        )
        return 1
    pages = unfinished / "_build" / "html"
    light.join_sheets(pages)
    finish(pages, found and found[0])
    # The front page appears with all the others: whoever finds it, such as Snakemake, has a complete book.
    shutil.rmtree(build / "html", ignore_errors=True)
    os.replace(pages, build / "html")
    shutil.rmtree(unfinished)
    return check.main(out)


if __name__ == "__main__":
    without_traceback()
    sys.exit(main(sys.argv[1]))
