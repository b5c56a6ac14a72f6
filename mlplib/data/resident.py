"""A data set that lives in device memory as uint8, and the batches drawn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MlplibError
from ..specs import AugmentSpec, DataSpec
from . import ImageDataset, Split, subset_indices
from .augment import augment, draw

# Streams of random numbers that must not repeat one another: the first entry after the run's seed.
SHUFFLE, AUGMENT = 0, 1


@dataclass(frozen=True)
class Batch:
    """A training batch of B images, ready for the model.

    ``images``: float (B, 3, H, W), normalized. ``labels``, ``partner_labels``: int64 (B,); ``lam``: MixUp's
    share of the first label, 1 without MixUp.
    """

    images: Tensor
    labels: Tensor
    partner_labels: Tensor
    lam: float


@dataclass(frozen=True)
class ResidentSplit:
    """One split on a device: ``rows`` uint8 (N, H, 3, W), the images in the order that suits crops;
    ``labels`` int64 (N,).
    """

    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor | slice) -> Tensor:
        """Some images, uint8 (B, 3, H, W), with the memory order of ``rows``."""
        chosen = self.rows[indices] if isinstance(indices, slice) else self.rows.index_select(0, indices)
        return chosen.permute(0, 2, 1, 3)


@dataclass(frozen=True)
class ResidentData:
    """A data set on a device as a run sees it: subset and permuted as its :class:`DataSpec` says.

    ``mean``, ``std``: float32 (3,) of the full training split, in units of pixel values 0 to 255.
    """

    train: ResidentSplit
    test: ResidentSplit
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of every image."""
        _, h, c, w = self.train.rows.shape
        return h, w, c

    def normalize(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """Center and scale float (B, 3, H, W) images of values 0 to 255, of any memory order;
        the result, ``out`` or new, is contiguous.
        """
        mean, scale = (v.to(images.dtype)[:, None, None] for v in (self.mean, 1 / self.std))
        if out is None:
            out = torch.empty(images.shape, dtype=images.dtype, device=images.device)
        return torch.sub(images, mean, out=out).mul_(scale)

    def training_batches(
        self, batch_size: int, spec: AugmentSpec, seed: int, epoch: int, dtype: torch.dtype, start: int = 0
    ) -> Iterator[Batch]:
        """The batches of one epoch from batch ``start`` on;
        each is a function of (seed, epoch, its number) alone.

        Images are shuffled anew every epoch and the incomplete last batch is left
        out, as in the official loader.
        """
        order = np.random.default_rng([seed, SHUFFLE, epoch]).permutation(len(self.train))
        h, w, _ = self.image_shape
        for number in range(start, len(self.train) // batch_size):
            indices = order[number * batch_size : (number + 1) * batch_size]
            draws = draw(spec, indices, (h, w), np.random.default_rng([seed, AUGMENT, epoch, number]))
            on_device = torch.from_numpy(indices).to(self.train.labels.device, non_blocking=True)
            images = augment(self.train.take(on_device), spec, draws, dtype, self.normalize)
            labels = self.train.labels.index_select(0, on_device)
            partner = torch.from_numpy(draws.partner).to(labels.device, non_blocking=True)
            partner_labels = labels if draws.lam == 1 else labels.index_select(0, partner)
            yield Batch(images, labels, partner_labels, draws.lam)

    def test_batches(self) -> Iterator[Batch]:
        """The whole test split in stored order, float32, unaugmented."""
        return self._plain_batches(self.test, len(self.test))

    def train_sample(self, count: int) -> Iterator[Batch]:
        """The first ``count`` training images (all, if there are fewer), float32, unaugmented."""
        return self._plain_batches(self.train, min(count, len(self.train)))

    def _plain_batches(self, split: ResidentSplit, count: int, batch_size: int = 2000) -> Iterator[Batch]:
        for first in range(0, count, batch_size):
            part = slice(first, min(first + batch_size, count))
            images, labels = split.take(part).to(torch.float32), split.labels[part]
            yield Batch(self.normalize(images), labels, labels, 1.0)


def put_on_device(dataset: ImageDataset, spec: DataSpec, device: torch.device) -> ResidentData:
    """Move ``dataset`` to ``device`` as ``spec`` wants it: subset, held-out part, resolution, permutation.

    Raises:
        MlplibError: ``spec`` wants more training images than there are, or the size that they already have.
    """
    train, test = dataset.train, dataset.test
    if spec.held_out is not None:
        train, test = _divide(train, spec, "held_out")
    if spec.examples is not None:
        _, train = _divide(train, spec, "examples")
    scaled = [torch.tensor(v, dtype=torch.float32, device=device) * 255 for v in (dataset.mean, dataset.std)]
    splits = (_to_device(split, spec, device) for split in (train, test))
    return ResidentData(*splits, tuple(dataset.classes), *scaled)


def _divide(split: Split, spec: DataSpec, setting: str) -> tuple[Split, Split]:
    """All but as many images as ``setting`` says, and those: the same share of every class."""
    labels, count = np.asarray(split.labels), getattr(spec, setting)
    if count > len(labels):
        raise MlplibError(f"{spec.name} has {len(labels)} training images: {setting}={count} is too many")
    chosen = subset_indices(labels, count)
    rest = np.delete(np.arange(len(labels)), chosen)
    images = np.asarray(split.images)
    return Split(images[rest], labels[rest]), Split(images[chosen], labels[chosen])


def _to_device(split: Split, spec: DataSpec, device: torch.device) -> ResidentSplit:
    # A fresh copy: the cache's memory map is read-only, and torch wants memory that it may write to.
    images = torch.from_numpy(np.array(split.images))
    if spec.pixel_permutation is not None:
        n, h, w, c = images.shape
        order = torch.from_numpy(np.random.default_rng(spec.pixel_permutation).permutation(h * w))
        images = images.view(n, h * w, c).index_select(1, order).view(n, h, w, c)
    labels = torch.from_numpy(np.array(split.labels, dtype=np.int64))
    rows = images.permute(0, 1, 3, 2).contiguous().to(device)
    if spec.resolution is not None:
        if images.shape[1:3] == (spec.resolution, spec.resolution):
            raise MlplibError(
                f"{spec.name} has {spec.resolution} pixels a side already: leave resolution out"
            )
        rows = resize(rows, spec.resolution)
    return ResidentSplit(rows, labels.to(device))


def resize(rows: Tensor, side: int, chunk: int = 4096) -> Tensor:
    """Images uint8 (N, H, 3, W) at another size, uint8 (N, side, 3, side):
    bilinear, antialiased where they shrink.
    """
    out = torch.empty((len(rows), side, 3, side), dtype=torch.uint8, device=rows.device)
    for first in range(0, len(rows), chunk):
        images = rows[first : first + chunk].permute(0, 2, 1, 3).float()
        scaled = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        out[first : first + chunk] = scaled.round_().clamp_(0, 255).permute(0, 2, 1, 3).to(torch.uint8)
    return out
