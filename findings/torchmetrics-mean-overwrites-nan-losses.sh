#!/usr/bin/env bash
# torchmetrics 1.9.0: `MeanMetric(nan_strategy=0.0)` overwrites NaN in the losses that it is given.
# Expected: a metric reads what it is given. Seen: with a number as `nan_strategy`, MeanMetric, SumMetric, MaxMetric
# and CatMetric write that number into the caller's tensor, in place of NaN. A loop that notes its loss and then stops
# if it is NaN goes on: the loss is 0, its gradient is NaN, so are the weights after the step, and the loss of each step
# that follows is 0 too, so that the noted mean looks excellent. If it looks first and notes then, all is right, as with
# "ignore" and "disable". Losses of images that are kept have no NaN left, either. There is no warning.
# The manual says "if a float is provided will impute any nan values with this value". We found no report of it.
# It matters to trainings that diverge, in float16 or at high learning rates: what was made to be noticed is hidden by
# the way in which it was logged.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torchmetrics==1.9.0 numpy==2.4.6
cat > train.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch
from torchmetrics import CatMetric, MaxMetric, MeanMetric, SumMetric

BATCH, BROKEN = 8, 21
images, labels = torch.randn(128, 16, generator=torch.Generator().manual_seed(0)), torch.arange(128) % 2
images[BROKEN, 3] = torch.nan


def train(noted):
    """Train until the loss is NaN, or to the end of 160 steps."""
    weights = torch.zeros(16, 2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], 0.1)
    for step in range(160):
        batch = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
        loss = torch.nn.functional.cross_entropy(images[batch] @ weights, labels[batch])
        if noted is not None:
            noted.update(loss)
        if torch.isnan(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mean = None if noted is None else round(float(noted.compute()), 3)
    return step + 1, round(loss.item(), 3), mean, int(torch.isnan(weights).sum())


print(f"torchmetrics {version('torchmetrics')}, torch {version('torch')}: a training with a broken image in its step 3")
found = {}
for name, noted in {
    "loss not noted": None,
    'noted with "ignore"': MeanMetric(nan_strategy="ignore"),
    'noted with "disable"': MeanMetric(nan_strategy="disable"),
    "noted with 0.0": MeanMetric(nan_strategy=0.0),
}.items():
    found[name] = train(noted)
    print("{}: ends at step {}, last loss {}, mean {}, {} of 32 weights are NaN".format(name, *found[name]))

left = {}
for kind in (MeanMetric, SumMetric, MaxMetric, CatMetric):
    losses = torch.tensor([0.5, torch.nan, 1.5])
    kind(nan_strategy=9.0).update(losses)
    left[kind.__name__] = losses.tolist()
    print(f"{kind.__name__}(nan_strategy=9.0) leaves of 0.5, nan, 1.5: {left[kind.__name__]}")
*others, (steps, loss, mean, broken) = found.values()
noticed = all(case[0] == 3 and case[3] == 0 for case in others)
hidden = steps == 160 and loss == 0 and mean < 0.1 and broken > 0
sys.exit(int(not (noticed and hidden and all(each == [0.5, 9.0, 1.5] for each in left.values()))))
PYTHON
env/bin/python train.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
