"""How fast a network runs on this machine: latency, throughput, memory, and the machine's own rates.

For the paper's Table 9. A timing describes the machine that it was made on, and no two are equal.
Networks run as PyTorch offers them (eager mode, nothing compiled), in evaluation mode, on random images, with
all weights in the precision of the run. What is compared is measured in turns, so that a machine that slows
down for a while slows all of it down.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import machine, memory
from .errors import Interrupted
from .models import build_model, count_macs, count_parameters
from .progress import quiet
from .specs import TimingSpec
from .stopping import StopRequest

RESIDENT, UINT8, FLOAT32 = "resident", "uint8", "float32"
WAYS = (RESIDENT, UINT8, FLOAT32)
"""Where a batch is when its clock starts: on the device as the network reads it, or in the host's memory as
uint8 or as normalized float32. Then it is copied, converted on the device, and computed on, one after the
other. On a GPU the host's memory is pinned, so that the GPU fetches from it directly."""

MEASURED, TOO_SLOW = "measured", "too slow for the time box"
NO_MEMORY, TOO_LARGE = "out of memory", "more memory than is free"
"""What became of a batch size."""

LATENCY_SHARE = 0.25
"""Share of the time box that goes to single images."""

MIN_REPEATS, MAX_REPEATS, MAX_SINGLE = 3, 30, 100
"""How often a batch is measured at least and at most, and a single image at most."""

REPEAT_SECONDS = 0.02
"""A repeat of a batch is as many passes as take about that long: starting and ending it then cost little."""

FREE_SHARE = 0.8
"""Share of the free memory that a batch may be expected to need."""

WARM_UPS = 1
"""Passes of each way before the clock counts. One that chooses kernels and fills caches came before these."""


@dataclass(frozen=True)
class Timed:
    """The outcome of :func:`measure`; the fields of the same name in :class:`mlplib.store.Record`."""

    metrics: dict
    history: dict
    compute: dict
    environment: dict


def measure(
    spec: TimingSpec, device: torch.device, *, progress=quiet, stop: StopRequest | None = None
) -> Timed:
    """Time the network of ``spec`` on ``device``.

    ``history["latency"]``: seconds from a single image on the device to its logits, one value a repeat.
    ``history["batches"]``: for every batch size its ``outcome``, and where it was measured the peak memory
    and the memory traffic of one pass in bytes (:class:`PassCounter`), and for each of :data:`WAYS` the
    seconds a batch, one value a repeat. ``metrics``: parameters, multiply-adds, and the medians: latency in
    seconds with its quartiles, and images per second at the best batch size of each way. ``compute``: the
    machine's rates. A batch size that would not fit into ``spec.seconds`` or into memory is skipped, and
    larger ones with it; the first is always tried.

    Raises:
        MlplibError: the network cannot be built for such images.
        Interrupted: stopped on request; a timing starts over then.
    """
    stop = StopRequest() if stop is None else stop  # one that nobody asked yet is false, too
    machine.keep_freed_memory()
    precision = machine.pick_precision(spec.precision, device)
    start = time.monotonic()
    with stop.listening(), progress(1 + len(spec.batch_sizes), spec.slug()) as bar:
        bench = Bench(spec, device, precision, stop)
        with torch.inference_mode(), fastest_kernels(), machine.matmul_precision(precision):
            started = time.monotonic()
            latency = bench.latency(started + LATENCY_SHARE * spec.seconds)
            bar.advance(1)
            batches = bench.batches(started + spec.seconds, lambda: bar.advance(1))
    return Timed(
        metrics=_metrics(bench, latency, batches),
        history={"latency": latency, "batches": batches},
        compute=_rates(bench, batches) | {"seconds": time.monotonic() - start},
        environment=machine.environment(device, precision) | _versions(),
    )


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Let cuDNN try its convolutions and take the fastest, as anybody would who is after speed."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


# --------------------------------------------------------------------------- repeats


