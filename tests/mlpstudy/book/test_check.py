"""The book as a reader gets it: all notebooks in profile smoke, rendered, opened in Chromium offline.

Chromium is the system's own (``apt-get install chromium``), driven by Playwright.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from small_runs import PACKAGES, ROOT

from mlplib.errors import MlplibError
from mlpstudy.book import check as checks

pytestmark = pytest.mark.timeout(1200)  # the first test that needs the book waits for all notebooks

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES = checks.pages_in_toc(ROOT / "book")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()


def snakemake(folder: Path, root: Path = ROOT, **config: str) -> subprocess.CompletedProcess:
    """Call the engine as ``make`` does, with everything that it writes under ``folder``."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{root}/Snakefile"]
    command += ["--directory", f"{folder}"]
    command += "--cores all --keep-going --rerun-incomplete --nolock --max-checksum-file-size 20MB".split()
    command += "--quiet host reason rules progress --config quiet=true".split()
    command += [f"{key}={value}" for key, value in config.items()]
    return subprocess.run(command, capture_output=True, text=True, timeout=1100)


# --------------------------------------------------------------------------- the whole book


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder, with a space in its name, in which the smoke book was made."""
    folder = tmp_path_factory.mktemp("a reader's folder")
    done = snakemake(folder, profile="smoke", out="book")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def html(workplace) -> Path:
    return workplace / "book" / "_build" / "html"


def test_every_notebook_is_a_chapter_of_the_book():
    chapters = [page.removeprefix("chapters/") for page in PAGES if page.startswith("chapters/")]
    assert NOTEBOOKS
    assert sorted(chapters) == NOTEBOOKS


@pytest.mark.slow
def test_the_book_is_whole(workplace):
    assert checks.problems(workplace / "book") == []


@pytest.mark.slow
def test_nothing_is_made_again_when_files_were_only_touched(workplace):
    sources = [ROOT / "book" / "_toc.yml", ROOT / "mlpstudy" / "book" / "check.py"]
    for path in [*sources, *(ROOT / "notebooks").glob("*.ipynb")]:
        os.utime(path)
    done = snakemake(workplace, profile="smoke", out="book")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_nothing_on_a_page_tells_where_it_was_made(html):
    """No folder of this machine, no user name: a book is for others."""
    private = {str(ROOT), str(html.parents[2]), str(Path.home())} - {"/", "/root"}
    for page in PAGES:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert [name for name in private if name in text] == [], page


@pytest.mark.slow
def test_links_inside_the_book_lead_somewhere(html):
    from html.parser import HTMLParser
    from urllib.parse import unquote, urlsplit

    class Links(HTMLParser):
        def __init__(self):
            super().__init__()
            self.targets, self.anchors = [], set()

        def handle_starttag(self, tag, attrs):
            values = dict(attrs)
            self.anchors |= {values["id"]} if values.get("id") else set()
            self.targets += [values[name] for name in ("href", "src") if values.get(name)]

    def read(path: Path) -> Links:
        parser = Links()
        parser.feed(path.read_text(encoding="utf-8"))
        return parser

    broken = []
    for page in PAGES:
        path = html / f"{page}.html"
        for target in read(path).targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target.startswith("#"):
                continue
            there = (path.parent / unquote(parts.path)).resolve()
            found = there.is_file()
            if found and parts.fragment and there.suffix == ".html":
                found = unquote(parts.fragment) in read(there).anchors
            if not found:
                broken.append(f"{page}: {target}")
    assert broken == []


# --------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, html):
    """Open a page at a width; ``visit.complaints`` collects what went wrong in it."""
    contexts, complaints = [], []

    def open_page(page: str, width: str):
        size = WIDTHS[width]
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        tab.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
        tab.on("request", lambda r: None if local(r.url) else complaints.append(f"from the network: {r.url}"))
        tab.goto((html / f"{page}.html").as_uri())
        if tab.locator(".math").count():
            tab.wait_for_function("window.MathJax?.startup?.promise")
            tab.evaluate("MathJax.startup.promise")
        return tab

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()


def local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_network_and_without_error(visit, workplace, page, width):
    tab = visit(page, width)
    article = " ".join(tab.locator("article").inner_text().split())
    title = tab.locator("article h1").first.inner_text().rstrip("# \n")
    assert title and title in article
    sideways = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert sideways <= 0, f"the page is {sideways} pixels wider than the window"
    pictures = tab.evaluate(
        """[...document.querySelectorAll('article img')].map(
            i => ({src: i.getAttribute('src'), alt: i.alt, shown: i.complete && i.naturalWidth > 0}))"""
    )
    for picture in pictures:
        assert picture["shown"], f"{picture['src']} is not shown"
        described = len(picture["alt"].split()) >= 3 and "_images/" not in picture["alt"]
        assert described, f"{picture['src']} lacks an alt text, it has {picture['alt']!r}"
    drawings = tab.evaluate(
        """[...document.querySelectorAll('article .cell_output svg')].filter(
            s => !(s.getAttribute('aria-label') || s.querySelector('title'))).length"""
    )
    assert drawings == 0, f"{drawings} drawings have no title for those who cannot see them"
    formulas = tab.locator("article .math")
    assert tab.locator("article .math mjx-container").count() >= formulas.count()
    assert tab.locator("article mjx-merror, article .problematic, article .system-message").count() == 0
    assert visit.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_code_is_folded_and_unfolds(visit, notebook):
    tab = visit(f"chapters/{notebook}", "desktop")
    fold = tab.locator("article details.hide").first
    assert fold.get_attribute("open") is None
    fold.locator("summary").click()
    assert fold.locator("pre").first.is_visible()
    assert visit.complaints == []


@pytest.mark.slow
def test_a_phone_reaches_every_page_through_the_menu(visit):
    tab = visit(PAGES[0], "phone")
    last = tab.locator(f".bd-sidebar-primary a[href$='{PAGES[-1]}.html']").first
    assert not last.is_visible()
    tab.locator(".primary-toggle").first.click()
    last.wait_for(state="visible")
    last.click()
    tab.wait_for_url(f"**/{PAGES[-1]}.html")
    assert visit.complaints == []


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
        '<h1>Filters</h1><h2>With <span class="math">\\(k=4\\)</span> <a>units</a></h2>'
        '<div class="cell_output"><pre>1</pre></div>',
        encoding="utf-8",
    )
    return tmp_path


def test_a_whole_book_has_no_problem(small):
    assert checks.problems(small) == []
    assert checks.main(str(small)) == 0


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_missing_page_is_a_problem(small, capsys):
    (small / "_build" / "html" / "chapters" / "filters.html").unlink()
    (problem,) = checks.problems(small)
    assert problem.startswith("page chapters/filters was not rendered")
    assert checks.main(str(small)) == 1
    assert capsys.readouterr().err == f"book: {problem}\n"


def test_a_lost_section_is_a_problem(small):
    edit(small / "_build" / "html" / "index.html", "question", "answer")
    assert checks.problems(small) == ["page index lacks its section 'The question why'"]


def test_a_chapter_that_was_not_executed_is_a_problem(small):
    edit(small / "_build" / "html" / "chapters" / "filters.html", "cell_output", "cell_input")
    (problem,) = checks.problems(small)
    assert problem == "page chapters/filters has no outputs: it was rendered without being executed"


def test_a_traceback_is_a_problem(small):
    chapter = small / "_build" / "html" / "chapters" / "filters.html"
    edit(chapter, "<pre>1", "<pre>Traceback (most recent call last)")
    assert checks.problems(small) == ["page chapters/filters shows a traceback"]


def test_a_book_without_contents_or_source_is_refused_in_one_line(small, capsys):
    (small / "index.md").unlink()
    with pytest.raises(MlplibError, match=r"lists index, but there is no .*index\.ipynb and no .*index\.md"):
        checks.problems(small)
    (small / "_toc.yml").unlink()
    assert checks.main(str(small)) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_sources_leave_out_what_is_generated(small):
    (small / ".hidden").touch()
    assert checks.pages_of(small) == ["_toc.yml", "index.md"]


@pytest.mark.slow
def test_a_chapter_that_fails_says_why_and_keeps_what_was_executed(tmp_path):
    """The tree is copied and the first code cell of one notebook made to fail; the real engine runs it."""
    name = NOTEBOOKS[0]
    made = shutil.ignore_patterns("_build", "chapters", "__pycache__")
    for part in (*PACKAGES, "book"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=made)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[-1]["source"] = ["raise ValueError('a fuse blew\\nand more')"]
    (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")

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
    """A tree whose one notebook, next to a stranger, takes five minutes; set up already."""
    tree = tmp_path / "a reader's $(touch folder)"
    made = shutil.ignore_patterns("_build", "chapters", "__pycache__")
    for part in (*PACKAGES, "book"):
        shutil.copytree(ROOT / part, tree / part, ignore=made)
    for name in ("Snakefile", "Makefile"):
        shutil.copy(ROOT / name, tree)
    (tree / "bin").mkdir()
    (tree / "bin" / "set-up").symlink_to(shutil.which("true"))
    (tree / "notebooks").mkdir()
    (tree / "notebooks" / "Untitled.ipynb").touch()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW_CELL)])
    nbformat.write(notebook, tree / "notebooks" / "filters.ipynb")
    return tree


def started_by(process: subprocess.Popen) -> set[int]:
    """The processes below one, as ``/proc`` has them."""
    found = {process.pid}
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process.pid}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
        if receiver == "all":
            os.killpg(make.pid, number)
        else:
            os.kill(make.pid if receiver == "make" else min(below), number)
        output, _ = make.communicate(timeout=20)
    assert make.returncode != 0
    assert "passed over: Untitled.ipynb (not notebooks of the study)" in output
    assert "stopped in notebook filters: start it again" in output and "Traceback" not in output
    assert (slow_tree / "checkpoint").exists()
    assert not list((slow_tree / "book").rglob(".*.ipynb")) and not list(kernel_files.glob("*.json"))
    deadline = time.monotonic() + 10
    while (left := [pid for pid in below if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert not list(slow_tree.parent.rglob("folder"))
