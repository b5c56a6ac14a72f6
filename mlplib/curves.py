"""Curves of a training while it runs, as event files for TensorBoard, an optional package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import MlplibError
from .files import require_writable, storage_errors

FLUSH_SECONDS = 10
"""Largest delay in seconds between the end of an epoch and its entry in the event file."""


def require(folder: Path) -> None:
    """Raise an MlplibError if TensorBoard is missing or ``folder`` cannot be written to."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise MlplibError(f"TensorBoard cannot be imported ({error}): pip install tensorboard") from None
    require_writable(folder)


@contextmanager
def following(folder: Path | None) -> Iterator[Callable[[Mapping], None]]:
    """A function that adds new entries of a training's history to the event files in ``folder``.

    A resumed run writes its whole history again and marks older entries as outdated. So TensorBoard shows
    each epoch once, including epochs that a killed process did after its last checkpoint and epochs done
    without TensorBoard.

    Args:
        folder: the folder of this run only; None writes nothing.

    Raises:
        MlplibError: TensorBoard is not installed, or the folder cannot be written to.
    """
    if folder is None:
        yield lambda history: None
        return
    require(folder)
    from torch.utils.tensorboard import SummaryWriter

    done = {"epoch": 0, "test": 0}
    with storage_errors(folder):
        writer = SummaryWriter(folder, purge_step=0, flush_secs=FLUSH_SECONDS)

    def add(history: Mapping) -> None:
        new = {name: slice(number, None) for name, number in done.items()}
        with storage_errors(folder):
            for name in ("loss", "accuracy"):
                values = history[f"train_{name}"][new["epoch"]]
                for epoch, value in zip(history["epoch"][new["epoch"]], values, strict=True):
                    writer.add_scalar(f"train/{name}", value, epoch)
            for found in history["test"][new["test"]]:
                for name in ("top1", "top5", "loss"):
                    writer.add_scalar(f"test/{name}", found[name], found["epoch"])
        done.update({name: len(history[name]) for name in done})

    try:
        yield add
    finally:
        with storage_errors(folder):
            writer.close()
