#!/usr/bin/env bash
# torch 2.15.0: of several trainings that continue from one loaded checkpoint, only the first has the optimizer's state
# that was saved; each later one has the weights of the checkpoint and the momentum of the branch before it.
# Expected: load_state_dict copies, as that of networks does, so the learning rates that are tried from a checkpoint
# can be tried in any order. Seen: an optimizer takes over the tensors themselves and updates them in place, so the
# loaded checkpoint is trained along. After a branch that diverges, all later ones are NaN from their first step on.
# With AdamW, the count of steps goes on, too. Nothing is wrong if the file is read again for each branch. Averages that
# are loaded for a network of another type or device have to be copied, and stay intact, but not AdamW's count of steps.
# The manual does not say so, and a comment in the code says "Make a deep copy of value". Issue 196083 of September
# 2026 is about optimizers that take over the state of a live one; it says that checkpoints in files are not affected.
# It matters to scaling laws with cooldowns of several lengths from one run, and to tuning from a common start.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > branches.py << 'PYTHON'
import math
import sys

import torch
from torch import nn
from torch.nn.functional import cross_entropy

RATES = [0.01, 0.1, 1.0, 10.0]

torch.manual_seed(0)
images = torch.randn(4096, 32)
labels = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 10))(3 * images).argmax(1)


def start(optimizer):
    network = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return network, optimizer(network.parameters())


def train(network, optimizer, first, steps):
    for step in range(first, first + steps):
        batch = torch.randint(4096, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        return cross_entropy(network(images), labels).item()


def losses(optimizer, rates, again=False):
    """The loss after 30 more steps with each rate, and the checkpoint as it is then."""
    checkpoint, found = torch.load("checkpoint.pt"), {}
    for rate in rates:
        if again:
            checkpoint = torch.load("checkpoint.pt")
        network, continued = start(optimizer)
        network.load_state_dict(checkpoint["network"])
        continued.load_state_dict(checkpoint["optimizer"])
        for group in continued.param_groups:
            group["lr"] = rate
        found[rate] = train(network, continued, 300, 30)
    return found, checkpoint


def save(optimizer):
    network, trained = start(optimizer)
    train(network, trained, 0, 300)
    torch.save({"network": network.state_dict(), "optimizer": trained.state_dict()}, "checkpoint.pt")


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


print(f"torch {torch.__version__.partition('+')[0]}; losses of branches from one checkpoint, by learning rate")
save(sgd)
alone, _ = losses(sgd, RATES, again=True)
upward, kept = losses(sgd, RATES)
downward, _ = losses(sgd, RATES[::-1])
for name, found in ("file read for each", alone), ("read once, upward", upward), ("read once, downward", downward):
    print(f"{name}: " + ", ".join(f"{rate:g} -> {found[rate]:.3g}" for rate in RATES))
weights = torch.load("checkpoint.pt")["network"]
intact = all(torch.equal(kept["network"][name], value) for name, value in weights.items())
print("the weights in the loaded checkpoint are still", "those of the file" if intact else "others")
save(torch.optim.AdamW)
_, kept = losses(torch.optim.AdamW, RATES)
steps = kept["optimizer"]["state"][0]["step"].item()
print(f"with AdamW, the loaded checkpoint of step 300 is at step {steps:g} after four branches")

finite = all(math.isfinite(alone[rate]) for rate in RATES[:3])
differ = all(abs(upward[rate] - alone[rate]) > 0.01 for rate in RATES[1:3])
if not (finite and differ and all(map(math.isnan, downward.values())) and intact and steps == 420):
    sys.exit("CHANGED")
PYTHON
env/bin/python branches.py 2> errors || { cat errors; exit 1; }
