"""Ways to load a training batch with crops and flips, timed without a network."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from mlplib.data import Split, beton
from mlplib.specs import FULL_DA

from .cases import WITHOUT_MIXUP
from .rounds import Work
from .workloads import NO_FFCV, Training

DATALOADER_BATCHES = 4
"""Batches per turn of torchvision's loader, the slowest one."""

EPOCH_STEPS = 48
"""Steps per turn that trains: an epoch of CIFAR-10 in batches of 1024."""


def loader_works(training: Training, folder: Path, progress) -> list[Work]:
    """The loaders on a case's images, in its batches: crops and flips, normalized, on the device; then whole
    epochs of training with DA, with images in memory and in FFCV files.

    Args:
        folder: where the images are written for FFCV's own augmentation.
    """
    turns = training.turns | training.images
    # FFCV starts once per epoch, as in a run, so whole epochs are trained.
    steps = min(EPOCH_STEPS, len(training.data.train) // training.case.batch_size)
    epoch = {"calls": steps} | training.whole
    load, train = training.runner(WITHOUT_MIXUP).load, training.runner(FULL_DA).train
    from_files, train_from_files = None, None
    if not (why := training.why_no_files()):
        from_files = training.streamed(WITHOUT_MIXUP, progress).load
        train_from_files = training.streamed(FULL_DA, progress).train
    name = "a step of training, images from FFCV files"
    return [
        Work("resident", "resident, batched crops and flips", load, **turns),
        Work("streamed", "FFCV reads files, batched crops and flips", from_files, why=why, **turns),
        _ffcv(training, folder),
        _dataloader(training),
        Work("resident-epoch", "a step of training, images resident", train, **epoch),
        Work("streamed-epoch", name, train_from_files, why=why, **epoch),
    ]


def _ffcv(training: Training, folder: Path) -> Work:
    name = "FFCV with its own crops and flips"
    if not beton.installed():
        return Work("ffcv", name, why=NO_FFCV)
    loader = training.ffcv_loader(folder, WITHOUT_MIXUP)
    return Work("ffcv", name, lambda n: deque(loader, maxlen=0), loader.batches, **training.images)


def _dataloader(training: Training) -> Work:
    batch, data = training.case.batch_size, training.data
    batches = min(DATALOADER_BATCHES, len(data.train) // batch)
    mean, std = ((each / 255).tolist() for each in (data.mean, data.std))
    loader = torchvision_loader(training.first_images(batches * batch), batch, mean, std)

    def run(n: int) -> None:
        for batch in loader:
            for tensor in batch:
                tensor.to(training.device, non_blocking=True)

    name = "torch's DataLoader with torchvision's crops and flips"
    return Work("dataloader", name, run, calls=batches, **training.images)


def torchvision_loader(split: Split, batch_size: int, mean, std) -> DataLoader:
    """Batches as torchvision's own training scripts make them: image by image, in one process per core;
    float32 (B, 3, H, W), labels (B,).
    """
    from torchvision.transforms import v2

    size, spec = split.images.shape[1:3], WITHOUT_MIXUP
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=spec.crop_scale, ratio=spec.crop_ratio, antialias=True),
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
        # Workers stay alive and idle between turns, so their start is not counted.
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
