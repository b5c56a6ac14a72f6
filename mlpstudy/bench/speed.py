"""``mlplib bench``: all measurements, as the content of a results file."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mlplib import machine
from mlplib.errors import MlplibError, require_choice
from mlplib.files import replacing
from mlplib.models import count_parameters, meta_model
from mlplib.progress import Progress

from ..profiles import Profile
from . import derived, growth
from .cases import Case, default_cases
from .loaders import loader_works
from .rounds import TURN_SECONDS, Work, time_works
from .targets import TARGETS, judge
from .tried import tried_works
from .workloads import Training, layer_works, machine_works

FORMAT = 1

PARTS = ("steps", "reference", "loaders", "layers", "tried", "compiled", "growth", "start-up")
"""What can be measured: the steps of each case and the reference loop; loaders, layers, alternatives, a
compiled step and growth on the last case; and the command's start-up."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds``; ``turn_seconds``, None for what suits each work; ``brief``: smaller
    matrices for the machine's rates, and smaller layers.
    """

    rounds: int = 9
    turn_seconds: float | None = None
    brief: bool = False


LIVE = {
    "smoke": Effort(2, 0.01, brief=True),
    "laptop": Effort(2, 0.03),
}
"""What a notebook measures per seed, by profile; :class:`Effort`'s defaults for the others."""


def live_case(profile: Profile, device: torch.device) -> Case:
    """What a notebook times: the profile's B-MLP on its first data set; for GPUs the last default case."""
    if profile.key in LIVE:
        return Case(profile.b_mlp, profile.datasets[0], profile.batch_size)
    return default_cases(device)[-1]


def measure(
    cases: Sequence[Case] | None,
    device: torch.device,
    *,
    progress: Progress,
    command: str,
    effort: Effort = Effort(),
    parts: Sequence[str] = PARTS,
    seeds: Sequence[int] = (0,),
) -> dict:
    """Time everything. The result can be stored as JSON.

    ``rows``: what was timed, each with its seconds in every round, or ``why`` not; ``derived``: numbers
    computed from rows (:mod:`mlpstudy.bench.derived`); ``targets``: judged; ``machine``: device and versions,
    without the host's name; ``cases``; ``command``; ``rounds``; ``seconds`` that all of it took.

    Args:
        cases: None for those that the targets are about.
        command: makes this file again.
        parts: what to measure, of :data:`PARTS`.
        seeds: of weights and draws; each repeats all rounds.

    Raises:
        MlplibError: an unknown part, network or data set, a batch larger than the data, or too little memory.
    """
    began = time.monotonic()
    machine.keep_freed_memory()
    for part in parts:
        require_choice("part", part, PARTS)
    cases = tuple(cases or default_cases(device))
    for case in cases:  # refuse an impossible one before the first is timed
        case.require_possible(device)
    rows, about = [], []
    for seed in seeds:
        again, about = _measure_once(cases, device, progress, effort, parts, seed)
        rows = _join(rows, again) if rows else again
    found = {
        "format": FORMAT,
        "what": "speed",
        "command": command,
        "machine": environment(device),
        "rounds": effort.rounds * len(seeds),
        "cases": about,
        "rows": rows,
        "derived": derived.numbers(rows, about),
        "seconds": round(time.monotonic() - began, 1),
    }
    return found | {"targets": [judge(target, found) for target in TARGETS]}


def _measure_once(cases, device, progress, effort, parts, seed) -> tuple[list[dict], list[dict]]:
    """The rows of one seed, and what the cases are."""
    rows, about = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            training = Training(case, case.images(progress), device, seed)
            last = case == cases[-1]
            rows += _time_case(training, last, parts, Path(folder), progress, effort)
            about.append(_about(training))
            del training
            gc.collect()  # give this case's memory to the next one
            if device.type == "cuda":
                torch.cuda.empty_cache()
    if "start-up" in parts:
        rows.append(growth.start_up_row())
    return rows, about


def _time_case(training: Training, last: bool, parts, folder: Path, progress, effort: Effort) -> list[dict]:
    """The rows of a case; parts that need only one case are measured on the last one."""
    device, rows = training.device, []

    def take(group: str, works: Sequence[Work], turn_seconds: float = TURN_SECONDS) -> None:
        seconds = effort.turn_seconds or turn_seconds
        options = {"group": group, "progress": progress, "turn_seconds": seconds}
        rows.extend(time_works(works, effort.rounds, device, **options))

    def rates() -> list[Work]:
        return machine_works(device, training.precision, effort.brief)

    works = [*training.works(), training.products()] if "steps" in parts else []
    works += training.reference_works(folder) if "reference" in parts else []
    if works:
        take(training.case.name, [*rates(), *works])
    if last and "loaders" in parts:
        take("loaders", loader_works(training, folder, progress))
    if last and "layers" in parts:
        take("layers", [*rates(), *layer_works(device, training.loop.dtype, effort.brief)], 0.05)
    if last and "tried" in parts:
        take("tried", tried_works(training, "compiled" in parts), 0.15)
    if last and "growth" in parts:
        epochs = growth.epoch_works(training)
        take("growth", epochs)
        rows.append(growth.memory_row(epochs[0], device))
    return rows


def _join(first: list[dict], second: list[dict]) -> list[dict]:
    """The rows with the rounds of both."""
    pairs = zip(first, second, strict=True)
    return [a | {"seconds": a["seconds"] + b["seconds"]} if "seconds" in a else a for a, b in pairs]


def _about(training: Training) -> dict:
    case, engine = training.case, training.state.engine
    shape, classes = training.data.image_shape, len(training.data.classes)
    return {
        "name": case.name,
        "model": case.model,
        "data": case.data,
        "image_shape": list(shape),
        "classes": classes,
        "batch_size": case.batch_size,
        "parameters": count_parameters(meta_model(case.spec().model, shape, classes)),
        "flops_per_image": training.flops,
        "precision": training.precision,
        "micro_batch": engine.micro_batch,
        "ways": engine.ways,
        "notes": list(dict.fromkeys(training.notes)),
    }


def read(path: Path, *what: str) -> dict | None:
    """A results file of one of these kinds; None if it is damaged or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if content["format"] == FORMAT and content["what"] in what else None
    except (ValueError, KeyError, TypeError):
        return None


def require_replaceable(path: Path, what: str) -> None:
    """Refuse to write a results file over anything but one of the same benchmark, before it is measured.

    Raises:
        MlplibError: the file is something else.
    """
    if path.exists() and read(path, what) is None:
        raise MlplibError(f"{path} is no results file of this benchmark ({what}): name another file")


def write(path: Path, content: dict) -> None:
    """Write a results file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def environment(device: torch.device) -> dict:
    """The machine, and the versions of the packages involved."""
    found = machine.environment(device, machine.pick_precision("auto", device))
    return found | machine.versions("torchvision", "ffcv", "numba")
