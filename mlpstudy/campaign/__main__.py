"""``python -m mlpstudy.campaign``: ``mlplib campaign`` where neither Typer nor what it needs is installed."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from mlplib.errors import Interrupted, MlplibError

BEGIN = time.monotonic()
"""Importing torch takes seconds, and they count."""


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m mlpstudy.campaign", description="See mlplib campaign --help."
    )
    found.add_argument("experiments", nargs="*")
    found.add_argument("-P", "--profile", default="gpu")
    found.add_argument("--minutes", type=float, default=10.0)
    found.add_argument("--out", type=Path, default=Path("campaign"), dest="folder")
    found.add_argument("--seeds")
    for name in ("runs", "results"):
        found.add_argument(f"--{name}", type=Path)
    for name in ("device", "loader", "workers"):
        found.add_argument(f"--{name}", default="auto")
    return found


def main() -> int:
    """Do what the arguments say; the exit status."""
    arguments = vars(_parser().parse_args())
    from .command import run

    try:
        run(**arguments, log=lambda line: print(line, flush=True), begin=BEGIN)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except MlplibError as error:
        print(f"mlplib: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
