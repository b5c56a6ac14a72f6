"""Random flips, random resized crops and MixUp for a whole batch at once, with random numbers per image.

Everything random is drawn first, on the host with NumPy, as :class:`Draws`: a seed gives the same draws on
every device, and tests can inspect them. Applying them is then deterministic tensor arithmetic.

A crop that is resized back to the image's size, flipped or not, is a linear map of the rows followed by
one of the columns. So a batch is cropped by two batched matrix products with small interpolation matrices,
which runs at matrix-product speed on CPU and GPU alike (``grid_sample`` took 5 times as long on 2 CPU cores).
There are few such matrices, so they are computed once and looked up. A batch is processed in parts that fit
into the cache, or on a GPU into a fraction of its memory. In bf16 on a CPU the same is done in C in two
passes, with the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import native
from ..machine import on_cpu, to_device
from ..specs import AugmentSpec

CROP_TRIES = 10
"""Candidates for a crop before the central one is taken, as in torchvision's and FFCV's RandomResizedCrop."""

PART_NUMBERS = {"cpu": 3 * 2**18, "cuda": 2**27}
"""Numbers of a batch that are processed at a time, by type of device."""

LARGEST_TABLE = 96
"""Largest side for which all interpolation matrices are stored: in bf16, 2 MB at 32, 34 at 64, 170 at 96."""


@dataclass(frozen=True)
class Draws:
    """The random draws for one batch of B images of H x W pixels.

    ``flip``: bool (B,). ``top, left, height, width``: int64 (B,), the crop's box in pixels.
    ``partner``: int64 (B,), the image each one is mixed with; ``lam``: the share that an image keeps in
    MixUp, in [0, 1] (1 means no MixUp).
    """

    flip: np.ndarray
    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray
    partner: np.ndarray
    lam: float

    def of_part(self, part: slice) -> tuple[np.ndarray, Draws]:
        """The images and draws needed to augment a part of the batch.

        Returns:
            positions in the batch, int64: the images of ``part``, then their partners outside of it; and the
            draws for all of these. Only the results for ``part`` equal those of the whole batch.
        """
        own = np.arange(len(self.flip))[part]
        others = np.setdiff1d(self.partner[own], own) if self.lam != 1 else own[:0]
        needed = np.concatenate([own, others])
        place = np.zeros(len(self.flip), dtype=np.int64)
        place[needed] = np.arange(len(needed))
        partner = np.arange(len(needed))
        partner[: len(own)] = place[self.partner[own]]
        boxes = (values[needed] for values in (self.flip, self.top, self.left, self.height, self.width))
        return needed, Draws(*boxes, partner, self.lam)


def draw(spec: AugmentSpec, indices: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> Draws:
    """Draw the augmentation of the images ``indices`` (int64 (B,)) of ``size`` (H, W).

    Flips have probability 1/2. Crops: area uniform in ``crop_scale``, log aspect ratio uniform in
    ``crop_ratio``, position uniform among those that fit, all in whole pixels. MixUp: lambda from Beta(a, a),
    one per batch. ``ffcv`` MixUp seeds lambda with the batch's last index and takes the previous image as
    partner, as FFCV's operations do (whose sampler draws another lambda of the same law from the same seed).
    """
    count = len(indices)
    flip = rng.random(count) < 0.5 if spec.flip else np.zeros(count, dtype=bool)
    top, left, height, width = _draw_boxes(spec, count, size, rng)
    partner, lam = np.arange(count), 1.0
    if spec.mixup > 0 and spec.mixup_kind == "standard":
        lam = float(rng.beta(spec.mixup, spec.mixup))
        partner = rng.permutation(count)
    elif spec.mixup > 0:
        seed = int(indices[-1]) % 2**32
        lam = float(np.random.RandomState(seed).beta(spec.mixup, spec.mixup))
        partner = np.roll(partner, 1)
    return Draws(flip, top, left, height, width, partner, lam)


def _draw_boxes(spec: AugmentSpec, count: int, size: tuple[int, int], rng: np.random.Generator):
    h, w = size
    if spec.crop_scale is None:
        zeros = np.zeros(count, dtype=np.int64)
        return zeros, zeros, np.full(count, h), np.full(count, w)
    area = h * w * rng.uniform(*spec.crop_scale, (count, CROP_TRIES))
    ratio = np.exp(rng.uniform(np.log(spec.crop_ratio[0]), np.log(spec.crop_ratio[1]), (count, CROP_TRIES)))
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths >= 1) & (widths <= w) & (heights >= 1) & (heights <= h)
    first = fits.argmax(axis=1)
    rows = np.arange(count)
    height, width = heights[rows, first], widths[rows, first]
    place = rng.random((2, count))
    top = np.floor(place[0] * (h - height + 1)).astype(np.int64)
    left = np.floor(place[1] * (w - width + 1)).astype(np.int64)
    # If no candidate fits, take the largest central box with an allowed aspect ratio.
    none = ~fits.any(axis=1)
    if none.any():
        nearest = min(max(w / h, spec.crop_ratio[0]), spec.crop_ratio[1])
        central_w, central_h = (min(n, max(1, round(m))) for n, m in ((w, h * nearest), (h, w / nearest)))
        height[none], width[none] = central_h, central_w
        top[none], left[none] = (h - central_h) // 2, (w - central_w) // 2
    return top, left, height, width


def interpolation(start: Tensor, length: Tensor, size: int, reverse: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrices that resize ``[start, start + length)`` of a line of ``size`` pixels to the whole line.

    Bilinear with pixel centers at half-integers (``align_corners=False``); pixels outside the interval are
    not used. Lines are only enlarged, so no low-pass filter is needed.

    Args:
        start, length: float32 (B,), in pixels.
        reverse: bool (B,), lines to be mirrored.
    Returns:
        (B, size, size) of ``dtype``; row i holds the weights of output pixel i, which sum to 1.
    """
    device = start.device
    center = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    center = torch.where(reverse[:, None], size - center, center)
    position = (start - 0.5)[:, None] + center * (length / size)[:, None]
    position = torch.clamp(position, min=start[:, None], max=(start + length - 1)[:, None])
    pixels = torch.arange(size, device=device, dtype=torch.float32)
    distance = (position[:, :, None] - pixels).abs_()
    return distance.neg_().add_(1).clamp_min_(0).to(dtype)


