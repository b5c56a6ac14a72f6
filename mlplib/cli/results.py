"""mlplib results: the published records."""

from __future__ import annotations

import typer

from ..errors import MlplibError
from .options import (
    Experiments,
    ProfileOption,
    ResultsOption,
    RunsOption,
    SeedsOption,
    names_of,
    out,
    seeds_of,
)

app = typer.Typer(help="Publish finished records under results/.", no_args_is_help=True)


@app.command("publish")
def publish(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    results: ResultsOption = None,
):
    """Copy the finished records of experiments, and of the runs they were made from, to results/<profile>/.

    Without names: of every experiment whose runs are finished; the others are named, and the exit status
    is 2.
    """
    from ..profiles import profile as get_profile
    from ..publishing import publish
    from ..runs import RunStore

    chosen = get_profile(profile)
    names, left_out = names_of(experiments), []
    for name in names:
        try:
            path = publish(name, profile, seeds_of(seeds, chosen), RunStore(runs), results)
        except MlplibError as error:
            if experiments:
                raise
            left_out.append(name)
            out.print(f"left out: {error}", soft_wrap=True)
        else:
            out.print(f"published {path}", soft_wrap=True)
    if left_out:
        raise MlplibError(
            f"{len(left_out)} of {len(names)} experiments were left out, for the reasons above: "
            + ", ".join(left_out)
        )
