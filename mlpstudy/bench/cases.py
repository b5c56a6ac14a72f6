"""What is trained: a network, a batch size, and images."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from mlplib import data
from mlplib.data import ImageDataset, Split
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec, DataSpec, ModelSpec, TrainSpec

NOISE = "noise"
"""Images of random pixels in as many classes as ImageNet-21k has, where its images are not at hand: how long
a step takes does not depend on what is in the images."""

EPOCHS = 5000
"""A run so long is worth everything that makes a step faster; nobody waits for its end here."""

NOISE_CLASSES = 11_230
NOISE_SIDE = 64
NOISE_BATCHES = 4


@dataclass(frozen=True)
class Case:
    """One setting to time.

    ``data``: a name of the catalog, or :data:`NOISE`; ``resolution``: the side in pixels, None for the data's
    own (64 for noise).
    """

    model: str
    data: str
    batch_size: int
    resolution: int | None = None

    @property
    def name(self) -> str:
        side = f" at {self.resolution}" if self.resolution else ""
        return f"{self.model}, {self.data}{side}, batch {self.batch_size}"

    def spec(self, augment: AugmentSpec = FULL_DA, precision: str = "auto", seed: int = 0) -> TrainSpec:
        """Training as the paper does it (Lion, label smoothing) on this case.

        Raises:
            MlplibError: no such network, or a size below 1.
        """
        resolution = None if self.data == NOISE else self.resolution
        return TrainSpec(
            model=ModelSpec.parse(self.model),
            data=DataSpec(self.data, resolution=resolution),
            epochs=EPOCHS,
            batch_size=self.batch_size,
            augment=augment,
            label_smoothing=0.3,
            precision=precision,
            seed=seed,
        )

    def images(self, progress=None) -> ImageDataset:
        """The images.

        Raises:
            MlplibError: no such data, or no source has it.
        """
        if self.data == NOISE:
            return noise(NOISE_BATCHES * self.batch_size, self.resolution or NOISE_SIDE)
        return data.load(self.data, progress=progress)


CPU_CASES = (Case("B-6/Wi-512", "cifar10", 1024), Case("B-6/Wi-256", "cifar10", 1024))
GPU_CASES = (Case("B-12/Wi-1024", NOISE, 16384, NOISE_SIDE), Case("B-6/Wi-1024", "cifar10", 4096))
"""What is timed where nothing else is asked for: what the targets are about."""

WITHOUT_MIXUP = AugmentSpec(flip=True, crop_scale=FULL_DA.crop_scale)
"""Crops and flips."""

AUGMENTS = {True: FULL_DA, False: NO_DA}


def default_cases(device: torch.device) -> tuple[Case, ...]:
    """The cases that the targets for such a device are about."""
    return GPU_CASES if device.type == "cuda" else CPU_CASES


@functools.lru_cache(maxsize=1)
def noise(count: int, side: int, classes: int = NOISE_CLASSES) -> ImageDataset:
    """``count`` training images of random pixels, uint8 (N, side, side, 3), and a batch to test on."""
    draw = np.random.default_rng(0)
    splits = [
        Split(
            np.frombuffer(draw.bytes(n * side * side * 3), np.uint8).reshape(n, side, side, 3),
            draw.integers(0, classes, n),
        )
        for n in (count, max(1, count // 16))
    ]
    names = tuple(f"class {i}" for i in range(classes))
    return ImageDataset(NOISE, *splits, names, (0.5,) * 3, (0.29,) * 3, content_hash=NOISE)
