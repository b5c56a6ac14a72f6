"""A reader's clone of the repository, and commands that run in it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from small_runs import ROOT


def make_clone(place: Path) -> Path:
    """A fresh clone of what is committed, with an environment at ``.venv`` that set-up takes for its own."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    make_environment(place)
    return place


def make_environment(place: Path) -> None:
    """An environment with the packages of this one, so nothing is downloaded, and the clone's library."""
    environment = place / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    here = sysconfig.get_paths()
    base = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=base))
    paths = dict.fromkeys([str(place), here["purelib"], here["platlib"]])
    (packages / "study.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    copy_scripts(Path(here["scripts"]), environment / "bin")
    command = environment / "bin" / "mlplib"  # what pip writes for the entry point in pyproject.toml
    command.write_text(
        f"#!{environment}/bin/python\nfrom mlpstudy.cli import main\nmain()\n", encoding="utf-8"
    )
    command.chmod(0o755)
    # What bin/set-up writes once it is done: see its function fingerprint.
    stamp = "(pwd; (cd .venv && pwd); cat pyproject.toml) | tee .venv/.set-up > .venv/.set-up-ffcv"
    subprocess.run(["bash", "-c", stamp], cwd=place, check=True)


def copy_scripts(source: Path, target: Path) -> None:
    """The programs of an environment for another one: they name their Python in the first line."""
    for path in source.iterdir():
        if (target / path.name).exists() or not path.is_file():
            continue
        start = path.read_bytes()[:2]
        if start != b"#!":
            (target / path.name).symlink_to(path)
            continue
        text = path.read_text(encoding="utf-8").replace(f"{source}/python", f"{target}/python")
        (target / path.name).write_text(text, encoding="utf-8")
        (target / path.name).chmod(0o755)


def reader(place: Path) -> dict[str, str]:
    """A reader's environment variables; the runs go where those of all tests go (tests/conftest.py)."""
    ours = {
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "VENV",
        "PYTHON",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "MLPLIB_RESULTS",
    }
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"PATH": f"{place}/.venv/bin:{kept['PATH']}", "COLUMNS": "200"}


def run(command: list[str], place: Path, limit: float) -> subprocess.CompletedProcess:
    """The command in the clone; it is ended with all that it started when it takes too long."""
    options = dict(cwd=place, env=reader(place), text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as child:
        try:
            out, _ = child.communicate(timeout=limit)
        except BaseException:
            os.killpg(child.pid, 9)
            raise
    return subprocess.CompletedProcess(command, child.returncode, out)