class Bench:
    """A network on its device, ready to be timed."""

    def __init__(self, spec: TimingSpec, device: torch.device, precision: str, stop: StopRequest):
        self.spec, self.device, self.precision, self.stop = spec, device, precision, stop
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.shape = (spec.image_size, spec.image_size, 3)
        network = build_model(spec.model, self.shape, spec.classes, seed=spec.seed).eval()
        self.parameters, self.macs = count_parameters(network), count_macs(network, self.shape)
        # Channels last is the order that convolutions are fastest in; linear layers have no such choice.
        self.network = network.to(device, self.dtype).to(memory_format=torch.channels_last)

    def seconds(self, work: Callable[[], object], passes: int = 1) -> float:
        """Seconds that one pass of ``work`` takes, over ``passes`` of them in a row."""
        machine.synchronize(self.device)
        start = time.perf_counter()
        for _ in range(passes):
            work()
        machine.synchronize(self.device)
        return (time.perf_counter() - start) / passes

    def in_turns(
        self, works: dict[str, Callable], deadline: float, one_by_one: bool = False
    ) -> dict[str, list[float]]:
        """Seconds a pass of every work, repeated in turns until the deadline (time.monotonic).

        ``one_by_one``: a repeat is one pass, however short.
        """
        once = [self.seconds(work) for _ in range(WARM_UPS) for work in works.values()][-1]
        passes = 1 if one_by_one else max(1, math.ceil(REPEAT_SECONDS / max(once, 1e-9)))
        found: dict[str, list[float]] = {name: [] for name in works}
        for repeat in range(MAX_SINGLE if one_by_one else MAX_REPEATS):
            if repeat >= MIN_REPEATS and time.monotonic() >= deadline:
                break
            for name, work in works.items():
                if self.stop:
                    raise Interrupted(
                        f"stopped while timing {self.spec.model}: start it again and it starts over"
                    )
                # Five digits are more than such a number is good for.
                found[name].append(float(f"{self.seconds(work, passes):.5g}"))
        return found

    # ------------------------------------------------------------------ single images

    def latency(self, deadline: float) -> list[float]:
        """Seconds from one image on the device to its logits, waiting for each."""
        one = Batch(self, 1).works()[RESIDENT]
        one()
        return self.in_turns({RESIDENT: one}, deadline, one_by_one=True)[RESIDENT]

    # ------------------------------------------------------------------ batches

    def batches(self, deadline: float, done: Callable[[], None]) -> list[dict]:
        """An entry for every batch size of the spec, see :func:`measure`."""
        entries: list[dict] = []
        sizes = self.spec.batch_sizes
        for place, size in enumerate(sizes):
            outcome = self._why_not(size, entries, deadline)
            if outcome == MEASURED:
                now = time.monotonic()
                until = now + max(0.0, deadline - now) / (len(sizes) - place)
                entries.append(self._batch(size, until))
            else:
                entries.append({"batch_size": size, "outcome": outcome})
            done()
        return entries

    def _why_not(self, size: int, entries: list[dict], deadline: float) -> str:
        """MEASURED if ``size`` may be tried after what is known from smaller ones, else the reason not to."""
        if not entries:
            return MEASURED
        last = entries[-1]
        if last["outcome"] != MEASURED:
            return last["outcome"]
        growth = size / last["batch_size"]
        turn = growth * sum(statistics.median(last["seconds"][way]) for way in WAYS)
        if (WARM_UPS + MIN_REPEATS) * turn > deadline - time.monotonic():
            return TOO_SLOW
        needed = growth * (last["peak_memory_bytes"] - self.weight_bytes)
        return TOO_LARGE if needed > FREE_SHARE * machine.free_memory(self.device) else MEASURED

    def _batch(self, size: int, deadline: float) -> dict:
        entry = {"batch_size": size, "outcome": MEASURED}
        try:
            batch = Batch(self, size)
            entry |= self._one_pass(batch.resident)
            entry["seconds"] = self.in_turns(batch.works(), deadline)
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
            entry = {"batch_size": size, "outcome": NO_MEMORY}
        return entry

    @property
    def weight_bytes(self) -> int:
        tensors = (*self.network.parameters(), *self.network.buffers())
        return sum(tensor.nbytes for tensor in tensors)

    def _one_pass(self, images: Tensor) -> dict[str, int]:
        """Peak memory and memory traffic of one pass; it is the first, so it warms up as well."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with PassCounter(self.network, images) as counter:
            self.network(images)
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else counter.peak_bytes
        return {"peak_memory_bytes": peak, "traffic_bytes": counter.traffic_bytes}


class Batch:
    """Random images, the same wherever they wait for their turn."""

    def __init__(self, bench: Bench, size: int):
        device, dtype = bench.device, bench.dtype
        height, width, channels = bench.shape
        draw = torch.Generator().manual_seed(bench.spec.seed)
        pixels = torch.randint(0, 256, (size, channels, height, width), dtype=torch.uint8, generator=draw)
        self.network, self.dtype = bench.network, dtype
        self.scale = [torch.tensor(v, dtype=dtype, device=device) for v in (127.5, 64.0)]
        self.host = {UINT8: pixels, FLOAT32: pixels.float().sub_(127.5).div_(64.0)}
        if device.type == "cuda":
            self.host = {way: images.pin_memory() for way, images in self.host.items()}
        self.arrived = {way: torch.empty_like(images, device=device) for way, images in self.host.items()}
        self.resident = self.host[FLOAT32].to(device, dtype)

    def works(self) -> dict[str, Callable[[], Tensor]]:
        """A pass for each of :data:`WAYS`."""
        return {
            RESIDENT: lambda: self.network(self.resident),
            UINT8: lambda: self.network(self._normalized(self._fetched(UINT8))),
            FLOAT32: lambda: self.network(self._fetched(FLOAT32).to(self.dtype)),
        }

    def _fetched(self, way: str) -> Tensor:
        return self.arrived[way].copy_(self.host[way], non_blocking=True)

    def _normalized(self, pixels: Tensor) -> Tensor:
        mean, deviation = self.scale
        return pixels.to(self.dtype).sub_(mean).div_(deviation)


# --------------------------------------------------------------------------- memory of a pass


class PassCounter(TorchDispatchMode):
    """Counts the memory of everything that runs inside, operation by operation.

    ``peak_bytes``: the most bytes of tensors alive at once, weights and images included, without what a
    kernel takes for itself meanwhile. ``traffic_bytes``: what the operations read and write, each tensor
    counted once by each operation that has it as input or output, as if nothing stayed in a cache in between.
    """

    def __init__(self, network: nn.Module, *inputs: Tensor):
        super().__init__()
        known = (*network.parameters(), *network.buffers(), *inputs)
        self._alive = {_storage(tensor): (None, tensor.untyped_storage().nbytes()) for tensor in known}
        self.peak_bytes = sum(size for _, size in self._alive.values())
        self.traffic_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        read, made = _tensors((args, kwargs)), _tensors(result)
        old = {_storage(tensor) for tensor in read}
        # What gives its input another shape moves nothing.
        if func._schema.is_mutable or any(_storage(tensor) not in old for tensor in made):
            self.traffic_bytes += sum(tensor.numel() * tensor.element_size() for tensor in (*read, *made))
        self._count(made)
        return result

    def _count(self, made: list[Tensor]) -> None:
        gone = [key for key, (ref, _) in self._alive.items() if ref is not None and ref.expired()]
        for key in gone:
            del self._alive[key]
        for tensor in made:
            storage = tensor.untyped_storage()
            self._alive.setdefault(_storage(tensor), (StorageWeakRef(storage), storage.nbytes()))
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self._alive.values()))


def _tensors(values) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


# --------------------------------------------------------------------------- the machine's rates


@functools.lru_cache
def memory_rate(device: torch.device, repeats: int = 7) -> float:
    """Bytes per second that the device reads and writes when it copies within its memory, the best case."""
    here, there = _two_buffers(device, device)
    return 2 * here.nbytes / _median_seconds(lambda: there.copy_(here), device, repeats)


@functools.lru_cache
def transfer_rate(device: torch.device, repeats: int = 7) -> float:
    """Bytes per second from the host's memory (pinned) to the device; on a CPU, from memory to memory."""
    here, there = _two_buffers(torch.device("cpu"), device)
    here = here.pin_memory() if device.type == "cuda" else here
    return here.nbytes / _median_seconds(lambda: there.copy_(here, non_blocking=True), device, repeats)


