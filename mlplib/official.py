"""The official checkpoints: weights that the paper's authors published, as files in a folder.

They can be downloaded next to the official code (https://github.com/gregorbachmann/scaling_mlps), each a
state dict beside a ``config.txt``. :func:`find` reads the files in a folder; runs identify a file by its
content (:class:`~mlplib.specs.CheckpointSpec`), so the folder may move.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .data import catalog
from .errors import MlplibError
from .files import require_folder, sha256
from .models import ImageMLP, meta_model
from .specs import CheckpointSpec, DataSpec, ModelSpec

NOTES = (".txt", ".md", ".json", ".yaml", ".yml", ".csv", ".log")
"""Suffixes of files that describe a checkpoint beside them, such as the official ``config.txt``."""

PUBLISHED = (64, 11_230)
"""Image side and classes of the official checkpoints: those of ImageNet-21k at 64 x 64 pixels."""


@dataclass(frozen=True)
class Checkpoint:
    """One file of official weights: its path, its run, and what the shapes of its weights say.

    ``image_size``: side of its images in pixels; ``classes``: number of classes.
    """

    path: Path
    spec: CheckpointSpec
    model: ModelSpec
    image_size: int
    classes: int

    def data(self, name: str) -> DataSpec:
        """A data set at the image size of these weights, whatever the profile's."""
        native = catalog.find(name).image_size
        return DataSpec(name, resolution=None if native == self.image_size else self.image_size)


def find(folder: str | os.PathLike) -> tuple[Checkpoint, ...]:
    """Every checkpoint in a folder and its subfolders, in the order of their paths.

    Of files with the same content only the first is used. Hidden files and those with a suffix in
    :data:`NOTES` are skipped; every other file is read completely.

    Raises:
        MlplibError: there is no such folder, no checkpoint in it, or a file that is not one; the message
            names it.
    """
    found: dict[str, Checkpoint] = {}
    for path in candidates(folder):
        checkpoint = read(path)
        found.setdefault(checkpoint.spec.sha256, checkpoint)
    return tuple(found.values())


def candidates(folder: str | os.PathLike) -> list[Path]:
    """The files that :func:`find` reads, in order, without opening them.

    Raises:
        MlplibError: there is no such folder, or no such file in it.
    """
    root = require_folder(folder, "official_checkpoints", exists=True)
    found = []
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and not path.is_dir() and path.suffix.lower() not in NOTES:
            found.append(path)
    if not found:
        raise MlplibError(
            f"there is no checkpoint in {root}: put the official files there, "
            "or leave official_checkpoints out"
        )
    return found


def read(path: str | os.PathLike) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        MlplibError: it cannot be read or is no official S-MLP or B-MLP; the message names the file.
    """
    path = Path(path)
    content, model = digest(path), load(path)
    side, classes, name = model.image_shape[0], model.classes, model.spec.name
    if (side, classes) != PUBLISHED:
        name += f", {side} px, {classes:,} classes"
    return Checkpoint(path, CheckpointSpec(name, content), model.spec, side, classes)


def load(path: str | os.PathLike) -> ImageMLP:
    """The network of a checkpoint: a state dict saved by ``torch.save``, S-MLP or B-MLP, any size.

    What names and shapes do not determine is as in the official code: pre-norm, GELU, a skip in B-MLPs
    only, the official order in S-MLPs. Nothing in the file is executed (``weights_only=True``).

    Returns:
        The model on the CPU in float32, in training mode.

    Raises:
        MlplibError: the file is missing, damaged, or not such a state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise nearly any exception for damaged files
        raise MlplibError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is missing, damaged or not "
            "saved by torch.save from a plain state dict; download it again"
        ) from None
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise MlplibError(f"checkpoint {path} is not a state dict of names and tensors: extract it first")
    if any(value.layout != torch.strided or value.is_complex() for value in state.values()):
        raise MlplibError(f"checkpoint {path} has sparse or complex weights: save it with dense real ones")
    try:
        model = meta_model(*describe(state))
        # Uses the file's tensors instead of drawing weights, so the random generators do not advance.
        model.load_state_dict(state, strict=True, assign=True)
    except (MlplibError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise MlplibError(f"checkpoint {path} is not an official S-MLP or B-MLP: {reason:.200}") from None
    return model.float()


def describe(state: Mapping[str, Tensor]) -> tuple[ModelSpec, tuple[int, int, int], int]:
    """Spec, image shape and classes of an official state dict, derived from its names and shapes.

    Raises:
        MlplibError: it is not one.
    """
    try:
        width, pixels = state["linear_in.weight"].shape
        classes, _ = state["linear_out.weight"].shape
        if any(name.startswith("blocks.") for name in state):
            wide, thin = state["blocks.0.block.0.weight"].shape
            block, settings = r"blocks\.\d+\.block\.0\.weight", dict(family="b-mlp", expansion=wide // thin)
        else:
            block, settings = r"layers\.\d+\.weight", dict(family="s-mlp", skip=False, official_order=True)
    except KeyError as error:
        raise MlplibError(f"it lacks {error.args[0]}") from None
    except (ValueError, ZeroDivisionError):
        raise MlplibError("one of its weights is not a matrix") from None
    norm = "layer" if any(name.startswith("layernorms.") for name in state) else "none"
    if any(name.endswith(".running_mean") for name in state):
        norm = "batch"
    side, depth = math.isqrt(pixels // 3), sum(re.fullmatch(block, name) is not None for name in state)
    return ModelSpec(depth=depth, width=width, norm=norm, **settings), (side, side, 3), classes


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hex. Raises an MlplibError if it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        reason = error.strerror or error
        raise MlplibError(
            f"checkpoint {path} cannot be read ({reason}): check its path and its rights"
        ) from None