@functools.lru_cache(maxsize=4)
def _table(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, np.ndarray]:
    """Every matrix of :func:`interpolation` for a crop in whole pixels, (K, size, size), and their indices:
    int64 (2, size, size + 1), by reversed or not, start and length.
    """
    boxes = [(start, length) for length in range(1, size + 1) for start in range(size - length + 1)]
    start, length = torch.tensor(boxes, dtype=torch.float32, device=device).T.repeat(1, 2)
    reverse = torch.arange(2, device=device).repeat_interleave(len(boxes)) == 1
    places = np.zeros((2, size, size + 1), dtype=np.int64)
    for place, (first, long) in enumerate(boxes):
        places[:, first, long] = place, place + len(boxes)
    return interpolation(start, length, size, reverse, dtype), places


def _matrices(start, length, size: int, reverse, dtype: torch.dtype, device: torch.device) -> Callable:
    """A function that returns the interpolation matrices (b, size, size) of a part (a slice) of a batch."""
    if size <= LARGEST_TABLE:
        table, places = _table(size, dtype, device)
        found = to_device(places[reverse.astype(np.int64), start, length], device)
        return lambda part: table.index_select(0, found[part])
    start, length = (to_device(values.astype(np.float32), device) for values in (start, length))
    reverse = to_device(reverse, device)
    return lambda part: interpolation(start[part], length[part], size, reverse[part], dtype)


