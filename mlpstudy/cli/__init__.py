"""The command ``mlplib``: plan, run, read and publish the study, a file for each group of commands.
It only calls the library; nothing imports it.

Torch and the like are imported inside the commands, so that ``mlplib --help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

from mlplib.errors import Interrupted, MlplibError

from . import bench, data, results, study

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
for command in (study.plan, study.run, study.notebook, study.claims, bench.bench):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(results.app, name="results")


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
