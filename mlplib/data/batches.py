"""A data set as a run sees it, and its batches, independently of where the images are stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import machine
from ..errors import MlplibError, Refused, require_choice
from ..specs import AugmentSpec, DataSpec
from . import beton
from .augment import augment, draw, normalize
from .dataset import ImageDataset, subset_indices
from .resident import ResidentSplit
from .shaping import Shaping
from .streaming import StreamedSplit, reader_of

# These follow the run's seed in NumPy's seeds, so that the streams of random numbers are independent.
SHUFFLE, AUGMENT, HOLD_OUT = 0, 1, 2

EVALUATION_BATCH = 2000
"""Images per batch in evaluation."""

WHOLE = slice(None)
"""The part that is the whole batch."""

LOADERS = ("auto", "resident", "ffcv")
"""Where the images are during a run: in device memory or in FFCV files; ``auto`` decides by size."""

RESIDENT_SHARE = 0.5
"""Largest share of the device's free memory for images under ``auto``; the rest is for training."""


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
class RunData:
    """A data set on a device as a run sees it: subset, permuted and resized as its :class:`DataSpec` says.

    ``mean``, ``std``: float32 (3,) of the full training split, in units of pixel values 0 to 255, where 255
    replaces a standard deviation of 0; ``content_hash``: the hash of the whole data set.
    """

    train: ResidentSplit | StreamedSplit
    test: ResidentSplit | StreamedSplit
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    content_hash: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of every image."""
        return self.train.image_shape

    @property
    def loader(self) -> str:
        """``resident`` or ``ffcv``."""
        return "resident" if isinstance(self.train, ResidentSplit) else "ffcv"

    def training_batches(
        self,
        batch_size: int,
        spec: AugmentSpec,
        seed: int,
        epoch: int,
        dtype: torch.dtype,
        start: int = 0,
        part: slice = WHOLE,
    ) -> Iterator[Batch]:
        """The batches of one epoch from ``start`` on; each depends only on (seed, epoch, its number).

        Images are reshuffled every epoch; an incomplete last batch is dropped, as in the official loader.

        Args:
            part: the part of every batch to yield. Only these images and their partners are augmented; random
                numbers are drawn for the whole batch, so the parts together are the batch.
        """
        order = np.random.default_rng([seed, SHUFFLE, epoch]).permutation(len(self.train))
        h, w, _ = self.image_shape
        count = len(order) // batch_size
        with closing(self.train.read(order[start * batch_size : count * batch_size], batch_size)) as found:
            number = start
            for images, labels in found:  # enumerate() would keep the images alive until the next batch
                indices = order[number * batch_size : (number + 1) * batch_size]
                draws = draw(spec, indices, (h, w), np.random.default_rng([seed, AUGMENT, epoch, number]))
                partner_labels = labels
                if draws.lam != 1:
                    partner_labels = labels.index_select(0, machine.to_device(draws.partner, labels.device))
                labels, partner_labels = labels[part], partner_labels[part]
                if part != WHOLE:
                    needed, draws = draws.of_part(part)
                    rows, needed = images.permute(0, 2, 1, 3), machine.to_device(needed, images.device)
                    images = rows.index_select(0, needed).permute(0, 2, 1, 3)  # keeps the order in memory
                images = augment(images, spec, draws, dtype, (self.mean, self.std))[: len(labels)]
                yield Batch(images, labels, partner_labels, draws.lam)
                number += 1

    def test_batches(self) -> Iterator[Batch]:
        """The whole test split in stored order, float32, unaugmented."""
        return self._plain_batches(self.test, np.arange(len(self.test)))

    def train_sample(self, count: int) -> Iterator[Batch]:
        """``count`` training images (all, if there are fewer), float32, unaugmented: the first ones, or where
        images are stored class by class, as those from class folders are, evenly spaced ones.
        """
        total = len(self.train)
        order = np.arange(min(count, total))
        if 2 * int((self.train.labels.diff() != 0).sum()) < total:  # the first ones would be of few classes
            order = order * total // len(order)
        return self._plain_batches(self.train, order)

    def _plain_batches(self, split: ResidentSplit | StreamedSplit, order: np.ndarray) -> Iterator[Batch]:
        with closing(split.read(order, EVALUATION_BATCH)) as found:
            for images, labels in found:
                images = normalize(images.to(torch.float32), self.mean, self.std)
                yield Batch(images, labels, labels, 1.0)


# --------------------------------------------------------------------------- from a data set to a run


def open_data(dataset: ImageDataset, spec: DataSpec, device: torch.device, loader: str = "auto") -> RunData:
    """Apply ``spec`` to ``dataset``: subset, held-out part, resolution, permutation.

    Args:
        loader: ``resident`` copies the images into the memory of ``device``; ``ffcv`` reads them from FFCV
            files (:func:`mlplib.data.beton.write`) batch by batch; ``auto`` is ``resident`` if they take at
            most :data:`RESIDENT_SHARE` of the free memory, else ``ffcv``. The loader does not change what a
            run computes.

    Raises:
        MlplibError: ``spec`` asks for more training images than there are, or for their present size; the
            data do not fit or are to be streamed, and FFCV or its files are missing.
    """
    require_choice("loader", loader, LOADERS)
    shaping = Shaping(spec, dataset.train.images.shape[1:], device)
    parts = _parts(dataset, spec)
    if loader == "auto":
        loader = _fitting(dataset, parts, shaping, device)
    if loader == "resident":
        splits = [ResidentSplit.of(getattr(dataset, name), some, shaping, device) for name, some in parts]
    else:
        splits = _streamed(dataset, parts, shaping, device)
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=device) * 255 for v in (dataset.mean, dataset.std)
    )
    std[std == 0] = 255  # a color that no image has, as in fluorescence images: division would give NaN
    return RunData(*splits, tuple(dataset.classes), mean, std, dataset.content_hash)


_Parts = tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]
"""Training and test images of a run: their stored split, ``train`` or ``test``, and indices in it (int64)."""


def _parts(dataset: ImageDataset, spec: DataSpec) -> _Parts:
    labels = dataset.train.labels

    def divided(indices: np.ndarray, setting: str, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Split off as many images as ``setting`` says, the same share of every class: (the rest, these)."""
        count = getattr(spec, setting)
        if count > len(indices) - (setting == "held_out"):  # some must be left to train on
            raise Refused(f"{spec.name} has {len(indices)} training images: {setting}={count} is too many")
        chosen = subset_indices(labels[indices], count, draw)
        return np.delete(indices, chosen), indices[chosen]

    train, test = np.arange(len(labels)), ("test", np.arange(len(dataset.test)))
    if spec.held_out is not None:
        train, held_out = divided(train, "held_out", 0)
        test = "train", held_out
    if spec.examples is not None:
        _, train = divided(train, "examples", spec.draw)
    return ("train", train), test


