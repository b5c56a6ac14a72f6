"""Inference speed of a network on this machine: latency, throughput and memory, for the paper's Table 9.

A timing describes the machine on which it was measured. Networks run in PyTorch's eager mode (nothing is
compiled) and in evaluation mode, on random images, with all weights in the precision of the run.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import machine, memory, timing
from .errors import Interrupted
from .execution import Execution
from .models import build_model, count_macs, count_parameters, meta_model
from .specs import TimingSpec
from .stopping import StopRequest
from .timing import calls_in, repeat, seconds_per_call, summary, take_turns

RESIDENT, UINT8, FLOAT32 = "resident", "uint8", "float32"
WAYS = (RESIDENT, UINT8, FLOAT32)
"""Where a batch is when the clock starts: on the device, ready for the network; or in host memory
(pinned, for a GPU) as uint8 or as normalized float32. From there it is copied, then converted on the device,
then passed through the network, without overlap."""

MEASURED, TOO_SLOW = "measured", "too slow for the time box"
NO_MEMORY, TOO_LARGE = "out of memory", "more memory than is free"
"""Outcomes of a batch size."""

LATENCY_SHARE = 0.25
"""Share of the time box spent on single images."""

MIN_REPEATS, MAX_REPEATS, MAX_SINGLE = 3, 30, 100
"""Fewest and most repeats of a batch, and most repeats of a single image."""

REPEAT_SECONDS = 0.02
"""A repeat of a batch makes as many passes as fit into this time, so that the overhead is small."""

FREE_SHARE = 0.8
"""Largest share of the free memory that a batch may need, as predicted from smaller batches."""

HELD_BYTES = 5
"""Bytes per number that a batch needs beside a pass: device buffers for its uint8 and float32 copies."""

WARM_UPS = 1
"""Untimed passes of each way. An earlier pass has already chosen kernels and filled caches."""


def measure(spec: TimingSpec, how: Execution) -> tuple[dict, dict, dict]:
    """Time the network of ``spec`` on the device of ``how``.

    A batch size that does not fit into ``spec.seconds`` or into memory is skipped, and so are all larger
    ones; the first one is always tried.

    Returns:
        metrics, history and compute of the run's record (:class:`mlplib.store.Record`).
        ``history["latency"]``: seconds from one image on the device to its logits, per repeat.
        ``history["batches"]``: per batch size its ``outcome``; if measured, also the peak memory and memory
        traffic of one pass in bytes (:class:`PassCounter`) and, for each of :data:`WAYS`, seconds per batch,
        per repeat.
        ``metrics``: parameters, multiply-adds, median latency in seconds with quartiles, and median images
        per second at the best batch size of each way.
        ``compute``: the machine's rates.

    Raises:
        MlplibError: the network cannot be built for such images.
        Interrupted: stopped on request; the next attempt starts from the beginning.
    """
    machine.keep_freed_memory()
    precision = machine.pick_precision(spec.precision, how.device)
    start = time.monotonic()
    with how.stop.listening(), how.progress(1 + len(spec.batch_sizes), spec.slug()) as bar:
        bench = Bench(spec, how.device, precision, how.stop)
        # Let cuDNN try its algorithms for a convolution and use the fastest.
        fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True)
        with torch.inference_mode(), fastest, machine.matmul_precision(precision):
            started = time.monotonic()
            latency = bench.latency(started + LATENCY_SHARE * spec.seconds)
            bar.advance(1)
            batches = bench.batches(started + spec.seconds, lambda: bar.advance(1))
    compute = _rates(bench, batches) | {"seconds": time.monotonic() - start}
    return _metrics(bench, latency, batches), {"latency": latency, "batches": batches}, compute


class Bench:
    """A network on its device, ready to be timed."""

    def __init__(self, spec: TimingSpec, device: torch.device, precision: str, stop: StopRequest):
        self.spec, self.device, self.precision, self.stop = spec, device, precision, stop
        self.dtype = machine.DTYPES[precision]
        self.shape = (spec.image_size, spec.image_size, 3)
        network = build_model(spec.model, self.shape, spec.classes, seed=spec.seed).eval()
        self.parameters = count_parameters(network)
        self.macs = count_macs(meta_model(spec.model, self.shape, spec.classes), self.shape)
        # Convolutions are fastest in channels-last order; it does not affect linear layers.
        self.network = network.to(device, self.dtype).to(memory_format=torch.channels_last)

    def in_turns(
        self, works: dict[str, Callable], deadline: float, one_by_one: bool = False
    ) -> dict[str, list[float]]:
        """Seconds per pass of each of ``works``, timed in turns until the deadline (``time.monotonic``).

        ``one_by_one``: a repeat is one pass, however short.
        """
        runs = {name: repeat(work) for name, work in works.items()}
        once = [seconds_per_call(run, 1, self.device) for _ in range(WARM_UPS) for run in runs.values()][-1]
        passes = 1 if one_by_one else calls_in(REPEAT_SECONDS, once)
        timers = {
            name: functools.partial(seconds_per_call, run, passes, self.device) for name, run in runs.items()
        }
        most = MAX_SINGLE if one_by_one else MAX_REPEATS
        return take_turns(timers, most, least=MIN_REPEATS, deadline=deadline, after_each=self._check_stop)

    def _check_stop(self) -> None:
        if self.stop:
            raise Interrupted(f"stopped while timing {self.spec.model}: start it again and it starts over")

    def latency(self, deadline: float) -> list[float]:
        """Seconds from one image on the device to its logits, per repeat, one image at a time."""
        one = Batch(self, 1).works()[RESIDENT]
        one()
        return self.in_turns({RESIDENT: one}, deadline, one_by_one=True)[RESIDENT]

    def batches(self, deadline: float, done: Callable[[], None]) -> list[dict]:
        """One entry per batch size of the spec, see :func:`measure`. ``done`` is called after each."""
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
        """MEASURED if the smaller batch sizes suggest that ``size`` fits, otherwise the outcome to record."""
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
        needed += HELD_BYTES * size * math.prod(self.shape)
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
        """Peak memory and memory traffic of a pass, after a warm-up pass that may try algorithms."""
        self.network(images)
        machine.reset_peak_memory(self.device)
        before = machine.peak_memory(self.device)
        with PassCounter(self.network, images) as counter:
            self.network(images)
        peak = counter.peak_bytes
        if self.device.type == "cuda":  # measured, less what else this process holds
            peak = machine.peak_memory(self.device) - before + self.weight_bytes + images.nbytes
        return {"peak_memory_bytes": peak, "traffic_bytes": counter.traffic_bytes}


class Batch:
    """Random images: the same in host memory as uint8 and float32, and on the device."""

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
        mean, deviation = self.scale

        def fetched(way: str) -> Tensor:
            return self.arrived[way].copy_(self.host[way], non_blocking=True).to(self.dtype)

        return {
            RESIDENT: lambda: self.network(self.resident),
            UINT8: lambda: self.network(fetched(UINT8).sub_(mean).div_(deviation)),
            FLOAT32: lambda: self.network(fetched(FLOAT32)),
        }


# --------------------------------------------------------------------------- memory of a pass


class PassCounter(TorchDispatchMode):
    """Counts the memory used by all operations inside the context.

    ``peak_bytes``: most bytes of tensors alive at once, including weights and images, excluding temporary
    buffers of kernels. ``traffic_bytes``: bytes that operations read and write; every input and output of an
    operation counts once, as if there were no caches.
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
        # A view of its input moves no data.
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


