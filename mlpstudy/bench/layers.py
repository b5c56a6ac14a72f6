"""Single layers of B-MLPs under the roofline: FLOPs a second against FLOPs for a byte of memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .rounds import Work, once

GROUP = "layers"
WIDTHS = {"cpu": (128, 256, 512, 1024), "cuda": (256, 512, 1024)}
BATCHES = {"cpu": (1, 8, 64, 512, 4096), "cuda": (1, 16, 256, 4096, 32768)}
TURN_SECONDS = 0.05


def layer_works(
    device: torch.device,
    dtype: torch.dtype,
    widths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
) -> list[Work]:
    """The product of a B-MLP's expanding layer, (B, m) to (B, 4 m), for several m and B.

    ``bytes`` counts input, weights and output once each, as if nothing stayed in a cache from before.
    """
    works = []
    for width in widths or WIDTHS[device.type]:
        weight = torch.randn(4 * width, width, device=device, dtype=dtype)
        for batch in batches or BATCHES[device.type]:
            images = torch.randn(batch, width, device=device, dtype=dtype)
            size = weight.element_size() * (images.numel() + weight.numel() + batch * 4 * width)
            works.append(
                Work(
                    id=f"width-{width}-batch-{batch}",
                    name=f"width {width}, batch {batch}",
                    run=once(lambda images=images, weight=weight: images @ weight.t()),
                    flops=2 * batch * 4 * width * width,
                    bytes=size,
                )
            )
    return works
