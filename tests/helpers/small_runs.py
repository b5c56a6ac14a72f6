"""Runs small enough to be trained in a test, data to train them on, and records made by hand."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import numpy as np

from mlplib.data.dataset import ImageDataset, Split, ordered_hash, statistics
from mlplib.specs import (
    FAMILIES,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
    RunSpec,
    TimingSpec,
    TrainSpec,
)
from mlplib.store import MOSAIC, Record, RunStore, run_id

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mlplib", "mlpstudy")


def small(**changes) -> TrainSpec:
    """A run of a few milliseconds a step on drawn shapes, in float32; some settings changed."""
    settings = dict(
        model=ModelSpec.parse("B-1/Wi-16"),
        data=DataSpec("shapes-16", examples=256),
        epochs=3,
        batch_size=64,
        optimizer=OptimizerSpec(lr=2e-3),
        precision="fp32",
    )
    return TrainSpec(**settings | changes)


def dataset(
    train: np.ndarray, test: np.ndarray | None = None, classes: int = 4, name: str = "hand"
) -> ImageDataset:
    """A data set of the given uint8 images (N, H, W, 3); labels go 0, 1, ... and round again."""
    test = train if test is None else test
    parts = [Split(images, np.arange(len(images), dtype=np.int64) % classes) for images in (train, test)]
    names = tuple(f"class {i}" for i in range(classes))
    return ImageDataset(name, *parts, names, *statistics(train), ordered_hash(*parts))


@functools.cache
def noise(count: int = 60, height: int = 8, width: int = 8, seed: int = 0) -> ImageDataset:
    """Images of random pixels."""
    draw = np.random.default_rng(seed).integers
    train, test = (draw(0, 256, (n, height, width, 3), dtype=np.uint8) for n in (count, max(1, count // 2)))
    return dataset(train, test)


@functools.cache
def numbered(count: int = 200) -> ImageDataset:
    """Image i is plain gray of value i, so that a batch shows which images are in it. Up to 256 images."""
    gray = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 6, 6, 3))
    return dataset(np.ascontiguousarray(gray))


# --------------------------------------------------------------------------- records made by hand


def record(spec: RunSpec, status: str = "completed", **metrics) -> Record:
    """A record as the run would leave it; ``curve`` gives the accuracies after some epochs of training."""
    curve = metrics.pop("curve", {})
    history, values = {}, {}
    if isinstance(spec, (TrainSpec, FineTuneSpec)):
        history = _history(spec, curve, metrics.get("test_top1", 0.5))
        values = {"test_top1": 0.5, "train_top1": 0.9}
    elif isinstance(spec, FilterSpec):
        values = {
            f"{name}{end}": metrics.get(name, 0.1)
            for name in ("locality", "smoothness")
            for end in ("", "_std", "_q25", "_median", "_q75")
        } | {"units": spec.upstream.model.width}
    elif isinstance(spec, ProbeSpec):
        values = {"test_top1": 0.5, "test_top5": 0.9, "train_top1": 0.6}
        values |= {"penalty": 1.0} if spec.method == "ridge" else {"test_loss": 1.0}
        history = {"directions": [7.0], "constant": [0.0]} if spec.method == "ridge" else {}
    elif isinstance(spec, EvaluateSpec):
        kinds = ("test", "tta_logits", "tta_softmax") if spec.crops else ("test",)
        values = {f"{kind}_{top}": 0.5 for kind in kinds for top in ("top1", "top5")}
        values |= {f"real_{kind}_top1": 0.6 for kind in kinds} if spec.real else {}
        history = _views(spec, values | metrics)
    elif isinstance(spec, TimingSpec):
        history, values = _timing(spec)
    return Record(
        id=run_id(spec),
        spec=spec,
        status=status,
        data={"name": spec.data_name(), "content_hash": "0" * 64, "train_images": 2000, "test_images": 500},
        metrics=values | metrics if status == "completed" else {},
        history=history,
        compute={
            "matmul_fraction": 0.5,
            "seconds": 1.0,
            **({"features": 64} if isinstance(spec, ProbeSpec) else {}),
            **{f"{name}_per_second": 1e9 for name in ("matmul_flops", "memory_bytes", "transfer_bytes")},
        },
        environment={"device": "a test"},
    )


def diverged(
    records: Iterable[Record], where: Callable[[Record], bool] = lambda record: True
) -> list[Record]:
    """The records, those of some runs as if they had diverged."""
    return [replace(r, status="diverged", metrics={}) if where(r) else r for r in records]


def leave(store: RunStore, records: Iterable[Record]) -> None:
    """Leave records in a store as their runs would; a look at filters also leaves a picture of its own."""
    for one in records:
        with store.claim(one.spec) as folder:
            store.write(one)
            if isinstance(one.spec, FilterSpec) and one.status == "completed":
                np.save(folder / MOSAIC, np.frombuffer(one.id.encode(), np.uint8)[None, None])


def leave_checkpoint(store: RunStore, spec: RunSpec, epochs: int) -> None:
    """Leave the checkpoint of a run that was stopped after some epochs."""
    import torch

    from mlplib.training import CHECKPOINT

    with store.claim(spec) as folder:
        torch.save({"epoch": epochs}, folder / CHECKPOINT)


def scored(records: Iterable[Record], top1: float, where: Callable[[Record], bool]) -> list[Record]:
    """The records, those of some runs with another test accuracy."""
    return [replace(r, metrics=r.metrics | {"test_top1": top1}) if where(r) else r for r in records]


def _views(spec: EvaluateSpec, values: dict) -> dict:
    """Accuracies after one view and after all, as a real evaluation leaves them; nothing without views."""
    names = [f"tta_{kind}_top1" for kind in ("logits", "softmax")] if spec.crops else []
    views = sorted({1, spec.crops}) if spec.crops else []
    found = {name: [values[name] for _ in views] for name in names}
    return {"views": views, **found} if views else {}


def _history(spec, curve: dict, top1: float) -> dict:
    epochs = list(range(1, spec.epochs + 1))
    accuracies = {epoch: curve.get(epoch, top1) for epoch in (*spec.evaluate_at, spec.epochs)}
    return {
        "epoch": epochs,
        "train_loss": [1.0 for _ in epochs],
        "train_accuracy": [0.5 for _ in epochs],
        "test": [{"epoch": e, "top1": a, "top5": 1.0, "loss": 1.0} for e, a in sorted(accuracies.items())],
    }


def _timing(spec: TimingSpec) -> tuple[dict, dict]:
    """MLPs take a millisecond an image, other networks ten; a copy takes half a millisecond more."""
    one = 0.001 if spec.model.family in FAMILIES.values() else 0.01
    an_image = {"resident": one, "uint8": one + 0.0002, "float32": one + 0.0005}
    batches = [
        {
            "batch_size": size,
            "outcome": "measured",
            "peak_memory_bytes": 10**6 + 1000 * size,
            "traffic_bytes": 10**6 + 2000 * size,
            "seconds": {way: [size * seconds] * 3 for way, seconds in an_image.items()},
        }
        for size in spec.batch_sizes
    ]
    values = {"parameters": 10**6, "forward_macs": round(1e9 * one), "latency_s": one}
    values |= {"latency_s_q25": one, "latency_s_q75": one}
    for way, seconds in an_image.items():
        values |= {f"images_per_second_{way}": 1 / seconds, f"best_batch_{way}": spec.batch_sizes[-1]}
    values |= {"peak_memory_bytes": 2**20, "peak_memory_batch": spec.batch_sizes[-1]}
    return {"latency": [one] * 3, "batches": batches}, values


# --------------------------------------------------------------------------- other processes


def environment(**more: str) -> dict[str, str]:
    """What a process needs to import this package and its tests, and nothing of the user's own settings."""
    paths = [str(ROOT), str(ROOT / "tests"), *(p for p in sys.path if p)]
    return {
        "PYTHONPATH": ":".join(dict.fromkeys(paths)),
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        **more,
    }


