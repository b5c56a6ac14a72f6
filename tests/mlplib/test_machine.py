"""What is told of a machine: devices that are there, possible rates, no names of people or places."""

import importlib.util
import json
import mmap
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import ROOT

from mlplib import machine, timing
from mlplib.errors import MlplibError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", [None, "auto"])
def test_the_gpu_is_taken_where_there_is_one(name):
    assert machine.pick_device(name).type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_can_always_be_asked_for():
    assert machine.pick_device("cpu") == CPU


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:x", "CPU ", "meta", "mps", "xpu", 3.5, [], "cuda:99", "cuda:-1", "cpu:5"]
)
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(MlplibError, match="device") as caught:
        machine.pick_device(name)
    assert repr(name) in str(caught.value)


def test_precision_follows_the_device_unless_it_is_given():
    assert machine.pick_precision("fp32", CPU) == "fp32" and machine.pick_precision("bf16", CPU) == "bf16"
    assert machine.pick_precision("auto", CPU) == ("bf16" if machine.has_bf16(CPU) else "fp32")


@pytest.mark.parametrize(
    "capability, expected",
    [((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")],
    ids=["A100", "T4", "V100", "P40"],
)
def test_gpus_with_matrix_units_but_without_bf16_compute_in_fp16(capability, expected, monkeypatch):
    second = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", {second: capability}.get)  # not the first one's
    assert machine.pick_precision("auto", second) == expected


def test_bf16_needs_the_instructions_for_it():
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        pytest.skip("no /proc/cpuinfo on this system")
    words = set(flags.read_text().split())
    assert bool(machine.has_bf16(CPU)) == bool(words & {"avx512_bf16", "amx_bf16"})


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_matrix_product_rate_is_one_that_a_machine_can_have(precision):
    rate = timing.matmul_rate(CPU, precision, size=256)
    assert 1e7 < rate < 1e16
    assert timing.matmul_rate(CPU, precision, size=256) == rate, "measured once a day"


def test_memory_is_counted_in_bytes():
    size = 160_000_000
    with mmap.mmap(-1, size) as held:  # given back at its end, which a tensor need not be
        held.write(bytes(size))
        assert size < machine.peak_memory(CPU) < 2**40
        before = machine.peak_memory(CPU)
    machine.reset_peak_memory(CPU)
    assert machine.peak_memory(CPU) < before - size / 2, "what an earlier run needed does not count"
    assert 2**20 < machine.free_memory(CPU) < 2**50


def test_the_environment_is_plain_json():
    found = machine.environment(CPU, "fp32")
    assert json.loads(json.dumps(found)) == found
    assert found["device"] == machine.device_name(CPU) and found["device_type"] == "cpu"
    assert found["torch"] == torch.__version__ and found["python"] == platform.python_version()
    assert found["precision"] == "fp32" and found["cuda"] is None


def private_words() -> set[str]:
    """Names that tell whose machine this is and where things lie on it."""
    words = {str(Path.home()), os.getcwd(), str(ROOT), socket.gethostname(), platform.node(), sys.prefix}
    words |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "HOME", "HOSTNAME")}
    # Too short or too common a name occurs in any text.
    return {word for word in words if len(word) > 4}


def test_the_environment_names_no_folder_host_or_user():
    text = json.dumps(machine.environment(CPU, "fp32"))
    assert private_words() and not [word for word in private_words() if word in text]


# --------------------------------------------------------------------------- the commit


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def state_of(folder) -> dict:
    """What a copy of the library in ``folder`` tells of its source."""
    at = folder / "mlplib"
    spec = importlib.util.spec_from_file_location(
        "copied", at / "__init__.py", submodule_search_locations=[str(at)]
    )
    sys.modules["copied"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("copied.machine").source_state()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "copied"]:
            del sys.modules[name]


@pytest.fixture
def copy(tmp_path):
    """A copy of what ``mlplib.machine`` needs, in a repository of its own, committed."""
    folder = tmp_path / "clone"
    (folder / "mlplib").mkdir(parents=True)
    for name in ("__init__", "machine", "limits", "errors"):
        shutil.copy(ROOT / "mlplib" / f"{name}.py", folder / "mlplib")
    (folder / ".gitignore").write_text("__pycache__\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return folder


def test_the_commit_and_changes_to_the_library_are_told(copy):
    commit, before = git(copy, "rev-parse", "HEAD"), state_of(copy)
    assert before == {"source": before["source"], "commit": commit, "dirty": False}
    (copy / "notes.txt").write_text("not the library")
    assert state_of(copy) == before
    with open(copy / "mlplib" / "errors.py", "a") as file:
        file.write("# changed\n")
    after = state_of(copy)
    assert after["source"] != before["source"] and (after["commit"], after["dirty"]) == (commit, True)


def test_a_library_that_was_installed_tells_no_commit(copy, tmp_path):
    nowhere = state_of(copy) | {"commit": None, "dirty": None}
    shutil.rmtree(copy / ".git")
    assert state_of(copy) == nowhere
    # Installed below somebody else's repository, whose commit says nothing about this library.
    (tmp_path / ".gitignore").write_text("clone\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "theirs")
    assert state_of(copy) == nowhere
