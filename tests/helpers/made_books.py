"""The smoke book made by the real engine, and what executed notebooks hold."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from small_runs import PACKAGES, ROOT


def snakemake(folder: Path, *targets: str, root: Path = ROOT, **config: str) -> subprocess.CompletedProcess:
    """Call the engine as ``make`` does, with everything that it writes under ``folder``."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{root}/Snakefile"]
    command += ["--directory", f"{folder}"]
    command += "--cores all --keep-going --rerun-incomplete --nolock --max-checksum-file-size 20MB".split()
    command += "--quiet host reason rules progress --config quiet=true".split()
    command += [*(f"{key}={value}" for key, value in config.items()), *(["--", *targets] if targets else ())]
    return subprocess.run(command, capture_output=True, text=True, timeout=1100)


def small_tree(tree: Path, notebooks: dict[str, nbformat.NotebookNode]) -> Path:
    """A copy of the study with these notebooks only, set up already."""
    made = shutil.ignore_patterns("_build", "chapters", "__pycache__")
    for part in (*PACKAGES, "book"):
        shutil.copytree(ROOT / part, tree / part, ignore=made)
    for name in ("Snakefile", "Makefile"):
        shutil.copy(ROOT / name, tree)
    (tree / "bin").mkdir()
    (tree / "bin" / "set-up").symlink_to(shutil.which("true"))
    (tree / "notebooks").mkdir()
    for name, notebook in notebooks.items():
        nbformat.write(notebook, tree / "notebooks" / f"{name}.ipynb")
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


def outputs(path: Path, kind: str) -> list:
    """The outputs of one kind in an executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", ()) if output.output_type == kind]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """The code of every solution, in order."""
    return re.findall(r"^~~~python\n(.*?)^~~~", prose(notebook), flags=re.MULTILINE | re.DOTALL)