def _two_buffers(here: torch.device, there: torch.device) -> list[Tensor]:
    """Larger than any cache."""
    size = 2**30 if here.type == "cuda" else 2**28
    return [torch.zeros(size, dtype=torch.uint8, device=device) for device in (here, there)]


def _median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    seconds = []
    for _ in range(WARM_UPS + repeats):
        machine.synchronize(device)
        start = time.perf_counter()
        work()
        machine.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UPS:])


# --------------------------------------------------------------------------- in a few numbers


def images_per_second(entry: dict, way: str) -> float:
    """Median throughput of a measured batch size (an entry of ``history["batches"]``)."""
    return entry["batch_size"] / statistics.median(entry["seconds"][way])


def best_batch(batches: list[dict], way: str) -> dict | None:
    """The entry of the batch size with the largest throughput, None if none was measured."""
    measured = [entry for entry in batches if entry["outcome"] == MEASURED]
    return max(measured, key=lambda entry: images_per_second(entry, way), default=None)


def _metrics(bench: Bench, latency: list[float], batches: list[dict]) -> dict:
    low, median, high = statistics.quantiles(latency, n=4, method="inclusive")
    found = {
        "parameters": bench.parameters,
        "forward_macs": bench.macs,
        "latency_s": median,
        "latency_s_q25": low,
        "latency_s_q75": high,
    }
    for way in WAYS:
        best = best_batch(batches, way)
        if best is not None:
            found[f"images_per_second_{way}"] = images_per_second(best, way)
            found[f"best_batch_{way}"] = best["batch_size"]
    largest = [entry for entry in batches if entry["outcome"] == MEASURED][-1:]
    for entry in largest:
        found |= {"peak_memory_bytes": entry["peak_memory_bytes"], "peak_memory_batch": entry["batch_size"]}
    return found


def _rates(bench: Bench, batches: list[dict]) -> dict:
    rate = machine.matmul_rate(bench.device, bench.precision)
    found = {
        "matmul_flops_per_second": rate,
        "memory_bytes_per_second": memory_rate(bench.device),
        "transfer_bytes_per_second": transfer_rate(bench.device),
    }
    best = best_batch(batches, RESIDENT)
    if best is not None:
        reached = images_per_second(best, RESIDENT)
        found |= {"images_per_second": reached, "matmul_fraction": 2 * bench.macs * reached / rate}
    return found


def _versions() -> dict[str, str | None]:
    """Of the packages that some networks come from."""
    found: dict[str, str | None] = {}
    for name in ("torchvision", "timm"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
