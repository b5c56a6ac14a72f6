"""A training loop of the kind that the paper's authors published, to measure the study's own loop against.

It does the same training in the usual way, and was written for this study from what the official code does
(https://github.com/gregorbachmann/scaling_mlps): FFCV reads the images and crops, flips and mixes them on the
CPU, one image after the other; products are in float32, on a GPU with TF32 allowed; Lion goes through the
weights one tensor at a time, as the formulas say; after every step loss and accuracies are fetched, so the
host waits for the device. Where there was a choice, it is the one that is kinder to this loop: images come in
plain random order, since FFCV's quasi-random one takes longer to draw and helps only where a file does not
fit into memory.

No result of the study comes from here; ``mlplib bench`` times it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mlplib import machine
from mlplib.data import beton
from mlplib.data.batches import Batch
from mlplib.errors import MlplibError
from mlplib.models import build_model
from mlplib.specs import AugmentSpec, OptimizerSpec, TrainSpec

_ALIVE: list = []
"""Numba complains when code that it compiled for a loader goes while the process stays."""

WORKERS = 4
"""Threads that FFCV reads with, as in the official code, where there are as many cores."""


class TextbookLion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2), one tensor at a time, a line for a line.

    Args:
        params: parameters, float tensors of any shape.
        spec: learning rate, betas and decoupled weight decay of a Lion; the rest is not looked at.
    """

    def __init__(self, params, spec: OptimizerSpec):
        super().__init__(params, dict(lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step. Closures are not supported.

        Raises:
            MlplibError: a closure is given.
        """
        if closure is not None:
            raise MlplibError("this optimizer takes no closure: compute the loss before the step")
        for group in self.param_groups:
            (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum, gradient = state["momentum"], weight.grad
                direction = torch.sign(beta1 * momentum + (1 - beta1) * gradient)
                weight.mul_(1 - rate * decay)
                weight.sub_(rate * direction)
                momentum.mul_(beta2).add_((1 - beta2) * gradient)


class ReferenceLoop:
    """The network of a run, trained the usual way.

    Args:
        spec: what to train; its model, optimizer (Lion) and label smoothing count here. Its ``precision``
            does not: everything is float32.
        image_shape: (H, W, 3). classes: how many there are.

    Raises:
        MlplibError: the optimizer is not Lion at a constant rate without clipping.
    """

    def __init__(
        self, spec: TrainSpec, image_shape: tuple[int, int, int], classes: int, device: torch.device
    ):
        optimizer = spec.optimizer
        if (optimizer.name, optimizer.schedule, optimizer.warmup, optimizer.clip) != (
            "lion",
            "constant",
            0,
            None,
        ):
            raise MlplibError("the reference loop has Lion at a constant rate only: leave the optimizer out")
        self.smoothing, self.device = spec.label_smoothing, device
        self.model = build_model(spec.model, image_shape, classes, seed=spec.seed).to(device).train()
        self.optimizer = TextbookLion(self.model.parameters(), optimizer)
        self.metrics: list[dict[str, float]] = []

    def step(self, batch: Batch) -> dict[str, float]:
        """One step; gives and keeps the batch's ``loss`` (nats), ``top1`` and ``top5`` (fractions), as
        numbers of the host. Under MixUp an accuracy is the larger of those for the two labels.
        """
        with machine.matmul_precision("tf32" if self.device.type == "cuda" else "fp32"):
            logits = self.model(batch.images.reshape(len(batch.images), -1))
            loss = self._loss(logits, batch.labels)
            if batch.lam != 1:
                loss = batch.lam * loss + (1 - batch.lam) * self._loss(logits, batch.partner_labels)
            found = self._accuracies(logits.detach(), batch)
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.metrics.append({"loss": loss.item()} | found)
        return self.metrics[-1]

    def epoch(self, batches: Iterator[Batch]) -> None:
        """A step on every batch."""
        for batch in batches:
            self.step(batch)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def _accuracies(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
        found = {"top1": 0.0, "top5": 0.0}
        for labels in (batch.labels, batch.partner_labels):
            hits = ranked == labels[:, None]
            found["top1"] = max(found["top1"], hits[:, 0].float().mean().item())
            found["top5"] = max(found["top5"], hits.any(dim=1).float().mean().item())
            if batch.lam == 1:
                break
        return found


# --------------------------------------------------------------------------- FFCV


class FfcvLoader:
    """Batches out of an FFCV file whose images FFCV itself crops, flips and mixes on the CPU.

    Args:
        path: an FFCV file with the fields ``image`` and ``label`` (:func:`mlplib.data.beton.write_beton`).
        size: (H, W) of the images.
        mean, std: of the training pixels, in units of pixel values 0 to 255, float (3,).
        augment: flips, crops and MixUp of FFCV's kind, whatever ``mixup_kind`` says.
        batches: how many batches an epoch has, of images chosen once.

    Raises:
        MlplibError: FFCV is not installed.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        mean: np.ndarray,
        std: np.ndarray,
        augment: AugmentSpec,
        batch_size: int,
        batches: int,
        device: torch.device,
        seed: int = 0,
    ):
        beton.require()
        from ffcv.loader import Loader, OrderOption

        _ALIVE.append(self)
        self.batches, self.mixed = batches, augment.mixup > 0
        self.loader = Loader(
            str(path),
            batch_size=batch_size,
            num_workers=min(WORKERS, len(os.sched_getaffinity(0))),
            order=OrderOption.RANDOM,
            seed=seed,
            os_cache=True,
            drop_last=True,
            indices=np.arange(batches * batch_size),
            pipelines={
                "image": _images(size, mean, std, augment, device),
                "label": _labels(augment, device),
            },
        )

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one epoch; an iterator must be used up, else FFCV keeps its memory."""
        for images, labels in self.loader:
            if self.mixed:
                # One lambda a batch; FFCV hands it out with every label.
                yield Batch(images, labels[:, 0].long(), labels[:, 1].long(), labels[0, 2].item())
            else:
                yield Batch(images, labels, labels, 1.0)


def _images(size, mean, std, augment: AugmentSpec, device: torch.device) -> list:
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
    from ffcv.transforms import Convert, ImageMixup, RandomHorizontalFlip, ToTensor, ToTorchImage
    from torchvision.transforms import Normalize

    decoder = SimpleRGBImageDecoder()
    if augment.crop_scale is not None:
        decoder = RandomResizedCropRGBImageDecoder(size, augment.crop_scale, augment.crop_ratio)
    steps = [decoder]
    if augment.flip:
        steps.append(RandomHorizontalFlip())
    if augment.mixup:
        steps.append(ImageMixup(augment.mixup, same_lambda=True))
    normalize = Normalize(np.asarray(mean).tolist(), np.asarray(std).tolist())
    return [*steps, ToTensor(), *_to(device), ToTorchImage(), Convert(torch.float32), normalize]


def _labels(augment: AugmentSpec, device: torch.device) -> list:
    from ffcv.fields.decoders import IntDecoder
    from ffcv.transforms import LabelMixup, ToTensor
    from ffcv.transforms.common import Squeeze

    mix = [LabelMixup(augment.mixup, same_lambda=True)] if augment.mixup else []
    return [IntDecoder(), *mix, ToTensor(), *_to(device), Squeeze()]


def _to(device: torch.device) -> list:
    """What brings a tensor to a GPU; on a CPU it is there already."""
    from ffcv.transforms import ToDevice

    return [ToDevice(device, non_blocking=True)] if device.type == "cuda" else []
