"""Other ways to do a piece of training, each timed with ours. Whether one helps depends on the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mlplib.data.augment import Draws, crop_and_flip, draw
from mlplib.data.batches import Batch
from mlplib.execution import Execution
from mlplib.training import Loop

from .cases import WITHOUT_MIXUP
from .reference import TextbookLion
from .rounds import Work, repeat, summary
from .workloads import Training, optimizer_alone

PARTS = 4
"""Into how many parts a batch is cut, and how many times as large the larger batch is."""

Step = Callable[[], object]


def _stepping(
    training: Training, batch: Batch, precision: str | None = None, micro: int | None = None, **options
) -> Step:
    """A step on a fixed batch, by a loop of its own."""
    case = dataclasses.replace(training.case, batch_size=len(batch.labels))
    spec = case.spec(precision=precision or training.precision)
    loop = Loop(spec, training.data, Execution(device=training.device, micro_batch=micro, **options))
    state, batch = loop.fresh_state(), dataclasses.replace(batch, images=batch.images.to(loop.dtype))
    return lambda: loop.step(state, batch)


def _crops(training: Training) -> tuple[Step, Step]:
    indices = np.arange(training.case.batch_size) % len(training.data.train)
    size = training.data.image_shape[:2]
    draws = draw(WITHOUT_MIXUP, indices, size, np.random.default_rng(0))
    ((images, _),) = training.data.train.read(indices, len(indices))
    dtype = training.loop.dtype
    return lambda: crop_and_flip(images, draws, dtype), lambda: grid_sampled(images, draws, dtype)


def grid_sampled(images: Tensor, draws: Draws, dtype: torch.dtype) -> Tensor:
    """What :func:`mlplib.data.augment.crop_and_flip` computes, by ``grid_sample``, in float32 inside.

    Unlike that function it reads beyond the edge of a crop, so pixels at edges differ a little.
    """
    count, _, height, width = images.shape
    theta = torch.zeros(count, 2, 3)
    sign = torch.where(torch.from_numpy(draws.flip), -1.0, 1.0)
    boxes = ((0, draws.left, draws.width, width, sign), (1, draws.top, draws.height, height, 1.0))
    for row, start, length, size, direction in boxes:
        start, length = (torch.from_numpy(each.astype(np.float32)) for each in (start, length))
        theta[:, row, row] = direction * length / size
        theta[:, row, 2] = (2 * start + length) / size - 1
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False).to(dtype)


def _optimizers(training: Training) -> tuple[Step, Step]:
    model = training.loop.fresh_state().model
    theirs = TextbookLion(model.parameters(), training.case.spec().optimizer)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    return optimizer_alone(training.loop), theirs.step


def _parts(training: Training) -> tuple[Step, Step]:
    part = -(-training.case.batch_size // PARTS)
    return _stepping(training, training.fixed), _stepping(training, training.fixed, micro=part)


def _larger(training: Training) -> tuple[Step, Step]:
    count = min(PARTS * training.case.batch_size, len(training.data.train))
    tensors = {name: getattr(training.fixed, name) for name in ("images", "labels", "partner_labels")}
    repeated = {name: torch.cat([tensor] * PARTS)[:count].contiguous() for name, tensor in tensors.items()}
    return _stepping(training, training.fixed), _stepping(
        training, dataclasses.replace(training.fixed, **repeated)
    )


def _float32(training: Training) -> tuple[Step, Step]:
    return _stepping(training, training.fixed), _stepping(training, training.fixed, precision="fp32")


def _compiled(training: Training) -> tuple[Step, Step]:
    plain = _stepping(training, training.fixed, compiled=False, graphs=False)
    return plain, _stepping(training, training.fixed, compiled=True, graphs=False)


def _fetching(training: Training) -> tuple[Step, Step]:
    loop = training.loop
    state = loop.fresh_state()

    def fetching() -> None:
        loop.step(state, training.fixed)
        state.sums.tolist()

    return _stepping(training, training.fixed), fetching


def _images(training: Training) -> tuple[Step, Step]:
    data, dtype = training.data, training.loop.dtype
    count = min(PARTS * training.case.batch_size, len(data.train))
    rng = np.random.default_rng(0)
    indices = rng.integers(0, count, training.case.batch_size)
    order = torch.from_numpy(indices).to(training.device)
    ((stored, _),) = data.train.read(np.arange(count), count)
    floats = data.normalize(stored.float()).permute(0, 2, 1, 3).contiguous()
    draws = draw(WITHOUT_MIXUP, indices, data.image_shape[:2], rng)

    def ours() -> Tensor:
        ((images, _),) = data.train.read(indices, len(indices))
        return data.normalize(crop_and_flip(images, draws, dtype))

    def other() -> Tensor:
        return crop_and_flip(floats.index_select(0, order).permute(0, 2, 1, 3), draws, dtype).contiguous()

    return ours, other


@dataclass(frozen=True)
class Trial:
    """Another way: what it replaces, why one might expect it to help, and the pair (ours, the other)."""

    id: str
    name: str
    instead_of: str
    hope: str
    pair: Callable[[Training], tuple[Step, Step]]


TRIALS = (
    Trial(
        "grid-sample",
        "crops by grid_sample",
        "crops by two matrix products",
        "it is PyTorch's own function for this, and it computes no product with a zero",
        _crops,
    ),
    Trial(
        "one-tensor-at-a-time",
        "Lion one tensor at a time",
        "our Lion",
        "a tensor that was just touched is still in the cache",
        _optimizers,
    ),
    Trial(
        "parts-of-a-batch",
        "a batch in four parts",
        "a batch at once",
        "the activations of a part fit into a faster cache",
        _parts,
    ),
    Trial(
        "larger-batch",
        "a batch four times as large",
        "a batch at once",
        "weights are read for more images",
        _larger,
    ),
    Trial(
        "float32",
        "a step in float32",
        "a step in the precision that the device is best at",
        "nothing has to be converted",
        _float32,
    ),
    Trial(
        "fetching-metrics",
        "the loss fetched after every step",
        "sums that stay on the device",
        "one number is not much to fetch",
        _fetching,
    ),
    Trial(
        "float-images",
        "crops from images kept as normalized float32",
        "crops from images kept as uint8, normalized after that",
        "the normalization is done once",
        _images,
    ),
)
"""What was tried, in the order of the page."""

COMPILED = Trial(
    "compiled",
    "a step compiled by torch.compile",
    "a step as PyTorch offers it",
    "elementwise operations become one, so memory is read less often",
    _compiled,
)
"""A part of its own, since compiling takes longer than all other trials."""


def tried_works(training: Training, compiled: bool = False) -> list[Work]:
    """For every trial ours (``<id>: ours``) and the other way (``<id>``), next to each other.

    Args:
        compiled: include :data:`COMPILED`.
    """
    works, images = [], training.case.batch_size
    for trial in TRIALS + (COMPILED,) * compiled:
        ours, other = trial.pair(training)
        times = PARTS if trial.id == "larger-batch" else 1
        works.append(Work(f"{trial.id}: ours", trial.instead_of, repeat(ours), images=images))
        works.append(Work(trial.id, trial.name, repeat(other), images=images * times))
    return works


def results(rows: list[dict]) -> Iterator[tuple[Trial, dict]]:
    """Each trial with its time per image over ours, round by round: median and quartiles."""
    found = {row["id"]: row for row in rows if row["group"] == "tried"}
    for trial in (trial for trial in (*TRIALS, COMPILED) if trial.id in found):
        ours, other = found[f"{trial.id}: ours"], found[trial.id]
        scale = ours["images"] / other["images"]
        pairs = zip(other["seconds"], ours["seconds"], strict=True)
        yield trial, summary([scale * theirs / us for theirs, us in pairs])
