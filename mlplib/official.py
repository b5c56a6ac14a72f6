"""The official checkpoints: weights that the paper's authors published, as files in a folder.

They are offered for download next to the official code (https://github.com/gregorbachmann/scaling_mlps), each
a state dict beside a ``config.txt``. :func:`find` reads what is in a folder; the runs that start from a file
name it by its content (:class:`~mlplib.specs.CheckpointSpec`), so the folder may move.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .data import catalog
from .errors import MlplibError
from .specs import CheckpointSpec, DataSpec, ModelSpec

NOTES = (".txt", ".md", ".json", ".yaml", ".yml", ".csv", ".log")
"""Endings of files beside a checkpoint that tell about it, such as the official ``config.txt``."""

PUBLISHED = (64, 11_230)
"""Image side and classes of the official checkpoints: those of ImageNet-21k at 64 x 64 pixels."""


@dataclass(frozen=True)
class Checkpoint:
    """One file of official weights: where it lies, the run that it stands for, and what its shapes tell.

    ``image_size``: side in pixels of the images that it reads; ``classes``: how many it tells apart.
    """

    path: Path
    spec: CheckpointSpec
    model: ModelSpec
    image_size: int
    classes: int

    def data(self, name: str) -> DataSpec:
        """A data set at the size of image that these weights read, whatever a profile's is."""
        native = catalog.find(name).image_size
        return DataSpec(name, resolution=None if native == self.image_size else self.image_size)


def find(folder: str | os.PathLike) -> tuple[Checkpoint, ...]:
    """Every checkpoint in a folder and the folders in it, in the order of their paths.

    Of files with the same content the first counts. Hidden files and those with an ending of :data:`NOTES`
    are passed over; every other file is read whole.

    Raises:
        MlplibError: there is no such folder, no checkpoint in it, or a file that is none; the line names it.
    """
    found: dict[str, Checkpoint] = {}
    for path in candidates(folder):
        checkpoint = read(path)
        found.setdefault(checkpoint.spec.sha256, checkpoint)
    return tuple(found.values())


def candidates(folder: str | os.PathLike) -> list[Path]:
    """The files that :func:`find` reads, in order. Opens none of them.

    Raises:
        MlplibError: there is no such folder, or no such file in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "a file" if root.exists() else "not there"
        raise MlplibError(
            f"official_checkpoints must be a folder, but {root} is {what}: name the folder of the downloads"
        )
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
        MlplibError: it cannot be read or holds no official S-MLP or B-MLP; the line names the file.
    """
    from .models import load_official

    path = Path(path)
    sha256 = digest(path)
    model_spec, model = load_official(path)
    side, classes = model.image_shape[0], model.classes
    spec = CheckpointSpec(_name(model_spec, side, classes), sha256)
    return Checkpoint(path, spec, model_spec, side, classes)


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        MlplibError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise MlplibError(
            f"checkpoint {path} cannot be read ({reason}): check its path and its rights"
        ) from None


def files(checkpoints: Iterable[Checkpoint]) -> dict[str, Path]:
    """Where each content lies: what :class:`mlplib.executor.Executor` wants to know."""
    return {checkpoint.spec.sha256: checkpoint.path for checkpoint in checkpoints}


def _name(model: ModelSpec, side: int, classes: int) -> str:
    """The network's name, and where it is not one of the published ones, what it reads and tells apart."""
    return model.name if (side, classes) == PUBLISHED else f"{model.name}, {side} px, {classes:,} classes"
