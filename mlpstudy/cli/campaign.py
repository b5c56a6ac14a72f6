"""mlplib campaign."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .options import DeviceOption, LoaderOption, ResultsOption, RunsOption, out


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
    begin = time.monotonic()  # importing torch takes seconds, and they count
    from ..campaign.command import run

    run(
        experiments or (),
        profile,
        minutes,
        folder,
        seeds,
        runs,
        results,
        device,
        loader,
        workers,
        log=lambda line: out.print(line, soft_wrap=True, markup=False, highlight=False),
        begin=begin,
    )
