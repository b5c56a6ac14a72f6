"""Ways to get a training batch of crops and flips, without a network that waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from mlplib.data import ImageDataset, Split, beton
from mlplib.specs import FULL_DA, AugmentSpec

from .cases import WITHOUT_MIXUP
from .rounds import Work, missing
from .workloads import NO_FFCV, Runner, Training, ffcv_loader, first_images

DATALOADER_BATCHES = 4
"""Batches of a turn of torchvision's loader, which is the slow one."""

EPOCH_STEPS = 48
"""Steps of a turn that trains: an epoch of CIFAR-10 in batches of 1024."""

GROUP = "loaders"
NAMES = {
    "resident": "resident, batched crops and flips",
    "streamed": "FFCV reads files, batched crops and flips",
    "ffcv": "FFCV with its own crops and flips",
    "resident-epoch": "a step of training, images resident",
    "streamed-epoch": "a step of training, images from FFCV files",
    "dataloader": "torch's DataLoader with torchvision's crops and flips",
}


def loader_works(training: Training, dataset: ImageDataset, folder: Path, progress) -> list[Work | dict]:
    """The loaders on a case's images, in its batches: crops and flips, normalized, on the device; then whole
    epochs of training with DA on images in memory and in FFCV files.

    Args:
        folder: where the images are written for FFCV.
    """
    turns = training.turns | {"images": training.case.batch_size}
    resident = training.runner(WITHOUT_MIXUP)
    return [
        Work("resident", NAMES["resident"], resident.load, **turns),
        _streamed(training, dataset, progress, "streamed", lambda runner: runner.load, WITHOUT_MIXUP, turns),
        _ffcv(training, dataset, folder),
        _dataloader(training),
        *_epochs(training, dataset, progress),
    ]


def _epochs(training: Training, dataset: ImageDataset, progress) -> list[Work | dict]:
    """Whole epochs: FFCV starts once for each, as in a run."""
    steps = len(training.data.train) // training.case.batch_size
    whole = {"calls": min(EPOCH_STEPS, steps), **training.whole}
    resident = training.runner(FULL_DA)
    return [
        Work("resident-epoch", NAMES["resident-epoch"], resident.train, **whole),
        _streamed(training, dataset, progress, "streamed-epoch", lambda runner: runner.train, FULL_DA, whole),
    ]


def _streamed(
    training: Training,
    dataset: ImageDataset,
    progress,
    id: str,
    doing: Callable[[Runner], Callable[[int], None]],
    augment: AugmentSpec,
    options: dict,
) -> Work | dict:
    runner = training.streamed(dataset, augment, progress)
    if isinstance(runner, str):
        return missing(id, GROUP, NAMES[id], runner)
    return Work(id, NAMES[id], doing(runner), **options)


def _ffcv(training: Training, dataset: ImageDataset, folder: Path) -> Work | dict:
    if not beton.installed():
        return missing("ffcv", GROUP, NAMES["ffcv"], NO_FFCV)
    loader = ffcv_loader(training, dataset, folder, WITHOUT_MIXUP)
    return Work(
        "ffcv", NAMES["ffcv"], lambda n: use_up(loader), loader.batches, images=training.case.batch_size
    )


def _dataloader(training: Training) -> Work:
    case = training.case
    batches = min(DATALOADER_BATCHES, len(training.data.train) // case.batch_size)
    loader = torchvision_loader(
        first_images(training.data, batches * case.batch_size),
        case.batch_size,
        (training.data.mean / 255).tolist(),
        (training.data.std / 255).tolist(),
    )

    def run(n: int) -> None:
        for images, labels in loader:
            images.to(training.device, non_blocking=True)
            labels.to(training.device, non_blocking=True)

    return Work("dataloader", NAMES["dataloader"], run, calls=batches, images=case.batch_size)


def use_up(batches) -> None:
    """Iterate to the end."""
    for _ in batches:
        pass


def torchvision_loader(split: Split, batch_size: int, mean, std) -> DataLoader:
    """Batches as torchvision's own training scripts make them: image by image, by as many processes as there
    are cores; float32 (B, 3, H, W), labels (B,).
    """
    from torchvision.transforms import v2

    size = split.images.shape[1:3]
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(
                size, scale=WITHOUT_MIXUP.crop_scale, ratio=WITHOUT_MIXUP.crop_ratio, antialias=True
            ),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    return DataLoader(
        _Transformed(split, transform),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
        # They start once and then wait between turns, so neither starting nor waiting is counted.
        persistent_workers=True,
        multiprocessing_context="fork",
    )


class _Transformed(Dataset):
    def __init__(self, split: Split, transform):
        self.images = torch.from_numpy(split.images).permute(0, 3, 1, 2)
        self.labels, self.transform = split.labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(self.images[index]), int(self.labels[index])
