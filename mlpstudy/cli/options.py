"""Options that several commands share, and what their text means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlplib.errors import MlplibError

out = Console()

Experiments = Annotated[
    list[str] | None,
    typer.Argument(help="Experiments by name, e.g. from-scratch. Default: all.", show_default=False),
]
ProfileOption = Annotated[
    str, typer.Option("--profile", "-P", help="How much to spend: smoke, laptop, gpu or paper.")
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", help="Seeds, e.g. 0,1,2. Default: the profile's.", show_default=False)
]
RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", help="Folder of the runs. Default: $MLPLIB_RUNS, else runs.", show_default=False),
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
    typer.Option(
        "--results",
        help="Folder of published records. Default: $MLPLIB_RESULTS, else results.",
        show_default=False,
    ),
]


def minutes_of(text: str) -> float:
    """A time limit in minutes, at most two years.

    Raises:
        MlplibError: it is not a number above 0.
    """
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise MlplibError(f"--minutes must be a number above 0, such as 30, not {text!r}")
    return minutes


def jobs_of(text: str | int) -> int:
    """A number of processes.

    Raises:
        MlplibError: it is not a whole number from 1 to 1024.
    """
    written = str(text).strip()
    if not (written.isascii() and written.isdecimal() and len(written) < 5 and 1 <= int(written) <= 1024):
        raise MlplibError(f"--jobs must be a whole number from 1 to 1024, not {text!r}")
    return int(written)


def names_of(experiments: list[str] | None) -> list[str]:
    """The experiments that were named, all of them by default.

    Raises:
        MlplibError: there is no experiment of that name.
    """
    from ..experiments import EXPERIMENTS, experiment

    for name in experiments or ():
        experiment(name)
    return list(dict.fromkeys(experiments or EXPERIMENTS))


def seeds_of(text: str | None, profile) -> tuple[int, ...]:
    """The seeds that were given, the profile's by default."""
    from ..profiles import parse_seeds

    return profile.seeds if text is None else parse_seeds(text)


def specs_of(names: list[str], profile, seeds) -> dict[str, list]:
    """The runs of some experiments, by the experiment's name."""
    from ..experiments import experiment

    return {name: experiment(name).runs(profile, seeds) for name in names}
