"""One environment, told in several places: pyproject.toml, environment.yml, what is imported, the set-up."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from reader_clone import reader
from small_runs import PACKAGES, ROOT

from mlplib.limits import cores

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {
    "pytorch": "torch",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
    "snakemake-minimal": "snakemake",
    "jupyter_client": "jupyter-client",
}
IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml", "ipython": "IPython", "fonttools": "fontTools"}


def declared(*extras: str) -> dict[str, str]:
    """The requirements of pyproject.toml with those of ``extras``: name to bounds."""
    lines = [
        *PROJECT["dependencies"],
        *(line for e in extras for line in PROJECT["optional-dependencies"][e]),
    ]
    requirements = [Requirement(line) for line in lines]
    return {r.name.lower(): str(r.specifier) for r in requirements}


def test_conda_and_pip_ask_for_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip_lines,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "-e ." in pip_lines
    requirements = [Requirement(line) for line in [*plain, *pip_lines] if not line.startswith("-e")]
    bounds = {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in requirements}
    assert bounds.pop("python") == PROJECT["requires-python"]
    assert bounds.pop("pip") == ""
    assert bounds == declared("study", "test")


def test_everything_imported_is_declared():
    """Whatever a module of the library imports, at the top or later, stands in pyproject.toml."""
    names = declared("study", "ffcv")
    known = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names} | {*PACKAGES}
    unknown = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported = [node.module]
            for name in imported:
                top = name.partition(".")[0]
                if top not in known and top not in sys.stdlib_module_names:
                    unknown.setdefault(top, []).append(str(path.relative_to(ROOT)))
    assert not unknown, f"imported but not in pyproject.toml: {unknown}"


def test_the_command_answers_at_once_because_torch_is_imported_late():
    code = (
        "import atexit, sys, mlpstudy.cli\n"
        "atexit.register(lambda: print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules]))\n"
        "mlpstudy.cli.main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout and done.stdout.endswith("\n[]\n")


def test_citation_and_package_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    paper = citation["references"][0]
    assert paper["title"] == "Scaling MLPs: A Tale of Inductive Bias"
    assert [author["family-names"] for author in paper["authors"]] == ["Bachmann", "Anagnostidis", "Hofmann"]


def test_a_release_needs_one_version_and_committed_files(tmp_path, monkeypatch):
    copied = tmp_path / "clone"
    for name in ("pyproject.toml", "CITATION.cff", "book/changelog.md", "bin/release"):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copied / name)
    (copied / ".gitignore").write_text("/dist/\n/book/_build/\n", encoding="utf-8")
    (copied / "book/_build/html").mkdir(parents=True)
    (copied / "book/_build/html/index.html").write_text("<h1>Title</h1>", encoding="utf-8")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ada@example.org")

    def release() -> str:
        done = subprocess.run([sys.executable, copied / "bin/release"], capture_output=True, text=True)
        assert done.returncode == bool(done.stderr) and len((done.stdout + done.stderr).splitlines()) == 1
        return done.stdout + done.stderr

    subprocess.run(["git", "init", "-q", copied], check=True)
    assert "uncommitted changes" in release()
    subprocess.run("git add -A && git commit -qm x", shell=True, cwd=copied, check=True)
    assert "made dist/scaling-mlps-" in release()
    (made,) = (copied / "dist").iterdir()
    assert zipfile.ZipFile(made).namelist()[-1] == "html/index.html"
    assert "released already" in release()
    (copied / "CITATION.cff").write_text("version: 0\n", encoding="utf-8")
    assert "CITATION.cff is not of version" in release()
    (copied / "book/changelog.md").write_text("# Changelog\n", encoding="utf-8")
    assert "say there what changed" in release()


# --------------------------------------------------------------------------- set-up


def set_up(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(ROOT / "bin" / "set-up"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def fake_python(folder: Path, script: str, name: str = "python") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script, said", [
    (None, "set-up: there is no no-such-python: install Python 3.11 or newer, "),
    ('case "$1" in -V) echo Python 3.8;; *) exit 1;; esac', "is Python 3.8, but 3.11 or newer is needed"),
    ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
])  # fmt: skip
def test_set_up_with_a_python_that_will_not_do_says_what_to_install(script, said, tmp_path):
    python = fake_python(tmp_path, script) if script else "no-such-python"
    done = set_up(PYTHON=python, VENV=str(tmp_path / "env"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and said in done.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("name", ["env", "an environment"])
def test_set_up_does_nothing_when_nothing_changed(tmp_path, name):
    venv = tmp_path / name
    venv.mkdir()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (venv / ".set-up").write_text(f"{ROOT}\n{venv}\n{project}", encoding="utf-8")
    done = set_up(VENV=str(venv), PYTHON="no-such-python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (venv / ".set-up").write_text(f"{ROOT}\n{venv}\nanother project", encoding="utf-8")
    assert set_up(VENV=str(venv), PYTHON="no-such-python").returncode == 1


@pytest.mark.parametrize("link", [False, True], ids=["folder", "link to an environment"])
def test_set_up_clears_nothing_that_is_not_its_own_environment(tmp_path, link):
    """An environment that several clones share by a link, or a folder named by mistake."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").touch()
    if link:
        (kept / "pyvenv.cfg").touch()
        (tmp_path / "link").symlink_to(kept)
    done = set_up(VENV=f"{tmp_path / ('link' if link else 'kept')}/")
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"set-up: .* is no environment that works, .*: remove it, .*\n", done.stderr)
    assert (kept / "thesis.txt").exists()


