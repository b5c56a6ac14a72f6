"""mlplib bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .options import DeviceOption, out


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

    from .. import benchmark
    from ..errors import one_of
    from ..machine import pick_device
    from ..progress import bars

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
