"""Ways to get a training batch of crops and flips, without a network that waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from ..data import ImageDataset, Split, beton
from .cases import WITHOUT_MIXUP
from .rounds import Work, missing
from .workloads import NO_FFCV, Training, ffcv_loader, first_images

DATALOADER_BATCHES = 4
"""Batches of a turn of torchvision's loader, which is the slow one."""

GROUP = "loaders"
NAMES = {
    "resident": "resident, batched crops and flips",
    "streamed": "FFCV reads files, batched crops and flips",
    "ffcv": "FFCV with its own crops and flips",
    "dataloader": "torch's DataLoader with torchvision's crops and flips",
}


def loader_works(training: Training, dataset: ImageDataset, folder: Path, progress) -> list[Work | dict]:
    """The loaders on a case's images, in its batches: crops and flips, normalized, on the device.

    Args:
        folder: where the images are written for FFCV.
    """
    return [
        Work("resident", NAMES["resident"], training.runner(WITHOUT_MIXUP).load, **_turns(training)),
        _streamed(training, dataset, progress),
        _ffcv(training, dataset, folder),
        _dataloader(training),
    ]


def _turns(training: Training) -> dict:
    return training.turns | {"images": training.case.batch_size}


def _streamed(training: Training, dataset: ImageDataset, progress) -> Work | dict:
    runner = training.streamed(dataset, WITHOUT_MIXUP, progress)
    if isinstance(runner, str):
        return missing("streamed", GROUP, NAMES["streamed"], runner)
    return Work("streamed", NAMES["streamed"], runner.load, **_turns(training))


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