def test_an_environment_behind_a_link_is_used(tmp_path):
    venv = tmp_path / "env"
    venv.mkdir()
    (tmp_path / "link").symlink_to(venv)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (venv / ".set-up").write_text(f"{ROOT}\n{venv}\n{project}", encoding="utf-8")
    assert set_up(VENV=str(tmp_path / "link"), PYTHON="no-such-python").returncode == 0


UV = "echo uv $UV_DEFAULT_INDEX $UV_INDEX $* >> ../asked; echo Installed 9"


@pytest.mark.parametrize("uv, own, asked, said", [
    (UV, True, "uv https://a/simple https://b https://c pip install --python .*", "Installed 9"),
    (UV, False, "pip .* uv\nuv https://a/simple https://b https://c pip install --python .*", "Installed 9"),
    ("echo error: no index; exit 1", True, "pip .*", "uv could not install it, so pip does: error: no index"),
    (None, False, "pip .* uv\npip .*", "set-up: done"),
], ids=["the reader's", "the environment's", "fails", "there is none for this machine"])  # fmt: skip
def test_uv_installs_from_where_pip_would_and_pip_what_it_cannot(uv, own, asked, said, tmp_path):
    venv, programs = tmp_path / "env", tmp_path / "programs"
    (venv / "bin").mkdir(parents=True)
    programs.mkdir()
    if uv:
        fake_python(programs, f"cd {venv}; {uv}", name="uv" if own else "to-be-uv")
    index = "-".join(("index", "url"))
    settings = f"printf '%s\\n' \":env:.{index}='https://a/simple'\" \"global.{index}='https://z'\" "
    settings += f"\"global.extra-{index}='https://b\\\\nhttps://c'\""
    get_uv = f"cp {programs}/to-be-uv bin/uv 2> ../no" if uv else "exit 1"
    fake_python(
        venv / "bin",
        f'cd {venv}; case "$3 $*" in config*) {settings};; install*uv) echo pip $* >> ../asked; {get_uv};;'
        " install*) echo pip $* >> ../asked;; esac",
    )
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not Path(p, "uv").exists())
    done = set_up(VENV=str(venv), PATH=f"{programs}:{path}")
    assert done.returncode == 0 and done.stderr == "" and said in done.stdout
    assert re.fullmatch(asked + r"-e \.\[study,test\]\n", (tmp_path / "asked").read_text(encoding="utf-8"))
    assert (venv / ".set-up").exists()


