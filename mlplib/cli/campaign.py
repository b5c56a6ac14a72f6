"""mlplib campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import Interrupted, MlplibError
from .options import (
    DeviceOption,
    LoaderOption,
    ResultsOption,
    RunsOption,
    names_of,
    out,
)


def campaign(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments by name, in the order to do them in. Default: all of them, first what adds "
            "most to the ledger for its cost.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", "-P", help="How much to spend: smoke, laptop, gpu or paper.")
    ] = "gpu",
    minutes: Annotated[float, typer.Option(help="How long, all in all.")] = 10.0,
    folder: Annotated[
        Path, typer.Option("--out", help="Where records go: at most 8 files of 16 MiB.")
    ] = Path("campaign"),
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            help="Seeds, e.g. 0,1,2. Default: the profile's, and five where every run takes under a minute.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = None,
    results: ResultsOption = None,
    device: DeviceOption = "auto",
    loader: LoaderOption = "auto",
    workers: Annotated[
        str, typer.Option(help="Runs at once: a number, or auto, which measures how many pay.")
    ] = "auto",
):
    """Do as many runs that are not published yet as fit into some minutes, and pack up their records.

    Ctrl-C stops it, and so does the clock; the same command goes on. Bring the records home with
    mlplib results merge.
    """
    from ..campaign.driver import Campaign
    from ..campaign.parcel import Parcel
    from ..data.batches import LOADERS
    from ..errors import one_of
    from ..machine import pick_device
    from ..parameters import parse_seeds
    from ..profiles import profile as get_profile
    from ..progress import bars
    from ..published import results_folder
    from ..runs import RunStore

    names, chosen = names_of(experiments), get_profile(profile)
    one_of("loader", loader, LOADERS)
    if not 0 < minutes < 1e6:
        raise MlplibError(f"--minutes must be a number above 0, not {minutes:g}")
    found = Campaign(
        names,
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
        say=lambda line: out.print(line, soft_wrap=True, markup=False, highlight=False),
    ).run()
    _tell(found, folder)


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise MlplibError(f"--workers must be auto or a number from 1 on, not {text!r}")
    return int(text)


def _tell(report, folder: Path) -> None:
    """What was done, what was not and why, and what is left; as an error where it needs a person."""
    from ..tables import count, duration

    for name, (why, runs) in report.left_out.items():
        out.print(f"left out {count(runs, 'run')} on {name}: {why}", soft_wrap=True, markup=False)
    if report.left:
        table = Table(title="Left, shared runs counted once", title_justify="left")
        for heading in ("experiment", "runs", "time at the rate measured"):
            table.add_column(heading, justify="left" if heading == "experiment" else "right")
        for left in report.left:
            table.add_row(left.experiment, f"{left.runs:,}", duration(left.seconds))
        table.add_section()
        runs, seconds = (sum(getattr(left, key) for left in report.left) for key in ("runs", "seconds"))
        table.add_row("all", f"{runs:,}", duration(seconds))
        out.print(table)
    left = sum(each.runs for each in report.left)
    out.print(
        f"{count(len(report.done), 'run')} done, {left or 'none'} left; records are in {folder}, "
        f"to be merged with mlplib results merge {folder}",
        soft_wrap=True,
        highlight=False,
    )
    if report.trouble:
        raise MlplibError(report.trouble)
    if report.stopped:
        raise Interrupted("stopped: the same command goes on from here")
    if report.failed:
        first, why = next(iter(report.failed.items()))
        raise MlplibError(f"{count(len(report.failed), 'run')} failed, {first} for one: {why}")
