"""An ordinary PyTorch training loop, to compare the study's own loop with.

It trains the same network in the usual way, written for this study after what the authors' code does
(https://github.com/gregorbachmann/scaling_mlps): FFCV reads, crops, flips and mixes images one by one on the
CPU; products are in float32, with TF32 on a GPU; Lion visits one tensor after the other; loss and accuracies
are fetched after every step, so the host waits for the device. Where there was a choice, it favors this loop:
images come in plain random order, since FFCV's quasi-random one is slower to draw and only helps with files
that do not fit into memory.

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
from mlplib.models import build_model
from mlplib.specs import AugmentSpec, OptimizerSpec, TrainSpec

_ALIVE: list = []
"""Loaders are kept alive: numba fails if code that it compiled for one is freed while the process runs."""

WORKERS = 4
"""Threads that FFCV reads with, as in the official code, if there are as many cores."""


class TextbookLion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2), one tensor at a time, line by line.

    Args:
        params: parameters, float tensors of any shape.
        spec: learning rate, betas and decoupled weight decay; other fields are ignored.
    """

    def __init__(self, params, spec: OptimizerSpec):
        super().__init__(params, dict(lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay))

    @torch.no_grad()
    def step(self):
        """Take one step."""
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
    """The network of a run, trained the usual way, all in float32.

    Args:
        spec: model, label smoothing, seed, and Lion's settings; other fields are ignored.
        image_shape: (H, W, 3).
        classes: their number.
    """

    def __init__(
        self, spec: TrainSpec, image_shape: tuple[int, int, int], classes: int, device: torch.device
    ):
        self.smoothing, self.device = spec.label_smoothing, device
        self.model = build_model(spec.model, image_shape, classes, seed=spec.seed).to(device).train()
        self.optimizer = TextbookLion(self.model.parameters(), spec.optimizer)

    def step(self, batch: Batch) -> dict[str, float]:
        """Train on a batch. Returns its ``loss`` (nats), ``top1`` and ``top5`` (fractions) as Python floats;
        under MixUp an accuracy is the larger of those for the two labels.
        """
        with machine.matmul_precision("tf32" if self.device.type == "cuda" else "fp32"):
            logits = self.model(batch.images.reshape(len(batch.images), -1))
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing)
            if batch.lam != 1:
                other = F.cross_entropy(logits, batch.partner_labels, label_smoothing=self.smoothing)
                loss = batch.lam * loss + (1 - batch.lam) * other
            top1, top5 = accuracies(logits.detach(), batch)
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss.item(), "top1": top1, "top5": top5}


def accuracies(logits: Tensor, batch: Batch) -> tuple[float, float]:
    """Top-1 and top-5 accuracy of logits (B, classes), each for the label that gives the larger one."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    top1, top5 = 0.0, 0.0
    for labels in (batch.labels, batch.partner_labels) if batch.lam != 1 else (batch.labels,):
        hits = ranked == labels[:, None]
        top1 = max(top1, hits[:, 0].float().mean().item())
        top5 = max(top5, hits.any(dim=1).float().mean().item())
    return top1, top5


# --------------------------------------------------------------------------- FFCV


class FfcvLoader:
    """Batches from an FFCV file; FFCV itself crops, flips and mixes the images on the CPU.

    Args:
        path: an FFCV file with the fields ``image`` and ``label`` (:func:`mlplib.data.beton.write_beton`).
        size: (H, W) of the images.
        mean, std: of the training pixels, in units of pixel values 0 to 255, float (3,).
        augment: flips, crops and MixUp of FFCV's kind, regardless of ``mixup_kind``.
        batches: of an epoch, from the first images of the file.

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
            seed=0,
            os_cache=True,
            drop_last=True,
            indices=np.arange(batches * batch_size),
            pipelines=_pipelines(size, mean, std, augment, device),
        )

    def __iter__(self) -> Iterator[Batch]:
        """The batches of one epoch; an iterator must be exhausted, or FFCV keeps its memory."""
        for images, labels in self.loader:
            if self.mixed:
                # One lambda per batch; FFCV repeats it with every label.
                yield Batch(images, labels[:, 0].long(), labels[:, 1].long(), labels[0, 2].item())
            else:
                yield Batch(images, labels, labels, 1.0)


def _pipelines(size, mean, std, augment: AugmentSpec, device: torch.device) -> dict[str, list]:
    """FFCV's operations on images and on labels."""
    from ffcv import transforms as ops
    from ffcv.fields import decoders
    from ffcv.transforms.common import Squeeze
    from torchvision.transforms import Normalize

    def to_device() -> list:
        return [ops.ToDevice(device, non_blocking=True)] if device.type == "cuda" else []

    crop, mix = augment.crop_scale, augment.mixup
    decode = decoders.SimpleRGBImageDecoder()
    if crop:
        decode = decoders.RandomResizedCropRGBImageDecoder(size, crop, augment.crop_ratio)
    flip = [ops.RandomHorizontalFlip()] if augment.flip else []
    mix_images, mix_labels = (
        [kind(mix, same_lambda=True)] if mix else [] for kind in (ops.ImageMixup, ops.LabelMixup)
    )
    normalize = Normalize(np.asarray(mean).tolist(), np.asarray(std).tolist())
    to_images = [ops.ToTensor(), *to_device(), ops.ToTorchImage(), ops.Convert(torch.float32), normalize]
    return {
        "image": [decode, *flip, *mix_images, *to_images],
        "label": [decoders.IntDecoder(), *mix_labels, ops.ToTensor(), *to_device(), Squeeze()],
    }
