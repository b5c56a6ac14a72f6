#!/usr/bin/env bash
# loss-landscapes 3.0.6: every other row of its planes is displaced by a step, and a larger `distance` is a smaller one.
# Expected: `planar_interpolation` and `random_plane` evaluate start + i * first + j * second for i and j below `steps`,
# as the code's comment says, with the network in the middle of `random_plane`. Seen: rows go forward and backward in
# turn and take their step before they evaluate, so rows of even numbers are at j = 1 to n, and those of odd numbers at
# j = 0 to n - 1: of one column of the array, the points are not on one line. A straight valley that runs along the
# columns is drawn as a zigzag, and the trained network is a step beside the middle or not among the points.
# `distance` is "maximum distance in parameter space from the start point". Seen: `random_line` ends at the norm of the
# weights divided by `distance`, so its default of 0.1 goes ten norms away, and 10 a tenth of one.
# Each has a plausible picture: a rough landscape, that is smooth, or a sharp minimum, that is flat.
# The package's page warns of bugs in general and names none of these. We found no report of them.
# It matters to comparisons of networks by their landscapes: roughness and sharpness are what is compared.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install loss-landscapes==3.0.6 torch==2.15.0 numpy==2.4.6
cat > plane.py << 'PYTHON'
import sys
from importlib.metadata import version

import loss_landscapes
import torch
from loss_landscapes.metrics import Metric

STEPS = 4


class Valley(Metric):
    """A loss that depends on the second coordinate alone, and is zero where it is 0.5."""

    def __call__(self, wrapper):
        return round(abs(wrapper.get_modules()[0].weight[0, 1].item() - 0.5), 3)


class Distance(Metric):
    """Distance from the weights as they were, in units of their norm."""

    def __init__(self, network):
        self.start = torch.cat([p.detach().flatten().clone() for p in network.parameters()])

    def __call__(self, wrapper):
        weights = torch.cat([p.flatten() for p in wrapper.get_modules()[0].parameters()])
        return ((weights - self.start).norm() / self.start.norm()).item()


def at(first, second):
    network = torch.nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[float(first), float(second)]])
    return network


print(f"loss-landscapes {version('loss-landscapes')}, torch {torch.__version__}")
ends = at(1, 0), at(0, 1)
plane = loss_landscapes.planar_interpolation(at(0, 0), *ends, Valley(), STEPS, deepcopy_model=True)
print(f"a straight valley, expected {STEPS} equal rows:", *plane, sep="\n")
zigzag = plane.tolist() == [[0.25, 0, 0.25, 0.5], [0.5, 0.25, 0, 0.25]] * 2

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))
around = loss_landscapes.random_plane(network, Distance(network), steps=STEPS, deepcopy_model=True)
print("random_plane, distances from the network's weights in norms of these:", *around.round(2), sep="\n")
nearest = around.argmin(1).tolist()
print(f"column of the nearest point of each row, expected all the same: {nearest}")
as_seen = zigzag and nearest == [1, 2, 1, 2]
for distance in (0.1, 1, 10):
    metric = Distance(network)
    line = loss_landscapes.random_line(network, metric, distance=distance, steps=STEPS, deepcopy_model=True)
    end = line[-1] * metric.start.norm()
    print(f"random_line, distance {distance}: ends at {line[-1]:.2f} norms, which is {end:.2f}")
    as_seen &= abs(line[-1] * distance - 1) < 1e-3
sys.exit(int(not as_seen))
PYTHON
env/bin/python plane.py || { echo "CHANGED"; exit 1; }
