"""Decode an image file to uint8 RGB pixels of a given size."""

from __future__ import annotations

import functools
import io
import re
from pathlib import PurePosixPath

import numpy as np

from ...errors import one_line

LFS_POINTER = b"version https://git-lfs"
"""The first bytes of a file that git-lfs has not downloaded."""

LFS_ADVICE = "an LFS pointer, not the file itself: run git lfs pull"

# Pillow only identifies these formats; decoding them needs other programs.
_STUBS = {"BUFR", "GRIB", "HDF5", "MPEG"}


@functools.cache
def _suffixes() -> frozenset[str]:
    from PIL import Image

    formats = Image.registered_extensions()  # imports all of Pillow's plugins
    return frozenset(s for s, kind in formats.items() if kind in Image.OPEN and kind not in _STUBS)


def is_image_name(name: str) -> bool:
    """Whether the suffix of this name is one of an image format that Pillow reads."""
    return PurePosixPath(name).suffix.lower() in _suffixes()


def fit(data: bytes | np.ndarray, size: int, *, resized: bool = True, upright: bool = False) -> np.ndarray:
    """An image, encoded or as uint8 pixels (H, W, 3), as uint8 ``(size, size, 3)``.

    The center square, whose side is the image's shorter one, is resized; an image of that size is not
    changed, and a smaller one is enlarged. Of Pillow's filters, which all average over the area of an output
    pixel, the Hamming filter is closest to OpenCV's area filter, which FFCV uses in the official code. (There
    the longer side becomes 64, and the center square is taken afterwards.)

    Args:
        resized: if not, an image of another size is an error.
        upright: rotate the image by its EXIF orientation, and put transparent ones on white.

    Raises:
        ValueError, OSError: it is damaged, or its pixels have no defined range.
    """
    from PIL import Image

    if isinstance(data, bytes) and data.startswith(LFS_POINTER):
        raise ValueError(LFS_ADVICE)
    opened = Image.open(io.BytesIO(data)) if isinstance(data, bytes) else Image.fromarray(data)
    with opened as image:
        rgb = _to_rgb(image, on_white=upright)
        if turn := upright and _turn(image):
            rgb = rgb.transpose(turn)
    width, height = rgb.size
    if (width, height) != (size, size):
        if not resized:
            raise ValueError(f"it has {width} x {height} pixels instead of {size} x {size}")
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # Cropped first: with resize's own `box`, pixels outside the box would be used.
        square = rgb.crop((left, top, left + side, top + side))
        rgb = square.resize((size, size), Image.Resampling.HAMMING)
    return np.asarray(rgb)


def _turn(image) -> int | None:
    """The transposition that puts a Pillow image upright. Only this tag is read: others are often invalid."""
    from PIL import ExifTags, Image

    turns = Image.Transpose
    by_orientation = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    try:
        return by_orientation.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises many types for damaged EXIF data; viewers show such images as they are
        return None


def _to_rgb(image, on_white: bool):
    """Convert a Pillow image of any mode to RGB. Pillow itself would clip gray values above 255."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit integers"
        raise ValueError(
            f"its pixels are {kind} (mode {image.mode}), whose black and white are not defined: "
            "convert it to 8 or 16 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        bits_per_sample, photometric = 258, 262  # TIFF tags; all other formats have 16 bits, and black at 0
        tags = image.tag_v2 if image.format == "TIFF" else {}
        values, bits = np.asarray(image), tags.get(bits_per_sample, (16,))[0]
        gray = values.astype(np.float64) * (255 / (2**bits - 1))
        if tags.get(photometric) == 0:  # Pillow inverts 8 bits, but not 16
            gray = 255 - gray
        if on_white and "transparency" in image.info:
            gray[values == image.info["transparency"]] = 255
        return Image.fromarray(np.clip(np.rint(gray), 0, 255).astype(np.uint8)).convert("RGB")
    if on_white and image.has_transparency_data:
        if image.tile and (few := {"L;2": 2, "L;4": 4}.get(image.tile[0].args)):
            image.info["transparency"] *= 255 // (2**few - 1)  # Pillow scales only the pixels
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def reason(error: Exception) -> str:
    """Why an image could not be decoded, in one line."""
    # Pillow's message names the BytesIO object that it read from.
    return re.sub(r" <_io\.BytesIO.*?>", "", one_line(error))
