"""How a run is executed: where, with which loader, how often it is saved, and where its messages go.

None of this changes what a run computes, except for rounding, so it is not part of a
:class:`~mlplib.specs.RunSpec` and does not affect the run id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import machine
from .data.batches import LOADERS
from .distributed import ALONE, Processes
from .progress import Progress, quiet
from .specs.settings import Settings, setting
from .stopping import StopRequest


@dataclass(frozen=True)
class Execution(Settings):
    """Settings of execution, passed from the executor down to the training step.

    Args:
        device: where to compute, also by name (``cpu``); by default the GPU if there is one.
        loader: where the images are during a run, see :func:`mlplib.data.batches.open_data`.
        micro_batch: images per forward and backward pass; their gradients sum to the batch's. None chooses by
            the free memory.
        compiled: compile the forward and backward pass. None does so on a GPU, if the run is long enough
            (:func:`mlplib.step.worth_compiling`).
        graphs: record a step as a CUDA graph where that is possible and faster.
        checkpoint_every: seconds between checkpoints.
        tensorboard: folder for training curves (:mod:`mlplib.curves`), with a subfolder per run, named by its
            id. None writes none.
        progress: shows the progress of long work, see :mod:`mlplib.progress`.
        log: called with each message, one line.
        stop: checked at every safe point; if it is true, a checkpoint is written and
            :class:`~mlplib.errors.Interrupted` raised.
        processes: the processes that share the run, each with a part of every batch
            (:mod:`mlplib.distributed`).
    """

    device: torch.device = field(default_factory=machine.pick_device)
    loader: str = setting("auto", choices=LOADERS)
    micro_batch: int | None = setting(None, least=1)
    compiled: bool | None = None
    graphs: bool = True
    checkpoint_every: float = setting(60.0, least=0)
    tensorboard: Path | None = None
    progress: Progress = quiet
    log: Callable[[str], None] = print
    stop: StopRequest = field(default_factory=StopRequest)
    processes: Processes = ALONE

    def __post_init__(self):
        object.__setattr__(self, "device", machine.pick_device(self.device))
        if isinstance(self.tensorboard, str):
            object.__setattr__(self, "tensorboard", Path(self.tensorboard))
        super().__post_init__()
