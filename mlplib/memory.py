"""How many images fit through a network at once, and how out-of-memory errors are recognized."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from . import baselines, machine
from .errors import MlplibError, Refused
from .specs import BASELINES, ModelSpec

ACTIVATION_SHARE = 0.25
"""Largest share of the free memory for the estimated activations. The rest is for weights, gradients, the
optimizer, the augmentation of a whole batch, and the error of the estimate."""

BYTES_PER_PARAMETER = 12
"""Weight, gradient and Lion's momentum in float32."""


def require_room(
    what: str, model: ModelSpec, image_shape: tuple[int, int, int], device: torch.device, images: int = 0
) -> None:
    """Refuse a training that cannot fit, before a network is built: otherwise Linux might kill a process.

    Args:
        images: number of uint8 images that are in memory with the network.

    Raises:
        MlplibError: the network's weights and the images take more than the free memory.
    """
    pixels = math.prod(image_shape)
    # The hidden layers dominate; a baseline's own layers are small, so only its images count.
    layer = model.width**2 * (2 * model.expansion if model.family == "b-mlp" else 1)
    parameters = pixels * model.width + model.depth * layer if model.family not in BASELINES else 0
    needed, free = BYTES_PER_PARAMETER * parameters + images * pixels, machine.free_memory(device)
    if needed > free:
        raise MlplibError(
            f"{what} needs at least {needed // 10**9:,} GB of memory, and {free // 10**9:,} GB are free: "
            "choose a smaller model, batch size or resolution"
        )


@contextmanager
def out_of_memory_errors(what: str) -> Iterator[None]:
    """Turn out-of-memory errors into an MlplibError: ``what`` does not fit into memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MlplibError(
            f"{what} does not fit into memory: end other programs or choose a smaller model"
        ) from None


def whole_batches_only(model: ModelSpec) -> bool:
    """Whether micro-batches would change the results: BatchNorm and dropout depend on the whole batch."""
    return model.norm == "batch" or model.family in baselines.WITH_BATCH_NORM or model.dropout > 0


def pick_micro_batch(
    model: ModelSpec,
    batch: int,
    image_shape: tuple[int, int, int],
    device: torch.device,
    wanted: int | None,
) -> int:
    """Images per pass: ``wanted``, or the batch halved until its activations fit into
    :data:`ACTIVATION_SHARE` of the free memory.

    Raises:
        MlplibError: ``wanted`` is less than a batch where batches must not be split.
    """
    if whole_batches_only(model):
        if wanted is not None and wanted < batch:
            raise Refused("BatchNorm and dropout need whole batches: leave micro_batch out")
        return batch
    if wanted is not None:
        return min(wanted, batch)
    budget = machine.free_memory(device) * ACTIVATION_SHARE
    size = batch
    while size > 1 and size * activation_bytes(model, image_shape) > budget:
        size = (size + 1) // 2
    return size


def in_parts(read: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """``read(images)``, by halves if memory cannot take all images at once.

    Args:
        read: computes something of each image that does not depend on the others.
    """
    try:
        return read(images)
    except Exception as error:
        if len(images) == 1 or not is_out_of_memory(error):
            raise
    # Not in the except clause: there, the error's traceback keeps the activations alive.
    return torch.cat([in_parts(read, half) for half in images.tensor_split(2)])


def activation_bytes(model: ModelSpec, image_shape: tuple[int, int, int]) -> int:
    """A rough upper bound on the bytes of activations kept per image for the backward pass."""
    h, w, c = image_shape
    if model.family in BASELINES:
        return baselines.activation_bytes(model.family, image_shape)
    per_layer = model.width * (4 + 3 * model.expansion if model.family == "b-mlp" else 4)
    return 4 * (h * w * c + model.depth * per_layer)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is about lack of memory, by its type or, for host and pinned memory, its message."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    said = ("allocate memory", "out of memory", "status_alloc_failed", "storage size calculation overflowed")
    return isinstance(error, RuntimeError) and any(each in words for each in said)
