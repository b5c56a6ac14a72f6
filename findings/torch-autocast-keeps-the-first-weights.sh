#!/usr/bin/env bash
# PyTorch 2.15.0: inside one `torch.autocast`, a network goes on computing with the weights that it had at first.
# Expected: after `load_state_dict`, or a step of the optimizer, a network computes with its new weights. Seen: autocast
# keeps the bfloat16 copy of each weight until the outermost block ends, and does not notice that the weight changed
# in place. Six checkpoints, evaluated in one block, have the accuracy of the first, six times; a training in one block
# has the same loss in every step. Nothing is reported, and the float32 weights do change, so that a record of them
# looks like a training. With `torch.no_grad()` it is so, with `torch.inference_mode()` not, nor with
# `cache_enabled=False` or `load_state_dict(..., assign=True)`.
# The manual says that autocast should wrap only forward passes, and its example of inference wraps a loop over batches;
# it does not say that weights must not change within. Projects met it (X-GenGroup/Flow-Factory, pull request 186).
# It matters to evaluations of checkpoints, averaged weights (EMA) or ensembles in one block: they all seem equal.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 numpy==2.4.6
cat > weights.py << 'PYTHON'
import copy
import sys

import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
inputs = torch.randn(512, 16)
labels = (inputs[:, 0] > 0).long()
start = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))


def autocast(**options):
    return torch.autocast("cpu", torch.bfloat16, **options)


def step(network, optimizer):
    loss = cross_entropy(network(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(steps):
    network = copy.deepcopy(start)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    return network, [step(network, optimizer) for _ in range(steps)]


CHECKPOINTS = [trained(10 * number)[0].state_dict() for number in range(6)]


def accuracies(mode=torch.no_grad, assign=False, **options):
    network, found = copy.deepcopy(start), []
    with mode(), autocast(**options):
        for weights in CHECKPOINTS:
            network.load_state_dict(weights, assign=assign)
            found.append(float((network(inputs).argmax(1) == labels).float().mean()))
    return found


print(f"PyTorch {torch.__version__.partition('+')[0]}: accuracies of six checkpoints, evaluated in one block")
seen = {
    "in float32": accuracies(enabled=False),
    "autocast": accuracies(),
    "autocast, cache_enabled=False": accuracies(cache_enabled=False),
    "autocast, inference_mode": accuracies(torch.inference_mode),
    "autocast, assign=True": accuracies(assign=True),
}
for name, found in seen.items():
    print(f"{name}: " + " ".join(f"{accuracy:.3f}" for accuracy in found))
with autocast():
    network, losses = trained(50)
pairs = zip(network.state_dict().values(), start.state_dict().values(), strict=True)
moved = max(float((one - other).abs().max()) for one, other in pairs)
print(f"50 steps in one block: {len(set(losses))} different losses, though a weight moved by {moved:.2f}")
stale = seen.pop("autocast")
print(f"50 steps in float32: {len(set(trained(50)[1]))} different losses")
frozen = len(set(stale)) == 1 and len(set(losses)) == 1 and moved > 0.01
sys.exit(int(not frozen or any(found[-1] < found[0] + 0.2 for found in seen.values())))
PYTHON
env/bin/python weights.py || { echo "CHANGED"; exit 1; }
