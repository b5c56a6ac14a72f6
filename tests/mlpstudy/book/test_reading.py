"""Reading mode: profile ``published`` shows published records, trains nothing and reads no data set."""

import re
import subprocess
import sys

import nbformat
import pytest
from small_runs import ROOT

import mlplib.data
import mlplib.data.loading
import mlplib.executor
import mlplib.training
from mlplib.errors import MlplibError
from mlpstudy.bench import speed
from mlpstudy.book import teach
from mlpstudy.book.chapter import NO_RECORDS, open_chapter
from mlpstudy.book.execute import names
from mlpstudy.book.page_scoreboard import open_scoreboard
from mlpstudy.book.parameters import CheckpointParameters, parse
from mlpstudy.experiments import EXPERIMENTS

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture
def nothing_but_records(monkeypatch, tmp_path):
    """Fail on training, timing, loading data, and on using the usual folders of runs and of data."""

    def forbidden(*args, **kwargs):
        pytest.fail("trained, timed or loaded data")

    monkeypatch.setattr(mlplib.training, "train", forbidden)
    for module in (mlplib.data, mlplib.data.loading):
        monkeypatch.setattr(module, "load", forbidden)
    monkeypatch.setattr(mlplib.executor.Executor, "record", forbidden)
    monkeypatch.setattr(speed, "measure", forbidden)
    for variable in ("MLPLIB_CACHE", "MLPLIB_DATA", "MLPLIB_RUNS"):
        monkeypatch.setenv(variable, str(tmp_path / "unused"))
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", names())
def test_every_cell_of_a_notebook_reads_published_records_only(name, nothing_but_records, capsys):
    cells = [
        cell.source
        for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        if cell.cell_type == "code"
    ]
    space, shown = {}, []
    exec(cells[0], space)
    space["profile"] = "published"
    for source in cells[1:]:
        *lines, last = source.rsplit("\n", 1) if "\n" in source else ("", source)
        calls = re.match(r"(chapter|page|board)\.\w+\(.*\)$", last)
        exec(compile("\n".join(lines) if calls else source, f"<{name}>", "exec"), space)
        if calls:
            shown.append(str(eval(last, space)))
    assert "<code>published</code>" in "".join(shown)
    assert "this execution" not in "".join(shown).lower()
    if name in EXPERIMENTS:
        assert "published run" in capsys.readouterr().out
        assert "this study" in "".join(shown) and "mlp-verdict" in "".join(shown)


def test_the_exercises_on_speed_need_no_execution(nothing_but_records):
    """Book and teaching page send readers of published records to them: they train nothing."""
    notebook = nbformat.read(ROOT / "notebooks" / "how-fast.ipynb", as_version=4)
    solved = teach.for_class(notebook, solved=True, profile="smoke")
    parameters, *cells = [cell.source for cell in solved.cells if cell.cell_type == "code"]
    space = {"display": lambda value: None}
    exec(parameters, space)
    space["profile"] = "published"
    for source in cells:
        exec(compile(source, "<how-fast>", "exec"), space)


def test_a_reader_does_not_wait_for_torch():
    """Its import takes seconds, in each of the processes behind a chapter, and in Snakemake."""
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()
    program = (
        "import sys\n"
        + "".join(f"{line}\n" for line in snakefile if line.startswith("from mlp"))
        + "from mlpstudy import cost\n"
        "from mlplib.specs import DataSpec, ModelSpec\n"
        "cost.network_size(ModelSpec.parse('B-12/Wi-1024'), DataSpec('cifar10'))\n"
        "from mlpstudy.book import execute, page_cost, page_front, page_scoreboard\n"
        "from mlpstudy.book.chapter import open_chapter\n"
        "chapter = open_chapter('transfer', profile='published')\n"
        "chapter.found(), chapter.run(), chapter.table(), chapter.verdicts(), chapter.provenance()\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_chapter_without_published_records_says_so(nothing_but_records, tmp_path, capsys):
    chapter = open_chapter("filters", profile="published", results_dir=str(tmp_path))
    assert NO_RECORDS in chapter.found()
    assert chapter.run() == [] and NO_RECORDS in capsys.readouterr().out
    for shown in (chapter.table(), chapter.figure("how-local"), chapter.provenance()):
        assert NO_RECORDS in shown
    assert "not yet published" in chapter.verdicts() and "profile paper" in chapter.settings()
    board = open_scoreboard(profile="published", results_dir=str(tmp_path))
    assert "not yet published" in board.claims() and "not run" not in board.claims() + board.status()


@pytest.mark.parametrize(
    "given", [{"seeds": "0,1"}, {"runs_dir": "x"}, {"device": "cpu"}, {"official_checkpoints": "x"}]
)
def test_what_only_an_execution_uses_is_refused(given):
    (name,) = given
    with pytest.raises(MlplibError, match=f"^{name} has no effect in profile published: leave it out"):
        parse({"profile": "published", **given}, CheckpointParameters)
