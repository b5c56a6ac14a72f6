"""How much of the machine this process may use where a container or a batch system limits it: control groups.

Both versions of Linux's control groups are read (https://docs.kernel.org/admin-guide/cgroup-v2.html). A limit
holds for all groups below it, so every group from the process's own up to the root counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MACHINE = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
TREE = Path("/sys/fs/cgroup")


def cores() -> int:
    """Number of cores that this process may use, by its affinity and the quotas of its control groups."""
    count = len(os.sched_getaffinity(0))
    for group in _groups("cpu"):
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            found = _integers(group, *files)
            if len(found) == 2 and min(found) > 0:  # version 1 says -1 for no limit
                count = min(count, math.ceil(found[0] / found[1]))
    return max(1, count)


def memory() -> int:
    """Bytes available to new processes within the limits of this process's control groups; 4 GB if the system
    does not say. Cached files do not count as used, since Linux drops them first.
    """
    left = _stated(MACHINE).get("MemAvailable", 4 * 2**20) * 1024
    for group in _groups("memory"):
        for files in (["memory.max", "memory.current"], ["memory.limit_in_bytes", "memory.usage_in_bytes"]):
            if len(found := _integers(group, *files)) == 2:
                limit, used = found
                left = min(left, max(0, limit - used + _cached_files(group)))
    return left


def _cached_files(group: Path) -> int:
    stated = _stated(group / "memory.stat")
    of_version_1 = "total_" if "total_inactive_file" in stated else ""  # there with the groups below
    return sum(stated.get(f"{of_version_1}{kind}_file", 0) for kind in ("active", "inactive"))


def _stated(path: Path) -> dict[str, int]:
    """The numbers in a file with lines like ``MemAvailable: 20 kB``, by name."""
    with suppress(OSError, ValueError):
        lines = path.read_text().splitlines()
        return {name.rstrip(":"): int(number) for name, number, *_ in map(str.split, lines)}
    return {}


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that limit this process. Some do not exist, as in a container that shows
    its own group as the root.
    """
    with suppress(OSError, ValueError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):  # version 2 names none
                own = Path(controllers, path.strip("/"))
                yield from (TREE / each for each in (own, *own.parents))


def _integers(group: Path, *files: str) -> list[int]:
    """The numbers in some files of a group; none if a file is missing or says ``max``, which is no limit."""
    try:
        return [int(word) for file in files for word in (group / file).read_text().split()]
    except (OSError, ValueError):
        return []
