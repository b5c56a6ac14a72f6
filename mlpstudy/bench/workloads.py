"""The pieces of a training step, alone and together, as works that take turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlplib import machine
from mlplib.data import ImageDataset, Split, beton
from mlplib.data.batches import Batch, RunData, open_data
from mlplib.execution import Execution
from mlplib.models import meta_model
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec
from mlplib.training import Loop, executed_flops

from . import reference
from .cases import NOISE, Case
from .rounds import Work, missing, once

LEAST_STEPS, MOST_STEPS = 6, 24
"""Steps of a turn that trains end to end: what waits for the first batch is spread over them."""

REFERENCE_STEPS = 8
"""Steps of a turn of the reference loop, whose loader is started anew for every turn."""

NO_FFCV = "FFCV is not installed"


class Runner:
    """A loop with a state, which can go on for some steps.

    They are always the last steps of an epoch, and what ends an epoch: nothing is prepared ahead when a turn
    starts, and nothing is left over when it ends.
    """

    def __init__(self, loop: Loop):
        self.loop, self.state = loop, loop.fresh_state()

    def train(self, steps: int) -> None:
        """Load and learn."""
        for batch in self._batches(steps):
            self.loop.step(self.state, batch)
        self.loop.end_epoch(self.state)

    def load(self, batches: int) -> None:
        """Load what nobody learns from."""
        for _ in self._batches(batches):
            pass
        self.state.epoch, self.state.batch = self.state.epoch + 1, 0

    def _batches(self, count: int):
        self.state.batch = len(self.loop.data.train) // self.loop.spec.batch_size - count
        return self.loop.batches(self.state)


class Training:
    """Our loop on a case, ready to be timed.

    ``notes``: what it said meanwhile, such as that a CUDA graph failed.
    """

    def __init__(self, case: Case, dataset: ImageDataset, device: torch.device, seed: int = 0):
        self.case, self.device, self.seed, self.notes = case, device, seed, []
        self.precision = machine.pick_precision("auto", device)
        spec = case.spec(seed=seed)
        self.data = open_data(dataset, spec.data, device, "resident")
        self.augmented, self.plain = self.runner(FULL_DA), self.runner(NO_DA)
        self.loop, self.state = self.augmented.loop, self.augmented.state
        (first,) = self.batches(1)
        self.fixed = kept(first)
        self.steps = min(MOST_STEPS, len(self.data.train) // case.batch_size)
        network = meta_model(spec.model, self.data.image_shape, len(self.data.classes))
        self.flops = executed_flops(network, self.data.image_shape)
        """FLOPs that an image costs, forward and backward."""

    def runner(self, augment: AugmentSpec, data: RunData | None = None) -> Runner:
        """A loop on this case with a state of its own; ``data`` other than the resident images."""
        spec = self.case.spec(augment, seed=self.seed)
        how = Execution(device=self.device, log=self.notes.append)
        return Runner(Loop(spec, data or self.data, how))

    def batches(self, count: int) -> list[Batch]:
        """The last batches of the first epoch."""
        state = dataclasses.replace(self.state, batch=len(self.data.train) // self.case.batch_size - count)
        return list(self.loop.batches(state))

    @property
    def whole(self) -> dict:
        """What a step handles and executes, for a work."""
        return {"images": self.case.batch_size, "flops": self.case.batch_size * self.flops}

    @property
    def turns(self) -> dict:
        """How many steps a turn end to end has, for a work."""
        return {"least": min(LEAST_STEPS, self.steps), "most": self.steps}

    def works(self) -> list[Work]:
        """End to end with and without DA, a step on one fixed batch, and its parts alone."""
        turns, whole, images = self.turns, self.whole, {"images": self.case.batch_size}
        step, optimizer = lambda: self.loop.step(self.state, self.fixed), optimizer_alone(self.loop)
        return [
            Work("end-to-end", "end to end, with DA", self.augmented.train, **turns, **whole),
            Work("end-to-end-no-da", "end to end, without DA", self.plain.train, **turns, **whole),
            Work("step", "the step alone, on one fixed batch", once(step), **whole),
            Work("batches", "loading and DA alone", self.augmented.load, **turns, **images),
            Work("batches-no-da", "loading alone", self.plain.load, **turns, **images),
            Work("optimizer", "the optimizer alone", once(optimizer), **images),
        ]

    def products(self) -> Work | dict:
        """Only the matrix products of a step, forward and backward: what no loop of this network can beat."""
        linear, name = _linear_layers(self.state.model), "the matrix products of a step alone"
        if linear is None:
            why = "the network is not made of linear layers only"
            return missing("products", self.case.name, name, why)
        part = min(self.state.engine.micro_batch, self.case.batch_size)
        parts = -(-self.case.batch_size // part)
        calls = _products(linear, part, self.device, self.loop.dtype)

        def run(n: int) -> None:
            for _ in range(n * parts):
                calls()

        return Work("products", name, run, images=parts * part, flops=parts * part * self.flops)

    def streamed(self, dataset: ImageDataset, augment: AugmentSpec, progress) -> Runner | str:
        """A loop whose images FFCV reads from the data set's files, written first if need be; or why not."""
        if self.case.data == NOISE:
            return "random pixels are not written to files"
        if not beton.installed():
            return NO_FFCV
        beton.write(dataset, progress=progress)
        data = open_data(dataset, self.case.spec().data, self.device, "ffcv")
        return self.runner(augment, data)


