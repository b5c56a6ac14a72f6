"""How time grows with images and memory with epochs; and how long the command takes to start."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import subprocess
import sys

import torch

from mlplib.data import Split
from mlplib.data.batches import open_data
from mlplib.specs import FULL_DA
from mlplib.timing import seconds_per_call

from .rounds import Work
from .workloads import Training

STEPS = 12
"""Steps of an epoch of the smaller training set; twice as many of the larger one."""

EPOCHS, SETTLED = 12, 3
"""Epochs after which memory is read, and how many of the first may still grow while caches fill."""

STARTS = 5

WORKS = {"images": 1, "twice-the-images": 2}
"""The epochs that are timed, by id, and how many times as long each is."""

TOO_FEW = "two batches are more than all images"


def epoch_works(training: Training) -> list[Work]:
    """An epoch on some of the images, and one on twice as many."""
    case, dataset, works = training.case, training.dataset, []
    steps = min(STEPS, len(dataset.train) // 2 // case.batch_size)
    if not steps:
        return [Work(id, "an epoch", why=TOO_FEW) for id in WORKS]
    for id, times in WORKS.items():
        count = times * steps * case.batch_size
        train = Split(dataset.train.images[:count], dataset.train.labels[:count])
        some = dataclasses.replace(dataset, train=train)
        runner = training.runner(FULL_DA, open_data(some, case.spec().data, training.device, "resident"))

        def epoch(n: int, runner=runner, batches=count // case.batch_size) -> None:
            for _ in range(n):
                runner.train(batches)

        works.append(Work(id, f"an epoch of {count:,} images", epoch, calls=1, images=count))
    return works


def memory_row(epoch: Work, device: torch.device) -> dict:
    """The row of the memory in use after each of :data:`EPOCHS` epochs."""
    row, found = {"id": "memory", "group": "growth", "name": "memory after each epoch"}, []
    if epoch.why:
        return row | {"why": epoch.why}
    for _ in range(EPOCHS):
        epoch.run(1)
        found.append(memory_in_use(device))
    return row | {"memory_bytes": found} | settled_growth(found)


def settled_growth(found: list[int]) -> dict:
    """The relative ``growth`` of memory after the first epochs, or ``why`` it is unknown."""
    if not all(found):
        return {"why": "the system does not say how much memory a process uses"}
    return {"growth": found[-1] / found[SETTLED - 1] - 1}


def memory_in_use(device: torch.device) -> int:
    """Bytes of tensors on a GPU; on a CPU, bytes that this process allocated by glibc, or 0 without it."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0
    mallinfo.restype = _Mallinfo
    numbers = mallinfo().numbers
    return numbers[4] + numbers[7]  # hblkhd: mapped separately; uordblks: in use on the heap


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``: ten numbers."""

    _fields_ = (("numbers", ctypes.c_size_t * 10),)


def start_up_row() -> dict:
    """Seconds of ``mlplib --help``, in :data:`STARTS` starts after an untimed one."""

    def start(n: int) -> None:
        subprocess.run([sys.executable, "-m", "mlplib", "--help"], check=True, stdout=subprocess.DEVNULL)

    seconds = [seconds_per_call(start, 1, torch.device("cpu")) for _ in range(STARTS + 1)]
    return Work("start-up", "mlplib --help, from start to end").row("start-up", 1, seconds[1:])
