"""From a spec to its record: find it, or do it. The one place that knows how every kind of run is done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import data, filters, machine, models, official, probing, timing, training, weights
from .data.batches import RunData, open_data
from .errors import MlplibError
from .files import replacing
from .models import build_model, count_macs, count_parameters
from .progress import quiet
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
from .stopping import StopRequest
from .store import Record, RunStore, by_id

MOSAIC = "filters.npy"


@dataclass
class Executor:
    """Does runs and keeps what they leave in ``store``.

    Args:
        store: where records are found and put.
        device: where to compute; the GPU if there is one by default.
        progress: see :mod:`mlplib.progress`.
        log: called with one line when there is something to say.
        micro_batch, compiled, checkpoint_every: as in :func:`mlplib.training.train`.
        loader: where the images are during a run: see :func:`mlplib.data.batches.open_data`.
        stop: asked at every safe point.
        checkpoints: where the files of :class:`~mlplib.specs.CheckpointSpec` lie, by their sha-256.
    """

    store: RunStore
    device: torch.device = field(default_factory=machine.pick_device)
    progress: object = quiet
    log: object = print
    loader: str = "auto"
    micro_batch: int | None = None
    compiled: bool | None = None
    checkpoint_every: float = 60.0
    stop: StopRequest = field(default_factory=StopRequest)
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    _datasets: dict = field(default_factory=dict, repr=False)
    _features: dict = field(default_factory=dict, repr=False)

    def dataset(self, name: str) -> data.ImageDataset:
        """A data set by its catalog name, loaded once."""
        if name not in self._datasets:
            self._datasets[name] = data.load(name, progress=self.progress)
        return self._datasets[name]

    def on_device(self, spec: DataSpec) -> RunData:
        """A data set as a run sees it, in device memory or streamed to it."""
        return open_data(self.dataset(spec.name), spec, self.device, self.loader)

    def start(self, upstream: RunSpec, epoch: int | None = None) -> training.Start:
        """What a finished run left to start from, after ``epoch`` (0: as drawn; None: at its end)."""
        if epoch == 0:
            return training.Start(upstream.model)
        state = self.weights(upstream, epoch)
        return training.Start(self._model(upstream, state), state)

    def network(self, upstream: RunSpec, epoch: int | None = None) -> nn.Module:
        """The network of a finished run on the device, its head included."""
        start = self.start(upstream, epoch)
        if isinstance(upstream, CheckpointSpec):
            _, shape, classes = models.describe(start.state)
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
        return models.describe(state)[0] if isinstance(upstream, CheckpointSpec) else upstream.model

    def weights(self, upstream: RunSpec, epoch: int | None = None) -> dict[str, torch.Tensor]:
        """The weights that a finished run left in the store, at its end or after an epoch that it kept."""
        name = training.WEIGHTS if epoch is None else training.kept_weights(epoch)
        return weights.load(self.store.folder(upstream) / name)

    def features(self, spec: ProbeSpec) -> probing.Features:
        """What a probe reads. Those of the last network are kept: probes of one network follow each other."""
        key = (spec.upstream, spec.epoch, spec.data)
        if key not in self._features:
            self._features.clear()  # first, so that two are never in memory
            model = None if spec.upstream is None else self.network(spec.upstream, spec.epoch)
            self._features[key] = probing.features(model, self.on_device(spec.data))
        return self._features[key]

    def records(self, specs: Iterable[RunSpec]) -> list[Record]:
        """The record of every different run among ``specs``, in order; what is not there yet is done now.

        A run that diverged is a record like any other and does not end the work.

        Raises:
            Interrupted: stopped on request; everything finished or checkpointed is kept.
        """
        return [self.record(spec) for spec in by_id(specs).values()]

    def record(self, spec: RunSpec) -> Record:
        """The record of one run, done now if it is not there yet."""
        found = self.store.find(spec)
        if found is not None:
            return found
        # A copy of the data in another stored order than the official one is another data set. Its hash, and
        # with it the run's id, is known for certain only once it is loaded.
        for name in spec.data_names():
            self.dataset(name)
        wait = f"another process is at {spec.id}: waiting for its record"
        with self.store.claim(spec, on_wait=lambda: self.log(wait)) as folder:
            found = self.store.find(spec)
            if found is not None:
                return found
            record = KINDS[spec.kind](self, spec, folder)
            self.store.write(record)
            (folder / training.CHECKPOINT).unlink(missing_ok=True)
        if record.status == "diverged":
            self.log(f"{spec.id} diverged: its loss is no longer finite")
        return record


def image_shape(dataset: data.ImageDataset, spec: DataSpec) -> tuple[int, int, int]:
    """(H, W, 3) of a data set's images as a run sees them."""
    h, w, c = dataset.train.images.shape[1:]
    return (spec.resolution, spec.resolution, c) if spec.resolution else (h, w, c)


# --------------------------------------------------------------------------- how each kind of run is done


