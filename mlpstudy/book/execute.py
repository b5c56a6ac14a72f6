"""Execute a notebook as a chapter: for ``mlplib notebook``, and for ``make book``, which calls that.

Every run in progress prints a line; a wrong parameter is reported in one line before anything starts.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO

from mlplib.errors import Interrupted, MlplibError, one_line, require_choice
from mlplib.files import expand, wait_for

from .parameters import of_notebook, parse

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "python3"
OVERVIEWS = ("compute", "how-fast", "scoreboard")
"""The notebooks about all experiments. They show the runs of the others, so they are executed last, except in
profile published, where nothing is run."""
MARK = "mlpstudy"
"""The metadata key under which an executed notebook names its source."""
ELSEWHERE = "choose another place with --out"


def names() -> list[str]:
    """The names of all notebooks: one per experiment in the book's order, then the overviews.

    Raises:
        MlplibError: there are none, as when the package was installed without its source tree.
    """
    from ..experiments import EXPERIMENTS

    folder = ROOT / "notebooks"
    found = [name for name in (*EXPERIMENTS, *OVERVIEWS) if (folder / f"{name}.ipynb").is_file()]
    if not found:
        raise MlplibError(f"there are no notebooks in {ROOT}: work in a clone of the study's repository")
    return found


def unlisted() -> list[str]:
    """The notebooks in ``notebooks`` that are not part of the study, such as ``Untitled.ipynb``."""
    found = (path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    return sorted(set(found) - {f"{name}.ipynb" for name in names()})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def execute(
    name: str,
    parameters: Mapping[str, object],
    out: str | os.PathLike,
    log: Callable[[str], None] = _say,
    overwrite: bool = False,
) -> Path:
    """Execute ``notebooks/<name>.ipynb`` with papermill and return the path of the executed copy.

    Args:
        parameters: as in :class:`mlpstudy.book.parameters.Parameters`; omitted ones keep their defaults.
        out: the path of the executed notebook, which ends with the cell that failed if one did.
        log: called with each line of progress.
        overwrite: replace the file at ``out`` even if it is not a notebook that was executed here.

    Raises:
        MlplibError: an unknown notebook or parameter, no usable kernel, or an output path that cannot be
            written or has another file (nothing was started then); a cell failed; the disk is full.
        Interrupted: Ctrl-C or SIGTERM; finished and checkpointed runs are kept.
    """
    require_choice("notebook", name, names())
    given = _given(name, parameters)
    target = _free_place(out, overwrite)
    _check_kernel()
    try:
        with _unfinished(target, log) as temporary:
            try:
                _papermill(ROOT / "notebooks" / f"{name}.ipynb", temporary, given, log)
            except BaseException:
                with suppress(OSError, ValueError):  # nothing or half a notebook was written: nothing to keep
                    _finish(name, temporary, target)
                raise
            _finish(name, temporary, target)
    except OSError as error:
        raise MlplibError(f"{target} cannot be written ({error.strerror}): {ELSEWHERE}") from None
    return target


@contextmanager
def _unfinished(target: Path, log: Callable[[str], None]) -> Iterator[Path]:
    """An empty temporary file next to ``target``. Its name is fixed: a file that a killed process left is
    reused, and of two processes at once, as after Snakemake was killed without its jobs, one waits.
    """
    path = target.with_name(f".{target.stem}.unfinished.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            wait_for(file, lambda: log(f"waiting for another process that executes {target}"))
            if not _is(path, file):  # the other process has moved it into place
                continue
            file.truncate(0)
            try:
                yield path
            finally:
                with suppress(OSError):
                    if _is(path, file):
                        path.unlink()
            return


def _is(path: Path, file: IO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _free_place(out: str | os.PathLike, overwrite: bool) -> Path:
    """The file that ``out`` is or links to, if it may be written."""
    target = Path(os.path.realpath(expand(out, "--out")))
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as error:
        raise MlplibError(f"{target} cannot be written ({error.strerror}): {ELSEWHERE}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
        raise MlplibError(f"{target} is {kind}: {ELSEWHERE}")
    if status.st_size and not overwrite and not _was_executed_here(target):
        raise MlplibError(
            f"{target} is not an executed notebook: {ELSEWHERE}, or replace it with --overwrite"
        )
    return target


def _was_executed_here(path: Path) -> bool:
    try:
        return path.suffix == ".ipynb" and MARK in json.loads(path.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _given(name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters to inject: checked, without defaults, folders relative to the source tree."""
    given = parse(parameters, of_notebook(name)).model_dump(mode="json", exclude_defaults=True)
    if "official_checkpoints" in given:
        from mlplib.official import candidates

        candidates(given["official_checkpoints"])  # refuses a folder without any
    for folder in ("runs_dir", "results_dir", "official_checkpoints"):
        if folder in given:
            # The notebook runs in the source tree, and the book should not reveal its path.
            given[folder] = os.path.relpath(expand(given[folder], folder), ROOT)
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


def _lines_to(log: Callable[[str], None]) -> SimpleNamespace:
    """A file object through which papermill passes the notebook's printed lines to ``log``."""

    def write(text: str) -> None:
        for line in filter(str.strip, text.splitlines()):
            log(line)

    return SimpleNamespace(write=write, flush=lambda: None)


FOLDERS = ("MLPLIB_RUNS", "MLPLIB_RESULTS", "MLPLIB_CACHE", "MLPLIB_DATA")


def _papermill(source: Path, target: Path, parameters: dict, log: Callable[[str], None]) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from .kernel import ENGINE

    for name in FOLDERS:  # the notebook works in another folder than this process
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))
    again = "start it again and it goes on from its last checkpoint"
    stopped = Interrupted(f"stopped in notebook {source.stem}: {again}")
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=parameters,
            engine_name=ENGINE,
            kernel_name=KERNEL,
            language="python",
            cwd=ROOT,
            progress_bar=False,
            stdout_file=_lines_to(log),
            extra_arguments=["--log-level=CRITICAL"],  # hides its messages about sockets and signals
        )
    except KeyboardInterrupt:
        raise stopped from None
    except PapermillExecutionError as error:
        if error.ename in (Interrupted.__name__, KeyboardInterrupt.__name__):
            raise stopped from None
        # The library's own errors say what to do; others are shown with their type.
        what = error.evalue if error.ename == MlplibError.__name__ else f"{error.ename}: {error.evalue}"
        raise MlplibError(f"notebook {source.stem} stopped at cell {error.exec_count}: {what}") from None
    except ValueError as error:
        raise MlplibError(f"notebook {source} cannot be executed: {one_line(error)}") from None


def _finish(name: str, temporary: Path, target: Path) -> None:
    """Remove what concerns only the machine that executed it, such as folders and clock times; hide the
    parameters, so that the page begins with the findings; move the file into place.
    """
    import nbformat

    notebook = nbformat.read(temporary, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", ())):
            cell.metadata.tags.append("remove-cell")
    notebook.metadata[MARK] = {"notebook": name}
    nbformat.write(notebook, temporary)
    os.replace(temporary, target)
