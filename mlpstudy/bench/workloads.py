"""Works to time: a training step and its parts, the reference loop, the machine's rates, single layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlplib import machine
from mlplib.data import ImageDataset, Split, beton
from mlplib.data.batches import Batch, RunData, open_data
from mlplib.execution import Execution
from mlplib.models import executed_flops, meta_model
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec
from mlplib.timing import copy_size, large_copy, repeat, square_product
from mlplib.training import Loop

from .cases import NOISE, Case
from .reference import FfcvLoader, ReferenceLoop
from .rounds import Work

LEAST_STEPS, MOST_STEPS = 6, 24
"""Steps of a turn that trains end to end: the wait for the first batch is spread over them."""

REFERENCE_STEPS = 8
"""Steps of a turn of the reference loop, whose loader restarts in every turn."""

NO_FFCV = "FFCV is not installed"

WIDTHS = {"cpu": (128, 256, 512, 1024), "cuda": (256, 512, 1024), "brief": (32, 128)}
BATCHES = {"cpu": (1, 8, 64, 512, 4096), "cuda": (1, 16, 256, 4096, 32768), "brief": (1, 16, 256)}
"""Sizes of the single layers, by type of device, or for a brief measurement on any device."""


class Runner:
    """A loop with a state that can train on for some steps.

    These are always the last steps of an epoch, with the work that ends an epoch included: no turn prepares
    batches for the next turn, and none uses batches that were prepared before it.
    """

    def __init__(self, loop: Loop):
        self.loop, self.state = loop, loop.fresh_state()

    def train(self, steps: int) -> None:
        """Load batches and train on them."""
        for batch in self._batches(steps):
            self.loop.step(self.state, batch)
        self.loop.end_epoch(self.state)

    def load(self, batches: int) -> None:
        """Load batches without training."""
        for _ in self._batches(batches):
            pass
        self.state.epoch, self.state.batch = self.state.epoch + 1, 0

    def _batches(self, count: int):
        self.state.batch = len(self.loop.data.train) // self.loop.spec.batch_size - count
        return self.loop.batches(self.state)


class Training:
    """The study's training loop on a case, ready to be timed.

    ``notes``: what the loop logged, such as that a CUDA graph failed. ``flops``: per image, forward and
    backward. ``fixed``: one batch with DA. ``augmented``, ``plain``: runners with and without DA.
    """

    def __init__(self, case: Case, dataset: ImageDataset, device: torch.device, seed: int = 0):
        self.case, self.dataset, self.device, self.seed, self.notes = case, dataset, device, seed, []
        self.precision = machine.pick_precision("auto", device)
        spec = case.spec(seed=seed)
        self.data = open_data(dataset, spec.data, device, "resident")
        self.augmented, self.plain = self.runner(FULL_DA), self.runner(NO_DA)
        self.loop, self.state = self.augmented.loop, self.augmented.state
        batches = len(self.data.train) // case.batch_size
        (first,) = self.loop.batches(dataclasses.replace(self.state, batch=batches - 1))
        self.fixed = own_copy(first)
        steps = min(MOST_STEPS, batches)
        network = meta_model(spec.model, self.data.image_shape, len(self.data.classes))
        self.flops = executed_flops(network, self.data.image_shape)
        self.images = {"images": case.batch_size}
        self.whole = self.images | {"flops": case.batch_size * self.flops}
        self.turns = {"least": min(LEAST_STEPS, steps), "most": steps}

    def runner(self, augment: AugmentSpec, data: RunData | None = None) -> Runner:
        """A loop on this case with its own state, on ``data`` instead of the resident images if given."""
        spec = self.case.spec(augment, seed=self.seed)
        how = Execution(device=self.device, log=self.notes.append)
        return Runner(Loop(spec, data or self.data, how))

    def why_no_files(self) -> str:
        """Why FFCV cannot read the images from files; empty if it can."""
        if self.case.data == NOISE:
            return "random pixels are not written to files"
        return "" if beton.installed() else NO_FFCV

    def streamed(self, augment: AugmentSpec, progress) -> Runner:
        """A loop whose images FFCV reads from the data set's files, written first if missing."""
        beton.write(self.dataset, progress=progress)
        return self.runner(augment, open_data(self.dataset, self.case.spec().data, self.device, "ffcv"))

    def works(self) -> list[Work]:
        """A step end to end with and without DA, a step on one fixed batch, and its parts alone."""
        turns, whole, images = self.turns, self.whole, self.images
        step = repeat(lambda: self.loop.step(self.state, self.fixed))
        optimizer = optimizer_alone(self.loop).step
        return [
            Work("end-to-end", "end to end, with DA", self.augmented.train, **turns, **whole),
            Work("end-to-end-no-da", "end to end, without DA", self.plain.train, **turns, **whole),
            Work("step", "the step alone, on one fixed batch", step, **whole),
            Work("batches", "loading and DA alone", self.augmented.load, **turns, **images),
            Work("batches-no-da", "loading alone", self.plain.load, **turns, **images),
            Work("optimizer", "the optimizer alone", repeat(optimizer), **images),
        ]

    def products(self) -> Work:
        """The matrix products of a step alone, forward and backward: the lower limit of its time."""
        model, name = self.state.model, "the matrix products of a step alone"
        if any(isinstance(module, (nn.Conv2d, nn.MultiheadAttention)) for module in model.modules()):
            return Work("products", name, why="the network is not made of linear layers only")
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        part = min(self.state.engine.micro_batch, self.case.batch_size)
        parts = -(-self.case.batch_size // part)
        run = repeat(_products(linear, part, self.device, self.loop.dtype))
        images = parts * part
        return Work("products", name, lambda n: run(n * parts), images=images, flops=images * self.flops)

    def first_images(self, count: int) -> Split:
        """The first ``count`` training images on the host, at the resolution of training."""
        ((images, labels),) = self.data.train.read(np.arange(count), count)
        return Split(images.permute(0, 2, 3, 1).contiguous().cpu().numpy(), labels.cpu().numpy())

    def ffcv_loader(self, folder: Path, augment: AugmentSpec) -> FfcvLoader:
        """FFCV with its own augmentation, over as many images as a turn needs, written to ``folder``."""
        batch = self.case.batch_size
        batches = min(REFERENCE_STEPS, len(self.data.train) // batch)
        path = folder / f"{self.dataset.name}-{self.case.resolution}-{batch * batches}.beton"
        if not path.exists():
            beton.write_beton(self.first_images(batch * batches), path)
        mean, std = (np.asarray(v.cpu()) for v in (self.data.mean, self.data.std))
        return FfcvLoader(path, self.data.image_shape[:2], mean, std, augment, batch, batches, self.device)

    def reference_works(self, folder: Path) -> list[Work]:
        """The reference loop end to end, fed by FFCV from ``folder``, and its step on a fixed batch."""
        data = self.data
        loop = ReferenceLoop(self.case.spec(), data.image_shape, len(data.classes), self.device)
        fixed = dataclasses.replace(self.fixed, images=self.fixed.images.float())
        step = repeat(lambda: loop.step(fixed))
        works = [Work("reference-step", "reference loop, the step alone", step, **self.whole)]
        name = "reference loop, end to end, with DA"
        if not beton.installed():
            return [Work("reference", name, why=NO_FFCV), *works]
        loader = self.ffcv_loader(folder, FULL_DA)

        def epoch(n: int) -> None:
            for batch in loader:
                loop.step(batch)

        return [Work("reference", name, epoch, calls=loader.batches, **self.whole), *works]


def own_copy(batch: Batch) -> Batch:
    """A copy of a batch in memory of its own, which its loader cannot overwrite."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return Batch(**{name: v.clone() if isinstance(v, Tensor) else v for name, v in values.items()})


def optimizer_alone(loop: Loop) -> torch.optim.Optimizer:
    """An optimizer whose parameters have random gradients, so that its steps can be timed alone."""
    engine = loop.fresh_state().engine
    for parameter in engine.model.parameters():
        tensor = engine.copies.by_parameter.get(parameter, parameter)
        tensor.grad = torch.randn_like(tensor)
    return engine.optimizer


def _products(layers: list[nn.Linear], batch: int, device: torch.device, dtype: torch.dtype):
    """One forward and backward pass through the products of ``layers`` on random numbers."""
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


# --------------------------------------------------------------------------- the machine and single layers


def machine_works(device: torch.device, precision: str, brief: bool = False) -> list[Work]:
    """Matrix products in the precision of training, and in float32 if that is another one, and a copy within
    the device's memory.

    Args:
        brief: without float32, with smaller matrices and a smaller copy.
    """
    side = 1024 if brief else 8192 if device.type == "cuda" else 2048
    size = 2**26 if brief else copy_size(device)
    precisions = {"matmul": precision}
    if precision != "fp32" and not brief:
        precisions["matmul-fp32"] = "fp32"
    works = []
    for id, each in precisions.items():
        product = repeat(square_product(device, each, side))
        works.append(Work(id, f"matrix product, {each}, side {side}", product, flops=2 * side**3))
    copy = repeat(large_copy(device, device, size))
    return [*works, Work("copy", "copy within memory", copy, bytes=2 * size)]


def layer_works(device: torch.device, dtype: torch.dtype, brief: bool = False) -> list[Work]:
    """The product of a B-MLP's expanding layer, (B, m) to (B, 4 m), for several m and B.

    ``bytes`` counts input, weights and output once each, as if nothing were cached.
    """
    works, sizes = [], "brief" if brief else device.type
    for width in WIDTHS[sizes]:
        weight = torch.randn(4 * width, width, device=device, dtype=dtype)
        for batch in BATCHES[sizes]:
            images = torch.randn(batch, width, device=device, dtype=dtype)
            product = repeat(lambda images=images, weight=weight: images @ weight.t())
            flops = 2 * batch * 4 * width * width
            moved = weight.element_size() * (images.numel() + weight.numel() + batch * 4 * width)
            id, name = f"width-{width}-batch-{batch}", f"width {width}, batch {batch}"
            works.append(Work(id, name, product, flops=flops, bytes=moved))
    return works
