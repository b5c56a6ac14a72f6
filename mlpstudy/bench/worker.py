"""One side of ``mlplib bench --against``: a process that trains with the ``mlplib`` on its path and times it.

:mod:`mlpstudy.bench.against` starts one worker per revision, ``python -P -m mlpstudy.bench.worker REQUEST``.
They exchange JSON objects, one per line: after imports and warm-up the worker writes what it can time
(``ready``); for each ``{"work": id, "calls": n}`` on its input it answers ``{"seconds": per call}``; it ends
with its input. This protocol must stay compatible, or :data:`PROTOCOL` must change: the other side may be an
old revision.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

PROTOCOL = 1


def main() -> None:
    """Answer on the standard output; everything that libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**content) -> None:
        print(json.dumps(content), file=answers, flush=True)

    # Imported here: an import that fails must not hide what was printed to the standard output.
    from mlplib.errors import MlplibError

    try:
        _serve(json.loads(sys.argv[1]), answer)
    except MlplibError as error:
        answer(error=str(error))


def _serve(request: dict, answer) -> None:
    import torch

    import mlplib
    from mlplib import machine

    from .cases import Case
    from .speed import environment
    from .workloads import Training

    machine.keep_freed_memory()
    device, case = torch.device(request["device"]), Case(**request["case"])
    works = {work.id: work for work in Training(case, case.images(), device).works()}
    known = [
        {"id": id, "name": work.name, "calls": work.calls_per_turn(device, request["turn_seconds"])}
        for id, work in works.items()
    ]
    root = str(Path(mlplib.__file__).resolve().parent.parent)
    answer(ready=PROTOCOL, root=root, machine=environment(device), works=known)
    for line in sys.stdin:
        turn = json.loads(line)
        answer(seconds=works[turn["work"]].seconds(turn["calls"], device))


def request(case, device: str, turn_seconds: float) -> str:
    """The command-line argument of a worker."""
    return json.dumps({"case": dataclasses.asdict(case), "device": device, "turn_seconds": turn_seconds})


if __name__ == "__main__":
    main()
