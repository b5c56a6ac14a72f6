"""Training cases: a network, a batch size, and images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mlplib import data, memory
from mlplib.data import ImageDataset, Split
from mlplib.errors import MlplibError
from mlplib.progress import quiet
from mlplib.specs import FULL_DA, AugmentSpec, DataSpec, ModelSpec, TrainSpec

NOISE = "noise"
"""Random pixels in as many classes as ImageNet-21k has: the time of a step does not depend on the content."""

NOISE_CLASSES, NOISE_SIDE, NOISE_BATCHES = 11_230, 64, 4

EPOCHS = 5000
"""Length of the run that a step belongs to: long enough for every acceleration to pay off."""

WITHOUT_MIXUP = AugmentSpec(flip=True, crop_scale=FULL_DA.crop_scale)


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
        """Training on this case as in the paper (Lion, label smoothing).

        Raises:
            MlplibError: an unknown network, or a size below 1.
        """
        # Noise is made at its resolution, so nothing is left to resize.
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

    def require_possible(self, device: torch.device) -> None:
        """Refuse a case that cannot fit into memory before any data is read or network built.

        Raises:
            MlplibError: an unknown network, a size below 1, or more memory needed than is free.
        """
        model = self.spec().model
        if self.resolution is not None and self.resolution < 1:
            raise MlplibError(f"resolution must be at least 1, not {self.resolution}")
        side = self.resolution or (NOISE_SIDE if self.data == NOISE else 1)
        images = self.batch_size * (NOISE_BATCHES if self.data == NOISE else 1)
        memory.require_room(self.name, model, (side, side, 3), device, images)

    def images(self, progress=quiet) -> ImageDataset:
        """The images.

        Raises:
            MlplibError: an unknown data set, or none of its sources has it.
        """
        if self.data == NOISE:
            return noise(NOISE_BATCHES * self.batch_size, self.resolution or NOISE_SIDE)
        return data.load(self.data, progress=progress)


CPU_CASES = (Case("B-6/Wi-512", "cifar10", 1024), Case("B-6/Wi-256", "cifar10", 1024))
GPU_CASES = (Case("B-12/Wi-1024", NOISE, 16384, NOISE_SIDE), Case("B-6/Wi-1024", "cifar10", 4096))


def default_cases(device: torch.device) -> tuple[Case, ...]:
    """The cases that the targets for this kind of device refer to."""
    return GPU_CASES if device.type == "cuda" else CPU_CASES


def noise(count: int, side: int) -> ImageDataset:
    """``count`` training images of random pixels, uint8 (N, side, side, 3), and a few to test."""
    draw = np.random.default_rng(0)
    splits = [
        Split(
            np.frombuffer(draw.bytes(n * side * side * 3), np.uint8).reshape(n, side, side, 3),
            draw.integers(0, NOISE_CLASSES, n),
        )
        for n in (count, max(1, count // 16))
    ]
    names = tuple(f"class {i}" for i in range(NOISE_CLASSES))
    return ImageDataset(NOISE, *splits, names, (0.5,) * 3, (0.29,) * 3, content_hash=NOISE)
