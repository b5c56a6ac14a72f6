#!/usr/bin/env bash
# ema-pytorch 0.8.3: post-hoc averages, set up as in its manual, consist of the weights of the start of the training.
# Expected: `PostHocEMA` tracks averages of the widths `sigma_rels`, and `synthesize_ema_model` makes one of any width
# from their checkpoints. A width is a standard deviation as a share of the training (Karras et al. 2024).
# Seen: so it is with `update_every=1`. Otherwise the decay of one step is applied once per `update_every` steps, and
# too little is forgotten: by a factor of 10 in the manual's example, of 100 by default. Of a synthesized average of
# width 10%, whose mean should be at 89% of the training, it is at 35% and at 7%, and the width is 35% and 18%. There is
# no warning, and the weights of the average sum to one.
# The manual says of `update_every` that it is "to save on compute". There seems to be no report.
# It matters to whoever looks for the best length of an average after the training, which the class is for: every length
# is much longer than it says, and its network looks as if the training had hardly begun.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install ema-pytorch==0.8.3 torch==2.15.0 numpy==2.4.6
cat > averages.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch
from ema_pytorch import PostHocEMA
from ema_pytorch.post_hoc_ema import sigma_rel_to_gamma

STEPS = 5000


def profile(network):
    """Where an average of weights has its mean, and its width, as shares of the training."""
    mean, square = network.weight[0].tolist()
    return mean, (square - mean**2) ** 0.5


def expected(width):
    gamma = sigma_rel_to_gamma(width)
    return (gamma + 1) / (gamma + 2), width


def train(every):
    """The profiles of tracked and synthesized averages over a training whose weights are its time and its square."""
    network = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    averages = PostHocEMA(
        network,
        sigma_rels=(0.05, 0.28),
        update_every=every,
        checkpoint_every_num_steps=500,
        checkpoint_folder=f"checkpoints-{every}",
        checkpoint_dtype=torch.float64,
    )
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            network.weight[0] = torch.tensor([step / STEPS, (step / STEPS) ** 2])
        averages.update()
    tracked = averages.ema_models[0].ema_model
    return profile(tracked), profile(averages.synthesize_ema_model(sigma_rel=0.10).ema_model)


def line(name, profiles):
    print(name, *(f"{where:.0%} +- {width:.0%}" for where, width in profiles), sep="\t")


print(f"ema-pytorch {version('ema-pytorch')}, PyTorch {torch.__version__.partition('+')[0]}")
print("mean and width of a tracked average, sigma_rel=0.05, and of a synthesized one, sigma_rel=0.10:")
right = [expected(0.05), expected(0.10)]
line("expected", right)
seen = {every: train(every) for every in (1, 10, 100)}
for every, profiles in seen.items():
    line(f"every {every}", profiles)


def close(one, other):
    return abs(one[0] - other[0]) < 0.01 and abs(one[1] - other[1]) < 0.01


every_step = all(close(*pair) for pair in zip(seen[1], right, strict=True))
early = seen[10][0][0] < 0.7 and seen[10][1][0] < 0.4 and seen[100][0][0] < 0.2 and seen[100][1][0] < 0.1
sys.exit(int(not (every_step and early)))
PYTHON
env/bin/python averages.py || { echo "CHANGED"; exit 1; }