def _train(executor: Executor, spec: TrainSpec | FineTuneSpec, folder: Path) -> Record:
    start = None
    if isinstance(spec, FineTuneSpec):
        if failed := _failed_upstream(executor, spec):
            return failed
        start = executor.start(spec.upstream)
    done = training.train(
        spec,
        executor.dataset(spec.data.name),
        folder,
        start=start,
        device=executor.device,
        loader=executor.loader,
        micro_batch=executor.micro_batch,
        compiled=executor.compiled,
        checkpoint_every=executor.checkpoint_every,
        progress=executor.progress,
        log=executor.log,
        stop=executor.stop,
    )
    return Record(
        id=spec.id,
        spec=spec,
        status=done.status,
        data=done.data,
        metrics=done.metrics,
        history=done.history,
        compute=done.compute,
        environment=done.environment,
    )


def _record(executor: Executor, spec: RunSpec, metrics: dict, precision: str = "fp32", **more) -> Record:
    """The record of a run that is no training. Without metrics it ended with numbers that are not finite."""
    seen = {}
    if spec.data_name() is not None:
        dataset = executor.dataset(spec.data_name())
        seen = {"name": dataset.name, "content_hash": dataset.content_hash}
    return Record(
        id=spec.id,
        spec=spec,
        status="completed" if metrics else "diverged",
        data=seen | more.pop("data", {}),
        metrics=metrics,
        environment=machine.environment(executor.device, machine.pick_precision(precision, executor.device)),
        **more,
    )


def _failed_upstream(executor: Executor, spec: RunSpec) -> Record | None:
    """Do what ``spec`` reads from. The record of ``spec``, if that diverged."""
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
    model_spec, model = models.load_official(path)
    weights.save(folder / training.WEIGHTS, model.state_dict())
    facts = {"model": str(model_spec), "image_size": model.image_shape[0], "classes": model.classes}
    size = {
        "parameters": count_parameters(model),
        "forward_macs": count_macs(model, model.image_shape),
    }
    return _record(executor, spec, size, data=facts)


def _probe(executor: Executor, spec: ProbeSpec, folder: Path) -> Record:
    if failed := _failed_upstream(executor, spec):
        return failed
    begin = time.monotonic()
    found = executor.features(spec)
    probed = probing.ridge_probe if spec.method == "ridge" else probing.linear_probe
    metrics, history = probed(spec, found)
    machine.synchronize(executor.device)
    counts = {"train_images": len(found.train), "test_images": len(found.test)}
    compute = {"seconds": time.monotonic() - begin, "features": found.train.shape[1]}
    return _record(executor, spec, metrics, data=counts, history=history, compute=compute)


def _evaluate(executor: Executor, spec: EvaluateSpec, folder: Path) -> Record:
    if failed := _failed_upstream(executor, spec):
        return failed
    begin = time.monotonic()
    seen, model = executor.on_device(spec.tested_on), executor.network(spec.trained)
    if getattr(model, "classes", len(seen.classes)) != len(seen.classes):
        raise MlplibError(
            f"{spec.trained.slug()} tells {model.classes} classes apart and {spec.data_name()} has "
            f"{len(seen.classes)}: fine-tune it on these data first"
        )
    precision = machine.pick_precision("auto", executor.device)
    scores, history = {"test": probing.test_scores(model, seen, precision)}, {}
    if spec.crops:
        with executor.stop.listening(), executor.progress(spec.crops, spec.slug()) as bar:
            *views, history = probing.augmented_scores(model, seen, spec, precision, bar, executor.stop)
        scores |= dict(zip(("tta_logits", "tta_softmax"), views, strict=True))
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
    if failed := _failed_upstream(executor, spec):
        return failed
    shape = image_shape(executor.dataset(spec.data_name()), spec.upstream.data)
    found = filters.as_filters(_first_layer(executor, spec), shape)
    with replacing(folder / MOSAIC) as temporary:
        with open(temporary, "wb") as file:
            np.save(file, filters.mosaic(found))
    return _record(executor, spec, filters.describe(found))


def _first_layer(executor: Executor, spec: FilterSpec) -> np.ndarray:
    """float32 (m, 3 H W): the weights of ``linear_in``."""
    state = executor.network(spec.upstream, 0 if spec.at == "initial" else None).state_dict()
    if "linear_in.weight" not in state:
        raise MlplibError(
            f"{spec.upstream.model} has no first layer over pixels: filters are for B-MLPs and S-MLPs"
        )
    return state["linear_in.weight"].float().cpu().numpy()


def _timing(executor: Executor, spec: TimingSpec, folder: Path) -> Record:
    done = timing.measure(spec, executor.device, progress=executor.progress, stop=executor.stop)
    return Record(
        id=spec.id,
        spec=spec,
        status="completed",
        data={},
        metrics=done.metrics,
        history=done.history,
        compute=done.compute,
        environment=done.environment,
    )


KINDS = {
    TrainSpec.kind: _train,
    FineTuneSpec.kind: _train,
    CheckpointSpec.kind: _checkpoint,
    FilterSpec.kind: _filters,
    ProbeSpec.kind: _probe,
    EvaluateSpec.kind: _evaluate,
    TimingSpec.kind: _timing,
}
"""How each kind of run is done."""