class CountedBar:
    """A progress factory: a bar that knows its total and label, and counts what is done."""

    def __init__(self, total, label):
        self.total, self.label, self.done = total, label, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, n: int) -> None:
        self.done += n


def counted_bars() -> tuple[list[CountedBar], object]:
    """A progress factory and the list of the bars that it will have made."""
    seen: list[CountedBar] = []

    def progress(total, label):
        seen.append(CountedBar(total, label))
        return seen[-1]

    return seen, progress


class Watched:
    """A progress factory that logs that training began and sets ``event`` after ``batches`` more batches."""

    def __init__(self, store: str, event=None, batches: int = 1):
        self.store, self.event, self.left = store, event, batches

    def __call__(self, total, label):
        log(self.store, f"training {label}")
        return self

    def __enter__(self):
        self.resumed = False
        return self

    def __exit__(self, *error):
        pass

    def advance(self, n: int) -> None:
        if self.resumed:  # the first call tells how many batches were done before
            self.left -= n
            if self.left <= 0 and self.event is not None:
                self.event.set()
        self.resumed = True


def execute(
    spec: RunSpec, store: str, checkpoint_every: float = 60.0, under_way=None, batches: int = 1
) -> None:
    """Do one run in this process, as a worker of a test, and log how it ended.

    ``under_way``: an event to set after ``batches`` batches.
    """
    import torch

    from mlplib.errors import MlplibError
    from mlplib.executor import Executor
    from mlplib.store import RunStore

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a forked worker may have inherited another one
    executor = Executor(
        RunStore(store),
        device=torch.device("cpu"),
        progress=Watched(store, under_way, batches),
        log=lambda line: log(store, line),
        checkpoint_every=checkpoint_every,
    )
    try:
        log(store, f"done {executor.record(spec).metrics.get('weights_sha256')}")
    except MlplibError as error:
        log(store, f"{type(error).__name__}: {error}")


@functools.cache
def workers():
    """Where to start worker processes: a server forks them with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_runs", "quick_workers", "shared_runs"])
    # The server of Python 3.11 does not look into this process's sys.path, and ignores what it cannot import.
    with patch.dict(os.environ, PYTHONPATH=environment()["PYTHONPATH"]):
        forkserver.ensure_running()  # before signals are blocked for a worker: the server would inherit that
    return context


def start(spec: RunSpec, store, **how):
    """A worker process that does ``spec`` (:func:`execute`), already started."""
    Path(store).mkdir(parents=True, exist_ok=True)
    process = workers().Process(target=execute, args=(spec, str(store)), kwargs=how)
    process.start()
    return process


def log(store: str, line: str) -> None:
    """Add a line to the store's log, whole, whichever process it is from."""
    with open(Path(store) / "log.txt", "a", encoding="utf-8") as file:
        file.write(line.replace("\n", "\\n") + "\n")


def logged(store: Path) -> list[str]:
    path = Path(store) / "log.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
