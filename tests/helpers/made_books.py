"""The smoke book made by the real engine, and what executed notebooks hold."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
from small_runs import ROOT


def snakemake(folder: Path, *targets: str, root: Path = ROOT, **config: str) -> subprocess.CompletedProcess:
    """Call the engine as ``make`` does, with everything that it writes under ``folder``."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{root}/Snakefile"]
    command += ["--directory", f"{folder}"]
    command += "--cores all --keep-going --rerun-incomplete --nolock --max-checksum-file-size 20MB".split()
    command += "--quiet host reason rules progress --config quiet=true".split()
    command += [*(f"{key}={value}" for key, value in config.items()), *(["--", *targets] if targets else ())]
    return subprocess.run(command, capture_output=True, text=True, timeout=1100)


def outputs(path: Path, kind: str) -> list:
    """The outputs of one kind in an executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", ()) if output.output_type == kind]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """The code of every solution, in order."""
    return re.findall(r"^~~~python\n(.*?)^~~~", prose(notebook), flags=re.MULTILINE | re.DOTALL)
