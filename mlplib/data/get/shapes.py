"""Drawn shapes: a small data set generated on demand, the same to the last bit on every platform.

Ten kinds of colored shapes, at random positions and in random sizes, on noisy backgrounds. They replace
photographs where only the code is to be tested (profile ``smoke``): a small MLP learns them in part, like
CIFAR-10. Only integers are computed, from the raw output of PCG64, which numpy keeps stable.
"""

from __future__ import annotations

import numpy as np

from ..dataset import Split

CLASSES = ("disk", "square", "triangle", "plus", "rows", "ring", "frame", "diamond", "cross", "columns")

_NOISE = 40
"""Largest change of a background or shape color at a single pixel and channel, out of 255."""

_CONTRAST = 56
"""Smallest difference between shape and background color, in at least one channel."""


def _masks(dx, dy, r) -> list[np.ndarray]:
    """The pixels of each class's shape: bool, one mask per class, from offsets to the center and a radius in
    half pixels.
    """
    ax, ay = abs(dx), abs(dy)
    box = np.maximum(ax, ay) <= r
    round_ = dx * dx + dy * dy
    disk = round_ <= r * r
    thin = 2  # half width of a line: every line is then 2 pixels thick
    triangle = (dy <= r) & (2 * ax <= dy + r)
    plus = box & (np.minimum(ax, ay) <= thin)
    rows = box & ((dy + r) // 4 % 2 == 0)
    ring = disk & (round_ > (r - 4) ** 2)
    frame = box & (np.maximum(ax, ay) > r - 4)
    diamond = ax + ay <= r
    cross = box & (abs(ax - ay) <= thin)
    columns = box & ((dx + r) // 4 % 2 == 0)
    return [disk, box, triangle, plus, rows, ring, frame, diamond, cross, columns]


def _draw(seed: int, examples: int, size: int) -> Split:
    bits = np.random.PCG64(seed)

    def integers(low: int, high: int, *shape: int) -> np.ndarray:
        raw = bits.random_raw(int(np.prod(shape))).reshape(shape)
        return (raw % np.uint64(high - low)).astype(np.int64) + low

    labels = np.arange(examples, dtype=np.int64) % len(CLASSES)
    labels = labels[np.argsort(bits.random_raw(examples), kind="stable")]
    radius = integers(size * 9 // 16, size * 7 // 8, examples)[:, None, None]  # half pixels
    span = 2 * size - 2 * radius  # how far the center may move so that the shape stays inside
    move = integers(0, 1 << 20, 2, examples, 1, 1)
    center_x, center_y = radius + move[0] % (span + 1), radius + move[1] % (span + 1)
    grid = 2 * np.arange(size) + 1  # pixel centers, in half pixels
    masks = np.stack(_masks(grid[None, None, :] - center_x, grid[None, :, None] - center_y, radius))
    inside = masks[labels, np.arange(examples)]

    background = integers(_NOISE, 256 - _NOISE, examples, 3)
    color = integers(_NOISE, 256 - _NOISE, examples, 3)
    alike = (abs(color - background) < _CONTRAST).all(axis=1)
    away = np.where(background < 128, _CONTRAST, -_CONTRAST)
    color[alike] = (background + away)[alike]
    images = np.where(inside[..., None], color[:, None, None, :], background[:, None, None, :])
    images = images + integers(-_NOISE, _NOISE + 1, examples, size, size, 3)
    return Split(np.clip(images, 0, 255).astype(np.uint8), labels)


def draw(train: int, test: int, size: int) -> tuple[Split, Split]:
    """Draw both splits: uint8 images ``(N, size, size, 3)``, int64 labels that index :data:`CLASSES`.

    Every class has an equal share of each split, within one example.
    """
    return _draw(1, train, size), _draw(2, test, size)
