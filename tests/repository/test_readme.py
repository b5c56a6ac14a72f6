"""What a reader types: commands in the pages run as written, in a fresh clone with its own environment.

Blocks marked ``bash`` are run, except ``make test``, which is running. Blocks marked ``sh`` need a GPU, a
cluster or a package that is not here: their programs, options and files are checked. Blocks marked ``python``
are run in profile smoke.
"""

import functools
import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from reader_clone import make_clone, run
from small_runs import PACKAGES, ROOT
from typed import parse

from mlplib.models import build_model
from mlplib.specs import ModelSpec

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "book/index.md",
    "book/re-run.md",
    "book/cluster.md",
    "book/teach.md",
)
ELSEWHERE = ("make test\n", "make book\n", "make smoke\n")
"""The first is running; tests/mlpstudy/book/test_smoke.py makes the book, in profile smoke."""
MINUTES = 60
LIMIT = 20 * MINUTES


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language and its text."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """Names the block in a test's id."""
        return f"{self.page}: {self.text.splitlines()[0]}"

    @property
    def commands(self) -> list[str]:
        """Its commands, one a line, without prompts of notebooks and with continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.lstrip("!%").strip() for line in lines if line.strip()]


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            found += [Block(page, language, body)] if language in languages else []
    return found


def each(*languages: str):
    return pytest.mark.parametrize("block", [pytest.param(b, id=b.name) for b in blocks(*languages)])


# --------------------------------------------------------------------------- a reader's clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return make_clone(tmp_path_factory.mktemp("reader") / "study")


def cost(block: Block):
    slow = block.language != "bash" or block.text.startswith("make read")
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(block, id=block.name, marks=[*marks, pytest.mark.timeout(LIMIT + MINUTES)])


def runnable() -> list[Block]:
    """The ``bash`` blocks but those of :data:`ELSEWHERE`; the same command on two pages is one."""
    found = {block.text: block for block in reversed(blocks("bash")) if block.text not in ELSEWHERE}
    return sorted(found.values(), key=lambda block: PAGES.index(block.page))


@pytest.mark.parametrize("block", [cost(block) for block in runnable()])
def test_commands_run_as_written(block, clone):
    done = run(["bash", "-e", "-o", "pipefail", "-c", block.text], clone, LIMIT)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Traceback" not in done.stdout
    assert "set-up: installing" not in done.stdout, "the clone's environment was not taken for a finished one"
    for made in re.findall(r"\bbuild/[\w./-]+\.ipynb", block.text):
        assert (clone / made).is_file(), f"{made} was not written"
    if block.text.startswith("make read"):
        assert (clone / named_page(block, done.stdout)).is_file()


def named_page(block: Block, printed: str) -> str:
    """The front page that a command prints; the page that has the command has to name it, too."""
    (page,) = re.findall(r"read the book: ([\w./-]+)", printed)
    text = (ROOT / block.page).read_text(encoding="utf-8")
    assert f"`{page}`" in text, f"{block.page} does not say where the book is"
    return page


@pytest.mark.slow
@each("python")
def test_python_in_the_pages_runs(block, clone):
    code = block.text.replace('profile("gpu")', 'profile("smoke")')
    done = run([f"{clone}/.venv/bin/python", "-c", code], clone, 5 * MINUTES)
    assert done.returncode == 0, done.stdout


# --------------------------------------------------------------------------- what cannot be run here


@pytest.mark.parametrize(
    "block", [cost(b) for b in (*blocks("sh", "text"), *(b for b in blocks("bash") if b.text in ELSEWHERE))]
)
def test_other_commands_have_known_programs_options_and_files(block, clone):
    for command in block.commands:
        check(command, clone)
    if block.text in ELSEWHERE and block.text != "make test\n":
        named_page(block, run(["make", "-n", *block.text.split()[1:]], clone, MINUTES).stdout)


def check(command: str, place: Path) -> None:
    """One command that is not run: whatever of it can be known without a GPU, a cluster or a download."""
    program, *arguments = shlex.split(command)
    if program == "srun":
        inner = next(i for i, word in enumerate(arguments) if not word.startswith("--"))
        check(shlex.join(arguments[inner:]), place)
    elif program == "make":
        done = run(["make", "-n", *arguments], place, MINUTES)
        assert done.returncode == 0, done.stdout
    elif program == "mlplib":
        parse(arguments)
    elif program == "snakemake":
        check_snakemake(arguments, place)
    elif program == "export":
        (name,) = (argument.partition("=")[0] for argument in arguments)
        library = "".join(
            path.read_text(encoding="utf-8")
            for package in PACKAGES
            for path in (ROOT / package).rglob("*.py")
        )
        assert f'"{name}"' in library, f"nothing reads {name}"
    else:
        known = (
            "pip",
            "torchrun",
            "jupyter",
            "source",
            "pytest",
            "ruff",
            "python",
            "git",
            "cd",
            "tensorboard",
        )
        assert program in known, f"{program} is not one of {known}"
    for name in (a for a in arguments if re.fullmatch(r"(bin|tests|notebooks|book)/[\w./-]+", a)):
        assert (ROOT / name).exists(), f"{command} names {name}, which is not there"


def check_snakemake(arguments: list[str], place: Path) -> None:
    """A dry run; the profile with its executor is left out, because the plugin is not installed."""
    arguments = list(arguments)
    if "--profile" in arguments:
        at = arguments.index("--profile")
        settings = yaml.safe_load((ROOT / arguments[at + 1] / "config.yaml").read_text(encoding="utf-8"))
        install = f"pip install snakemake-executor-plugin-{settings['executor']}"
        assert any(install in block.text for block in blocks("sh")), f"{install} is missing"
        del arguments[at : at + 2]
    for folder in re.findall(r"official_checkpoints=(\S+)", " ".join(arguments)):
        (place / folder).mkdir(exist_ok=True)
        network = build_model(ModelSpec("b-mlp", depth=1, width=8), (16, 16, 3), 4, seed=0)
        torch.save(network.state_dict(), place / folder / "downloaded")
    # An option that takes several values would take the flag for one.
    done = run([f"{place}/.venv/bin/snakemake", "-n", *arguments], place, 3 * MINUTES)
    assert done.returncode == 0, done.stdout
    assert "rule chapter:" in done.stdout


def test_a_wrong_command_would_be_found():
    for wrong in ("train", "plan --profile huge", "run from-nothing", "data", "data get cifar10"):
        with pytest.raises(AssertionError):
            parse(shlex.split(wrong))
    for wrong in ("plan --profil gpu", "notebook", "bench --batch-size many"):
        with pytest.raises(Exception, match=r"(?i)no such option|missing|valid integer"):
            parse(shlex.split(wrong))


# --------------------------------------------------------------------------- the scoreboard


UPDATE = SimpleNamespace(**runpy.run_path(str(ROOT / "bin" / "update-scoreboard")))
TABLES = functools.cache(UPDATE.tables)


@pytest.mark.parametrize("name", UPDATE.PAGES)
def test_the_tables_are_those_of_the_published_records(name):
    page, table = UPDATE.PAGES[name], TABLES()[name]
    text = (ROOT / page).read_text(encoding="utf-8")
    assert table and table in text, f"{page} is out of date: run .venv/bin/python bin/update-scoreboard"
    assert UPDATE.updated(text, name, table) == text


def test_the_update_changes_the_table_only():
    page = "# a\n\n<!-- reruns -->\n%s\n<!-- /reruns -->\n\nb \\1\n"
    assert UPDATE.updated(page % "old", "reruns", "| \\1 |") == page % "\n| \\1 |\n"
    with pytest.raises(ValueError, match="0 tables reruns"):
        UPDATE.updated("# nothing", "reruns", "x")
