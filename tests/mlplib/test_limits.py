"""A process keeps to the cores and the memory that its container or batch job leaves to it."""

import os
import subprocess
import sys

import pytest
import torch
from small_runs import ROOT

from mlplib import limits, machine

GB = 2**30
UNLIMITED = 9223372036854771712
"""What version 1 says where there is no limit."""

AVAILABLE = 20 * GB
"""What the machine has left."""


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Puts this process into control groups: writes its membership and the files of groups."""

    def write(membership: str, files: dict[str, object]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    (tmp_path / "meminfo").write_text(
        f"MemFree: 1 kB\nMemAvailable:  {AVAILABLE // 1024} kB\nHugePages_Free: 0\n"
    )
    monkeypatch.setattr(limits, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(limits, "TREE", tmp_path / "tree")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    return write


def test_cores_are_those_that_the_process_has():
    everything = os.sched_getaffinity(0)
    assert 1 <= limits.cores() <= len(everything)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert limits.cores() == 1
    finally:
        os.sched_setaffinity(0, everything)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),  # a container that shows its group as the root
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3),
        ("0::/job/step\n", {"job/step/cpu.max": "900000 100000", "job/cpu.max": "300000 100000"}, 3),
        (
            "5:memory:/x\n4:cpu,cpuacct:/docker/1\n0::/\n",  # the group has a name, but is shown as the root
            {"cpu,cpuacct/cpu.cfs_quota_us": 200000, "cpu,cpuacct/cpu.cfs_period_us": 100000},
            2,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, 64),
        ("4:cpuset:/\n", {"cpuset/cpu.max": "100000 100000"}, 64),
        ("0::/with:colon\n", {"with:colon/cpu.max": "300000 100000"}, 3),
        ("not like this\n", {"cpu.max": "100000 100000"}, 64),
        ("0::/\n", {"cpu.max": "nothing known"}, 64),
        ("0::/\n", {"cpu.max": "100000"}, 64),
        ("0::/\n", {"cpu.max": "100000 0"}, 64),
        ("", {}, 64),
    ],
)
def test_quotas_of_control_groups_limit_the_cores(groups, membership, files, expected):
    groups(membership, files)
    assert limits.cores() == expected


def of_version_2(limit: object, used: int, cached: int) -> dict[str, object]:
    return {
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon 1\nactive_file {cached // 2}\ninactive_file {cached - cached // 2}",
    }


def of_version_1(limit: int, used: int, cached: int) -> dict[str, object]:
    names = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"
    return dict(
        zip(
            names,
            (limit, used, f"inactive_file 1\ntotal_inactive_file {cached - 7}\ntotal_active_file 7"),
            strict=True,
        )
    )


def inside(folder: str, files: dict[str, object]) -> dict[str, object]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", of_version_2(8 * GB, 3 * GB, GB), 6 * GB),
        ("0::/\n", of_version_2("max", 3 * GB, GB), AVAILABLE),
        ("0::/\n", of_version_2(2 * GB, 3 * GB, 0), 0),
        ("0::/job/step\n", inside("job", of_version_2(8 * GB, 2 * GB, 0)), 6 * GB),
        (
            "0::/job/step\n",
            inside("job", of_version_2(8 * GB, 6 * GB, 0)) | inside("job/step", of_version_2(4 * GB, GB, 0)),
            2 * GB,
        ),
        ("4:memory:/docker/1\n0::/\n", inside("memory", of_version_1(8 * GB, 3 * GB, GB)), 6 * GB),
        ("4:cpu:/\n", inside("cpu", of_version_1(8 * GB, 3 * GB, GB)), AVAILABLE),
        ("4:memory:/\n", inside("memory", of_version_1(UNLIMITED, GB, 0)), AVAILABLE),
        ("0::/\n", of_version_2(64 * GB, 3 * GB, GB), AVAILABLE),
        ("0::/\n", of_version_2(8 * GB, 3 * GB, GB) | {"memory.stat": "not like this\n\n"}, 5 * GB),
        ("0::/\n", of_version_2("1 2", 3, 4), AVAILABLE),
        ("", {}, AVAILABLE),
    ],
)
def test_limits_of_control_groups_leave_so_much_memory(groups, membership, files, expected):
    groups(membership, files)
    assert limits.memory() == expected


def test_free_memory_is_what_is_left(groups):
    groups("0::/\n", of_version_2(3 * GB, GB, 0))
    assert machine.free_memory(torch.device("cpu")) == 2 * GB


def test_a_system_that_states_no_memory_has_little(monkeypatch, tmp_path):
    assert 2**20 < limits.memory() < 2**50
    monkeypatch.setattr(limits, "MACHINE", tmp_path / "missing")
    assert limits.memory() == 4 * GB


@pytest.mark.parametrize(("variable", "expected"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)])
def test_torch_takes_no_more_threads_than_the_quota_allows(variable, expected):
    code = (
        "import mlplib.limits as limits; limits.cores = lambda: 1\n"
        "import mlplib.machine, torch; print(torch.get_num_threads())"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | variable
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")
