"""How costs grow: time with images, memory with epochs; and how long the command takes to answer."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import subprocess
import sys
import time
from pathlib import Path

import torch

from mlplib.data import ImageDataset, Split
from mlplib.data.batches import open_data
from mlplib.execution import Execution
from mlplib.training import Loop

from .cases import Case
from .rounds import DIGITS, Work

GROUP = "growth"
STEPS = 12
"""Steps of an epoch of the smaller training set; of the larger one twice as many."""

EPOCHS, SETTLED = 12, 3
"""Epochs whose memory is looked at, and how many of them may still grow: caches fill in the first ones."""

STARTS = 5


class Growing:
    """An epoch on n images, and on the same n twice."""

    def __init__(self, case: Case, dataset: ImageDataset, device: torch.device, steps: int = STEPS):
        count = min(steps * case.batch_size, len(dataset.train) // 2)
        self.count = count - count % case.batch_size
        self.device, self.epochs = device, {}
        for times, id in ((1, "images"), (2, "twice-the-images")):
            part = dataclasses.replace(
                dataset,
                train=Split(
                    dataset.train.images[: times * self.count], dataset.train.labels[: times * self.count]
                ),
            )
            spec = case.spec()
            resident = open_data(part, spec.data, device, "resident")
            loop = Loop(spec, resident, Execution(device=device, log=quiet_line))
            self.epochs[id] = (loop, loop.fresh_state(), times * self.count)

    def works(self) -> list[Work]:
        """An epoch on each."""
        return [
            Work(id, f"an epoch of {count:,} images", lambda n, id=id: self.run(id), calls=1, images=count)
            for id, (_, _, count) in self.epochs.items()
        ]

    def run(self, id: str) -> None:
        """One epoch."""
        loop, state, _ = self.epochs[id]
        for batch in loop.batches(state):
            loop.step(state, batch)
        loop.end_epoch(state)

    def memory(self, epochs: int = EPOCHS) -> list[int]:
        """Bytes in use after each of ``epochs`` epochs."""
        found = []
        for _ in range(epochs):
            self.run("images")
            found.append(memory_in_use(self.device))
        return found


def quiet_line(line: str) -> None:
    """What a loop says here, it has said before."""


def memory_in_use(device: torch.device) -> int:
    """Bytes that tensors occupy on a GPU; on a CPU, those that this process has taken from the C library and
    not given back (glibc), or else all that it has in memory. 0 where the system does not say.
    """
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _taken_from_glibc() or _resident_set()


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def _taken_from_glibc() -> int:
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    ask.restype = _Mallinfo
    found = ask()
    return found.uordblks + found.hblkhd


def _resident_set() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def memory_row(found: list[int]) -> dict:
    """Memory after each epoch, and by how much of itself it grew once it had settled."""
    row = {"id": "memory", "group": GROUP, "name": "memory after each epoch", "memory_bytes": found}
    if not all(found):
        return row | {"why": "the system does not say how much memory a process uses"}
    settled = found[min(SETTLED, len(found)) - 1]
    return row | {"growth": found[-1] / settled - 1}


def start_up(starts: int = STARTS) -> dict:
    """Seconds from calling ``mlplib --help`` to its end, one value a start, after one that does not count."""
    seconds = []
    for _ in range(starts + 1):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mlplib", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(float(f"{time.perf_counter() - begin:.{DIGITS}g}"))
    name = "mlplib --help, from start to end"
    return {"id": "start-up", "group": "start-up", "name": name, "calls": 1, "seconds": seconds[1:]}
