"""Changes that a run makes to each image once, before anything random: pixel order and resolution."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import Refused
from ..specs import DataSpec

PIXELS = 2**24
"""Pixels that are resized at a time (at least one image): each takes 12 bytes as float32, several times."""


class Shaping:
    """The permutation and resolution of ``spec`` for images of ``image_shape`` (H, W, 3), on a device.

    The result for an image does not depend on the other images of a batch, to the last bit.

    Raises:
        MlplibError: ``spec`` asks for the size that the images already have.
    """

    def __init__(self, spec: DataSpec, image_shape: tuple[int, int, int], device: torch.device):
        h, w, c = image_shape
        self.order: Tensor | None = None
        if spec.pixel_permutation is not None:
            order = np.random.default_rng(spec.pixel_permutation).permutation(h * w)
            self.order = torch.from_numpy(order).to(device)
        self.side = spec.resolution
        if (h, w) == (self.side, self.side):
            raise Refused(f"{spec.name} has {h} pixels a side already: leave resolution out")
        self.image_shape = (h, w, c) if self.side is None else (self.side, self.side, c)

    def __call__(self, images: Tensor) -> Tensor:
        """From uint8 (B, H, W, 3) to uint8 (B, H, 3, W), a layout for crops: contiguous, in new memory."""
        if self.order is not None:
            b, h, w, c = images.shape
            images = images.reshape(b, h * w, c).index_select(1, self.order).view(b, h, w, c)
        rows = images.permute(0, 1, 3, 2).clone(memory_format=torch.contiguous_format)
        return rows if self.side is None else resize(rows, self.side)


def resize(rows: Tensor, side: int) -> Tensor:
    """Resize uint8 (N, H, 3, W) to uint8 (N, side, 3, side): bilinear, antialiased where images shrink."""
    out = torch.empty((len(rows), side, 3, side), dtype=torch.uint8, device=rows.device)
    together = max(1, PIXELS // max(side * side, rows[:1, :, 0].numel()))
    for first in range(0, len(rows), together):
        images = rows[first : first + together].permute(0, 2, 1, 3).float()
        scaled = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        out[first : first + together] = scaled.round_().clamp_(0, 255).permute(0, 2, 1, 3).to(torch.uint8)
    return out
