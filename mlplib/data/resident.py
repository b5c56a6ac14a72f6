"""A split in device memory, as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..machine import to_device
from .dataset import Split
from .shaping import Shaping

CHUNK = 4096
"""Images that are shaped at a time, which limits the copies in host memory."""


@dataclass(frozen=True)
class ResidentSplit:
    """One split on a device: ``rows`` uint8 (N, H, 3, W), a layout for crops; ``labels`` int64 (N,)."""

    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of every image."""
        _, h, c, w = self.rows.shape
        return h, w, c

    def read(self, order: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The images ``order`` (int64) in batches of B, the last one possibly smaller.

        Yields:
            images uint8 (B, 3, H, W), with the memory order of ``rows``, and labels int64 (B,).
        """
        for first in range(0, len(order), batch_size):
            indices = to_device(order[first : first + batch_size], self.labels.device)
            # No local variable keeps the images alive after the yield.
            yield (
                self.rows.index_select(0, indices).permute(0, 2, 1, 3),
                self.labels.index_select(0, indices),
            )

    @classmethod
    def of(cls, split: Split, indices: np.ndarray, shaping: Shaping, device: torch.device) -> ResidentSplit:
        """Copy the images ``indices`` (int64) of ``split`` to ``device``, shaped."""
        h, w, c = shaping.image_shape
        rows = torch.empty((len(indices), h, c, w), dtype=torch.uint8, device=device)
        for first in range(0, len(indices), CHUNK):
            part = slice(first, first + CHUNK)
            # Indexing copies: the cache's memory map is read-only, and torch needs writable memory.
            rows[part] = shaping(torch.from_numpy(split.images[indices[part]]).to(device))
        return cls(rows, torch.from_numpy(split.labels[indices]).to(device))
