"""Jupyter Book 2 reads all sources, once it has converted settings, contents and glossary as it offers to.

Its parser is mystmd (.ci/run says which version, and installs it). Nothing here needs the network.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from small_runs import ROOT

from mlpstudy.book import check as checks
from mlpstudy.book import page_front

LISTED = {
    "deviations.md": ["stub-columns", "widths"],
    "index.md": ["raw content: html"],
}
"""By page, what is known to be lost there; CONTRIBUTING.md lists it."""

FRONT = "```{raw} html\n<p>counts, a figure and verdicts</p>\n```\n"
"""What the front page includes, in short: the real one takes half a minute to compute."""


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The sources as Jupyter Book 2 converts them, and what mystmd says of them in ``said``. The chapters are
    the notebooks, not executed.
    """
    if (myst := shutil.which("myst")) is None:
        pytest.skip("mystmd is not installed")
    folder = tmp_path_factory.mktemp("converted") / "book"
    shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns(*checks.GENERATED))
    shutil.copytree(ROOT / "notebooks", folder / "chapters")
    (folder / page_front.NAME).write_text(FRONT, encoding="utf-8")
    # It asks whether to convert, and then whether to serve the book: the end of the input is a no.
    options = dict(cwd=folder, text=True, capture_output=True, timeout=120)
    subprocess.run([myst, "init"], input="y\n", **options)
    settings = folder / "myst.yml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("book-theme", "plain"), encoding="utf-8")
    (folder / "plain").mkdir()  # the theme comes from the network; reading needs none
    (folder / "plain" / "template.yml").write_text("jtex: v1\nkind: site\ntitle: plain\n", encoding="utf-8")
    done = subprocess.run([myst, "build", "--site"], stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder


def test_every_page_is_read(book):
    read = {path.stem for path in (book / "_build" / "site" / "content").glob("*.json")}
    assert read == {page.replace("/", ".") for page in checks.pages_in_toc(ROOT / "book")}


def test_it_complains_about_nothing_but_what_is_listed(book):
    said = (book / "said").read_text(encoding="utf-8")
    complaints = re.findall(r"^(⛔|⚠)\ufe0f? +(\S+?)(?::\d+)* (.*)$", said, flags=re.MULTILINE)
    assert [c for c in complaints if c[0] == "⛔"] == []
    unlisted = [c for c in complaints if not any(known in c[2] for known in LISTED.get(c[1], ()))]
    assert unlisted == [] and len(complaints) == sum("⛔" in s or "⚠" in s for s in said.splitlines())
