"""One run, whose settings are in a file: ``python -m mlplib.run SPEC.json``.

On several GPUs or machines, ``torchrun`` starts one such process per GPU, and they share the run:
``torchrun --nproc-per-node=4 -m mlplib.run SPEC.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .stopping import without_traceback

if __name__ == "__main__":
    without_traceback()  # now: importing torch takes seconds

import torch

from . import curves, distributed, machine
from .data.batches import LOADERS
from .distributed import ALONE, Processes
from .errors import Interrupted, MlplibError, one_line
from .executor import Executor
from .progress import bars, quiet
from .specs import FineTuneSpec, RunSpec, TrainSpec
from .store import Record, RunStore


class SharedStore(RunStore):
    """A run store shared by the processes of one run: the first process reads, locks and writes for all.

    Several processes do not wait for a run that another program is doing.
    """

    def __init__(self, root: Path | None, processes: Processes):
        super().__init__(root, wait=processes.alone)
        self.processes = processes

    def find(self, spec: RunSpec) -> Record | None:
        return self.processes.from_first(lambda: super(SharedStore, self).find(spec))

    @contextmanager
    def claim(self, spec: RunSpec, on_wait=None) -> Iterator[Path]:
        with ExitStack() as held:
            claim = super().claim(spec, on_wait)
            folder = self.processes.from_first(lambda: held.enter_context(claim))
            with distributed.lost_processes():
                yield folder

    def write(self, record: Record) -> None:
        self.processes.from_first(lambda: super(SharedStore, self).write(record))


def read_spec(path: Path) -> RunSpec:
    """The settings in a JSON file: those of a run (:meth:`RunSpec.to_json`), or a record with them.

    Raises:
        MlplibError: the file cannot be read, or holds anything else.
    """
    try:
        values = json.loads(path.read_bytes())
        return RunSpec.from_json(values.get("spec", values) if isinstance(values, dict) else values)
    except OSError as error:
        raise MlplibError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError, MlplibError) as error:
        raise MlplibError(f"{path} does not hold the settings of a run ({one_line(error)})") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the run that the arguments name; returns the exit status."""
    options = _options(arguments)
    processes = ALONE
    try:
        with distributed.lost_processes():
            processes = distributed.join()
            record = _do(options, processes)
    except MlplibError as error:
        if processes.first or not isinstance(error, distributed.ReportedElsewhere | Interrupted):
            _report(str(error))
        return 130 if isinstance(error, Interrupted) else 2
    if processes.first:
        print(f"{record.id}: {record.status} {json.dumps(record.metrics)}")
    distributed.leave()
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mlplib.run", description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=path, help="JSON file of the run's settings, or its record")
    parser.add_argument("--runs", type=path, help="default: $MLPLIB_RUNS, else runs of the clone")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; auto: one GPU per process")
    parser.add_argument("--loader", default="auto", choices=LOADERS, help="where images are during a run")
    parser.add_argument("--micro-batch", type=int, help="images per pass and process; default: what fits")
    parser.add_argument("--checkpoint-every", type=float, default=60.0, help="seconds; default: 60")
    parser.add_argument(
        "--tensorboard", type=path, metavar="DIR", help="follow the curves: tensorboard --logdir DIR"
    )
    return parser.parse_args(arguments)


def path(text: str) -> Path:
    if not text:  # usually from an unset variable: it would mean the working folder
        raise ValueError
    return Path(text)


def _do(options: argparse.Namespace, processes: Processes) -> Record:
    spec = processes.together(lambda: read_spec(options.spec))
    executor = processes.together(lambda: _executor(options, processes))
    if not processes.alone:
        processes.together(lambda: require_training(spec))
        data = processes.together(
            lambda: {name: executor.dataset(name).content_hash for name in spec.data_names()}
        )
        code = machine.source_state()["source"], torch.__version__
        found = processes.gather({"code": code, "data": data, "settings": spec})
        processes.from_first(lambda: _require_same(found))
    return executor.record(spec)


def _executor(options: argparse.Namespace, processes: Processes) -> Executor:
    if options.tensorboard is not None:
        curves.require(options.tensorboard)
    device = machine.pick_device(options.device)
    if device == torch.device("cuda") and not processes.alone:
        device = machine.pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(device)
    return Executor(
        SharedStore(options.runs, processes),
        device=device,
        loader=options.loader,
        micro_batch=options.micro_batch,
        checkpoint_every=options.checkpoint_every,
        tensorboard=options.tensorboard,
        progress=bars() if processes.first else quiet,
        log=_report if processes.first else lambda line: None,
        processes=processes,
    )


def require_training(spec: RunSpec) -> None:
    """Refuse a run that is not a training: several processes cannot share it."""
    if not isinstance(spec, TrainSpec | FineTuneSpec):
        raise MlplibError(
            f"only a training can use several processes, not a run of kind {spec.kind}: start one"
        )


def _require_same(found: Sequence[dict]) -> None:
    for rank, values in enumerate(found):
        for what, value in values.items():
            if value != found[0][what]:
                raise MlplibError(
                    f"process {rank} has other {what} than process 0: give all machines the same checkout, "
                    "environment, data and settings"
                )


def _report(line: str) -> None:
    print(f"mlplib: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
