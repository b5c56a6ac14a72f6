"""What the commands share: options, and from their text to what the library takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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


def names_of(experiments: list[str] | None) -> list[str]:
    from ..experiments import EXPERIMENTS, experiment

    for name in experiments or ():
        experiment(name)
    return list(experiments or EXPERIMENTS)


def seeds_of(text: str | None, profile) -> tuple[int, ...]:
    from ..profiles import parse_seeds

    return profile.seeds if text is None else parse_seeds(text)


def specs_of(names: list[str], profile, seeds) -> dict[str, list]:
    from ..experiments import experiment

    return {name: experiment(name).runs(profile, seeds) for name in names}
