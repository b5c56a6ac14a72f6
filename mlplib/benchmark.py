"""``mlplib bench``: how near training comes to the machine's matrix-product rate,
and what accuracy it reaches.

All measures of one table are taken in turns in one process, so that a machine that slows down for a while
slows all of them alike; what is reported are medians and ratios.
"""

from __future__ import annotations

import itertools
import statistics
import time

import torch

from . import data, machine
from .data.batches import open_data
from .models import outline
from .specs import FULL_DA, NO_DA, DataSpec, ModelSpec, OptimizerSpec, TrainSpec
from .training import Loop, executed_flops, train

ROUNDS = 9
STEPS = 8


def _spec(
    model: str, dataset: str, batch_size: int, epochs: int = 1, da: bool = True, **settings
) -> TrainSpec:
    return TrainSpec(
        model=ModelSpec.parse(model),
        data=DataSpec(dataset),
        epochs=epochs,
        batch_size=batch_size,
        augment=FULL_DA if da else NO_DA,
        optimizer=OptimizerSpec(),
        label_smoothing=0.3,
        **settings,
    )


def _versions(device: torch.device, precision: str) -> str:
    return f"{machine.device_name(device)}, {precision}, torch {torch.__version__}"


def speed(*, model: str, data: str, batch_size: int, device: torch.device, progress) -> dict:
    """Time the loop with and without augmentation, one fixed batch,
    the augmentation alone and a matrix product, in turns.

    Returns a title, columns and rows: measure, milliseconds a step (median), images/s, share of the
    matrix-product rate measured in the same process.
    """
    machine.keep_freed_memory()
    precision = machine.pick_precision("auto", device)
    specs = {da: _spec(model, data, batch_size, da=da) for da in (True, False)}
    resident = open_data(_load(data, progress), specs[True].data, device)
    loops = {da: Loop(spec, resident, device, precision, None) for da, spec in specs.items()}
    states = {da: loop.fresh_state() for da, loop in loops.items()}
    batches = {da: _endless(loop) for da, loop in loops.items()}
    fixed = next(batches[True])

    def end_to_end(da: bool) -> None:
        loops[da].step(states[da], next(batches[da]))

    measures = {
        "end to end, with DA": lambda: end_to_end(True),
        "end to end, without DA": lambda: end_to_end(False),
        "step on one fixed batch": lambda: loops[True].step(states[True], fixed),
        "augmentation alone": lambda: next(batches[True]),
    }
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(side, side, device=device).to(loops[True].dtype)
    measures["matrix product"] = lambda: matrix @ matrix

    milliseconds = _in_turns(measures, device, progress)
    peak = 2 * side**3 / (milliseconds.pop("matrix product") / 1e3)
    flops = executed_flops(
        outline(specs[True].model, resident.image_shape, len(resident.classes)), resident.image_shape
    )
    rows = []
    for name, ms in milliseconds.items():
        images = batch_size / ms * 1e3
        share = "" if name == "augmentation alone" else f"{images * flops / peak:.2f}"
        rows.append((name, f"{ms:.2f}", f"{images:,.0f}", share))
    rows.append(("matrix product", "", "", f"{peak / 1e12:.2f} TFLOP/s"))
    return {
        "title": (
            f"{model}, {data}, batch {batch_size}: medians of {ROUNDS} rounds of {STEPS} steps. "
            f"{_versions(device, precision)}"
        ),
        "columns": ["measure", "ms a step", "images/s", "share of matrix-product rate"],
        "rows": rows,
    }


def _load(name: str, progress):
    return data.load(name, progress=progress)


def _endless(loop: Loop):
    """Batches of one epoch after another."""
    spec = loop.spec
    for epoch in itertools.count():
        yield from loop.data.training_batches(spec.batch_size, spec.augment, spec.seed, epoch, loop.dtype)


def _in_turns(measures: dict, device: torch.device, progress) -> dict[str, float]:
    """Median milliseconds a call of each measure;
    every round times all of them, after one round to warm up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    with progress((ROUNDS + 1) * len(measures), "bench") as bar:
        for round_ in range(ROUNDS + 1):
            for name, call in measures.items():
                machine.synchronize(device)
                start = time.perf_counter()
                for _ in range(STEPS):
                    call()
                machine.synchronize(device)
                if round_:
                    seconds[name].append((time.perf_counter() - start) / STEPS)
                bar.advance(1)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def accuracy(*, model: str, data: str, batch_size: int, device: torch.device, progress) -> dict:
    """Train with and without DA and give test accuracy at 20 and 40 epochs: one seed, nothing kept."""
    dataset = _load(data, progress)
    rows, found = [], {}
    for da in (True, False):
        spec = _spec(model, data, batch_size, epochs=40, da=da, evaluate_at=(10, 20, 30))
        done = train(spec, dataset, device=device, progress=progress)
        found[da] = {entry["epoch"]: entry["top1"] for entry in done.history["test"]}
        values = [f"{100 * found[da][epoch]:.1f} %" for epoch in (10, 20, 30, 40)]
        rate, share = done.compute["images_per_second"], done.compute["matmul_fraction"]
        rows.append(("with DA" if da else "without DA", *values, f"{rate:,.0f}", f"{share:.2f}"))
    gain = 100 * (found[True][40] - found[False][40])
    rows.append(("DA adds", "", "", "", f"{gain:+.1f} points", "", ""))
    precision = machine.pick_precision("auto", device)
    return {
        "title": (
            f"{model}, {data}, batch {batch_size}, Lion 5e-5, 1 seed: test accuracy. "
            f"{_versions(device, precision)}"
        ),
        "columns": [
            "",
            "10 epochs",
            "20 epochs",
            "30 epochs",
            "40 epochs",
            "images/s",
            "share of matrix-product rate",
        ],
        "rows": rows,
    }
