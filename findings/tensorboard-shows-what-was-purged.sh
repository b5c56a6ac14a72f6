#!/usr/bin/env bash
# TensorBoard 2.21.0: points that a resumed run marked as undone by `purge_step` are shown nevertheless.
# Expected: a run that was killed in epoch 17 and goes on after its checkpoint of epoch 12 has each epoch once; nothing
# of epoch 13 or later is left from before. Seen: TensorBoard's data server, which reads the files unless told
# otherwise, does not look for the mark. It drops old points of a curve where a new one has the same or an earlier step.
# So the loss of each epoch is right; but of the curve "best", with a point for each epoch that was better than all
# before, the best accuracy of the killed process is left, though the run never had it. Without the data server
# (`--load_fast=false`, or where there is none, as on Windows), marks count from the second on, but the first one of a
# run is taken for its start: epochs 13 to 17 are shown twice. TensorBoard's own `EventAccumulator` is right.
# The manuals of tensorboardX and of PyTorch's SummaryWriter, which writes the same mark, say of `purge_step` that such
# points "will be purged and hidden from TensorBoard". That the first mark does not count is on purpose (pull request
# 4763 of tensorflow/tensorboard); we found no report of what follows for these writers, and none of the data server.
# It matters to runs that a deadline stops, and to whoever reads off the best accuracy of a run.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install tensorboard==2.21.0 tensorboard-data-server==0.7.2 tensorboardX==2.6.5 numpy==2.4.6 setuptools==80.9.0
cat > resume.py << 'PYTHON'
import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import metadata

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

KILLED = {"loss": range(1, 18), "best": (1, 5, 10, 15)}
RESUMED = {"loss": range(13, 25), "best": (22,)}


def write(process, curves, **options):
    """Points whose values are the epoch, plus 0.1 in the first process, 0.2 in the second."""
    with contextlib.closing(SummaryWriter("curves/run", **options)) as writer:
        for name, epochs in curves.items():
            for epoch in epochs:
                writer.add_scalar(name, epoch + process / 10, epoch)


def shown(load_fast):
    """The curves as TensorBoard's server gives them to the browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "tensorboard.main", "--logdir", "curves", "--host", "127.0.0.1"]
    program += ["--port", str(port), f"--load_fast={load_fast}"]
    local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=run&tag="
    with open("log", "w") as log, subprocess.Popen(program, stdout=log, stderr=log) as server:
        found, until = {}, time.monotonic() + 120
        while time.monotonic() < until:
            time.sleep(1)
            with contextlib.suppress(OSError, ValueError):
                for name in KILLED:
                    with local.open(url + name, timeout=10) as answer:
                        found[name] = [round(value, 1) for _, _, value in json.load(answer)]
                if all(RESUMED[name][-1] + 0.2 in found[name] for name in found):
                    break
        server.terminate()
    return found


print(*(f"{name} {metadata.version(name)}" for name in ("tensorboard", "tensorboard-data-server", "tensorboardX")))
write(1, KILLED)
time.sleep(1.1)  # the files' names have the second
write(2, RESUMED, purge_step=13)
expected = {
    name: [epoch + 0.1 for epoch in KILLED[name] if epoch < 13] + [epoch + 0.2 for epoch in RESUMED[name]]
    for name in KILLED
}
events = EventAccumulator("curves/run").Reload()
own = {name: [round(event.value, 1) for event in events.Scalars(name)] for name in KILLED}
fast, slow = shown("true"), shown("false")
for name in KILLED:
    print(f"{name}: epochs of the killed process end in .1, of the resumed one in .2")
    for who, curves in {"expected": expected, "data server": fast, "without it": slow, "EventAccumulator": own}.items():
        print(f"{who:>17}: {' '.join(map(str, curves[name]))}")
doubled = [epoch + 0.1 for epoch in KILLED["loss"]] + [epoch + 0.2 for epoch in RESUMED["loss"]]
stale = [1.1, 5.1, 10.1, 15.1, 22.2]
as_seen = own == expected and fast == {"loss": expected["loss"], "best": stale}
sys.exit(int(not (as_seen and slow == {"loss": doubled, "best": stale})))
PYTHON
env/bin/python resume.py 2> errors || { cat errors log; echo "CHANGED"; exit 1; }
