"""Efficiency (Table 9): what MLPs and networks with an inductive bias cost to run, on this machine."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlplib.specs import ModelSpec, TimingSpec
from mlplib.store import Record

from .. import stats
from ..claims import Judgement, Part, Range, about, judge, not_tested
from ..profiles import Profile
from ..stats import Estimate
from . import base

TITLE = "Efficiency"
ITEMS = ("Table 9",)

TITLES = {
    "resnet152": "ResNet-152",
    "vit-b/4": "ViT-B/4",
    "vit-b/8": "ViT-B/8",
    "mixer-b/4": "Mixer-B/4",
    "small-cnn": "small CNN",
}
"""The paper's names of networks that are named differently here."""


PAPER_NETWORKS = ("B-12/Wi-1024", "B-6/Wi-1024", "resnet152", "vit-b/4", "vit-b/8", "mixer-b/4")


def _summary(values: Sequence[float]) -> dict[str, float]:
    from mlplib.timing import summary  # it imports torch, which planning must not

    return summary(values)


def _budget(networks: Sequence[str], batch_sizes: tuple[int, ...], **settings) -> list[TimingSpec]:
    # By default with ImageNet-21k's classes, as in Table 5; the paper does not say which head Table 9 has.
    return [TimingSpec(ModelSpec.parse(name), batch_sizes, **settings) for name in networks]


LARGE = _budget(PAPER_NETWORKS, (1, 16, 64, 256, 1024, 4096, 16384), seconds=20.0)

BUDGETS = {
    "smoke": _budget(
        ("B-2/Wi-32", "B-1/Wi-32", "small-cnn"), (1, 8, 64), seconds=0.5, image_size=16, classes=10
    ),
    "laptop": _budget(PAPER_NETWORKS, (1, 2, 8, 32, 128, 512), seconds=6.0),
    "gpu": LARGE,
    "paper": LARGE,
}
"""What this chapter times, by profile; the seeds are added by :func:`runs`."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[TimingSpec]:
    """Every network of the profile, once per seed.

    All networks are timed once before the first is timed again, so that drift of the machine favors none.
    """
    return [replace(spec, seed=seed) for seed in seeds for spec in BUDGETS[profile.key]]


def title(model: ModelSpec) -> str:
    """A network's name as the paper writes it."""
    return TITLES.get(model.name, model.name)


def _groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The completed timings of each network, by its title, in the order of the runs."""
    return base.group_by(base.completed(records), lambda record: title(record.spec.model))


def _devices(records: Sequence[Record]) -> str:
    """Devices and precisions of timings: a timing holds for one machine only."""
    found = (record.environment for record in records)
    return "; ".join(
        dict.fromkeys(f"{e['device']}, {e.get('precision', 'unknown precision')}" for e in found)
    )


def _network(group: Sequence[Record]) -> str:
    spec = group[0].spec
    return f"{spec.classes:,} classes, {spec.image_size} x {spec.image_size}"


def _repeats(group: Sequence[Record]) -> str:
    repeats = [1e3 * seconds for record in group for seconds in record.history["latency"]]
    found = _summary(repeats)
    middle = f"middle half of {len(repeats)} repeats {found['q25']:.3g} to {found['q75']:.3g} ms"
    return f"{_devices(group)}; {middle}"


def _batch(metric: str) -> Callable[[Sequence[Record]], str]:
    def about(group: Sequence[Record]) -> str:
        sizes = sorted({record.metrics[metric] for record in group})
        return f"{_devices(group)}; batches of {' or '.join(f'{size:,}' for size in sizes)}"

    return about


@dataclass(frozen=True)
class Measure:
    """A column: the metric it shows, its ``scale``, and how to describe the measurement of a group."""

    item: str
    column: str
    metric: str
    scale: float
    unit: str
    about: Callable[[Sequence[Record]], str]
    counted: bool = False
    """Whether it follows from the network, so that it has no spread."""


MEASURES = (
    Measure("Table 9", "parameters", "parameters", 1e-6, "million", _network, counted=True),
    Measure("Table 9", "FLOPs", "forward_macs", 2e-6, "MFLOP", _network, counted=True),
    Measure("Table 9", "latency", "latency_s", 1e3, "ms", _repeats),
    *(
        Measure(item, column, f"images_per_second_{way}", 1, "images/s", _batch(f"best_batch_{way}"))
        for item, column, way in (
            ("Table 9", "throughput", "resident"),
            ("C18", "throughput, copied as uint8", "uint8"),
            ("C18", "throughput, copied as float32", "float32"),
        )
    ),
    Measure("C18", "peak memory", "peak_memory_bytes", 2.0**-20, "MiB", _batch("peak_memory_batch")),
)


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 9, and under C18 the cost of copying the images to the device. What is measured has geometric
    means over seeds, with intervals from the logarithms: times and rates are above 0, and ratios count.
    """
    cells = []
    for measure in MEASURES:
        having = [record for record in records if measure.metric in record.metrics]
        groups = {(name, measure.column): group for name, group in _groups(having).items()}

        def value(record, measure=measure):
            number = measure.scale * record.metrics[measure.metric]
            return number if measure.counted else math.log(number)

        for cell in base.mean_cells(measure.item, groups, measure.about, value, measure.unit):
            found = cell.estimate
            found = replace(found, low=None, high=None) if measure.counted else found.exp()
            cells.append(replace(cell, estimate=found))
    return cells


