"""Alternatives to parts of our training, timed together. Which ones help depends on the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplib.data.augment import Draws, augment, augment_in_pytorch, crop_and_flip, draw, normalize
from mlplib.data.batches import Batch
from mlplib.execution import Execution
from mlplib.gelu import GELU
from mlplib.specs import FULL_DA, AugmentSpec
from mlplib.timing import repeat
from mlplib.training import Loop

from .cases import WITHOUT_MIXUP
from .derived import per_round, rows_of
from .reference import TextbookLion
from .rounds import Work
from .workloads import Training, optimizer_alone

PARTS = 4
"""Number of parts that a batch is split into, and factor by which the larger batch is larger."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Trial:
    """An alternative: what it replaces, why one might expect it to help, and the pair (ours, alternative).

    ``times``: images per call of the alternative, as a multiple of ours. ``low_precision``: in float32, ours
    is the alternative itself.
    """

    id: str
    name: str
    instead_of: str
    hope: str
    pair: Callable[[Training], tuple[Step, Step]]
    times: int = 1
    low_precision: bool = False


TRIALS: list[Trial] = []
"""All trials, in the order of the page."""


def trial(name: str, instead_of: str, hope: str, **options) -> Callable:
    """Register a function that returns the pair as a trial, with the function's name as its id."""

    def add(pair: Callable) -> Callable:
        TRIALS.append(Trial(pair.__name__.replace("_", "-"), name, instead_of, hope, pair, **options))
        return pair

    return add


def stepping(training: Training, batch: Batch | None = None, precision: str | None = None, **options) -> Step:
    """A step on a fixed batch, in a loop of its own; ``options`` are those of
    :class:`~mlplib.execution.Execution`.
    """
    batch = batch or training.fixed
    case = dataclasses.replace(training.case, batch_size=len(batch.labels))
    spec = case.spec(precision=precision or training.precision)
    loop = Loop(spec, training.data, Execution(device=training.device, **options))
    state, batch = loop.fresh_state(), dataclasses.replace(batch, images=batch.images.to(loop.dtype))
    return lambda: loop.step(state, batch)


def drawn_batch(training: Training, spec: AugmentSpec) -> tuple[Tensor, Draws]:
    """A batch's images, uint8 (B, 3, H, W), and what is drawn for them."""
    data = training.data
    indices = np.arange(training.case.batch_size) % len(data.train)
    ((images, _),) = data.train.read(indices, len(indices))
    return images, draw(spec, indices, data.image_shape[:2], np.random.default_rng(0))


@trial(
    "crops by grid_sample",
    "crops by two matrix products",
    "it is PyTorch's own function for this, and it computes no product with a zero",
)
def grid_sample(training: Training) -> tuple[Step, Step]:
    (images, draws), dtype = drawn_batch(training, WITHOUT_MIXUP), training.loop.dtype
    return lambda: crop_and_flip(images, draws, dtype), lambda: grid_sampled(images, draws, dtype)


