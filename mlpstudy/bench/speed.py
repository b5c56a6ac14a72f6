"""``mlplib bench``: everything measured, in one file of plain numbers."""

from __future__ import annotations

import gc
import importlib.metadata
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mlplib import machine
from mlplib.data import ImageDataset
from mlplib.errors import require_choice
from mlplib.models import count_parameters, meta_model
from mlplib.progress import Progress

from . import derived, growth, layers, loaders, tried
from .cases import Case, default_cases
from .growth import Growing
from .loaders import loader_works
from .rounds import TURN_SECONDS, Work, take_turns
from .targets import TARGETS, judge
from .workloads import Training, machine_works, reference_works

FORMAT = 1
ROUNDS = 9

PARTS = ("steps", "reference", "loaders", "layers", "tried", "compiled", "growth", "start-up")
"""What can be measured: each case's steps, the reference loop beside them, and what the last case stands for:
loaders, layers, other ways, a compiled step, growth; and how soon the command answers."""


def measure(
    *,
    cases: Sequence[Case] | None,
    device: torch.device,
    rounds: int = ROUNDS,
    progress,
    command: str,
    parts: Sequence[str] = PARTS,
    turn_seconds: float | None = None,
    layer_sizes: Mapping[str, Sequence[int]] | None = None,
    brief: bool = False,
    seed: int = 0,
) -> dict:
    """Time everything and give a dictionary that JSON can hold.

    ``rows``: what was timed, each with its seconds in every round, or ``why`` it was not; ``derived``:
    numbers computed from rows (:mod:`mlpstudy.bench.derived`); ``targets``: judged; ``machine``: device and
    versions, no name of a host; ``cases``; ``command`` that makes the file; ``seconds`` that all of it took.

    Args:
        cases: None takes those that the targets are about.
        rounds: how often everything is timed.
        turn_seconds: how long a turn takes about; None for as long as suits each work.
        layer_sizes: ``widths`` and ``batches`` of the layers; None for the device's usual ones.
        brief: see :func:`mlpstudy.bench.workloads.machine_works`.
        seed: of weights and of everything drawn.
        progress: see :mod:`mlplib.progress`.
        parts: of :data:`PARTS`, what to measure.

    Raises:
        MlplibError: an unknown network or data set, or a batch larger than the data.
    """
    began = time.monotonic()
    machine.keep_freed_memory()
    for part in parts:
        require_choice("part", part, PARTS)
    cases = tuple(cases or default_cases(device))
    for case in cases:
        case.spec()  # an impossible one should be refused before the first is timed
    rows, about = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            dataset = case.images(progress)
            training = Training(case, dataset, device, seed)
            turns = Turns(training, dataset, Path(folder), rounds, progress, turn_seconds, brief)
            rows += _of_case(turns, parts)
            if case == cases[-1]:
                rows += _once(turns, parts, layer_sizes or {})
            about.append(_about(training))
            del training, turns
            _free(device)
    if "start-up" in parts:
        rows.append(growth.start_up())
    found = {
        "format": FORMAT,
        "what": "speed",
        "command": command,
        "machine": environment(device),
        "rounds": rounds,
        "cases": about,
        "rows": rows,
        "derived": derived.numbers(rows, about),
        "seconds": round(time.monotonic() - began, 1),
    }
    return found | {"targets": [judge(target, found) for target in TARGETS]}


def _about(training: Training) -> dict:
    case, spec = training.case, training.case.spec()
    shape, classes = training.data.image_shape, len(training.data.classes)
    return {
        "name": case.name,
        "model": case.model,
        "data": case.data,
        "image_shape": list(shape),
        "classes": classes,
        "batch_size": case.batch_size,
        "parameters": count_parameters(meta_model(spec.model, shape, classes)),
        "flops_per_image": training.flops,
        "precision": training.precision,
        "micro_batch": training.state.engine.micro_batch,
        "ways": training.state.engine.ways,
        "notes": training.notes,
    }


@dataclass(frozen=True)
class Turns:
    """How works of a case take turns."""

    training: Training
    dataset: ImageDataset
    folder: Path
    rounds: int
    progress: Progress
    turn_seconds: float | None
    brief: bool

    def take(
        self, works: Sequence[Work | dict], group: str, turn_seconds: float = TURN_SECONDS
    ) -> list[dict]:
        """Rows of works in their order; those that cannot be done are rows already."""
        able = [work for work in works if isinstance(work, Work)]
        done = take_turns(
            able,
            self.rounds,
            self.training.device,
            group=group,
            progress=self.progress,
            turn_seconds=self.turn_seconds or turn_seconds,
        )
        found = {row["id"]: row for row in done}
        return [found[work.id] if isinstance(work, Work) else work for work in works]

    def machine(self) -> list[Work]:
        """The machine's own rates."""
        return machine_works(self.training.device, self.training.precision, self.brief)


def _of_case(turns: Turns, parts: Sequence[str]) -> list[dict]:
    """The rows of a case, taken in turns with the machine's own rates."""
    training = turns.training
    works = []
    if "steps" in parts:
        works += [*training.works(), training.products()]
    if "reference" in parts:
        works += reference_works(training, turns.dataset, turns.folder)
    return turns.take([*turns.machine(), *works], training.case.name) if works else []


def _once(turns: Turns, parts: Sequence[str], layer_sizes: Mapping) -> list[dict]:
    """The rows that one case is enough for."""
    training, rows = turns.training, []
    if "loaders" in parts:
        rows += turns.take(loader_works(training, turns.dataset, turns.folder, turns.progress), loaders.GROUP)
    if "layers" in parts:
        points = layers.layer_works(training.device, training.loop.dtype, **layer_sizes)
        rows += turns.take([*turns.machine(), *points], layers.GROUP, layers.TURN_SECONDS)
    if "tried" in parts:
        works = tried.tried_works(training, "compiled" in parts)
        rows += turns.take(works, tried.GROUP, tried.TURN_SECONDS)
    if "growth" in parts:
        growing = Growing(training.case, turns.dataset, training.device)
        rows += [*turns.take(growing.works(), growth.GROUP), growth.memory_row(growing.memory())]
    return rows


def _free(device: torch.device) -> None:
    """Give a case's memory to the next one."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def environment(device: torch.device) -> dict:
    """What the machine is, and the versions of what takes part."""
    found: dict = machine.environment(device, machine.pick_precision("auto", device))
    for name in ("torchvision", "ffcv", "numba"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def rows_of(found: Mapping, group: str) -> dict[str, dict]:
    """The rows of a group by id."""
    return {row["id"]: row for row in found["rows"] if row["group"] == group}
