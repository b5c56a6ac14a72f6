"""mlplib bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlplib.errors import MlplibError, require_choice
from mlplib.files import require_writable
from mlplib.progress import bars

from ..profiles import parse_seeds
from .options import DeviceOption, out


def bench(
    what: Annotated[str, typer.Argument(help="speed (5 minutes or more), or accuracy (trains).")] = "speed",
    model: Annotated[
        str | None, typer.Option(help="The MLP to train. Without it: those that the targets are about.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="The data set, or noise: random pixels in ImageNet-21k's classes.")
    ] = "cifar10",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 1024,
    resolution: Annotated[int | None, typer.Option(help="Side in pixels to resize images to.")] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="What to measure (speed): steps, reference, loaders, layers, tried, compiled, growth or "
            "start-up, or several with commas.",
            show_default="all",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often everything is timed (speed).", show_default="9")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="Compare with this git revision of the repository, both timed in turns (speed).",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds to train with (accuracy), such as 0,1,2.", show_default="0,1,2"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How long to train (accuracy).", show_default="20")
    ] = None,
    device: DeviceOption = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything here; with --against: add it here.")
    ] = None,
):
    """Measure how fast training is, compared with the machine's rates and the usual way, or how accurate."""
    from mlplib.machine import pick_device

    from ..bench import accuracy, show, speed
    from ..bench import against as revisions
    from ..bench.cases import Case, default_cases

    require_choice("benchmark", what, ("speed", "accuracy"))
    if model is None and what == "speed" and (data, batch_size, resolution) != ("cifar10", 1024, None):
        raise MlplibError("--data, --batch-size and --resolution need --model: name the MLP to train")
    if against is not None and (what != "speed" or parts is not None):
        raise MlplibError("--against compares the steps of training: leave accuracy and --parts out")
    others = {"accuracy": {"parts": parts, "rounds": rounds}, "speed": {"seeds": seeds, "epochs": epochs}}
    for name, given in others[what].items():
        if given is not None:
            other = "speed" if what == "accuracy" else "accuracy"
            raise MlplibError(f"--{name} is for the benchmark {other}: leave it out")
    where, rounds = pick_device(device), rounds or 9
    chosen_seeds, epochs = parse_seeds("0,1,2" if seeds is None else seeds), epochs or 20
    common = {"device": where, "progress": bars(), "command": _command()}
    case = None if model is None else Case(model, data, batch_size, resolution)
    if json_file is not None:
        if json_file.is_dir():
            raise MlplibError(f"--json names a file, and {json_file} is a folder")
        speed.require_replaceable(json_file, what if against is None else "against")
        require_writable(json_file.parent)
    if against is not None:
        one = revisions.measure(against, case or default_cases(where)[-1], rounds=rounds, **common)
        found = {"what": "against", "comparisons": [one]}
    elif what == "speed":
        chosen = speed.PARTS if parts is None else tuple(part.strip() for part in parts.split(","))
        cases = None if case is None else [case]
        found = speed.measure(cases, effort=speed.Effort(rounds), parts=chosen, **common)
    else:
        case = case or Case("B-6/Wi-256", data, batch_size, resolution)
        found = accuracy.measure(case, seeds=chosen_seeds, epochs=epochs, **common)
    for table in show.tables(found):
        _print(*table)
    if json_file is not None:
        revisions.append(json_file, one) if against is not None else speed.write(json_file, found)


def _command() -> str:
    """What was typed, without the folders of this machine."""
    words = ["mlplib", *sys.argv[1:]]
    return " ".join(Path(word).name if word.startswith("/") else word for word in words)


def _print(title: str, cells) -> None:
    from rich.table import Table

    shown = Table(*cells.columns, title=title, title_justify="left")
    for row in cells.itertuples(index=False):
        shown.add_row(*row)
    out.print(shown)