def test_make_without_a_home_says_what_to_set(tmp_path):
    """As in a container that was started under an id that it does not know."""
    fake_python(tmp_path, "exit 2", name="getent")
    env = reader(tmp_path)
    env |= {"PATH": f"{tmp_path}:{env['PATH']}", "VENV": str(tmp_path / "env")}
    env.pop("HOME", None)
    done = subprocess.run(["make", "read"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    said, stopped = done.stderr.splitlines()
    assert said == "set-up: this user has no home folder: set HOME to a folder that you can write to"
    assert stopped.startswith("make: ***") and not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("read PROFILE=huge", "make read is for profile published: leave PROFILE out, or type make book"),
        ("pdf PROFILE=laptop", "make pdf is for profile published"),
        ("smoke PROFILE=gpu", "make smoke is for profile smoke"),
        ("book profile=gpu", "make knows no profile: choose from PROFILE, PYTHON and VENV"),
        ("book PROFILE=gpu seeds=0,1", "make knows no seeds"),
        ("read PROFILE=published", None),
        ("read", None),
        ("book PROFILE=gpu PYTHON=python3 VENV=here", None),
    ],
)
def test_make_refuses_what_it_would_ignore(words, said, tmp_path):
    """One in the environment is meant for other commands."""
    command, env = ["make", "-n", *words.split()], reader(tmp_path) | {"PROFILE": "gpu"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode == 2 and said in done.stderr) if said else done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)


@pytest.mark.parametrize("goals", [["smoke", "book"], ["-j2", "read", "book"]])
def test_make_does_several_targets_one_after_the_other_each_in_its_profile(goals, tmp_path):
    """The book was made in the profile of the other target; with -j2, two at once wrote into its folder."""
    slow = "read smoke:; @sleep 0.5; echo $@\nsetup:; @true\n"
    (tmp_path / "show.mk").write_text(slow + 'book:; @echo book "$$PROFILE"\n')
    command = ["make", "-f", "Makefile", "-f", tmp_path / "show.mk", *goals]
    environment = {name: value for name, value in reader(tmp_path).items() if name != "PROFILE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [goals[-2], "book laptop"]


def test_make_takes_what_is_empty_for_what_is_left_out(tmp_path):
    """An empty VENV would be the machine's own Python, /bin/python."""
    (tmp_path / "show.mk").write_text('show:; @echo "$$VENV $$PYTHON"')
    command = ["make", "-f", "Makefile", "-f", tmp_path / "show.mk", "show", "VENV=", "PYTHON="]
    done = subprocess.run(command, cwd=ROOT, env=reader(tmp_path), capture_output=True, text=True)
    assert done.stdout.splitlines() == [".venv python3"]


def test_make_uses_the_cores_that_this_process_may_use(tmp_path):
    """Snakemake's own count leaves out the quota of a container."""
    (tmp_path / "show.mk").write_text("show:; @echo $(cores)")
    command = ["make", "-f", "Makefile", "-f", tmp_path / "show.mk", "show", f"VENV={sys.prefix}"]
    limited = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command]
    done = [
        subprocess.run(each, cwd=ROOT, env=reader(tmp_path), capture_output=True)
        for each in (command, limited)
    ]
    assert [int(each.stdout) for each in done] == [cores(), 1]


def test_set_up_refuses_what_it_does_not_know():
    done = set_up("everything")
    assert done.returncode == 1
    assert done.stderr == "set-up: unknown argument everything: give none, or ffcv\n"


def test_make_lists_its_targets():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = re.findall(r"^make (\w+)", done.stdout, flags=re.MULTILINE)
    assert {"book", "smoke", "test", "clean"} <= set(targets)


# --------------------------------------------------------------------------- on GitHub


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_a_workflow_uses_known_keys_pinned_actions_and_commands_that_exist(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(workflow) <= {
        "name",
        True,
        "permissions",
        "concurrency",
        "jobs",
    }  # YAML 1.1 reads "on" as true
    for name, job in workflow["jobs"].items():
        assert job["runs-on"] and set(job.get("needs", "").split()) <= set(workflow["jobs"]), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")), step
            if step.get("run", "").startswith((".", "make")):
                program, *target = step["run"].split()
                assert (ROOT / program).is_file() or f"\n{target[0]}:" in (ROOT / "Makefile").read_text()