def parts(images: Tensor) -> Iterator[slice]:
    """Slices of a batch (B, ...) of at most :data:`PART_NUMBERS` numbers each, but at least one image."""
    size = max(1, PART_NUMBERS[images.device.type] // max(1, images[0].numel()))
    return (slice(first, first + size) for first in range(0, len(images), size))


def crop_and_flip(images: Tensor, draws: Draws, dtype: torch.dtype) -> Tensor:
    """Apply the crops and flips of ``draws``.

    Args:
        images: uint8 or float (B, C, H, W), best with the channels of a row adjacent in memory (strides
            of (B, H, C, W)), since both products then need no copy.
    Returns:
        ``dtype`` (B, C, H, W) in the same value range, in that memory order.
    """
    b, c, h, w = images.shape
    still = np.zeros(b, dtype=bool)
    columns = _matrices(draws.left, draws.width, w, draws.flip, dtype, images.device)
    rows = _matrices(draws.top, draws.height, h, still, dtype, images.device)
    out = torch.empty((b, h * c, w), dtype=dtype, device=images.device)
    for part in parts(images):
        lines = images[part].to(dtype).permute(0, 2, 1, 3).reshape(-1, h, c * w)
        resized = torch.bmm(rows(part), lines).view(-1, h * c, w)
        torch.bmm(resized, columns(part).transpose(1, 2), out=out[part])
    return out.view(b, h, c, w).permute(0, 2, 1, 3)


def mix(images: Tensor, draws: Draws, part: slice = slice(None)) -> Tensor:
    """MixUp (Zhang et al. 2018): ``lam`` x image + ``(1 - lam)`` x partner, float (B, C, H, W)."""
    partner = to_device(draws.partner[part], images.device)
    rows = images.permute(0, 2, 1, 3)
    return rows.index_select(0, partner).lerp_(rows[part], draws.lam).permute(0, 2, 1, 3)


def mixup_ffcv(images: Tensor, partners: Tensor, lam: float) -> Tensor:
    """MixUp as FFCV's ``ImageMixup`` does it: with the batch's previous image, truncated to uint8.

    ``images``, ``partners``: uint8 (B, C, H, W); ``lam``: share that an image keeps.
    """
    mixed = images.to(torch.float32) * lam + partners.to(torch.float32) * (1 - lam)
    return mixed.to(torch.uint8)


def normalize(images: Tensor, mean: Tensor, std: Tensor, out: Tensor | None = None) -> Tensor:
    """Center and scale float (B, C, H, W) images of values 0 to 255, in any memory order; the result, ``out``
    or a new tensor, is contiguous. ``mean``, ``std``: float32 (C,).
    """
    mean, scale = (v.to(images.dtype)[:, None, None] for v in (mean, 1 / std))
    if out is None:
        out = torch.empty(images.shape, dtype=images.dtype, device=images.device)
    return torch.sub(images, mean, out=out).mul_(scale)


def augment(
    images: Tensor,
    spec: AugmentSpec,
    draws: Draws,
    dtype: torch.dtype,
    mean_std: tuple[Tensor, Tensor],
) -> Tensor:
    """All of ``spec`` applied to a batch, then :func:`normalize`: uint8 (B, C, H, W) to ``dtype``.

    The labels to mix follow from ``draws.partner`` and ``draws.lam``.
    """
    ffcv = spec.mixup > 0 and spec.mixup_kind == "ffcv"
    small = max(images.shape[2:]) <= LARGEST_TABLE
    if dtype == torch.bfloat16 and small and not ffcv and images.dtype == torch.uint8:
        if native.plain(images.permute(0, 2, 1, 3)) and in_c():
            return _augment_in_c(images, spec, draws, *mean_std)
    return augment_in_pytorch(images, spec, draws, dtype, mean_std)


def augment_in_pytorch(images, spec, draws, dtype, mean_std) -> Tensor:
    """:func:`augment` on any device and in any dtype, by PyTorch's operations."""
    cropped = spec.flip or spec.crop_scale is not None
    if spec.mixup > 0 and spec.mixup_kind == "ffcv":
        if cropped:
            images = crop_and_flip(images, draws, torch.float32).round_().clamp_(0, 255).to(torch.uint8)
        partners = images.index_select(0, to_device(draws.partner, images.device))
        return normalize(mixup_ffcv(images, partners, draws.lam).to(dtype), *mean_std)
    out = crop_and_flip(images, draws, dtype) if cropped else images.to(dtype)
    if spec.mixup == 0:
        return normalize(out, *mean_std)
    mixed = torch.empty(out.shape, dtype=dtype, device=out.device)
    for part in parts(out):
        normalize(mix(out, draws, part), *mean_std, out=mixed[part])
    return mixed


# --------------------------------------------------------------------------- on a CPU, in C


@functools.cache
@on_cpu()
def in_c() -> bool:
    """Whether to augment bf16 batches on this CPU in C: it compiles and a random batch gets the same bits."""
    if native.library() is None:
        return False
    spec, rng = AugmentSpec(flip=True, crop_scale=(0.05, 1.0), mixup=0.8), np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (64, 16, 3, 16), dtype=np.uint8)).permute(0, 2, 1, 3)
    draws = draw(spec, np.arange(64), (16, 16), rng)
    mean, std = torch.tensor([[125.3, 123.0, 113.9], [63.0, 62.1, 66.7]])
    expected = augment_in_pytorch(images, spec, draws, torch.bfloat16, (mean, std))
    return torch.equal(_augment_in_c(images, spec, draws, mean, std), expected)


@functools.lru_cache(maxsize=4)
def _neighbors(size: int) -> native.Neighbors:
    return native.Neighbors.of(_table(size, torch.bfloat16, torch.device("cpu"))[0])


def _augment_in_c(images: Tensor, spec: AugmentSpec, draws: Draws, mean: Tensor, std: Tensor) -> Tensor:
    """The same as :func:`augment_in_pytorch` for a batch in bf16, in two passes over memory."""
    rows = images.permute(0, 2, 1, 3)
    _, height, _, width = rows.shape
    if spec.flip or spec.crop_scale is not None:
        boxes = []
        for size, *place in (
            (height, np.zeros_like(draws.top), draws.top, draws.height),
            (width, draws.flip.astype(np.int64), draws.left, draws.width),
        ):
            places = _table(size, torch.bfloat16, images.device)[1]
            boxes += [torch.from_numpy(places[tuple(place)]), _neighbors(size)]
        rows = native.crop(rows, *boxes)
    else:
        rows = rows.to(torch.bfloat16)
    partner = torch.from_numpy(draws.partner) if spec.mixup > 0 else None
    return native.mix(rows, partner, draws.lam, *(v.to(torch.bfloat16) for v in (mean, 1 / std)))
