"""The speed targets, the reason for each, and whether a results file meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cases import CPU_CASES, GPU_CASES

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"

CLASS_OF_H200 = ("H100", "H200", "GH200", "B200", "GB200")
"""Parts of the names of GPUs of the H200's class."""

CPU_CORES = 2
WIDE, NARROW = CPU_CASES
LARGE, CIFAR = GPU_CASES


@dataclass(frozen=True)
class Target:
    """The bounds, inclusive, of a derived number of a group; None is no bound.

    ``on``: ``cpu`` (two cores), ``gpu`` (of the H200's class), or ``any``. ``reason``: why this much.
    """

    id: str
    sentence: str
    group: str
    number: str
    unit: str
    reason: str
    low: float | None = None
    high: float | None = None
    on: str = "any"


TARGETS = (
    Target(
        "cpu-share",
        "Two CPU cores, B-6/Wi-512, batch 1024, CIFAR-10, flips, crops and MixUp, end to end: share of the "
        "bf16 matrix-product rate",
        WIDE.name,
        "share",
        "",
        "layers this wide are large enough for products to run at full rate, so all else may cost a seventh",
        low=0.85,
        on="cpu",
    ),
    Target(
        "cpu-reference-512",
        "The same, over the reference loop in the same process",
        WIDE.name,
        "over-reference",
        "times",
        "bf16 doubles the rate of products; a little more must come from what is around them",
        low=2.1,
        on="cpu",
    ),
    Target(
        "cpu-reference-256",
        "B-6/Wi-256, over the reference loop in the same process",
        NARROW.name,
        "over-reference",
        "times",
        "the narrower the network, the more weighs what the usual loop does between products",
        low=2.7,
        on="cpu",
    ),
    Target(
        "cpu-augmentation",
        "What augmentation adds to the step, B-6/Wi-256, two CPU cores",
        NARROW.name,
        "da-adds",
        "%",
        "augmentation is worth a comparison with and without it only if it is as good as free",
        high=5.0,
        on="cpu",
    ),
    Target(
        "ffcv-loader",
        "FFCV loader, 32x32, crops and flips, two CPU cores",
        "loaders",
        "streamed-rate",
        "images/s",
        "a network that trains on two cores never waits for a loader that is several times as fast",
        low=50_000,
        on="cpu",
    ),
    Target(
        "ffcv-end-to-end",
        "End to end with the FFCV loader, B-6/Wi-256, two CPU cores: longer than with images in memory",
        "loaders",
        "ffcv-adds",
        "%",
        "data that does not fit into memory should not be a reason to train slowly",
        high=10.0,
        on="cpu",
    ),
    Target(
        "gpu-share",
        "H200-class GPU, B-12/Wi-1024, 64x64, batch 16384, end to end with augmentation: share of the "
        "measured bf16 matrix-product rate",
        LARGE.name,
        "share",
        "",
        "elementwise operations wait for memory, which on such a GPU is slow beside its arithmetic",
        low=0.60,
        on="gpu",
    ),
    Target(
        "gpu-epoch",
        "The same, an epoch of ImageNet-21k's size",
        LARGE.name,
        "imagenet21k-epoch",
        "s",
        "the paper's GPU took 450 s, and such a GPU has more than twenty times its rate in bf16",
        high=20.0,
        on="gpu",
    ),
    Target(
        "gpu-cifar",
        "CIFAR-10, B-6/Wi-1024, 5000 epochs with augmentation, H200-class GPU",
        CIFAR.name,
        "cifar10-5000",
        "min",
        "the longest training of Table 1, in the time of a coffee break",
        high=6.0,
        on="gpu",
    ),
    Target(
        "start-up",
        "mlplib --help answers",
        "start-up",
        "seconds",
        "s",
        "up to half a second feels like an answer, beyond it like waiting",
        high=0.5,
    ),
    Target(
        "growth-time",
        "Twice the images take",
        "growth",
        "time",
        "times",
        "time that is linear in images lets a short run tell what a long one takes",
        low=1.9,
        high=2.1,
    ),
    Target(
        "growth-memory",
        "Memory grows over further epochs",
        "growth",
        "memory",
        "%",
        "a run of thousands of epochs must not run out of memory in the last; the allocator may still waver",
        high=2.0,
    ),
)
"""All targets, in the order of tables."""


def judge(target: Target, found: Mapping) -> dict:
    """A target's row: ``value`` with quartiles, ``verdict``, and ``why`` where nothing was measured.

    Args:
        found: ``machine`` and ``derived`` of a file of :mod:`mlpstudy.bench.speed`.
    """
    row = {"id": target.id, "target": bounds(target)}
    why = _unfit(target, found["machine"])
    if why is None:
        number = next(
            (d for d in found["derived"] if (d["group"], d["id"]) == (target.group, target.number)),
            {"why": f"{target.group} was not asked for"},
        )
        why = number.get("why")
    if why is not None:
        return row | {"verdict": NOT_MEASURED, "why": why}
    low, high = target.low, target.high
    kept = (low is None or number["value"] >= low) and (high is None or number["value"] <= high)
    values = {key: number[key] for key in ("value", "q25", "q75")}
    return row | values | {"unit": target.unit, "verdict": MET if kept else NOT_MET}


def _unfit(target: Target, machine: Mapping) -> str | None:
    """Why a target is not one for this machine, None if it is."""
    kind = machine["device_type"]
    if target.on == "gpu":
        if kind != "cuda":
            return "no CUDA GPU"
        if not any(name in machine["device"] for name in CLASS_OF_H200):
            return f"{machine['device']} is of another class"
    if target.on == "cpu":
        if kind != "cpu":
            return "measured on a GPU"
        if machine["cpu_threads"] != CPU_CORES:
            return f"CPU threads: {machine['cpu_threads']}, not {CPU_CORES}"
    return None


def bounds(target: Target) -> str:
    """What is allowed, in words: ``at least 0.85``, ``at most 5 %``, ``1.9 to 2.1 times``."""
    if target.low is not None and target.high is not None:
        text = f"{target.low:g} to {target.high:g}"
    else:
        text = f"at least {target.low:,g}" if target.low is not None else f"at most {target.high:,g}"
    return f"{text} {target.unit}".rstrip()
