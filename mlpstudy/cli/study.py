"""mlplib plan, run, notebook, claims."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from mlplib.errors import Interrupted, MlplibError, require_choice
from mlplib.progress import bars

from ..profiles import profile as get_profile
from .options import (
    DeviceOption,
    Experiments,
    LoaderOption,
    ProfileOption,
    ResultsOption,
    RunsOption,
    SeedsOption,
    names_of,
    out,
    seeds_of,
    specs_of,
)


def plan(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every run by its id.")] = False,
):
    """Show how many runs there are, how many are done, and how long the rest will take. Trains nothing.

    Needs no data: the sizes and hashes of data sets are known.
    """
    from mlplib.machine import device_name, pick_device
    from mlplib.store import RunStore

    from .. import planning

    chosen, store, where = get_profile(profile), RunStore(runs), pick_device(device)
    specs = specs_of(experiments, chosen, seeds)
    planner = planning.Planner(store, where)
    plans = {name: planner.plan(runs) for name, runs in specs.items()}
    everything = planner.plan([spec for runs in specs.values() for spec in runs])
    users = planning.users({name: found.runs for name, found in plans.items()})
    if as_json:
        found = _plan_as_json(profile, device_name(where), planner, plans, everything, users)
        print(json.dumps(found, indent=1))
        return
    from ..words import duration

    table = Table(title=f"Profile {profile} on {device_name(where)}", title_justify="left")
    for heading in ("experiment", "runs", "shared", "done", "to train\n(PFLOP)", "estimated\ntime"):
        table.add_column(heading, justify="left" if heading == "experiment" else "right")
    for name, found in [*plans.items(), ("all, shared runs counted once", everything)]:
        if found is everything:
            table.add_section()
        sums = _sums(found, users)
        numbers = sums["runs"], sums["shared"], sums["done"], f"{found.flops / 1e15:.3g}"
        table.add_row(name, *map(str, numbers), duration(found.seconds))
    out.print(table)
    alone = sum(len(found.runs) for found in plans.values())
    out.print(
        f"{len(everything.runs)} different runs, {_sums(everything, users)['shared']} of them needed by "
        f"several experiments; if none were shared, there would be {alone}.",
        soft_wrap=True,
    )


def _sums(plan, users) -> dict:
    return {
        "runs": len(plan.runs),
        "shared": sum(len(users[spec]) > 1 for spec in plan.runs),
        "done": plan.cached,
        "training_flops": plan.flops,
        "estimated_seconds": plan.seconds,
    }


def _plan_as_json(profile: str, device: str, planner, plans, everything, users) -> dict:
    """A plan as plain values: the sums for each experiment and for all together, then every run."""
    from ..planning import training_flops

    missing = set(everything.missing)
    runs = [
        {
            "id": planner.id(spec),
            "kind": spec.kind,
            "experiments": list(users[spec]),
            "missing": spec in missing,
            "training_flops": training_flops(spec),
            "spec": spec.to_json(),
        }
        for spec in everything.runs
    ]
    return {
        "profile": profile,
        "device": device,
        "experiments": {name: _sums(found, users) for name, found in plans.items()},
        "all": _sums(everything, users),
        "runs": runs,
    }


def run(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    loader: LoaderOption = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile training steps. Default: long runs on a GPU."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="Stop after so many minutes.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            metavar="N",
            help="Do N runs at once, each in its own process. Default: on a CPU one per core, on a GPU one.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Follow training curves: tensorboard --logdir DIR (pip install tensorboard).",
        ),
    ] = None,
    unpublished: Annotated[
        bool, typer.Option("--unpublished", help="Leave out runs that are published already.")
    ] = False,
    results: ResultsOption = None,
):
    """Do the missing runs of experiments. Ctrl-C stops them; the same command continues from there.

    Shows the results of those that are named. Without names, the longest runs come first, or, where --minutes
    are too few for all, those that add most to the scoreboard for their cost. Other machines that share the
    folder of the runs may work on them at the same time.
    """
    begin = time.monotonic()  # importing torch takes seconds, which count
    from mlplib import curves
    from mlplib.data import beton
    from mlplib.data.batches import LOADERS
    from mlplib.machine import pick_device
    from mlplib.store import RunStore

    from ..evidence.records import read_folder, results_folder
    from ..queue import RunQueue

    chosen, names = get_profile(profile), names_of(experiments)
    require_choice("loader", loader, LOADERS)
    if loader == "ffcv":
        beton.require()  # one error here instead of one from every worker
    if tensorboard is not None:
        curves.require(tensorboard)
    if results is not None and not unpublished:
        raise MlplibError("--results says what --unpublished leaves out: give both or none")
    if minutes is not None and not 0 < minutes < 1e6:
        raise MlplibError(f"--minutes must be a number above 0 and below 1e6, such as 30, not {minutes:g}")
    store = RunStore(runs)
    report = RunQueue(
        names,
        chosen,
        seeds_of(seeds, chosen),
        store,
        pick_device(device),
        jobs=jobs,
        minutes=minutes,
        as_named=bool(experiments),
        published=read_folder(results_folder(results) / profile).records.keys() if unpublished else (),
        options={"loader": loader, "compiled": compiled, "tensorboard": tensorboard},
        progress=bars(),
        log=_log,
        begin=begin,
    ).run()
    for name, specs in (specs_of(experiments, chosen, seeds) if experiments else {}).items():
        records = [store.find(spec) for spec in specs]
        if None not in records:
            _show(_summary_table(name, records, chosen))
    where = "" if runs is None else f" --runs {shlex.quote(str(runs))}"
    _show_report(report, profile, where, complete=minutes is None)


def _show(what: Table | str, **style) -> None:
    # A closed pipe, or a terminal that lacks a character, must not end the work.
    with suppress(OSError, UnicodeError):
        out.print(what, **style)


def _log(line: str) -> None:
    _show(line, soft_wrap=True, markup=False, highlight=False)


def _show_report(report, profile: str, where: str, complete: bool) -> None:
    """Print what was done and what is left. Failures, and if everything was to be ``complete`` also data sets
    that are not available, are errors.
    """
    from ..words import count, duration

    for name, (why, number) in report.left_out.items():
        _log(f"left out {count(number, 'run')} on {name}: {why}")
    left = sum(number for number, _ in report.left.values())
    if left:
        rate = "the rate of those done" if report.done else "an estimated rate"
        _log(f"runs left, shared ones counted once, and the time they take at {rate}:")
        every = left, sum(seconds for _, seconds in report.left.values())
        for name, (number, seconds) in {**report.left, "all": every}.items():
            _log(f"  {name:<24} {number:>6,} {duration(seconds):>10}")
    _log(
        f"{count(len(report.done), 'run')} done, {left or 'none'} left. To add them to the study: mlplib "
        f"results publish --profile {profile}{where} --to DIR here, mlplib results merge DIR where it is"
    )
    if report.trouble:
        raise MlplibError(f"{report.trouble}. Finished runs are kept")
    if report.stopped:
        raise Interrupted("stopped: the same command continues from here")
    if report.failed:
        first, why = next(iter(report.failed.items()))
        raise MlplibError(f"{count(len(report.failed), 'run')} failed, {first} for one: {why}")
    if report.left_out and complete:
        raise MlplibError(f"the data sets {', '.join(report.left_out)} are not available: see above")


def _summary_table(name: str, records, profile) -> Table:
    from .. import paper
    from ..experiments import experiment

    headings = "item", "row", "column", "paper", "here", "n", "setting"
    columns = [Column(heading, overflow="fold") for heading in headings]
    table = Table(*columns, title=f"{name}, profile {profile.name}", title_justify="left")
    for cell in experiment(name).summary(records, profile):
        known, estimate = paper.value(cell.item, cell.row, cell.column), cell.estimate
        half = "" if estimate.half_width is None else f" ± {estimate.half_width:.3g}"
        here = f"{estimate.mean:.4g}{half} {cell.unit}"
        paper_value = f"{known.value:g} {known.unit}" if known else "n/a"
        table.add_row(
            cell.item, cell.row, cell.column, paper_value, here, str(estimate.n or ""), cell.setting
        )
    return table


def notebook(
    name: Annotated[str, typer.Argument(help="A notebook by name, e.g. from-scratch.")],
    profile: ProfileOption = None,  # laptop, unless --parameter names another one
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the executed notebook goes. Default: build/<name>-<profile>.ipynb."
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="A further parameter as name=value; may be repeated."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file at --out, whatever it is.")
    ] = False,
):
    """Execute one notebook with papermill. The book's own chapters are executed by make book."""
    from ..book.execute import execute

    given: dict[str, str] = {}
    for entry in [*(parameters or ()), *([f"profile={profile}"] if profile is not None else ())]:
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals:
            raise MlplibError(f"write a parameter as name=value, not {entry!r}")
        if given.setdefault(key, value) != value:
            raise MlplibError(f"{key} is given as {given[key]!r} and as {value!r}: say which")
    target = out_file or Path("build") / f"{name}-{given.get('profile', 'laptop')}.ipynb"
    execute(name, given, target, overwrite=overwrite)
    out.print(f"executed {target}", soft_wrap=True)


