"""From a spec to its record: find it, or do it. The one place that knows how every kind of run is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import data, filters, machine, training, weights
from .errors import MlplibError
from .files import replacing
from .models import build_model
from .progress import quiet
from .runs import Record, RunStore, by_id
from .specs import FilterSpec, RunSpec, TrainSpec
from .stopping import StopRequest

MOSAIC = "filters.npy"


@dataclass
class Executor:
    """Does runs and keeps what they leave in ``store``.

    Args:
        store: where records are found and put.
        device: where to compute; the GPU if there is one by default.
        progress: see :mod:`mlplib.progress`.
        say: called with one line when there is something to say.
        stop: asked at every safe point.
    """

    store: RunStore
    device: torch.device = field(default_factory=machine.pick_device)
    progress: object = quiet
    say: object = print
    micro_batch: int | None = None
    checkpoint_every: float = 60.0
    stop: StopRequest = field(default_factory=StopRequest)
    _datasets: dict = field(default_factory=dict, repr=False)

    def dataset(self, name: str) -> data.ImageDataset:
        """A data set by its catalog name, loaded once."""
        if name not in self._datasets:
            self._datasets[name] = data.load(name, progress=self.progress)
        return self._datasets[name]

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
        self.dataset(spec.data_name())
        wait = f"another process is at {spec.id}: waiting for its record"
        with self.store.claim(spec, on_wait=lambda: self.say(wait)) as folder:
            found = self.store.find(spec)
            if found is not None:
                return found
            record = KINDS[spec.kind](self, spec, folder)
            self.store.write(record)
            (folder / training.CHECKPOINT).unlink(missing_ok=True)
        if record.status == "diverged":
            self.say(f"{spec.id} diverged: its loss is no longer finite")
        return record


def _train(executor: Executor, spec: TrainSpec, folder: Path) -> Record:
    done = training.train(
        spec,
        executor.dataset(spec.data.name),
        folder,
        device=executor.device,
        micro_batch=executor.micro_batch,
        checkpoint_every=executor.checkpoint_every,
        progress=executor.progress,
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


def _filters(executor: Executor, spec: FilterSpec, folder: Path) -> Record:
    dataset = executor.dataset(spec.data_name())
    image_shape = dataset.train.images.shape[1:]
    upstream = executor.record(spec.upstream) if spec.at == "final" else None
    status, metrics = "completed", {}
    if upstream is not None and upstream.status != "completed":
        status = upstream.status
    else:
        found = filters.as_filters(
            _first_layer(executor, spec, image_shape, len(dataset.classes)), image_shape
        )
        metrics = filters.describe(found)
        with replacing(folder / MOSAIC) as temporary:
            with open(temporary, "wb") as file:
                np.save(file, filters.mosaic(found))
    return Record(
        id=spec.id,
        spec=spec,
        status=status,
        data={"name": dataset.name, "content_hash": dataset.content_hash},
        metrics=metrics,
        environment=machine.environment(executor.device, machine.pick_precision("fp32", executor.device)),
    )


def _first_layer(executor: Executor, spec: FilterSpec, image_shape, classes: int) -> np.ndarray:
    """float32 (m, 3 H W): the weights of ``linear_in``."""
    if spec.at == "initial":
        state = build_model(spec.upstream.model, image_shape, classes, seed=spec.upstream.seed).state_dict()
    else:
        path = executor.store.folder(spec.upstream) / training.WEIGHTS
        state = weights.load(path)
    if "linear_in.weight" not in state:
        raise MlplibError(
            f"{spec.upstream.model} has no first layer over pixels: filters are for B-MLPs and S-MLPs"
        )
    return state["linear_in.weight"].float().numpy()


KINDS = {TrainSpec.kind: _train, FilterSpec.kind: _filters}
"""How each kind of run is done."""
