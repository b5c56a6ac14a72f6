"""The command ``mlplib``: plan, run, read and publish the study, a file for each group of commands.
It only calls the library; nothing imports it.

Torch and the like are imported inside the commands, so that ``mlplib --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from mlplib.errors import Interrupted, MlplibError

from . import bench, data, results, status, study

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
for command in (study.plan, study.run, status.status, study.notebook, study.teach, study.claims, bench.bench):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(results.app, name="results")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors that a person can act on end in one line, without a traceback.

    Args:
        arguments: what was typed after ``mlplib``; by default the process's own arguments.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" in its place
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no half-written files are left
    try:
        _refuse_empty(sys.argv[1:] if arguments is None else arguments)
        code = app(arguments, prog_name="mlplib", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Python would flush again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Interrupted as stopped:
        _fail(str(stopped), 130)
    except MlplibError as error:
        _fail(f"mlplib: {error}")
    except OSError as error:
        _fail(f"mlplib: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        # The user has no entry in /etc/passwd, as in a container that was started under another id.
        _fail("mlplib: there is no home folder: set HOME (for data alone, MLPLIB_CACHE is enough)")
    except MemoryError as error:
        _fail(f"mlplib: out of memory: {error}")
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        if not hasattr(error, "format_message"):  # what typer raises for options that do not fit
            raise
        _fail(f"mlplib: {error.format_message()}")
    if code == 130:
        _fail("mlplib: stopped; start it again to go on", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse empty words, mostly of variables that are not set: as a path, one would be the folder here."""
    for before, word in zip(["mlplib", *words], words, strict=False):
        if not word or re.fullmatch(r"--[\w-]+=", word):
            raise MlplibError(f"an empty text follows {word or before}: write something there")


def _fail(text: str, code: int = 2) -> NoReturn:
    """Print one line, the middle of a very long one left out, and exit."""
    line = " ".join(text.splitlines())
    with contextlib.suppress(OSError):
        print(line if len(line) <= 600 else f"{line[:300]} ... {line[-250:]}", file=sys.stderr, flush=True)
    sys.exit(code)