def teach(folder: Annotated[Path, typer.Argument(help="A new folder.")], profile: ProfileOption = "laptop"):
    """Write the notebooks for a class: without solutions for students, with them for who teaches."""
    from ..book.teach import write

    written = write(folder, profile)
    out.print(f"wrote {len(written)} notebooks to {folder}", soft_wrap=True)


def claims(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-P", help="Judge your own runs of this profile. Default: the published records."
        ),
    ] = None,
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    results: ResultsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, or markdown as in the README.")] = "table",
):
    """Show the verdict on every claim, from the published records or from your own runs. Trains nothing."""
    from ..evidence import verdicts

    require_choice("format", form, ("table", "markdown"))
    if profile is None and (seeds is not None or runs is not None):
        raise MlplibError("--seeds and --runs are for your own runs: name their --profile, or leave them out")
    if profile is not None and results is not None:
        raise MlplibError("--results is for published records: leave it out, or --profile")
    if profile is None:
        board = verdicts.from_published(results)
    else:
        chosen = get_profile(profile)
        board = verdicts.from_store(chosen, seeds_of(seeds, chosen), runs)
    if form == "markdown":
        print(verdicts.markdown(board))
        return
    title = "Claims of the paper, judged by code"
    table = Table("claim", "sentence", *board, title=title, title_justify="left", show_lines=True)
    for row in verdicts.rows(board, bold="", newline="\n"):
        table.add_row(*row)
    out.print(table)
