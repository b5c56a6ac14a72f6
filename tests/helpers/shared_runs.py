"""Runs that several processes share, started as ``torchrun`` does it but from a server that is quick."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from contextlib import redirect_stderr

import torch
import torch.distributed as dist
from small_runs import workers

from mlplib import data, machine, run, timing, training


def process(rank: int, environment: dict, folder, arguments, change: dict) -> None:
    """What one process of ``torchrun`` does; its errors go to ``folder/<rank>.txt``."""
    os.environ |= {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    timing.matmul_rate = lambda device, precision: 1e11  # measuring it takes longer than a run here
    if rank == 1 and "code" in change:
        machine.source_state = lambda: {"source": "another"}
    if rank == 1 and "data" in change:
        load = data.load
        data.load = lambda *a, **k: dataclasses.replace(load(*a, **k), content_hash="another")
    if rank == 1 and "checkpoint" in change:  # as on a machine that does not share the folder
        training.load_checkpoint = lambda *given: None
    with open(folder / f"{rank}.txt", "w", buffering=1) as file, redirect_stderr(file):
        code = run.main(arguments)
    if change.get("leaves") and dist.is_initialized():
        code = 99
    os._exit(code)  # as a process that ends: no waiting for what is left of a group


def written(folder, spec) -> list[str]:
    """Arguments of the command that does ``spec`` in the store ``folder``."""
    folder.mkdir(exist_ok=True)
    path = folder / "spec.json"
    path.write_text(json.dumps(spec.to_json()))
    return [str(path), "--runs", str(folder), "--device", "cpu"]


def start(folder, spec, count: int, *options, **change) -> list:
    """``count`` processes that share a run in the store ``folder``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = (*written(folder, spec), *options)
    found = [
        workers().Process(target=process, args=(rank, environment, folder, arguments, change))
        for rank in range(count)
    ]
    for each in found:
        each.start()
    return found


def finish(processes) -> list[int]:
    for each in processes:
        each.join(60)
    return [each.exitcode for each in processes]


def share(folder, spec, count: int, *options, **change) -> list[int]:
    """The exit codes of ``count`` processes that have done ``spec`` together."""
    return finish(start(folder, spec, count, *options, **change))
