"""The book as a reader gets it: all notebooks in profile smoke, rendered, opened in Chromium offline. It is
made once, for everything here.

Chromium is the system's own (``apt-get install chromium``), driven by Playwright.
"""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from made_books import outputs, snakemake, solutions
from matplotlib.figure import Figure
from reader_clone import make_clone, run
from small_runs import PACKAGES, ROOT

from mlplib.errors import MlplibError
from mlpstudy.book import check as checks
from mlpstudy.book import pdf, teach
from mlpstudy.experiments import EXPERIMENTS

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]  # the first test waits for all notebooks

NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
PAGES = checks.pages_in_toc(ROOT / "book")
BOOK = ["make", "book", "PROFILE=smoke"]
MADE = "read the book: book/_build/html/index.html\n"
AXE = "axe-core@4.10.3"
MOST_BYTES = {"index": 750_000, "chapters/scaling-laws": 1_150_000, "chapters/transfer": 1_150_000}
"""What a page may load, not compressed, 0.4 MB of it the theme's CSS."""
LONGEST_PAGE = 600_000
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()

# --------------------------------------------------------------------------- the whole book


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A reader's clone in which ``make book`` was called."""
    clone = make_clone(tmp_path_factory.mktemp("reader") / "study")
    done = run(BOOK, clone, 1100)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Traceback" not in done.stdout and re.search(r"\b1 of \d+: ", done.stdout)
    assert done.stdout.endswith(f"\n{MADE}") and "set-up: installing" not in done.stdout
    return clone


@pytest.fixture(scope="module")
def html(workplace) -> Path:
    return workplace / "book" / "_build" / "html"


def test_every_notebook_is_a_chapter_of_the_book():
    chapters = [page.removeprefix("chapters/") for page in PAGES if page.startswith("chapters/")]
    assert NOTEBOOKS and sorted(chapters) == list(NOTEBOOKS)


def test_the_book_is_whole(workplace):
    assert checks.problems(workplace / "book") == []


def test_nothing_is_made_again_when_files_were_only_touched(workplace):
    sources = [workplace / "book" / "_toc.yml", workplace / "mlpstudy" / "book" / "check.py"]
    for path in [*sources, *(workplace / "notebooks").glob("*.ipynb")]:
        os.utime(path)
    done = run(BOOK, workplace, 300)
    assert (done.returncode, done.stdout) == (0, MADE)


def test_the_runs_can_be_done_before_the_chapters(workplace):
    """As in other profiles; here all of them are done already."""
    done = snakemake(workplace, "book/_build/workers/0", root=workplace, profile="smoke", workers="1")
    assert done.returncode == 0, done.stderr
    assert "runs: doing what is missing in profile smoke" in done.stdout
    assert "0 runs done, none left" in done.stdout


def test_a_job_on_a_cluster_takes_as_many_threads_as_it_was_given(workplace):
    """Within a job Snakemake counts all cores of the node; Slurm refuses a step that takes them."""
    command = f"{sys.executable} -m snakemake --mode remote --cores 3 --nolock --allowed-rules worker"
    command += " --target-jobs worker:number=1 --config profile=smoke workers=2 threads=2"
    done = subprocess.run(command.split(), cwd=workplace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "threads: 2\n" in done.stdout + done.stderr, done.stderr


def test_nothing_on_a_page_tells_where_it_was_made(html):
    """No folder of this machine, no user name: a book is for others."""
    private = {str(ROOT), str(html.parents[2]), str(Path.home())} - {"/", "/root"}
    for page in PAGES:
        text = (html / f"{page}.html").read_text(encoding="utf-8")
        assert [name for name in private if name in text] == [], page


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
    try:
        chromium = pdf.browser()
    except MlplibError as error:
        pytest.skip(str(error))
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, html):
    """Open a page at a width; ``visit.complaints`` collects what went wrong in it."""
    contexts, complaints = [], []

    def open_page(page: str, width: str, **options):
        size = WIDTHS[width]
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        tab.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
        tab.on("request", lambda r: None if local(r.url) else complaints.append(f"from the network: {r.url}"))
        tab.goto((html / f"{page}.html").as_uri())
        return tab

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()


def local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_network_and_without_error(visit, workplace, page, width):
    tab = visit(page, width)
    assert (workplace / "book" / "_build" / "html" / f"{page}.html").stat().st_size <= LONGEST_PAGE
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
    assert tab.locator("article .problematic, article .system-message").count() == 0
    assert visit.complaints == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """The script of axe-core, which finds what keeps people from using a page."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, capture_output=True, timeout=120)
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as files:
        return files.extractfile("package/axe.min.js").read().decode()


@pytest.mark.network
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "page", ["index", "methods", "references", "chapters/scoreboard", "chapters/transfer"]
)
def test_axe_finds_no_barrier(visit, axe, page, scheme):
    tab = visit(page, "desktop", color_scheme=scheme)
    assert tab.evaluate("document.documentElement.dataset.theme") == scheme
    # The theme fades into its colors when a page opens: contrasts count once it has.
    tab.evaluate("Promise.allSettled(document.getAnimations().map(each => each.finished)).then(() => null)")
    tab.evaluate(axe)
    found = tab.evaluate(
        "axe.run().then(r => r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)]))"
    )
    assert found == []


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(html) -> str:
    """Where the book is served on this machine; not compressed, other than by a web host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("page", MOST_BYTES)
