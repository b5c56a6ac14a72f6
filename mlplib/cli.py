"""The command ``mlplib``: plan, run, read and publish the study.
It only calls the library; nothing imports it.

Torch and the like are imported inside the commands, so that ``mlplib --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .errors import Interrupted, MlplibError

app = typer.Typer(
    help="Re-run the experiments of 'Scaling MLPs: A Tale of Inductive Bias', and read what came out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=(
        "Start with: mlplib plan, then mlplib run from-scratch. "
        "Everything can be stopped with Ctrl-C and started again."
    ),
)
data_app = typer.Typer(help="Get, list and check the data sets.", no_args_is_help=True)
results_app = typer.Typer(help="Publish finished records under results/.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(results_app, name="results")

out = Console()

# --------------------------------------------------------------------------- options that commands share

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
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        help="Folder of published records. Default: $MLPLIB_RESULTS, else results.",
        show_default=False,
    ),
]


def _names(experiments: list[str] | None) -> list[str]:
    from .experiments import EXPERIMENTS, experiment

    for name in experiments or ():
        experiment(name)
    return list(experiments or EXPERIMENTS)


def _seeds(text: str | None, profile) -> tuple[int, ...]:
    from .parameters import parse_seeds

    return profile.seeds if text is None else parse_seeds(text)


def _specs(names: list[str], profile, seeds) -> dict[str, list]:
    from .experiments import experiment

    return {name: experiment(name).runs(profile, seeds) for name in names}


# --------------------------------------------------------------------------- commands


@app.command()
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

    from . import planning
    from .machine import device_name, pick_device
    from .profiles import profile as get_profile
    from .runs import RunStore
    from .sharing import users as users_of
    from .tables import duration

    chosen, store, where = get_profile(profile), RunStore(runs), pick_device(device)
    specs = _specs(_names(experiments), chosen, _seeds(seeds, chosen))
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
    from .planning import training_flops

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


@app.command()
def run(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
):
    """Do every run of some experiments that is not done yet. Ctrl-C stops it; the same command goes on."""
    from .execution import Executor
    from .machine import pick_device
    from .profiles import profile as get_profile
    from .progress import bars
    from .runs import RunStore

    chosen = get_profile(profile)
    executor = Executor(
        RunStore(runs), device=pick_device(device), progress=bars(), say=lambda line: out.print(line)
    )
    for name, specs in _specs(_names(experiments), chosen, _seeds(seeds, chosen)).items():
        records = executor.records(specs)
        out.print(_summary_table(name, records, chosen))


def _summary_table(name: str, records, profile) -> Table:
    from . import paper
    from .experiments import experiment

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


@app.command()
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
):
    """Execute one notebook with papermill. The book's own chapters are executed by make book."""
    from .notebook import execute

    given = {}
    for entry in parameters or ():
        key, equals, value = entry.partition("=")
        if not equals:
            raise MlplibError(f"write a parameter as name=value, not {entry!r}")
        given[key.strip()] = value.strip()
    target = out_file or Path("build") / f"{name}-{profile}.ipynb"
    execute(name, {"profile": profile, **given}, target)
    out.print(f"executed {target}", soft_wrap=True)


@app.command()
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
    from . import ledger
    from .errors import one_of
    from .profiles import profile as get_profile

    one_of("format", form, ("table", "markdown"))
    if profile is None:
        entries = ledger.from_published(results)
    else:
        chosen = get_profile(profile)
        entries = ledger.from_store(chosen, _seeds(seeds, chosen), runs)
    if form == "markdown":
        print(ledger.markdown(entries))
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


@app.command()
def bench(
    what: Annotated[
        str, typer.Argument(help="speed (about a minute), or accuracy (several minutes; trains on CIFAR-10).")
    ] = "speed",
    model: Annotated[str, typer.Option(help="The MLP to train.")] = "B-6/Wi-256",
    data: Annotated[str, typer.Option(help="The data set.")] = "cifar10",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 1024,
    device: DeviceOption = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures here.", show_default=False)
    ] = None,
):
    """Measure how near the training loop comes to the machine's matrix-product rate, or what accuracy it reaches."""  # noqa: E501
    import json

    from . import benchmark
    from .errors import one_of
    from .machine import pick_device
    from .progress import bars

    one_of("benchmark", what, ("speed", "accuracy"))
    where = pick_device(device)
    measure = benchmark.speed if what == "speed" else benchmark.accuracy
    found = measure(model=model, data=data, batch_size=batch_size, device=where, progress=bars())
    table = Table(title=found["title"], title_justify="left")
    for heading in found["columns"]:
        table.add_column(heading)
    for row in found["rows"]:
        table.add_row(*(str(value) for value in row))
    out.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


# --------------------------------------------------------------------------- data and results


@data_app.command("list")
def data_list():
    """List every data set with its size and whether it is here already."""
    from .data.status import describe, names

    def number(value: int | None) -> str:
        return "" if value is None else f"{value:,}"

    table = Table(
        title="Data sets",
        title_justify="left",
        caption="To get one: mlplib data prepare <name>",
        caption_justify="left",
    )
    for heading in ("name", "what", "train", "test", "size", "here"):
        table.add_column(heading, no_wrap=heading not in ("what", "here"))
    for name in names():
        found = describe(name)
        size = f"{found['image_size']} px" if found["image_size"] else ""
        counts = (number(found[key]) for key in ("train", "test"))
        here = "yes" if found["ready"] else "no"
        if found["skipped"]:
            here += f", without {found['skipped']} unreadable images"
        table.add_row(name, found["title"], *counts, size, here)
    out.print(table)


@data_app.command("prepare")
def data_prepare(
    names: Annotated[list[str], typer.Argument(help="Data sets by name, e.g. cifar10.")],
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable", help="Leave out image files that cannot be read. Their number is recorded."
        ),
    ] = False,
):
    """Get data sets and keep them, checked, in the cache ($MLPLIB_CACHE, else ~/.cache/mlplib)."""
    from .data.status import prepare
    from .progress import bars

    for name in names:
        skipped = prepare(name, progress=bars(), skip_unreadable=skip_unreadable)["skipped"]
        out.print(f"{name} is ready" + (f", without {skipped} unreadable images" if skipped else ""))


@data_app.command("verify")
def data_verify(names: Annotated[list[str], typer.Argument(help="Data sets by name.")]):
    """Read the cached copies whole and compare them with their known hashes."""
    from .data.status import verify

    damaged = False
    for name in names:
        found = verify(name)
        damaged |= not found["ok"]
        for check in found["checks"]:
            state = "ok" if check["ok"] else f"WRONG: {check['found']} instead of {check['expected']}"
            out.print(f"{name}: {check['check']}: {state}")
    if damaged:
        raise MlplibError("the data differ from what is known of them: see the lines above")


@results_app.command("publish")
def results_publish(
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
    from .profiles import profile as get_profile
    from .published import publish
    from .runs import RunStore

    chosen = get_profile(profile)
    names, left_out = _names(experiments), []
    for name in names:
        try:
            path = publish(name, profile, _seeds(seeds, chosen), RunStore(runs), results)
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


# --------------------------------------------------------------------------- entry


def main() -> None:
    """Entry point: errors that a person can act on end in one line, without a traceback."""
    try:
        app()
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except MlplibError as error:
        print(f"mlplib: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mlplib: stopped; start it again and it goes on from its last checkpoint", file=sys.stderr)
        sys.exit(130)