def _fitting(dataset: ImageDataset, parts: _Parts, shaping: Shaping, device: torch.device) -> str:
    """The loader that ``auto`` selects for these images."""
    needed = sum(len(indices) for _, indices in parts) * int(np.prod(shaping.image_shape))
    allowed = RESIDENT_SHARE * machine.free_memory(device)
    if needed <= allowed:
        return "resident"
    if beton.installed() and all(beton.find(dataset, name) for name, _ in parts):
        return "ffcv"
    how = f"write them for streaming with mlplib data beton {dataset.name}"
    if not beton.installed():
        how = f"{beton.HOW}; then {how}"
    raise MlplibError(
        f"the images of {dataset.name} take {needed / 1e9:.1f} GB, and {allowed / 1e9:.1f} GB of the free "
        f"memory may be used for them: {how}"
    )


def _streamed(
    dataset: ImageDataset, parts: _Parts, shaping: Shaping, device: torch.device
) -> list[StreamedSplit]:
    splits = []
    for name, indices in parts:
        path = beton.find(dataset, name)
        if path is None:
            raise MlplibError(
                f"the images of {dataset.name} are not written for streaming yet: do that once with "
                f"mlplib data beton {dataset.name}"
            )
        labels = torch.from_numpy(getattr(dataset, name).labels[indices]).to(device)
        splits.append(StreamedSplit(reader_of(path, device), indices, labels, shaping))
    return splits
