"""What ``mlplib campaign`` does, for the command line and for :mod:`mlpstudy.campaign.__main__`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlplib.data.batches import LOADERS
from mlplib.errors import Interrupted, MlplibError, require_choice
from mlplib.machine import pick_device
from mlplib.progress import bars
from mlplib.store import RunStore

from ..book.tables import count, duration
from ..evidence.records import results_folder
from ..experiments import EXPERIMENTS, experiment
from ..profiles import parse_seeds
from ..profiles import profile as get_profile
from .driver import Campaign, Left, Report
from .parcel import Parcel


def run(
    experiments: Sequence[str],
    profile: str,
    minutes: float,
    folder: Path,
    seeds: str | None,
    runs: Path | None,
    results: Path | None,
    device: str,
    loader: str,
    workers: str,
    log: Callable[[str], None],
    begin: float,
) -> None:
    """A campaign as it was typed at ``begin``, on the clock of ``time.monotonic``; ``log`` prints a line.

    Raises:
        MlplibError: an option makes no sense, the folder cannot be written to, or runs failed.
        Interrupted: stopped by a person.
    """
    chosen = get_profile(profile)
    for name in experiments:
        experiment(name)
    require_choice("loader", loader, LOADERS)
    if not 0 < minutes < 1e6:
        raise MlplibError(f"--minutes must be a number above 0, not {minutes:g}")
    found = Campaign(
        list(experiments or EXPERIMENTS),
        chosen,
        RunStore(runs),
        Parcel(folder, chosen.name),
        results_folder(results) / chosen.name,
        pick_device(device),
        minutes,
        seeds=None if seeds is None else parse_seeds(seeds),
        as_given=bool(experiments),
        count=_count(workers),
        loader=loader,
        progress=bars(),
        log=log,
        begin=begin,
    ).run()
    _tell(found, folder, log)


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise MlplibError(f"--workers must be auto or a number from 1 on, not {text!r}")
    return int(text)


def _tell(report: Report, folder: Path, log: Callable[[str], None]) -> None:
    """What was done, what was not and why, and what is left; as an error where it needs a person."""
    for name, (why, runs) in report.left_out.items():
        log(f"left out {count(runs, 'run')} on {name}: {why}")
    left = sum(each.runs for each in report.left)
    if left:
        log("left, runs that experiments share counted once, and how long they take at the rate measured:")
        everything = Left("all", left, sum(each.seconds for each in report.left))
        for each in (*report.left, everything):
            log(f"  {each.experiment:<24} {each.runs:>6,} {duration(each.seconds):>10}")
    log(
        f"{count(len(report.done), 'run')} done, {left or 'none'} left; records are in {folder}, "
        f"to be merged with mlplib results merge {folder}"
    )
    if report.trouble:
        raise MlplibError(report.trouble)
    if report.stopped:
        raise Interrupted("stopped: the same command goes on from here")
    if report.failed:
        first, why = next(iter(report.failed.items()))
        raise MlplibError(f"{count(len(report.failed), 'run')} failed, {first} for one: {why}")