def images_per_second(entry: dict, way: str) -> float:
    """Median throughput of a measured entry of ``history["batches"]``."""
    return entry["batch_size"] / statistics.median(entry["seconds"][way])


def best_batch(batches: list[dict], way: str) -> dict | None:
    """The entry of the batch size with the largest throughput, None if none was measured."""
    measured = [entry for entry in batches if entry["outcome"] == MEASURED]
    return max(measured, key=lambda entry: images_per_second(entry, way), default=None)


def _metrics(bench: Bench, latency: list[float], batches: list[dict]) -> dict:
    found = {"parameters": bench.parameters, "forward_macs": bench.macs}
    names = {"value": "latency_s", "q25": "latency_s_q25", "q75": "latency_s_q75"}
    found |= {names[key]: value for key, value in summary(latency).items()}
    for way in WAYS:
        best = best_batch(batches, way)
        if best is not None:
            found[f"images_per_second_{way}"] = images_per_second(best, way)
            found[f"best_batch_{way}"] = best["batch_size"]
    for entry in [entry for entry in batches if entry["outcome"] == MEASURED][-1:]:
        found |= {"peak_memory_bytes": entry["peak_memory_bytes"], "peak_memory_batch": entry["batch_size"]}
    return found


def _rates(bench: Bench, batches: list[dict]) -> dict:
    rate = timing.matmul_rate(bench.device, bench.precision)
    found = {
        "matmul_flops_per_second": rate,
        "memory_bytes_per_second": timing.memory_rate(bench.device),
        "transfer_bytes_per_second": timing.transfer_rate(bench.device),
    }
    best = best_batch(batches, RESIDENT)
    if best is not None:
        reached = images_per_second(best, RESIDENT)
        found |= {"images_per_second": reached, "matmul_fraction": 2 * bench.macs * reached / rate}
    return found
