"""Timing on a noisy machine: interleaved rounds, medians and quartiles, and the machine's own rates.

Whatever is compared is timed once per round, so that a slow period of the machine affects all of it alike.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from . import files, machine
from .errors import MlplibError
from .progress import quiet

DIGITS = 5
"""Significant digits kept of a time, more than the clock resolves. Ratios use the rounded times, so that a
reader who computes them from a file gets the same numbers."""

WARM_UPS = 2
"""Untimed calls before a rate of the machine is measured: they choose kernels and fill caches."""

REPEATS = 7
"""Timed calls of which the fastest gives a rate of the machine."""

EASY, LONG_S = 256, 0.2
"""Side of the smallest matrices, and the seconds that a product must take to be large enough."""

RATES = "rates.json"
"""File in the cache folder: the day, and the matrix-product rates measured on that day."""

Key = TypeVar("Key", bound=Hashable)


# --------------------------------------------------------------------------- the harness


def repeat(call: Callable[[], object]) -> Callable[[int], None]:
    """A function that calls ``call`` n times."""

    def run(n: int) -> None:
        for _ in range(n):
            call()

    return run


def seconds_per_call(run: Callable[[int], object], calls: int, device: torch.device) -> float:
    """Run ``run(calls)`` and return its seconds divided by ``calls``, to :data:`DIGITS` digits.

    The device is synchronized before and after.
    """
    machine.synchronize(device)
    start = time.perf_counter()
    run(calls)
    machine.synchronize(device)
    return float(f"{(time.perf_counter() - start) / calls:.{DIGITS}g}")


def calls_in(seconds: float, one: float, least: int = 1, most: int = 1_000_000) -> int:
    """How many calls that take ``one`` seconds each fill ``seconds``, within bounds."""
    return max(least, min(most, math.ceil(seconds / max(one, 1e-9))))


def take_turns(
    timers: Mapping[Key, Callable[[], float]],
    rounds: int,
    *,
    least: int = 1,
    deadline: float = math.inf,
    after_each: Callable[[], object] = lambda: None,
) -> dict[Key, list[float]]:
    """Call every timer once per round and return each one's seconds in the order of the rounds.

    Every second round runs in reverse order (A B, B A), so that no timer is always first: later ones find
    warmer caches and a hotter processor.

    Args:
        timers: each measures something and returns seconds.
        rounds: the largest number of rounds.
        least: rounds to finish even after the deadline (``time.monotonic``).
        after_each: called after every timing, for instance to show progress; it may raise to stop.
    """
    found: dict[Key, list[float]] = {key: [] for key in timers}
    for number in range(rounds):
        if number >= least and time.monotonic() >= deadline:
            break
        for key in timers if number % 2 == 0 else reversed(timers):
            found[key].append(timers[key]())
            after_each()
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """``value``, the median, with the quartiles ``q25`` and ``q75``."""
    if len(values) == 1:
        return dict.fromkeys(("value", "q25", "q75"), values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"value": middle, "q25": low, "q75": high}


def _least_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The time of the fastest repeat: other work on the machine can only slow a repeat down."""
    for _ in range(WARM_UPS):
        call()
    return min(seconds_per_call(repeat(call), 1, device) for _ in range(repeats))


# --------------------------------------------------------------------------- the machine's rates


def square_product(device: torch.device, precision: str, side: int) -> Callable[[], Tensor]:
    """A function that multiplies two random square matrices."""
    dtype = machine.DTYPES[precision]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return lambda: left @ right


def large_copy(here: torch.device, there: torch.device, size: int) -> Callable[[], Tensor]:
    """A function that copies ``size`` bytes from one memory to the other; a GPU reads pinned host memory."""
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for device in (here, there))
    pinned = source.pin_memory() if here.type == "cpu" and there.type == "cuda" else source
    return lambda: target.copy_(pinned, non_blocking=True)


def matmul_rate(device: torch.device, precision: str, size: int = 0) -> float:
    """The device's matrix-product rate in FLOP/s: a square product, the fastest of :data:`REPEATS`.

    It is measured once a day on a machine and then read from the cache folder: a process that starts while
    others train would measure too low a rate, and its own share of that rate would look too good.

    Args:
        precision: ``bf16``, ``fp16``, ``tf32`` or ``fp32``.
        size: side of the matrices; 0 means 2048 on a CPU and 8192 on a GPU. Smaller matrices are used where
            the precision is emulated, which can take a thousand times as long.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    return _matmul_rate(device, precision, size, machine.device_name(device))


@functools.lru_cache
def _matmul_rate(device: torch.device, precision: str, size: int, name: str) -> float:
    """``name``: the device's; on a CPU it includes the number of threads, on which the rate depends."""

    def measure() -> float:
        with machine.matmul_precision(precision):
            side = min(size, EASY)
            while side < size and seconds_for(side, 1) < LONG_S:
                side = min(2 * side, size)
            return 2 * side**3 / seconds_for(side, REPEATS)

    def seconds_for(side: int, repeats: int) -> float:
        return _least_seconds(square_product(device, precision, side), device, repeats)

    about = (platform.node(), name, torch.__version__, precision, size, REPEATS)
    return _once_a_day(" ".join(map(str, about)), measure)


def _once_a_day(name: str, measure: Callable[[], float]) -> float:
    """The value measured under this name today by any process with this cache folder; else ``measure()``.

    A process that cannot write to the cache folder measures for itself.
    """
    today, rates = datetime.date.today().isoformat(), {}
    with suppress(OSError, MlplibError):
        path = files.cache_root() / RATES
        with files.locked(path.with_suffix(".lock"), quiet, "measures this machine"):
            rates = _rates_of(path, today)
            if name not in rates:
                rates[name] = measure()
                with files.replacing(path) as temporary:
                    temporary.write_text(json.dumps({"day": today, "flops_per_second": rates}, indent=1))
    return rates[name] if name in rates else measure()


def _rates_of(path: Path, today: str) -> dict[str, float]:
    """The rates of ``today`` in the file; of a damaged file, only the plausible ones."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        kept = json.loads(path.read_text())
        if kept["day"] == today:
            rates = {name: float(rate) for name, rate in kept["flops_per_second"].items()}
            return {name: rate for name, rate in rates.items() if 0 < rate < math.inf}
    return {}


@functools.lru_cache
def memory_rate(device: torch.device) -> float:
    """Bytes per second that the device reads and writes when it copies within its memory, fastest repeat."""
    size = copy_size(device)
    return 2 * size / _least_seconds(large_copy(device, device, size), device, REPEATS)


@functools.lru_cache
def transfer_rate(device: torch.device) -> float:
    """Bytes per second from the host's memory (pinned) to the device; on a CPU, from memory to memory."""
    host = torch.device("cpu")
    size = copy_size(host)
    return size / _least_seconds(large_copy(host, device, size), device, REPEATS)


def copy_size(device: torch.device) -> int:
    """Bytes to copy: more than any cache of the device holds."""
    return 2**30 if device.type == "cuda" else 2**28
