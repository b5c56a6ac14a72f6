"""From a spec to its record: find it, or execute the run. Every kind of run is implemented here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import data, filters, inference, machine, memory, official, probing, training, weights
from .data.batches import RunData, open_data
from .errors import MlplibError, Refused
from .execution import Execution
from .files import replacing, sha256
from .models import build_model, count_macs, count_parameters, meta_model
from .specs import (
    CheckpointSpec,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    ProbeSpec,
    RunSpec,
    TimingSpec,
    TrainSpec,
)
from .store import MOSAIC, MOSAIC_SHA256, Record, RunStore, by_id, run_id


class Executor:
    """Executes runs and keeps their results in ``store``.

    Args:
        store: where records are found and written.
        checkpoints: files of official weights (:func:`mlplib.official.find`).
        how: settings of :class:`~mlplib.execution.Execution`, such as ``device``.
    """

    def __init__(self, store: RunStore, checkpoints: Iterable[official.Checkpoint] = (), **how):
        self.store, self.how = store, Execution(**how)
        self.checkpoints = {each.spec.sha256: each.path for each in checkpoints}
        self._datasets: dict[str, data.ImageDataset] = {}
        self._features: dict[tuple, probing.Features] = {}

    @property
    def device(self) -> torch.device:
        """The device that runs compute on."""
        return self.how.device

    def dataset(self, name: str) -> data.ImageDataset:
        """A data set by its catalog name, loaded once, and again if its images have been replaced."""
        kept = self._datasets.get(name)
        if kept is None or kept.content_hash != data.content_hash(name):
            self._features.clear()  # they may be of its old images
            self._datasets[name] = data.load(name, progress=self.how.progress)
        return self._datasets[name]

    def id(self, spec: RunSpec) -> str:
        """The id of a run on the data sets as they were loaded, even if others have replaced them since."""
        return spec.id_on({name: self._datasets[name].content_hash for name in spec.data_names()})

    def on_device(self, spec: DataSpec) -> RunData:
        """A data set as a run sees it, in device memory or streamed to it."""
        return open_data(self.dataset(spec.name), spec, self.device, self.how.loader)

    def start(self, upstream: RunSpec, epoch: int | None = None) -> training.Start:
        """The network of a finished run after ``epoch`` (0: its initialization; None: its end)."""
        if epoch == 0:
            return training.Start(upstream.model)
        state = self.weights(upstream, epoch)
        return training.Start(self._model(upstream, state), state)

    def network(self, upstream: RunSpec, epoch: int | None = None) -> nn.Module:
        """The network of a finished run on the device, its head included."""
        start = self.start(upstream, epoch)
        if isinstance(upstream, CheckpointSpec):
            _, shape, classes = official.describe(start.state)
        else:
            dataset = self.dataset(upstream.data.name)
            shape, classes = image_shape(dataset, upstream.data), len(dataset.classes)
        model = build_model(start.model, shape, classes, seed=getattr(upstream, "seed", 0))
        if start.state is not None:
            model.load_state_dict(start.state)
        return model.to(self.device)

    def _model(self, upstream: RunSpec, state: Mapping[str, torch.Tensor]) -> ModelSpec:
        while isinstance(upstream, FineTuneSpec):
            upstream = upstream.upstream
        return official.describe(state)[0] if isinstance(upstream, CheckpointSpec) else upstream.model

    def weights(self, upstream: RunSpec, epoch: int | None = None) -> dict[str, torch.Tensor]:
        """The stored weights of a finished run, at its end or after an epoch of its ``keep_at``.

        Raises:
            MlplibError: the file is missing or damaged, or does not match the run's record.
        """
        name = training.WEIGHTS if epoch is None else training.kept_weights(epoch)
        record = self.store.find(upstream) if epoch is None else None
        return weights.load(
            self.store.folder(upstream) / name,
            label=None if epoch is None else f"{run_id(upstream)}/{name}",
            sha256=record.metrics.get("weights_sha256") if record is not None else None,
        )

    def features(self, spec: ProbeSpec) -> probing.Features:
        """The data of a probe, cached for the last network: probes of one network follow each other."""
        key = (spec.upstream, spec.epoch, spec.data)
        if key not in self._features:
            self._features.clear()  # first, so that memory never holds two of them
            model = None if spec.upstream is None else self.network(spec.upstream, spec.epoch)
            self._features[key] = probing.features(model, self.on_device(spec.data))
        return self._features[key]

    def records(self, specs: Iterable[RunSpec]) -> list[Record]:
        """The records of the distinct runs among ``specs``, in order; missing runs are executed now.

        A diverged run has a record like any other and does not stop the others.

        Raises:
            Interrupted: stopped on request; finished runs and checkpoints are kept.
        """
        return [self.record(spec) for spec in by_id(specs).values()]

    def record(self, spec: RunSpec) -> Record:
        """The record of one run, which is executed now if it has no record yet."""
        found = self.store.find(spec)
        if found is not None:
            return found
        # A copy of the data in another order is another data set, so the hash, and with it the run's id, is
        # certain only once the data are loaded.
        for name in spec.data_names():
            self.dataset(name)
        wait = f"another process does {run_id(spec)}: waiting for its record"
        with self.store.claim(spec, on_wait=lambda: self.how.log(wait)) as folder:
            found = self.store.find(spec)
            if found is not None:
                return found
            began = _now()
            with memory.out_of_memory_errors(folder.name):
                record = _failed_upstream(self, spec) or KINDS[spec.kind](self, spec, folder)
            if record.id != folder.name:
                raise MlplibError(
                    f"the images of {folder.name} were replaced during this run: start it again"
                )
            times = {"began": began, "ended": _now()}
            record = dataclasses.replace(record, environment=record.environment | times)
            self.store.write(record)
            (folder / training.CHECKPOINT).unlink(missing_ok=True)
        if record.status == "diverged":
            self.how.log(f"{record.id} diverged: its loss is no longer finite")
        return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def image_shape(dataset: data.ImageDataset, spec: DataSpec) -> tuple[int, int, int]:
    """(H, W, 3) of a data set's images at the run's resolution."""
    h, w, c = dataset.train.images.shape[1:]
    return (spec.resolution, spec.resolution, c) if spec.resolution else (h, w, c)


# --------------------------------------------------------------------------- how each kind of run is done


def _train(executor: Executor, spec: TrainSpec | FineTuneSpec, folder: Path) -> Record:
    start = executor.start(spec.upstream) if isinstance(spec, FineTuneSpec) else None
    dataset = executor.dataset(spec.data.name)
    done = training.train(spec, dataset, folder, start=start, how=executor.how)
    parts = ("status", "data", "metrics", "history", "compute", "environment")
    return Record(executor.id(spec), spec, **{name: getattr(done, name) for name in parts})


def _record(executor: Executor, spec: RunSpec, metrics: dict, precision: str = "fp32", **more) -> Record:
    """The record of a run that is not a training. Empty metrics mean that it diverged."""
    seen = {}
    if spec.data_name() is not None:
        dataset = executor.dataset(spec.data_name())
        seen = {"name": dataset.name, "content_hash": dataset.content_hash}
    return Record(
        id=executor.id(spec),
        spec=spec,
        status="completed" if metrics else "diverged",
        data=seen | more.pop("data", {}),
        metrics=metrics,
        environment=machine.environment(executor.device, machine.pick_precision(precision, executor.device)),
        **more,
    )


def _failed_upstream(executor: Executor, spec: RunSpec) -> Record | None:
    """Do the runs that ``spec`` depends on. If one diverged, return a diverged record, else None."""
    diverged = [executor.record(needed).status != "completed" for needed in spec.needs()]
    return _record(executor, spec, {}) if any(diverged) else None


def _checkpoint(executor: Executor, spec: CheckpointSpec, folder: Path) -> Record:
    path = executor.checkpoints.get(spec.sha256)
    if path is None:
        raise MlplibError(
            f"no file here holds the checkpoint {spec.name}: name its folder as official_checkpoints"
        )
    if official.digest(path) != spec.sha256:
        raise MlplibError(f"checkpoint {path} has changed since it was found: start again")
    model = official.load(path)
    weights.save(folder / training.WEIGHTS, model.state_dict())
    facts = {"model": str(model.spec), "image_size": model.image_shape[0], "classes": model.classes}
    network = meta_model(model.spec, model.image_shape, model.classes)
    size = {
        "parameters": count_parameters(network),
        "forward_macs": count_macs(network, network.image_shape),
    }
    return _record(executor, spec, size, data=facts)


def _probe(executor: Executor, spec: ProbeSpec, folder: Path) -> Record:
    begin = time.monotonic()
    found = executor.features(spec)
    probed = probing.ridge_probe if spec.method == "ridge" else probing.linear_probe
    metrics, history = probed(spec, found)
    machine.synchronize(executor.device)
    counts = {"train_images": len(found.train), "test_images": len(found.test)}
    compute = {"seconds": time.monotonic() - begin, "features": found.train.shape[1]}
    return _record(executor, spec, metrics, data=counts, history=history, compute=compute)


def _evaluate(executor: Executor, spec: EvaluateSpec, folder: Path) -> Record:
    begin = time.monotonic()
    seen, model = executor.on_device(spec.tested_on), executor.network(spec.trained)
    if model.classes != len(seen.classes):
        raise Refused(
            f"{spec.trained.slug()} tells {model.classes} classes apart and {spec.data_name()} has "
            f"{len(seen.classes)}: fine-tune it on these data first"
        )
    precision = machine.pick_precision("auto", executor.device)
    scores, history = {"test": probing.test_scores(model, seen, precision)}, {}
    if spec.crops:
        stop = executor.how.stop
        with stop.listening(), executor.how.progress(spec.crops, spec.slug()) as bar:
            *views, history = probing.augmented_scores(model, seen, spec, precision, bar, stop)
        scores |= dict(zip(("tta_logits", "tta_softmax"), views, strict=True))
    if not all(found.isfinite().all() for found in scores.values()):  # fp16 overflows at 65,504
        return _record(executor, spec, {}, precision="auto")
    metrics: dict = {}
    for name, found in scores.items():
        metrics |= probing.accuracies(found, seen.test.labels, f"{name}_")
    if spec.real:
        accepted = torch.from_numpy(data.real_labels(executor.dataset(spec.data_name()))).to(executor.device)
        metrics |= {
            f"real_{name}_top1": probing.real_accuracy(found, accepted) for name, found in scores.items()
        }
    machine.synchronize(executor.device)
    compute = {"seconds": time.monotonic() - begin, "images": len(seen.test) * (1 + spec.crops)}
    counts = {"test_images": len(seen.test)}
    return _record(executor, spec, metrics, precision="auto", data=counts, history=history, compute=compute)


def _filters(executor: Executor, spec: FilterSpec, folder: Path) -> Record:
    shape = image_shape(executor.dataset(spec.data_name()), spec.upstream.data)
    if shape[:2] == (1, 1):
        raise Refused("filters are for images of more than one pixel")
    network = executor.network(spec.upstream, 0 if spec.at == "initial" else None)
    found = filters.as_filters(network.linear_in.weight.detach().float().cpu().numpy(), shape)
    with replacing(folder / MOSAIC) as temporary:
        with open(temporary, "wb") as file:
            np.save(file, filters.mosaic(found))
        picture = {MOSAIC_SHA256: sha256(temporary)}
    return _record(executor, spec, filters.describe(found), compute=picture)


def _timing(executor: Executor, spec: TimingSpec, folder: Path) -> Record:
    metrics, history, compute = inference.measure(spec, executor.how)
    record = _record(executor, spec, metrics, spec.precision, history=history, compute=compute)
    record.environment.update(machine.versions("torchvision", "timm"))
    return record


KINDS = {
    TrainSpec.kind: _train,
    FineTuneSpec.kind: _train,
    CheckpointSpec.kind: _checkpoint,
    FilterSpec.kind: _filters,
    ProbeSpec.kind: _probe,
    EvaluateSpec.kind: _evaluate,
    TimingSpec.kind: _timing,
}
"""The function that does each kind of run, once the runs that it depends on are done."""
