"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..experiments import EXPERIMENTS, experiment
from ..profiles import parse_seeds

# COLUMNS=0, which some terminals set, would mean no width. Square brackets are part of a path, not markup.
out = Console(width=None if os.environ.get("COLUMNS") != "0" else 80, markup=False)

Experiments = Annotated[
    list[str] | None, typer.Argument(help="Experiments by name, e.g. from-scratch. Default: all.")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", "-P", help="How much to spend: smoke, laptop, colab, gpu or paper.")
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Seeds, e.g. 0,1,2. Default: the profile's.")
]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Default: $MLPLIB_RUNS, else runs of the clone.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<number>.")]
LoaderOption = Annotated[
    str,
    typer.Option(
        "--loader",
        help="Where images are during a run: resident in device memory, streamed by ffcv, or auto: by size.",
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of published records. Default: $MLPLIB_RESULTS, else results."),
]


def names_of(experiments: list[str] | None) -> list[str]:
    """The experiments that were named, all of them by default.

    Raises:
        MlplibError: there is no experiment of that name.
    """
    for name in experiments or ():
        experiment(name)
    return list(dict.fromkeys(experiments or EXPERIMENTS))


def seeds_of(text: str | None, profile) -> tuple[int, ...]:
    """The seeds that were given, the profile's by default."""
    return profile.seeds if text is None else parse_seeds(text)


def specs_of(experiments: list[str] | None, profile, seeds: str | None) -> dict[str, list]:
    """The runs of the experiments and seeds that were given (:func:`names_of`, :func:`seeds_of`), by the
    experiment's name.
    """
    names, chosen = names_of(experiments), seeds_of(seeds, profile)
    return {name: experiment(name).runs(profile, chosen) for name in names}
