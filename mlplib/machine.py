"""Properties of the machine: device, precision, memory, versions."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from . import limits
from .errors import MlplibError

# Torch takes a thread per core of the machine, also in a container that may use few of them; they would then
# spend their time waiting for each other.
if "OMP_NUM_THREADS" not in os.environ and limits.cores() < torch.get_num_threads():
    torch.set_num_threads(limits.cores())


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device to compute on: ``name`` (``cpu``, ``cuda``, ``cuda:1``), or the GPU if there is one.

    Raises:
        MlplibError: the name is unknown or the device does not exist.
    """
    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise MlplibError(f"unknown device {name!r}: write auto, cpu, cuda or cuda:<number>") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise MlplibError(f"device {name!r} is not there: torch sees no CUDA GPU; use cpu")
        if (device.index or 0) >= count:
            raise MlplibError(f"device {name!r} is not there: torch sees {count} CUDA GPU(s), from cuda:0 on")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise MlplibError(f"device {name!r} is not supported: write auto, cpu, cuda or cuda:<number>")
    return device


@contextmanager
def on_cpu() -> Iterator[None]:
    """Create tensors on the CPU inside the context, whatever torch's default device."""
    with torch.device("cpu"):
        yield


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Use ``count`` CPU threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


DRAWING = threading.RLock()
"""Held while a seed is set in torch's generators and numbers are drawn: all threads share them."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw on the CPU from ``seed`` inside the context; torch's generators are left as they were."""
    with DRAWING, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would also seed the GPU's generators.
        torch.default_generator.manual_seed(seed)
        yield


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}
"""The dtype of images and of the factors of products, by precision."""


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # is_bf16_supported asks the current device
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pick_precision(wanted: str, device: torch.device) -> str:
    """``wanted``, or for ``auto`` the best precision of this device: ``bf16``, ``fp16`` on NVIDIA GPUs whose
    matrix units lack bf16 (V100, T4), or ``fp32``.

    Raises:
        MlplibError: ``tf32`` (TensorFloat-32) on a device that does not support it.
    """
    if wanted == "auto":
        if has_bf16(device):
            return "bf16"
        has_fp16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
        return "fp16" if has_fp16 else "fp32"
    if wanted == "tf32" and device.type != "cuda":
        raise MlplibError("precision tf32 is for NVIDIA GPUs: choose auto, bf16, fp16 or fp32")
    return wanted


def autocast(device: torch.device, precision: str, cache: bool = True) -> torch.autocast:
    """Compute products in bf16 or fp16 as ``precision`` says; without ``cache``, each casts its weights."""
    dtype = DTYPES[precision]
    low = dtype != torch.float32
    return torch.autocast(
        device.type, dtype=dtype if low else torch.bfloat16, enabled=low, cache_enabled=cache
    )


@contextmanager
def without_autocast() -> Iterator[None]:
    """End the caller's autocast inside the context: products are computed in the dtype of their factors."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Let NVIDIA GPUs round the factors of float32 products to TensorFloat-32 only for precision ``tf32``.

    The caller's autocast ends, too (:func:`without_autocast`).
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with without_autocast():
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def to_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on the device. Copies to a GPU are asynchronous, from pinned memory."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@functools.lru_cache
def keep_freed_memory() -> None:
    """Ask the C library to keep freed memory for the next batch (glibc only).

    Every step frees and allocates the same tens of megabytes. If they were returned to the system in between,
    each page would fault again: on 2 virtual CPU cores the crops alone went from 2.2 ms to 7.7 ms a batch.
    """
    trim_threshold, mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 32 * 2**20)  # the largest value that glibc accepts
    mallopt(trim_threshold, 2**31 - 1)


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that :func:`peak_memory` reports. For a CPU this works on Linux only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # https://docs.kernel.org/filesystems/proc.html


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: allocated by torch on a GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if found := _stated("/proc/self/status", "VmHWM"):  # unlike getrusage's, this peak can be reset
        return int(found.split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory(device: torch.device) -> int:
    """Free bytes on the device; on a CPU :func:`mlplib.limits.memory`."""
    if device.type == "cuda":
        # Memory that torch has cached from an earlier run is free, though the driver counts it as taken.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return limits.memory()


def device_name(device: torch.device) -> str:
    """A readable name, e.g. ``NVIDIA H200`` or ``AMD EPYC (2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_name()} ({threads} thread{'s' if threads > 1 else ''})"


@functools.lru_cache
def _cpu_name() -> str:
    return _stated("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _stated(path: str, name: str) -> str | None:
    """The value of the first line ``name: value`` in a Linux system file; None if there is none."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return " ".join(value.split())
    return None


def source_digest(blobs: Mapping[str, str]) -> str:
    """Hash of the library's source: over each Python file's path below ``mlplib`` and its :func:`blob_id`."""
    return hashlib.sha256("".join(f"{path} {blobs[path]}\n" for path in sorted(blobs)).encode()).hexdigest()


def blob_id(content: bytes) -> str:
    """The id that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@functools.lru_cache
def source_state() -> dict:
    """The library's source: its hash, its commit, and whether it has uncommitted changes. Without a
    repository the last two are None; the hash always describes the installed files.
    """
    package = Path(__file__).resolve().parent
    files = {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    source = source_digest({path: blob_id(content) for path, content in files.items()})

    def git(*words: str) -> str:
        command = ["git", "-C", str(package.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # If installed inside another repository, the library is not part of that repository's commits.
        git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        commit, dirty = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "mlplib"))
    except (OSError, subprocess.SubprocessError):
        commit, dirty = None, None
    return {"source": source, "commit": commit, "dirty": dirty}


def versions(*packages: str) -> dict[str, str | None]:
    """The installed versions of packages; None for one that is missing."""
    found: dict[str, str | None] = dict.fromkeys(packages)
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def environment(device: torch.device, precision: str) -> dict:
    """The part of a record that describes the machine. It names no folder, host or user."""
    return {
        "device": device_name(device),
        "device_type": device.type,
        "precision": precision,
        "cpu": _cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "numpy": np.__version__,
        **source_state(),
    }
