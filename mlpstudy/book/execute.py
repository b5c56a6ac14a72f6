"""Executing a notebook as a chapter. Three people come here, and this is what they type and see.

*Who reads the book* types nothing. Every chapter opens with what it teaches and a box that names the device
and the cost; every number has its settings, its seeds and its runs one click away.

*Who executes it again* types ``make book``, ``mlplib notebook filters --profile smoke``, or ``papermill
notebooks/filters.ipynb out.ipynb -p profile smoke``, and sees a line for every run under way, then where the
chapter is. Typing it again trains nothing. A wrong parameter ends in one line before anything starts.

*Who teaches with it* opens the notebook in Jupyter, changes the cell ``parameters`` or calls the library in a
cell of their own: a chapter's cells are a few named calls, and everything that they show comes from
:mod:`mlpstudy.book.chapter`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mlplib.errors import Interrupted, MlplibError, require_choice

from .parameters import of_notebook, parse

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "python3"


def names() -> list[str]:
    """Every notebook by name, those of experiments in the book's order first.

    Raises:
        MlplibError: there is no folder ``notebooks``, as when the package was installed without its source
        tree.
    """
    from ..experiments import EXPERIMENTS

    found = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    if not found:
        raise MlplibError(f"there are no notebooks in {ROOT}: work in a clone of the study's repository")
    first = [name for name in EXPERIMENTS if name in found]
    return first + sorted(found - set(first))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def execute(
    name: str,
    parameters: Mapping[str, object] | None = None,
    out: str | os.PathLike | None = None,
    log: Callable[[str], None] = _say,
) -> Path:
    """Execute ``notebooks/<name>.ipynb`` with papermill and give the path of the executed copy.

    Args:
        parameters: as in :class:`mlpstudy.book.parameters.Parameters`; what is left out keeps its default.
        out: where the executed notebook goes, whether it succeeded or stops at the cell that failed.
            None: a success goes to ``book/chapters/<name>.ipynb``, a failure to
            ``book/_build/executed/<name>.ipynb``.
        say: called with each line that tells how far the work is.

    Raises:
        MlplibError: an unknown notebook or parameter, no usable kernel, a folder that cannot be written to
        (nothing was
            started then), or a cell failed.
        Interrupted: Ctrl-C; finished and checkpointed runs are kept.
    """
    require_choice("notebook", name, names())
    given = _given(name, parameters or {})
    _check_kernel()
    target = Path(out) if out is not None else ROOT / "book" / "chapters" / f"{name}.ipynb"
    failed = target if out is not None else ROOT / "book" / "_build" / "executed" / f"{name}.ipynb"
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.ipynb")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("", encoding="utf-8")
    except OSError as error:
        problem = f"{target} cannot be written ({error.strerror}): choose another place with --out"
        raise MlplibError(problem) from None
    try:
        _papermill(ROOT / "notebooks" / f"{name}.ipynb", temporary, given, log)
    except BaseException:
        if temporary.stat().st_size:
            _tidy(temporary)
            failed.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, failed)
        temporary.unlink(missing_ok=True)
        raise
    _tidy(temporary)
    os.replace(temporary, target)
    return target


def _given(name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters to inject: checked, without defaults, folders relative to the source tree."""
    checked = parse(parameters, of_notebook(name))
    usual = type(checked)()
    given = {k: v for k, v in checked.model_dump(mode="json").items() if v != getattr(usual, k)}
    for folder in ("runs_dir", "results_dir", "official_checkpoints"):
        if folder in given:
            # The notebook runs in the source tree, and the book should not tell where that is.
            given[folder] = os.path.relpath(Path(given[folder]).expanduser(), ROOT)
    return given


def _check_kernel() -> None:
    """Refuse a kernel that is another interpreter: it may lack the package, or have another version of it."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        command = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    except NoSuchKernel:
        install = f"{sys.executable} -m pip install ipykernel"
        raise MlplibError(f"there is no Jupyter kernel {KERNEL!r}: install it with {install}") from None
    # Jupyter replaces a bare "python" by the interpreter that it runs in.
    bare = os.path.basename(command) == command and command.startswith("python")
    if not bare and Path(command).absolute() != Path(sys.executable).absolute():
        raise MlplibError(
            f"the Jupyter kernel {KERNEL!r} runs {command}, not this environment's Python: "
            f"replace it with {sys.executable} -m ipykernel install --sys-prefix --name {KERNEL}"
        )


class _Narrator:
    """The file that papermill copies the notebook's printed lines to."""

    def __init__(self, log: Callable[[str], None]):
        self.log = log

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.strip():
                self.log(line)

    def flush(self) -> None:
        pass


def _papermill(source: Path, target: Path, parameters: dict, log: Callable[[str], None]) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters,
            kernel_name=KERNEL,
            cwd=ROOT,
            progress_bar=False,
            stdout_file=_Narrator(log),
            extra_arguments=["--log-level=CRITICAL"],  # its talk of sockets and signals is not for a reader
        )
    except KeyboardInterrupt:
        again = "start it again and it goes on from its last checkpoint"
        raise Interrupted(f"stopped in notebook {source.stem}: {again}") from None
    except PapermillExecutionError as error:
        kind = {"Interrupted": Interrupted, "KeyboardInterrupt": Interrupted}.get(error.ename, MlplibError)
        # The library's own errors say what to do; of others the reader needs the kind and the place.
        own = error.ename in (MlplibError.__name__, Interrupted.__name__)
        what = error.evalue if own else f"{error.ename}: {error.evalue}"
        raise kind(f"notebook {source.stem} stopped at cell {error.exec_count}: {what}") from None


def _tidy(path: Path) -> None:
    """Take out what only concerns the machine that executed it: folders and clock times."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, path)
