"""mlplib results: the published records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlplib.errors import MlplibError

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
    from mlplib.store import RunStore

    from ..evidence.publishing import publish
    from ..profiles import profile as get_profile

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


@app.command("merge")
def merge(
    folder: Annotated[Path, typer.Argument(help="What mlplib campaign wrote (its --out).")],
    prefer: Annotated[
        str | None,
        typer.Option(
            help="Which record to keep of a run that has two that differ: published or new.",
            show_default=False,
        ),
    ] = None,
    results: ResultsOption = None,
):
    """Add a campaign's records to results/<profile>/. A run that is there already is kept once; records that
    contradict each other are refused.
    """
    from ..book.tables import count
    from ..evidence.merge import merge

    found = merge(folder, results, prefer)
    out.print(
        f"{count(found.new, 'new run')} merged into profile {found.profile}, {found.known} known already; "
        "bring the README up to date with python bin/update-scoreboard",
        soft_wrap=True,
    )
    if found.other:
        raise MlplibError(
            f"{count(len(found.other), 'run')} left out, {found.other[0]} for one: no experiment of profile "
            f"{found.profile} has them; they stay in {folder}"
        )


@app.command("check")
def check(results: ResultsOption = None):
    """Check every published record: its form, its id, its place, and that it names no machine's folders."""
    from ..book.tables import count
    from ..evidence.merge import check

    out.print(f"{count(check(results), 'record')} checked, all as they should be", soft_wrap=True)
