"""mlplib plan, run, notebook, claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mlplib.errors import MlplibError

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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, with every run by its id.")
    ] = False,
):
    """List what is to be run, what is done already, and how long the rest will take here. Trains nothing.

    Needs no data: data sets are known by their sizes and hashes.
    """
    import json

    from mlplib import planning
    from mlplib.machine import device_name, pick_device
    from mlplib.sharing import users as users_of
    from mlplib.store import RunStore

    from ..book.tables import duration
    from ..profiles import profile as get_profile

    chosen, store, where = get_profile(profile), RunStore(runs), pick_device(device)
    specs = specs_of(names_of(experiments), chosen, seeds_of(seeds, chosen))
    plans, everything = planning.plans(specs, store, where)
    users = users_of({name: found.runs for name, found in plans.items()})
    shared_by_any = sum(len(names) > 1 for names in users.values())
    if as_json:
        print(json.dumps(_plan_as_json(profile, device_name(where), plans, everything, users), indent=1))
        return
    table = Table(title=f"Profile {profile} on {device_name(where)}", title_justify="left")
    for heading in ("experiment", "runs", "shared", "done", "to train (PFLOP)", "estimated time"):
        table.add_column(heading, justify="left" if heading == "experiment" else "right")
    rows = [(name, found, sum(len(users[spec]) > 1 for spec in found.runs)) for name, found in plans.items()]
    for name, found, several in [*rows, ("all, shared runs counted once", everything, shared_by_any)]:
        if name.startswith("all"):
            table.add_section()
        numbers = (
            str(len(found.runs)),
            str(several),
            str(found.cached),
            f"{found.flops / 1e15:.3g}",
            duration(found.seconds),
        )
        table.add_row(name, *numbers)
    out.print(table)
    alone = sum(len(found.runs) for found in plans.values())
    out.print(
        f"{len(everything.runs)} different runs, {shared_by_any} of them needed by several experiments; "
        f"if none were shared, it would be {alone}.",
        soft_wrap=True,
    )


def _plan_as_json(profile: str, device: str, plans, everything, users) -> dict:
    """A plan as plain values: for each experiment and for all together the sums, then every run."""
    from mlplib.planning import training_flops

    def sums(found) -> dict:
        return {
            "runs": len(found.runs),
            "shared": sum(len(users[spec]) > 1 for spec in found.runs),
            "done": found.cached,
            "training_flops": found.flops,
            "estimated_seconds": found.seconds,
        }

    missing = set(everything.missing)
    runs = [
        {
            "id": spec.id,
            "kind": spec.kind,
            "experiments": list(users[spec]),
            "missing": spec in missing,
            "training_flops": training_flops(spec),
        }
        for spec in everything.runs
    ]
    experiments = {name: sums(found) for name, found in plans.items()}
    return {
        "profile": profile,
        "device": device,
        "experiments": experiments,
        "all": sums(everything),
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
        typer.Option(
            "--compile/--no-compile",
            help="Compile training steps. Default: long runs on a GPU.",
            show_default=False,
        ),
    ] = None,
):
    """Do every run of some experiments that is not done yet. Ctrl-C stops it; the same command goes on."""
    from mlplib.data.batches import LOADERS
    from mlplib.errors import require_choice
    from mlplib.executor import Executor
    from mlplib.machine import pick_device
    from mlplib.progress import bars
    from mlplib.store import RunStore

    from ..profiles import profile as get_profile

    chosen = get_profile(profile)
    require_choice("loader", loader, LOADERS)
    executor = Executor(
        RunStore(runs),
        device=pick_device(device),
        progress=bars(),
        log=lambda line: out.print(line),
        loader=loader,
        compiled=compiled,
    )
    for name, specs in specs_of(names_of(experiments), chosen, seeds_of(seeds, chosen)).items():
        records = executor.records(specs)
        out.print(_summary_table(name, records, chosen))


def _summary_table(name: str, records, profile) -> Table:
    from .. import paper
    from ..experiments import experiment

    table = Table(title=f"{name}, profile {profile.name}", title_justify="left")
    for heading in ("item", "row", "column", "paper", "here", "n", "setting"):
        table.add_column(heading)
    for cell in experiment(name).summary(records, profile):
        known, estimate = paper.value(cell.item, cell.row, cell.column), cell.estimate
        half = "" if estimate.half_width is None else f" ± {estimate.half_width:.3g}"
        table.add_row(
            cell.item,
            cell.row,
            cell.column,
            f"{known.value:g} {known.unit}" if known else "n/a",
            f"{estimate.mean:.4g}{half} {cell.unit}",
            str(estimate.n or ""),
            cell.setting,
        )
    return table


def notebook(
    name: Annotated[str, typer.Argument(help="A notebook by name, e.g. from-scratch.")],
    profile: ProfileOption = "laptop",
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where the executed notebook goes. Default: build/<name>-<profile>.ipynb.",
            show_default=False,
        ),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            help="A further parameter as name=value; may be repeated.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file at --out, whatever it is.")
    ] = False,
):
    """Execute one notebook with papermill. The book's own chapters are executed by make book."""
    from ..book.execute import execute

    given = {}
    for entry in parameters or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise MlplibError(f"write a parameter as name=value, not {entry!r}")
        given[key.strip()] = value.strip()
    target = out_file or Path("build") / f"{name}-{profile}.ipynb"
    execute(name, {"profile": profile, **given}, target, overwrite=overwrite)
    out.print(f"executed {target}", soft_wrap=True)


def claims(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-P",
            help="Judge your own runs of this profile. Default: the published records.",
            show_default=False,
        ),
    ] = None,
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    results: ResultsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, or markdown as in the README.")] = "table",
):
    """Show the verdict on every claim, from the published records or from your own runs. Trains nothing."""
    from mlplib.errors import require_choice

    from ..evidence import verdicts
    from ..profiles import profile as get_profile

    require_choice("format", form, ("table", "markdown"))
    if profile is None:
        entries = verdicts.from_published(results)
    else:
        chosen = get_profile(profile)
        entries = verdicts.from_store(chosen, seeds_of(seeds, chosen), runs)
    if form == "markdown":
        print(verdicts.markdown(entries))
        return
    table = Table(title="Claims of the paper, judged by code", title_justify="left")
    for heading in ("claim", "sentence", "verdict", "effect", "from"):
        table.add_column(heading)
    for entry in entries:
        verdict = entry.judgement.verdict
        table.add_row(
            entry.claim.id, entry.claim.sentence, verdict, entry.judgement.effect_text(), entry.origin
        )
    out.print(table)
