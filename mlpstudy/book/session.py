"""A notebook's session: checked parameters, errors in one line, progress that overwrites itself."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlplib.errors import MlplibError
from mlplib.progress import Bar, Lines, Progress
from mlplib.store import Record, RunStore

from ..evidence.records import ExperimentRecords, finished
from ..evidence.verdicts import published_evidence
from ..experiments import EXPERIMENTS
from ..profiles import PROFILES, Profile
from ..words import duration
from .html import escape
from .parameters import PUBLISHED, Parameters, check_cells, parse
from .tables import NOT_PUBLISHED

if TYPE_CHECKING:  # finished runs are shown without torch, which takes seconds to import
    import torch

    from mlplib.official import Checkpoint

LINE_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Session:
    """A notebook's parameters, resolved to the objects that they name.

    ``reading``: only published records are shown; nothing is trained or timed, and no data set is read.
    ``profile`` then only stands in where a page needs one, and there is no ``device``.
    ``device_name``: the parameter ``device``.
    """

    profile: Profile
    seeds: tuple[int, ...]
    store: RunStore
    results_dir: str | None
    device_name: str
    checkpoints: tuple[Checkpoint, ...] = ()
    reading: bool = False

    @functools.cached_property
    def device(self) -> torch.device | None:
        """The device that runs compute on, looked for once one is needed: that imports torch."""
        if self.reading:
            return None
        from mlplib.machine import pick_device

        return pick_device(self.device_name)

    @functools.cached_property
    def published(self) -> dict[str, list[ExperimentRecords]]:
        """The published runs of all experiments by side, such as ``this study, gpu``: read once."""
        found = published_evidence(self.results_dir) or {NOT_PUBLISHED: []}
        return {f"this study, {profile}": evidence for profile, evidence in found.items()}

    @property
    def evidence(self) -> dict[str, list[ExperimentRecords]]:
        """The runs of :attr:`published`, and those finished by now as ``this execution, laptop``."""
        if self.reading:
            return self.published
        own = [self.own(name) for name in EXPERIMENTS]
        return {**self.published, f"this execution, {self.profile.name}": own}

    def finished(self) -> dict[str, dict[str, list[Record]]]:
        """The records of :attr:`evidence` by side and experiment; sides without any are left out."""
        found = {
            side: {each.name: each.everything for each in evidence if each.everything}
            for side, evidence in self.evidence.items()
        }
        return {side: runs for side, runs in found.items() if runs}

    def own(self, name: str) -> ExperimentRecords:
        """This execution's finished runs of an experiment."""
        return finished(name, self.profile, self.seeds, self.store)

    def command(self, name: str) -> str:
        """The command that executes notebook ``name`` again, with the same profile and seeds."""
        own_seeds = not self.reading and self.seeds != self.profile.seeds
        seeds = f" -p seeds={','.join(map(str, self.seeds))}" if own_seeds else ""
        return f"mlplib notebook {name} --profile {PUBLISHED if self.reading else self.profile.name}{seeds}"

    def entries(self, name: str, covers: str, **more: str) -> dict[str, str]:
        """The entries of the banner of notebook ``name`` (HTML): ``covers``, its execution, and ``more``."""
        if self.reading:
            return {
                "Covers": covers,
                "Profile": f"<code>{PUBLISHED}</code>: the paper and the published records; "
                "nothing is trained",
                "Do it again": f"<code>{self.command(name)}</code>",
                "Train it": f"<code>mlplib notebook {name}</code>",
            }
        return {
            "Covers": covers,
            "Profile": f"<code>{self.profile.name}</code>: {escape(self.profile.about)}",
            "Seeds": escape(", ".join(map(str, self.seeds))),
            **more,
            "Do it again": f"<code>{self.command(name)}</code>",
        }

    def computes(self) -> dict[str, str]:
        """The entry of the banner (HTML) for the device of a notebook that has something to compute."""
        from mlplib import machine  # here, since it imports torch

        precision = machine.pick_precision("auto", self.device)
        return {"Device": f"{escape(machine.device_name(self.device))}, {precision}"}


def different(runs: Mapping[str, Iterable[Record]]) -> list[Record]:
    """The records of all experiments on one side of :meth:`Session.finished`, each once."""
    return list({record.id: record for records in runs.values() for record in records}.values())


def open_session(parameters: Mapping[str, object], accepted: type[Parameters] = Parameters) -> Session:
    """Check the parameters, including those that papermill injected. Starts nothing.

    Args:
        accepted: the parameters that this notebook takes.

    Raises:
        MlplibError: a parameter is unknown or impossible, or a checkpoint is no official one. A notebook
        shows this and every later one as a single line.
    """
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        shell.set_custom_exc((MlplibError,), _show_in_one_line)
        check_cells(shell.user_ns.get("In", ()), accepted)
    checked = parse(parameters, accepted)
    reading, checkpoints = checked.profile == PUBLISHED, ()
    if (folder := getattr(checked, "official_checkpoints", None)) is not None:
        from mlplib import official  # here, since it imports torch

        checkpoints = official.find(folder)
    profile = PROFILES["laptop" if reading else checked.profile]
    return Session(
        profile=profile,
        seeds=checked.seeds or profile.seeds,
        store=RunStore(checked.runs_dir),
        results_dir=checked.results_dir,
        device_name=checked.device,
        checkpoints=checkpoints,
        reading=reading,
    )


def _show_in_one_line(shell, kind, error, traceback, tb_offset=None) -> list[str]:
    """Show one of the library's own errors in IPython without a traceback; the cell still fails."""
    line = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, line)
    return line


# --------------------------------------------------------------------------- progress


def replace_line(text: str) -> None:
    """Replace what the cell printed before by ``text``; an executed notebook keeps only the last."""
    from IPython.display import clear_output

    clear_output(wait=True)
    print(text, flush=True)


def counted(number: int, total: int) -> Progress:
    """A progress factory that says which of the runs is in progress."""

    @contextmanager
    def progress(steps: int | None, label: str) -> Iterator[Bar]:
        which = f"{number} of {total}: {label}"
        replace_line(which)
        yield Lines(
            steps,
            LINE_INTERVAL_S,
            lambda share, seconds: replace_line(f"{which}: {share}, {duration(seconds)}"),
        )

    return progress
