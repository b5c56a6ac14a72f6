"""What the machine can do, and single layers of B-MLPs under that roofline."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .rounds import Work, repeat

WIDTHS = {"cpu": (128, 256, 512, 1024), "cuda": (256, 512, 1024)}
BATCHES = {"cpu": (1, 8, 64, 512, 4096), "cuda": (1, 16, 256, 4096, 32768)}


def machine_works(device: torch.device, precision: str, brief: bool = False) -> list[Work]:
    """Matrix products in the precision of training and in float32, and a copy within the device's memory.

    Args:
        brief: without float32, with smaller matrices and a smaller copy.
    """
    gpu = device.type == "cuda"
    side = 1024 if brief else 8192 if gpu else 2048
    size = 2**26 if brief else 2**30 if gpu else 2**28
    best = torch.bfloat16 if precision == "bf16" else torch.float32
    works = [_matmul("matmul", precision, side, best, device)]
    if not brief:
        works.append(_matmul("matmul-fp32", "fp32", side, torch.float32, device))
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return [*works, Work("copy", "copy within memory", repeat(lambda: target.copy_(source)), bytes=2 * size)]


def _matmul(id: str, precision: str, side: int, dtype: torch.dtype, device: torch.device) -> Work:
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    name = f"matrix product, {precision}, side {side}"
    return Work(id, name, repeat(lambda: left @ right), flops=2 * side**3)


def layer_works(
    device: torch.device,
    dtype: torch.dtype,
    widths: Sequence[int] | None = None,
    batches: Sequence[int] | None = None,
) -> list[Work]:
    """The product of a B-MLP's expanding layer, (B, m) to (B, 4 m), for several m and B.

    ``bytes`` counts input, weights and output once each, as if nothing were cached.
    """
    works = []
    for width in widths or WIDTHS[device.type]:
        weight = torch.randn(4 * width, width, device=device, dtype=dtype)
        for batch in batches or BATCHES[device.type]:
            images = torch.randn(batch, width, device=device, dtype=dtype)
            works.append(
                Work(
                    f"width-{width}-batch-{batch}",
                    f"width {width}, batch {batch}",
                    repeat(lambda images=images, weight=weight: images @ weight.t()),
                    flops=2 * batch * 4 * width * width,
                    bytes=weight.element_size() * (images.numel() + weight.numel() + batch * 4 * width),
                )
            )
    return works
