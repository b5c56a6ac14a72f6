"""mlplib status."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from ..profiles import profile as get_profile
from .options import DeviceOption, Experiments, ProfileOption, RunsOption, SeedsOption, out, specs_of

REFRESH_SECONDS = 5.0
"""Refresh interval of ``--watch``."""

STATES = ("running", "failed", "died", "stopped")
"""Possible states of a run that was begun but has no record."""


def status(
    experiments: Experiments = None,
    profile: ProfileOption = "laptop",
    seeds: SeedsOption = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until nothing is left.")] = False,
):
    """Show which runs are done, running and where, failed and why, and how long the rest will take.

    Needs only the folder of the runs: the runs may be done on other machines.
    """
    from mlplib.machine import pick_device
    from mlplib.store import RunStore

    chosen, store, where = get_profile(profile), RunStore(runs), pick_device(device)
    specs = [spec for runs in specs_of(experiments, chosen, seeds).values() for spec in runs]
    while True:
        found = {"profile": profile, **_look(specs, store, where)}
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            if watch:
                out.clear()
            out.print("\n".join(_lines(found)), soft_wrap=True, markup=False, highlight=False)
        if not watch or not found["left"]:
            return
        time.sleep(REFRESH_SECONDS)


def _look(specs: list, store, device) -> dict:
    """The states of the runs, as plain values. ``estimated_seconds``: with as many runs at once as now."""
    from mlplib.machine import device_name

    from ..planning import Planner

    planner = Planner(store, device)
    plan = planner.plan(specs)
    states = {state: [] for state in STATES}
    for spec in plan.missing:
        id = planner.id(spec)
        attempt, epochs = store.attempt(id), planner.epochs_done(spec)
        if attempt is None and epochs is None:
            continue
        progress = {} if epochs is None else {"epochs_done": epochs, "epochs": spec.epochs}
        found = {"id": id, **(attempt or {"state": "stopped"}), **progress}
        states[found.pop("state")].append(found)
    return {
        "runs": len(plan.runs),
        "done": plan.cached,
        **states,
        "left": len(plan.missing),
        "device": device_name(device),
        "estimated_seconds": plan.seconds / max(1, len(states["running"])),
    }


def _lines(found: dict) -> list[str]:
    from ..words import count, duration

    counts = ", ".join(f"{len(found[state])} {state}" for state in STATES if found[state])
    lines = [f"profile {found['profile']}: {found['done']} of {count(found['runs'], 'run')} done"]
    lines[0] += f", {counts}" if counts else ""
    for state in STATES:
        for run in found[state]:
            lines.append(f"  {state} {run['id']}: {'; '.join(_details(run))}")
    if found["left"]:
        pace = f"{len(found['running'])} at a time" if len(found["running"]) > 1 else "one after the other"
        time_left = duration(found["estimated_seconds"])
        lines.append(f"{found['left']} left: about {time_left} on {found['device']}, {pace}")
    return lines


def _details(run: dict) -> Iterator[str]:
    from ..words import duration

    if "where" in run:
        yield f"{run['where']}, begun {duration(max(0.0, time.time() - run['since']))} ago"
    if "epochs" in run:
        yield f"{run['epochs_done']} of {run['epochs']} epochs in its checkpoint"
    if "why" in run:
        yield run["why"]
