#!/usr/bin/env bash
# torch 2.15.0: a process that only imported torch takes a fifth of that time or more to end.
# Expected: that a process ends at once after its last line. Seen: Python searches all objects for cycles while it
# ends, and with torch's modules that takes a fifth of the import's CPU time or more, half a second; with matplotlib and
# SciPy, a whole one. `gc.disable()` does not change that. `gc.freeze()` before the end does, since it hides all objects
# from that search (but then triton, where it was imported, reports its objects as leaked); so does `os._exit(0)`.
# It matters to whoever starts many short processes: commands, notebooks' kernels, tests.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > leave.py << 'PYTHON'
import gc
import sys
import time

before = time.process_time()
import torch

taken = time.process_time() - before
{"plain": lambda: None, "disabled": gc.disable, "frozen": gc.freeze}[sys.argv[1]]()
print(taken, time.process_time(), flush=True)
PYTHON
cat > compare.py << 'PYTHON'
import os
import statistics
import subprocess
import sys

REPEATS = 7


def share(way):
    """The CPU time from the last line of a process to its end, as a share of the import's."""
    process = subprocess.Popen([sys.executable, "leave.py", way], stdout=subprocess.PIPE)
    taken, there = map(float, process.stdout.read().split())
    used = os.wait4(process.pid, 0)[2]
    return (used.ru_utime + used.ru_stime - there) / taken


rounds = [{way: share(way) for way in ("plain", "disabled", "frozen")} for _ in range(REPEATS)]
found = {way: statistics.median(each[way] for each in rounds) for way in rounds[0]}
for way, part in found.items():
    print(f"search for cycles {way}: ending takes {part:.0%} of the CPU time that the import took")
slow = min(found["plain"], found["disabled"])
sys.exit(slow < 0.2 or found["frozen"] > 0.5 * slow)
PYTHON
env/bin/python compare.py || { echo "CHANGED"; exit 1; }