def test_lighthouse_is_content(address, page, tmp_path):
    """Its score for speed depends on what else the machine does. What a page decides is tested: how much is
    loaded, which scripts hold up the first paint, and that nothing moves once it is shown.
    """
    if shutil.which("lighthouse") is None:
        pytest.skip("Lighthouse is not installed")
    command = ["lighthouse", f"{address}/{page}.html", "--quiet", "--disable-full-page-screenshot"]
    command += ["--output=json", "--output-path=found.json", f"--chrome-flags=--headless {' '.join(FLAGS)}"]
    environment = {**os.environ, "CHROME_PATH": pdf.browser()}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    scores = {name: category["score"] for name, category in found["categories"].items()}
    assert scores.pop("performance") is not None
    assert len(scores) == 3 and min(scores.values()) >= 0.95, scores
    audits = found["audits"]
    assert audits["total-byte-weight"]["numericValue"] <= MOST_BYTES[page]
    assert audits["cumulative-layout-shift"]["numericValue"] <= 0.1  # what Lighthouse calls good
    blocking = [item["url"] for item in audits["render-blocking-resources"]["details"]["items"]]
    assert all(".css" in url or "documentation_options.js" in url for url in blocking), blocking


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_code_is_folded_and_unfolds(visit, notebook):
    tab = visit(f"chapters/{notebook}", "desktop")
    fold = tab.locator("article details.hide").first
    assert fold.get_attribute("open") is None
    fold.locator("summary").click()
    assert fold.locator("pre").first.is_visible()
    assert visit.complaints == []


def test_a_phone_reaches_every_page_through_the_menu(visit):
    tab = visit(PAGES[0], "phone")
    last = tab.locator(f".bd-sidebar-primary a[href$='{PAGES[-1]}.html']").first
    assert not last.is_visible()
    tab.locator(".primary-toggle").first.click()
    last.wait_for(state="visible")
    last.click()
    tab.wait_for_url(f"**/{PAGES[-1]}.html")
    assert visit.complaints == []


# --------------------------------------------------------------------------- the notebooks in it


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_executed_notebook_is_whole_and_clean(name, workplace):
    path = workplace / "book" / "chapters" / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    assert outputs(path, "error") == []
    assert all(
        cell.outputs for cell in cells if cell.cell_type == "code" and "parameters" not in str(cell.metadata)
    )
    given = [cell.metadata.tags for cell in cells if "parameters" in str(cell.metadata)]
    assert len(given) == 2 and all("remove-cell" in tags for tags in given)
    printed = "".join(output.text for output in outputs(path, "stream"))
    assert not re.search(r"\d+ of \d+:", printed)  # progress leaves no trace
    text = path.read_text()
    assert str(ROOT) not in text
    assert "papermill" not in json.loads(text)["metadata"]


def value_of(source, name, space):
    """Execute a cell, and return the value of its last line, which Jupyter shows; None without one."""
    *lines, last = ast.parse(source).body
    shown = isinstance(last, ast.Expr)
    exec(compile(ast.Module(lines if shown else [*lines, last], []), name, "exec"), space)
    return eval(compile(ast.Expression(last.value), name, "eval"), space) if shown else None


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("name", [*EXPERIMENTS, "how-fast"])
def test_the_solutions_of_the_exercises_run(name, workplace):
    """The instructor's notebook, cell by cell, on the runs of the book; every solution is in it."""
    space = {"display": lambda value: None}
    solved = teach.for_class(NOTEBOOKS[name], solved=True, profile="smoke")
    parameters, *cells = [cell.source for cell in solved.cells if cell.cell_type == "code"]
    exec(parameters, space)
    assert space["profile"] == "smoke"
    space |= dict(seeds=[0], device="cpu")
    for source in cells:
        assert not isinstance(value_of(source, f"<{name}>", space), Figure), (
            "Jupyter would show its name only"
        )
    found = solutions(NOTEBOOKS[name])
    assert found and {code.strip() for code in found} <= set(cells)


def snapshot() -> dict[str, int]:
    """Every file that runs left, with its time: what a second execution must not touch."""
    files = Path(os.environ["MLPLIB_RUNS"]).rglob("*")
    return {str(path): path.stat().st_mtime_ns for path in files if path.name != ".lock"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Environment variables under which Python imports a copy that pip installed, without the source tree."""
    folder = tmp_path_factory.mktemp("installed")
    tree, site = folder / "tree", folder / "site"
    for part in PACKAGES:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, tree)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, site, tree], check=True, timeout=300)
    shutil.rmtree(tree)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import mlpstudy, mlplib; print(mlpstudy.__file__, mlplib.__file__)"]
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.count(str(site)) == 2
    return environment


@pytest.mark.parametrize("name", ["filters", "efficiency", "from-scratch"])
def test_plain_papermill_with_an_installed_package_finds_every_run_done(name, workplace, installed, tmp_path):
    """As on Binder or Colab: only the notebook is at hand, in a folder of its own. Three kinds of runs."""
    before = snapshot()
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", tmp_path)
    command = [sys.executable, "-m", "papermill", f"{name}.ipynb", "out.ipynb", "-p", "profile", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ", all of them done already" in (tmp_path / "out.ipynb").read_text()
    assert snapshot() == before


def test_a_chapter_whose_runs_are_done_does_not_wait_for_torch(workplace):
    """Its import takes seconds, in each of the kernels of `make book` once all runs are done."""
    program = (
        "import sys\n"
        "from mlpstudy.book.chapter import open_chapter\n"
        "from mlpstudy.experiments import experiment\n"
        "chapter = open_chapter('transfer', profile='smoke')\n"
        "for call in (chapter.found, chapter.banner, chapter.definition, chapter.run, chapter.table,\n"
        "             chapter.verdicts, chapter.settings, chapter.provenance): call()\n"
        "for name in experiment('transfer').FIGURES: chapter.figure(name)\n"
        "assert chapter.records and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