def kept(batch: Batch) -> Batch:
    """A batch in memory of its own, whatever its loader does next."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return Batch(**{name: v.clone() if isinstance(v, Tensor) else v for name, v in values.items()})


def optimizer_alone(loop: Loop) -> Callable[[], object]:
    """A step of the optimizer, on gradients that stay."""
    engine = loop.fresh_state().engine
    for parameter in engine.model.parameters():
        tensor = engine.copies.by_parameter.get(parameter, parameter)
        tensor.grad = torch.randn_like(tensor)
    return engine.optimizer.step


def _linear_layers(model: nn.Module) -> list[nn.Linear] | None:
    """The linear layers, the one that reads the images first; None if other layers have products, too."""
    if any(isinstance(module, (nn.Conv2d, nn.MultiheadAttention)) for module in model.modules()):
        return None
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def _products(layers: list[nn.Linear], batch: int, device: torch.device, dtype: torch.dtype):
    """One pass forward and backward through the products of ``layers`` on random numbers."""
    weights = [torch.randn_like(layer.weight, dtype=dtype) for layer in layers]
    widths = {n for layer in layers for n in layer.weight.shape}
    values = {n: torch.randn(batch, n, device=device, dtype=dtype) for n in widths}

    @torch.no_grad()
    def run() -> None:
        for weight in weights:
            values[weight.shape[1]] @ weight.t()
        for place, weight in enumerate(weights):
            into, out = values[weight.shape[1]], values[weight.shape[0]]
            out.t() @ into
            if place:  # the first layer needs no gradient for its input
                out @ weight

    return run


# --------------------------------------------------------------------------- the machine


def machine_works(device: torch.device, precision: str, brief: bool = False) -> list[Work]:
    """Matrix products in the precision of training and in float32, and a copy within the device's memory.

    Args:
        brief: without float32, and with matrices and a copy that are done sooner.
    """
    side = 1024 if brief else 8192 if device.type == "cuda" else 2048
    size = 2**26 if brief else 2**30 if device.type == "cuda" else 2**28
    best = torch.bfloat16 if precision == "bf16" else torch.float32
    works = [_matmul("matmul", f"matrix product, {precision}, side {side}", side, best, device)]
    if not brief:
        works.append(
            _matmul("matmul-fp32", f"matrix product, fp32, side {side}", side, torch.float32, device)
        )
    here, there = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return [*works, Work("copy", "copy within memory", once(lambda: there.copy_(here)), bytes=2 * size)]


def _matmul(id: str, name: str, side: int, dtype: torch.dtype, device: torch.device) -> Work:
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return Work(id, name, once(lambda: left @ right), flops=2 * side**3)


# --------------------------------------------------------------------------- the reference loop


def reference_works(training: Training, dataset: ImageDataset, folder: Path) -> list[Work | dict]:
    """The reference loop end to end, fed by FFCV, and its step on a fixed batch.

    Args:
        folder: where the images are written for FFCV.
    """
    case, data = training.case, training.data
    theirs = reference.ReferenceLoop(case.spec(), data.image_shape, len(data.classes), training.device)
    fixed = dataclasses.replace(training.fixed, images=training.fixed.images.float())
    name = "reference loop, the step alone"
    step = Work("reference-step", name, once(lambda: theirs.step(fixed)), **training.whole)
    name = "reference loop, end to end, with DA"
    if not beton.installed():
        return [missing("reference", case.name, name, NO_FFCV), step]
    loader = ffcv_loader(training, dataset, folder, FULL_DA)

    def epoch(_: int) -> None:
        theirs.epoch(iter(loader))

    return [Work("reference", name, epoch, calls=loader.batches, **training.whole), step]


def ffcv_loader(
    training: Training, dataset: ImageDataset, folder: Path, augment: AugmentSpec
) -> reference.FfcvLoader:
    """FFCV with its own operations, over as many images as a turn needs."""
    batch = training.case.batch_size
    batches = min(REFERENCE_STEPS, len(training.data.train) // batch)
    path = folder / f"{dataset.name}-{training.case.resolution}-{batch * batches}.beton"
    if not path.exists():
        part = first_images(training.data, batch * batches)
        beton.write_beton(part.images, part.labels, path)
    mean, std = (np.asarray(v.cpu()) for v in (training.data.mean, training.data.std))
    size = training.data.image_shape[:2]
    return reference.FfcvLoader(path, size, mean, std, augment, batch, batches, training.device)


def first_images(data: RunData, count: int) -> Split:
    """The first ``count`` training images on the host, at the resolution of training."""
    ((images, labels),) = data.train.read(np.arange(count), count)
    return Split(images.permute(0, 2, 3, 1).contiguous().cpu().numpy(), labels.cpu().numpy())