def grid_sampled(images: Tensor, draws: Draws, dtype: torch.dtype) -> Tensor:
    """Like :func:`mlplib.data.augment.crop_and_flip`, but with ``grid_sample``, computed in float32.

    Unlike that function, it interpolates across a crop's edge, so edge pixels differ slightly.
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


@trial("Lion one tensor at a time", "our Lion", "a tensor that was just touched is still in the cache")
def one_tensor_at_a_time(training: Training) -> tuple[Step, Step]:
    model = training.loop.fresh_state().model
    theirs = TextbookLion(model.parameters(), training.case.spec().optimizer)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    return optimizer_alone(training.loop).step, theirs.step


@trial("Lion by PyTorch's operations", "our Lion", "PyTorch runs each of its seven operations on all tensors")
def lion_in_pytorch(training: Training) -> tuple[Step, Step]:
    ours, theirs = optimizer_alone(training.loop), optimizer_alone(training.loop)
    theirs.in_c = False
    return ours.step, theirs.step


@trial(
    "augmentation by PyTorch's operations",
    "our augmentation",
    "each operation uses all the processor has, and crops are matrix products",
    low_precision=True,
)
def augmentation_in_pytorch(training: Training) -> tuple[Step, Step]:
    data, (images, draws) = training.data, drawn_batch(training, FULL_DA)
    given = images, FULL_DA, draws, training.loop.dtype, (data.mean, data.std)
    return lambda: augment(*given), lambda: augment_in_pytorch(*given)


@trial(
    "GELU by PyTorch",
    "our GELU",
    "it computes with what the processor has already read",
    low_precision=True,
)
def gelu_in_pytorch(training: Training) -> tuple[Step, Step]:
    model, loop = training.case.spec().model, training.loop
    size = training.case.batch_size, model.width * model.expansion
    numbers, grad = torch.randn(2, *size, device=training.device, dtype=loop.dtype)

    def both_passes(activation: nn.Module) -> Step:
        z = numbers.clone().requires_grad_()
        return lambda: torch.autograd.grad(activation(z), z, grad)

    return both_passes(GELU()), both_passes(nn.GELU())


@trial("a batch in four parts", "a batch at once", "the activations of a part fit into a faster cache")
def parts_of_a_batch(training: Training) -> tuple[Step, Step]:
    part = -(-training.case.batch_size // PARTS)
    return stepping(training), stepping(training, micro_batch=part)


@trial("a batch four times as large", "a batch at once", "weights are read for more images", times=PARTS)
def larger_batch(training: Training) -> tuple[Step, Step]:
    tensors = {name: getattr(training.fixed, name) for name in ("images", "labels", "partner_labels")}
    repeated = {name: torch.cat([tensor] * PARTS) for name, tensor in tensors.items()}
    return stepping(training), stepping(training, dataclasses.replace(training.fixed, **repeated))


@trial(
    "a step in float32",
    "a step in the precision that the device is best at",
    "nothing has to be converted",
    low_precision=True,
)
def float32(training: Training) -> tuple[Step, Step]:
    return stepping(training), stepping(training, precision="fp32")


@trial("the loss fetched after every step", "sums that stay on the device", "one number is not much to fetch")
def fetching_metrics(training: Training) -> tuple[Step, Step]:
    loop = training.loop
    state = loop.fresh_state()

    def fetching() -> None:
        loop.step(state, training.fixed)
        state.sums.tolist()

    return stepping(training), fetching


@trial(
    "crops from images kept as normalized float32",
    "crops from images kept as uint8, normalized after that",
    "the normalization is done once",
)
def float_images(training: Training) -> tuple[Step, Step]:
    data, dtype = training.data, training.loop.dtype
    count = min(PARTS * training.case.batch_size, len(data.train))
    rng = np.random.default_rng(0)
    indices = rng.integers(0, count, training.case.batch_size)
    order = torch.from_numpy(indices).to(training.device)
    ((stored, _),) = data.train.read(np.arange(count), count)
    floats = normalize(stored.float(), data.mean, data.std).permute(0, 2, 1, 3).contiguous()
    draws = draw(WITHOUT_MIXUP, indices, data.image_shape[:2], rng)

    def ours() -> Tensor:
        ((images, _),) = data.train.read(indices, len(indices))
        return normalize(crop_and_flip(images, draws, dtype), data.mean, data.std)

    def other() -> Tensor:
        return crop_and_flip(floats.index_select(0, order).permute(0, 2, 1, 3), draws, dtype).contiguous()

    return ours, other


@trial(
    "a step compiled by torch.compile",
    "a step as PyTorch offers it",
    "elementwise operations become one, so memory is read less often",
)
def compiled(training: Training) -> tuple[Step, Step]:
    plain = stepping(training, compiled=False, graphs=False)
    return plain, stepping(training, compiled=True, graphs=False)


def tried_works(training: Training, compiled: bool = False) -> list[Work]:
    """For every trial, ours (``<id>: ours``) next to the alternative (``<id>``); none that needs more images
    than there are.

    Args:
        compiled: include the compiled step, which takes longer than all other trials.
    """
    works, images = [], training.case.batch_size
    for trial in TRIALS if compiled else TRIALS[:-1]:
        if images * trial.times > len(training.data.train):
            continue
        ours, other = map(repeat, trial.pair(training))
        works.append(Work(f"{trial.id}: ours", trial.instead_of, ours, images=images))
        works.append(Work(trial.id, trial.name, other, images=images * trial.times))
    return works


def results(found: Mapping) -> Iterator[tuple[Trial, dict]]:
    """Each trial of a results file with its time per image over ours, per round: median and quartiles. Trials
    that compare nothing in the precision of the file are left out.
    """
    rows, in_float32 = rows_of(found, "tried"), found["machine"]["precision"] == "fp32"
    for trial in (trial for trial in TRIALS if trial.id in rows and not (in_float32 and trial.low_precision)):
        other, ours = trial.id, f"{trial.id}: ours"
        scale = rows[ours]["images"] / rows[other]["images"]
        yield trial, per_round(rows, lambda theirs, own, s=scale: s * theirs / own, other, ours)
