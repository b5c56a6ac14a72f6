"""A split that is read from its FFCV file during a run, because it does not fit into device memory.

FFCV only reads the images, ahead of time in its own threads; their selection, order and augmentation are the
same as for resident data. So a streamed run gives the same results, to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import MlplibError
from ..files import stamp
from ..limits import cores
from ..machine import to_device
from .beton import require
from .shaping import Shaping

BATCHES_AHEAD = 3
"""Batches that FFCV prepares ahead; it has memory for two more, the one in use and the one being read."""

PATIENCE_S = 1.0
"""Interval in seconds at which a wait for a batch checks that FFCV's thread is alive."""


class BetonReader:
    """Reads the images of a beton in any order, with FFCV's loader and ``workers`` threads.

    Raises:
        MlplibError: FFCV is not installed, or the file is not an FFCV file.
    """

    def __init__(self, path: Path, workers: int = 1):
        require()
        from ffcv.fields.decoders import SimpleRGBImageDecoder
        from ffcv.loader import Loader
        from ffcv.transforms import ToTensor

        self.path, self.plan = path, _plan()
        try:
            self.loader = Loader(
                str(path),
                batch_size=1,
                num_workers=workers,
                os_cache=True,
                order=self.plan,
                seed=0,  # not used, but None would draw from NumPy's global generator
                pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None},
                drop_last=False,
                batches_ahead=BATCHES_AHEAD,
            )
        except (OSError, ValueError, AssertionError, IndexError) as error:
            raise MlplibError(
                f"{path} cannot be read as an FFCV file ({error}): delete it and write it again with "
                "mlplib data beton"
            ) from error
        # Tables with Python objects for every image, which only other orders and caches use.
        for name in ("sample_to_pages", "page_to_samples", "ptr_to_size"):
            setattr(self.loader.memory_manager, name, None)

    def read(self, order: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """The images ``order`` (int64) in batches of B, the last one possibly smaller: uint8 (B, H, W, 3).

        A batch is in host memory (pinned if there is a GPU) and valid until the next one is requested.
        """
        if not len(order):
            return
        if order.min() < 0 or order.max() >= len(self.loader.indices):  # FFCV does not check bounds
            raise IndexError(f"an index outside the {len(self.loader.indices)} images of {self.path}")
        self.plan.order = order.astype(np.uint64)
        self.loader.batch_size = batch_size
        try:
            batches = iter(self.loader)
        except OSError as error:
            raise MlplibError(f"cannot read {self.path}: {error.strerror or error}") from error
        try:
            for _ in range(0, len(order), batch_size):
                self._wait(batches)
                (images,) = next(batches)
                yield images
        finally:
            _stop(batches)

    def _wait(self, batches) -> None:
        """Wait until a batch is ready. Without this, an error in FFCV's thread would mean waiting forever."""
        queue = batches.output_queue
        with queue.not_empty:
            while not queue.queue and batches.is_alive():
                queue.not_empty.wait(PATIENCE_S)
            if not queue.queue:
                raise MlplibError(f"FFCV failed to read {self.path}: see the error of its thread above")


def reader_of(path: Path, device: torch.device) -> BetonReader:
    """The reader of a beton, cached until the file changes, since FFCV compiles code for each reader."""
    return _reader(path, workers_beside(device), stamp(path))


@functools.lru_cache(maxsize=4)
def _reader(path: Path, workers: int, stamp: str) -> BetonReader:
    return BetonReader(path, workers)


def workers_beside(device: torch.device) -> int:
    """Number of threads for FFCV: all cores for a GPU; for a CPU, the cores that torch does not use.

    On shared cores they wait for each other: with two threads of torch, two of FFCV made training 4 to 11 %
    slower than resident data, one made it 0 to 3 % slower (B-6/Wi-512, batches of 1024, 2 virtual cores).
    """
    import numba

    busy = torch.get_num_threads() if device.type == "cpu" else 0
    return max(1, min(cores() - busy, numba.config.NUMBA_NUM_THREADS))  # more than numba's is an error


def _plan():
    """An FFCV traversal order that returns its attribute ``order`` (uint64)."""
    from ffcv.traversal_order.base import TraversalOrder

    class Plan(TraversalOrder):
        def __init__(self):
            self.order = np.zeros(0, np.uint64)

        def __call__(self, loader):
            # FFCV accepts only instances as orders, but calls them like classes.
            self.indices = loader.indices
            return self

        def sample_order(self, epoch: int) -> np.ndarray:
            # The loader's constructor calls this first, to learn the longest possible order.
            return self.order if len(self.order) else self.indices

    return Plan()


def _stop(batches) -> None:
    """End FFCV's thread. Otherwise it would wait forever, and keep its batches, if nobody takes them."""
    batches.iter_ixes = iter(())
    batches.close()
    queue = batches.output_queue
    while batches.is_alive():
        with queue.mutex:  # make room for a batch that the thread may be about to put
            queue.queue.clear()
            queue.not_full.notify()
        batches.join(0.001)


@dataclass(frozen=True)
class StreamedSplit:
    """One split in a beton, shaped on its device batch by batch.

    ``indices``: int64 (N,), the positions of its images in the beton; ``labels``: int64 (N,) on the device.
    """

    reader: BetonReader
    indices: np.ndarray
    labels: Tensor
    shaping: Shaping

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of every image."""
        return self.shaping.image_shape

    def read(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`mlplib.data.resident.ResidentSplit.read`."""
        device = self.labels.device
        with closing(self.reader.read(self.indices[order], batch_size)) as batches:
            there = batches if device.type == "cpu" else _copied(batches, device)
            for number, images in enumerate(there):
                part = to_device(order[number * batch_size : (number + 1) * batch_size], device)
                labels = self.labels.index_select(0, part)
                yield self.shaping(images).permute(0, 2, 1, 3), labels


@functools.lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all epochs: torch's memory cache is separate for each stream."""
    return torch.cuda.Stream(device)


def _copied(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Copy batches to a GPU on a separate stream, each while the previous one is processed."""
    stream = _copy_stream(device)
    ready: tuple[Tensor, torch.cuda.Event] | None = None
    try:
        for images in batches:
            with torch.cuda.stream(stream):
                there = images.to(device, non_blocking=True)
                done = stream.record_event()
            if ready is not None:
                yield _handed_over(*ready)
            done.synchronize()  # when asked for the next batch, FFCV reuses the host's memory
            ready = there, done
        if ready is not None:
            yield _handed_over(*ready)
    finally:
        stream.synchronize()  # the host's memory must not be freed before


def _handed_over(images: Tensor, done: torch.cuda.Event) -> Tensor:
    """Let the current stream wait for the copy, and keep the batch's memory until that stream has used it."""
    current = torch.cuda.current_stream(images.device)
    current.wait_event(done)
    images.record_stream(current)
    return images
