"""``mlplib bench --against REV``: two revisions of this repository, timed alternately on the same machine.

Each side is a separate process (:mod:`mlpstudy.bench.worker`) with one checkout on its path. After imports
and warm-up they take turns, A B B A, so that a slow spell of the machine slows both alike. The old side is
any revision that has this worker; the new side is the current checkout, including uncommitted changes.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch

from mlplib.errors import MlplibError
from mlplib.timing import summary, take_turns

from .cases import Case
from .rounds import TURN_SECONDS
from .speed import FORMAT, read, require_replaceable, write
from .worker import PROTOCOL, request

ROOT = Path(__file__).resolve().parents[2]
WORKER = "mlpstudy/bench/worker.py"


def measure(
    revision: str,
    case: Case,
    device: torch.device,
    *,
    rounds: int,
    progress,
    command: str,
    turn_seconds: float = TURN_SECONDS,
    root: Path = ROOT,
) -> dict:
    """Compare the checkout in ``root`` with a git revision of it.

    Returns:
        ``rows``: per work ``old_seconds`` and ``new_seconds`` of a call in every round, and the speedup, old
        over new per round, as ``value`` with quartiles; ``old`` and ``new``: the commits; ``machine``.

    Raises:
        MlplibError: no git or no repository, an unknown revision or one without this worker, or a case that
            one side cannot train.
    """
    began = time.monotonic()
    case.require_possible(device)
    old, new = _commit(root, revision), _commit(root, "HEAD")
    changed = bool(_git(root, "status", "--porcelain", "--", "mlplib", "mlpstudy"))
    options = request(case, str(device), turn_seconds)
    with ExitStack() as stack:
        folder = stack.enter_context(_checkout(root, old, revision))
        # Both start at once, so that neither is warm while the other compiles.
        sides = [Side(name, where, options) for name, where in ((revision, folder), ("this checkout", root))]
        for side in sides:
            stack.callback(side.close)
        for side in sides:
            side.wait_until_ready()
        rows = _compare(*sides, rounds, progress)
        machine = sides[1].machine
    return {
        "case": case.name,
        "old": old[:10] if old.startswith(revision) else f"{revision} ({old[:10]})",
        "new": new[:10] + (" + changes" if changed else ""),
        "command": command,
        "machine": machine,
        "rounds": rounds,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }


def append(path: Path, found: dict) -> None:
    """Add a comparison to a results file, which is created if it is missing.

    Raises:
        MlplibError: the file exists and holds something else.
    """
    require_replaceable(path, "against")
    earlier = read(path, "against")["comparisons"] if path.exists() else []
    write(path, {"format": FORMAT, "what": "against", "comparisons": [*earlier, found]})


def _compare(old: Side, new: Side, rounds: int, progress) -> list[dict]:
    """The rows of all works that both sides know."""
    ids = [id for id in new.works if id in old.works]
    # The same number of calls on both sides, so that costs per turn weigh the same.
    calls = {id: max(side.works[id]["calls"] for side in (old, new)) for id in ids}
    timers = {(side, id): partial(side.time, id, calls[id]) for id in ids for side in (old, new)}
    with progress(rounds * len(timers), "bench: two revisions") as bar:
        seconds = take_turns(timers, rounds, after_each=lambda: bar.advance(1))
    rows = []
    for id in ids:
        theirs, ours = seconds[old, id], seconds[new, id]
        row = {"id": id, "name": new.works[id]["name"], "calls": calls[id]}
        row |= {"old_seconds": theirs, "new_seconds": ours}
        rows.append(row | summary([a / b for a, b in zip(theirs, ours, strict=True)]))
    return rows


class Side:
    """A worker process with the checkout in ``folder`` on its path; ``name`` is for messages."""

    def __init__(self, name: str, folder: Path, options: str):
        self.name, self.folder, self.works, self.machine = name, folder, {}, {}
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            # -P keeps the working directory, which may be a checkout, off the path.
            [sys.executable, "-P", "-m", "mlpstudy.bench.worker", options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def wait_until_ready(self) -> None:
        """Wait for imports and warm-up.

        Raises:
            MlplibError: the worker cannot time this case, or it runs other code than the checkout's.
        """
        ready = self._answer()
        if ready.get("ready") != PROTOCOL:
            raise MlplibError(f"{self.name} has another version of {WORKER}: choose another revision")
        if Path(ready["root"]) != self.folder.resolve():
            raise MlplibError(f"{self.name} imports mlplib from another place: run this without a wrapper")
        self.machine, self.works = ready["machine"], {work["id"]: work for work in ready["works"]}

    def time(self, work: str, calls: int) -> float:
        """Seconds per call of a work."""
        try:
            self.process.stdin.write(json.dumps({"work": work, "calls": calls}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer is reported
        return self._answer()["seconds"]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its process ended: {self._last_words()}"}
        if "error" in answer:
            raise MlplibError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else f"exit status {self.process.returncode}"


@contextmanager
def _checkout(root: Path, commit: str, revision: str) -> Iterator[Path]:
    """Both packages as of a commit, in a folder that is removed afterwards."""
    if not _git(root, "ls-tree", commit, "--", WORKER):
        raise MlplibError(f"{revision} has no {WORKER}: --against works for revisions that have it")
    content = _git(root, "archive", "--format=tar", commit, "--", "mlplib", "mlpstudy")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def _commit(root: Path, revision: str) -> str:
    """The commit of a revision."""
    if Path(os.fsdecode(_git(root, "rev-parse", "--show-toplevel")).strip()) != root.resolve():
        raise MlplibError("--against needs mlplib's own git repository: run it from a clone")
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    unknown = f"git knows no revision {revision!r}: name a commit, branch or tag"
    return _git(root, *words, otherwise=unknown).decode().strip()


def _git(root: Path, *words: str, otherwise: str = "") -> bytes:
    """Git's output; ``otherwise`` is the error to raise instead of git's own."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True)
    except FileNotFoundError:
        raise MlplibError("--against needs git, which is not installed") from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"]
        raise MlplibError(otherwise or f"--against needs mlplib's own git repository; git says: {why[-1]}")
    return done.stdout