WAY_NAMES = {"resident": "images on the device", "uint8": "copied as uint8", "float32": "copied as float32"}


def _origin(record: Record) -> dict:
    return {"device": record.environment["device"], "seed": record.spec.seed, "run": record.id}


@base.dataframe
def throughputs(records: Sequence[Record]) -> Iterator[dict]:
    """Throughput against batch size. Solid: the images are on the device already. Dotted: each batch is first
    copied from the host's memory as float32. Points are medians, bands the middle half of the repeats. Batch
    sizes that did not fit into the time box or into memory are missing.
    """
    for record in itertools.chain(*_groups(records).values()):
        for entry in record.history["batches"]:
            for way, seconds in entry.get("seconds", {}).items():
                row = {"network": title(record.spec.model), "images": WAY_NAMES[way]}
                rates = _summary([entry["batch_size"] / s for s in seconds])
                row |= {"batch_size": entry["batch_size"], "images_per_second": rates.pop("value")}
                yield row | rates | {"repeats": len(seconds)} | _origin(record)


ROOFS = {"memory": ("resident", "memory_bytes_per_second"), "copy": ("float32", "transfer_bytes_per_second")}
"""What limits a network besides the matrix-product rate: how its images arrive, and at what bandwidth."""


@base.dataframe
def roofs(records: Sequence[Record]) -> Iterator[dict]:
    """Rooflines: the rate of computation that each network reaches at its best batch size, against the work
    that it does per byte moved, one dot per seed. The slanted line is what the bandwidth allows, the
    horizontal one the measured rate of matrix products. Left: the bytes are those that the network's
    operations read and write in the device's memory, with images on the device. Right: they are the bytes of
    the images, which are copied to the device as float32.
    On a CPU that copy stays within one memory.
    """
    for record in itertools.chain(*_groups(records).values()):
        traffic = {e["batch_size"]: e.get("traffic_bytes") for e in record.history["batches"]}
        flops = 2 * record.metrics["forward_macs"]
        for roof, (way, bandwidth) in ROOFS.items():
            if (batch := record.metrics.get(f"best_batch_{way}")) is None:
                continue
            moved = traffic[batch] / batch if roof == "memory" else 4 * 3 * record.spec.image_size**2
            yield {
                "network": title(record.spec.model),
                "roof": roof,
                "batch_size": batch,
                "flops_per_byte": flops / moved,
                "flops_per_second": flops * record.metrics[f"images_per_second_{way}"],
                "peak_flops_per_second": record.compute["matmul_flops_per_second"],
                "bytes_per_second": record.compute[bandwidth],
            } | _origin(record)


FIGURES = {
    "throughput": base.Figure(
        data=throughputs,
        draw=base.plot("speed.throughput"),
        alt="Line chart of images per second against batch size with one line for each network, both axes "
        "logarithmic.",
    ),
    "roofline": base.Figure(
        data=roofs,
        draw=base.plot("speed.rooflines"),
        alt="Two charts with logarithmic axes, each with a line that rises and then stays level, and a "
        "point for each network below it.",
    ),
}


SLOWER = 1.1
"""The smallest ratio of latencies that "less latency" means."""

FAR_FEWER = 2.0
"""What "far fewer" FLOPs means: other networks need at least this many times as many."""

PAPER_TRANSFER = 6.0
"""The factor in throughput that an MLP gains without data transfer, according to the paper."""

BOUND = 2.0
"""The speedup from leaving out the copy, without overlap, if it takes as long as everything else."""

RESAMPLES = 2000


def _ratio(over: dict[int, list[float]], under: dict[int, list[float]]) -> Estimate | None:
    """The ratio of two medians; None without a common seed. Both arguments map seeds to repeats.

    From several seeds the interval is that of the ratios paired by seed, from one that of a bootstrap over
    the repeats of both sides.
    """
    seeds = sorted(over.keys() & under.keys())
    if not seeds:
        return None
    ratios = [statistics.median(over[seed]) / statistics.median(under[seed]) for seed in seeds]
    if len(seeds) > 1:
        return stats.over_seeds(ratios)
    low, high = _bootstrap(over[seeds[0]], under[seeds[0]])
    return Estimate(ratios[0], low, high, 1, source="repeats")


