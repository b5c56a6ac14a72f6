"""How costs grow: time with images, memory with epochs; and how long the command takes to answer."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import subprocess
import sys
import time

import torch

from mlplib.data import ImageDataset, Split
from mlplib.data.batches import open_data
from mlplib.execution import Execution
from mlplib.training import Loop

from .cases import Case
from .rounds import Work, rounded

STEPS = 12
"""Steps of an epoch of the smaller training set; twice as many of the larger one."""

EPOCHS, SETTLED = 12, 3
"""Epochs after which memory is read, and how many of them may still grow: caches fill in the first ones."""

STARTS = 5


class Growing:
    """An epoch on n images, and one on twice as many."""

    def __init__(self, case: Case, dataset: ImageDataset, device: torch.device, steps: int = STEPS):
        count = min(steps * case.batch_size, len(dataset.train) // 2)
        count -= count % case.batch_size
        self.device, self.epochs = device, {}
        spec = case.spec()
        for id, images in (("images", count), ("twice-the-images", 2 * count)):
            train = Split(dataset.train.images[:images], dataset.train.labels[:images])
            data = open_data(dataclasses.replace(dataset, train=train), spec.data, device, "resident")
            # Whatever this loop logs, the timed one has logged already.
            loop = Loop(spec, data, Execution(device=device, log=lambda line: None))
            self.epochs[id] = (loop, loop.fresh_state(), images)

    def works(self) -> list[Work]:
        """An epoch on each."""
        return [
            Work(id, f"an epoch of {count:,} images", lambda n, id=id: self.run(id), calls=1, images=count)
            for id, (_, _, count) in self.epochs.items()
        ]

    def run(self, id: str) -> None:
        """Train for one epoch."""
        loop, state, _ = self.epochs[id]
        for batch in loop.batches(state):
            loop.step(state, batch)
        loop.end_epoch(state)

    def memory(self) -> dict:
        """The row of the memory in use after each of :data:`EPOCHS` epochs."""
        found = []
        for _ in range(EPOCHS):
            self.run("images")
            found.append(memory_in_use(self.device))
        return memory_row(found)


def memory_in_use(device: torch.device) -> int:
    """Bytes of tensors on a GPU; on a CPU, bytes that this process holds from glibc's allocator, 0 without
    glibc.
    """
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return found.uordblks + found.hblkhd


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def memory_row(found: list[int]) -> dict:
    """Memory after each epoch, and its relative growth once it had settled."""
    row = {"id": "memory", "group": "growth", "name": "memory after each epoch", "memory_bytes": found}
    if not all(found):
        return row | {"why": "the system does not say how much memory a process uses"}
    return row | {"growth": found[-1] / found[min(SETTLED, len(found)) - 1] - 1}


def start_up() -> dict:
    """Seconds of ``mlplib --help`` from start to end, in :data:`STARTS` starts after a first one."""
    seconds = []
    for _ in range(STARTS + 1):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mlplib", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(rounded(time.perf_counter() - begin))
    work = Work("start-up", "mlplib --help, from start to end")
    return work.row("start-up", 1, seconds[1:])
