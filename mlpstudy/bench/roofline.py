"""The machine's rates, and single layers of B-MLPs to compare with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlplib.timing import copy_size, large_copy, repeat, square_product

from .rounds import Work

WIDTHS = {"cpu": (128, 256, 512, 1024), "cuda": (256, 512, 1024)}
BATCHES = {"cpu": (1, 8, 64, 512, 4096), "cuda": (1, 16, 256, 4096, 32768)}


def machine_works(device: torch.device, precision: str, brief: bool = False) -> list[Work]:
    """Matrix products in the precision of training and in float32, and a copy within the device's memory.

    Args:
        brief: without float32, with smaller matrices and a smaller copy.
    """
    side = 1024 if brief else 8192 if device.type == "cuda" else 2048
    size = 2**26 if brief else copy_size(device)
    works = [
        Work(
            id,
            f"matrix product, {each}, side {side}",
            repeat(square_product(device, each, side)),
            flops=2 * side**3,
        )
        for id, each in (("matmul", precision), ("matmul-fp32", "fp32"))[: 1 if brief else 2]
    ]
    copy = repeat(large_copy(device, device, size))
    return [*works, Work("copy", "copy within memory", copy, bytes=2 * size)]


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
            product = repeat(lambda images=images, weight=weight: images @ weight.t())
            flops = 2 * batch * 4 * width * width
            moved = weight.element_size() * (images.numel() + weight.numel() + batch * 4 * width)
            name = f"width {width}, batch {batch}"
            works.append(
                Work(name.replace(", ", "-").replace(" ", "-"), name, product, flops=flops, bytes=moved)
            )
    return works