def _bootstrap(over: Sequence[float], under: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    random = np.random.default_rng(0)
    medians = [
        np.median(random.choice(np.asarray(side), (RESAMPLES, len(side))), axis=1) for side in (over, under)
    ]
    tail = (1 - stats.confidence()) / 2
    low, high = np.quantile(medians[0] / medians[1], (tail, 1 - tail))
    return float(low), float(high)


def _latencies(group: Sequence[Record]) -> dict[int, list[float]]:
    return {record.spec.seed: record.history["latency"] for record in group}


def _seconds_per_image(group: Sequence[Record], way: str) -> dict[int, list[float]]:
    """Every repeat of the best batch size, in seconds per image."""
    found = {}
    for record in group:
        size = record.metrics.get(f"best_batch_{way}")
        for entry in record.history["batches"]:
            if entry["batch_size"] == size:
                found[record.spec.seed] = [seconds / size for seconds in entry["seconds"][way]]
    return found


def _missing(records: Sequence[Record]) -> list[str]:
    """The titles of the networks without a finished timing, among those to be timed in the same way.

    Without one of them, the fastest network or the largest MLP may be missing.
    """

    def way(spec: TimingSpec) -> tuple:
        return spec.image_size, spec.classes, spec.batch_sizes

    there = {way(record.spec) for record in records}
    wanted = {title(spec.model) for specs in BUDGETS.values() for spec in specs if way(spec) in there}
    return sorted(wanted - _groups(records).keys())


@base.claim(
    "C18",
    "Table 9",
    "MLPs need far fewer FLOPs and less latency than ResNet-152, ViT-B and Mixer-B of like size, and are "
    "bound by data transfer: about 6 times more throughput without it.",
)
def c18(records: Sequence[Record]) -> Judgement:
    """Three parts, with the largest MLP standing for the MLPs in the first two. (1) FLOPs: every other
    network needs more than twice as many. (2) Median latency of one image, as a ratio to the MLP's, is above
    1 for every network, by a tenth at least. The interval is that of ratios paired by seed, or, from one
    seed, a bootstrap over repeats. (3) Transfer, on a GPU only: best throughput with images on the device
    over best throughput with a copy from pinned memory as float32 before each batch, without overlap, is
    above 2 for every MLP, where the copy takes longer than the rest, and about the paper's 6.
    """
    groups = _groups(records)
    mlps = {name: group for name, group in groups.items() if group[0].spec.model.family in base.MLP_TITLES}
    others = {name: group for name, group in groups.items() if name not in mlps}
    if not mlps or not others:
        return not_tested("needs timings of an MLP and of another network")
    missing = _missing(records)
    if missing:
        return not_tested(f"needs timings of every network; missing: {', '.join(missing)}")
    devices = {record.environment["device"] for record in base.completed(records)}
    if len(devices) > 1:
        return not_tested(
            f"the timings are of different devices ({', '.join(sorted(devices))}): delete those of the others"
        )
    largest = max(mlps, key=lambda name: mlps[name][0].metrics["parameters"])
    macs = {name: group[0].metrics["forward_macs"] for name, group in groups.items()}
    fewer = min(macs[name] / macs[largest] for name in others)
    found = {name: _ratio(_latencies(group), _latencies(mlps[largest])) for name, group in others.items()}
    latency = {name: ratio for name, ratio in found.items() if ratio is not None}
    if len(latency) < len(others):
        return not_tested("needs every network timed with a seed that the MLP has, too")
    seeds = min(ratio.n for ratio in latency.values())
    counted = Estimate(fewer, fewer, fewer, seeds, source=stats.COUNTING)
    parts = [_ratio_part("FLOPs of the closest network", counted, FAR_FEWER, Range(FAR_FEWER))]
    parts += [_ratio_part(f"latency of {name}", ratio, 1.0, Range(SLOWER)) for name, ratio in latency.items()]
    parts += _transfer_parts(mlps, records)
    note = f"as multiples of {largest}'s; transfer: throughput without it as a multiple of that with it"
    return judge(parts, note)


def _ratio_part(name: str, ratio: Estimate | None, above: float, meant: Range, **more) -> Part:
    return Part(name, ratio, "times", Range(above), meant, form=".1f", **more)


def _transfer_parts(mlps: dict[str, list[Record]], records: Sequence[Record]) -> list[Part]:
    """What a copy from pinned memory costs each MLP, or one part that says why it was not measured."""
    gains = {
        name: _ratio(_seconds_per_image(group, "float32"), _seconds_per_image(group, "resident"))
        for name, group in mlps.items()
    }
    why = ""
    if any(record.environment.get("device_type") != "cuda" for record in base.completed(records)):
        why = "it needs a GPU: on a CPU the copy stays within one memory"
    elif None in gains.values():
        why = "no batch fitted into memory"
    if why:
        return [_ratio_part("transfer", None, BOUND, Range(BOUND), why_not=why)]
    return [
        _ratio_part(f"transfer, {name}", gain, BOUND, Range(BOUND), size=about(PAPER_TRANSFER))
        for name, gain in gains.items()
    ]


CLAIMS = (c18,)
