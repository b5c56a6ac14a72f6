"""mlplib results: the published records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlplib.errors import MlplibError
from mlplib.files import require_folder
from mlplib.progress import bars

from ..profiles import profile as get_profile
from .options import (
    DeviceOption,
    Experiments,
    ProfileOption,
    ResultsOption,
    RunsOption,
    SeedsOption,
    names_of,
    out,
    seeds_of,
)

app = typer.Typer(help="Publish, merge and check finished records.", no_args_is_help=True)


@app.command("publish")
def publish(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    results: ResultsOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="Write all finished runs to this folder, for mlplib results merge on another machine.",
        ),
    ] = None,
):
    """Copy the records of finished experiments, and of the runs they were made from, to results/<profile>/.

    Experiments with unfinished runs are named, and the exit status is 2. With --to, single finished runs are
    copied, too, of all seeds. A record here replaces a published one.
    """
    from mlplib.store import RunStore

    from ..evidence import merge

    chosen, store, names, left_out = get_profile(profile), RunStore(runs), names_of(experiments), []
    if to is not None and results is not None:
        raise MlplibError("--to and --results both say where the records go: leave one out")
    if to is not None:
        require_folder(to, "--to")
        _print(merge.publish_finished(names, profile, seeds and seeds_of(seeds, chosen), store, to))
        return
    for name in names:
        try:
            _print(merge.publish(name, profile, seeds_of(seeds, chosen), store, results), f"{name}: ")
        except MlplibError as error:
            if experiments:
                raise
            left_out.append(name)
            out.print(f"left out: {error}", soft_wrap=True)
    if left_out:
        raise MlplibError(
            f"{len(left_out)} of {len(names)} experiments were left out, for the reasons above: "
            + ", ".join(left_out)
        )


@app.command("merge")
def merge(
    folder: Annotated[Path, typer.Argument(help="A folder that mlplib results publish --to has written.")],
    prefer: Annotated[
        str | None,
        typer.Option(help="Which record to keep of a run that has two different ones: published or new."),
    ] = None,
    results: ResultsOption = None,
):
    """Add the records in a folder to results/<profile>/. A run that is there already is kept once; different
    records of one run are refused.
    """
    from ..evidence.merge import merge

    found = merge(folder, results, prefer)
    for merged in found:
        _print(merged)
    out.print("update the README with python bin/update-scoreboard", soft_wrap=True)
    if other := [id for merged in found for id in merged.other]:
        raise MlplibError(
            f"no experiment has {other[0]}: such runs ({len(other)}) were not merged and stay in {folder}"
        )


@app.command("rerun")
def rerun(
    profile: ProfileOption = "laptop",
    sample: Annotated[int, typer.Option(min=1, help="How many published training runs to repeat.")] = 20,
    seed: Annotated[int, typer.Option(help="Draws them.")] = 0,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
):
    """Repeat some published training runs on this machine and record how far apart the results are."""
    from tempfile import TemporaryDirectory

    from mlplib.executor import Executor
    from mlplib.machine import cpu_threads, pick_device
    from mlplib.store import Record, RunStore

    from ..evidence import rerun as repeated

    def repeat(record: Record) -> Record:
        with cpu_threads(record.environment.get("cpu_threads", 1)):  # threads affect the bits, too
            return executor.record(record.spec)

    get_profile(profile)
    chosen = repeated.sample(profile, sample, seed, results)
    with TemporaryDirectory() as folder:
        executor = Executor(RunStore(folder), device=pick_device(device), progress=bars())
        rows = repeated.rerun(chosen, repeat, results)
    out.print(repeated.markdown(rows), soft_wrap=True)


@app.command("check")
def check(results: ResultsOption = None):
    """Check that all published records and artifacts are valid, complete and unchanged."""
    from ..evidence.check import check

    records, artifacts, known = check(results)
    traced = f"{known} records are traced to the source of a commit in this clone"
    out.print(f"{records} records and {artifacts} artifacts checked: no faults; {traced}", soft_wrap=True)


def _print(merged, prefix: str = "") -> None:
    text = f"{prefix}{merged.new} new and {merged.known} known runs in {merged.path}"
    if merged.replaced:
        text += f"; {merged.replaced} of them had other results before"
    if merged.orphans:
        text += f"; {len(merged.orphans)} left out, made from runs with other results than the published ones"
    if merged.stale:
        text += f"; {len(merged.stale)} were made from those and are as before, such as {merged.stale[0]}: "
        text += "do and publish these again, too"
    out.print(text, soft_wrap=True, highlight=False)
