#!/usr/bin/env bash
# torch-uncertainty 0.13.0: VariationRatio, which is to say how often the networks of an ensemble disagree, says how
# different the images are.
# Expected: for probabilities in the order of the manual, (images, networks, classes), the share of networks that do not
# choose the class of the mean, and 0 for copies of one network. `Disagreement` takes the same order.
# Seen: 0.89 for copies of one network, and for networks that differ, 0.89 and 0.88, instead of 0.20 and 0.64. With ten
# classes, that is how often images are of another class than the most frequent one. `update` swaps the first two
# dimensions, so that images are taken for networks. In ten batches the value is another, and reduction="none" gives one
# value per network, not per image. With the first two dimensions swapped before, as the package's own
# VariationRatioCriterion does, all is right. There is no message.
# The manual's example has the wrong result, too: 0.45, where the means of the chosen classes, 0.7 and 0.6, make 0.35.
# The package's tests have one image each. We found no issue.
# It matters to ensembles over seeds: the number is plausible, and hardly changes whatever the networks are.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install torch-uncertainty==0.13.0 torchmetrics==1.9.0 'lightning[pytorch-extra]==2.6.6' torch==2.15.0 \
    torchvision==0.29.2
cat > ensembles.py << 'PYTHON'
import sys
from importlib import metadata

import torch
from torch_uncertainty.metrics import Disagreement, VariationRatio

IMAGES, NETWORKS, CLASSES = 1000, 5, 10


def ensemble(noise):
    """Probabilities (images, networks, classes) of networks whose logits differ by ``noise``."""
    logits = 4 * torch.randn(IMAGES, 1, CLASSES) + noise * torch.randn(IMAGES, NETWORKS, CLASSES)
    return logits.softmax(-1)


def measure(probabilities, batches=1, metric=VariationRatio, **settings):
    metric = metric(**settings)
    for batch in probabilities.chunk(batches):
        metric.update(batch)
    return metric.compute()


def by_hand(probabilities):
    chosen = probabilities.mean(1).argmax(-1)
    return (probabilities.argmax(-1) != chosen[:, None]).float().mean().item()


torch.manual_seed(0)
print(f"torch-uncertainty {metadata.version('torch-uncertainty')}, torch {torch.__version__.partition('+')[0]}")
example = [[[0.7, 0.3], [0.6, 0.4], [0.8, 0.2]], [[0.4, 0.6], [0.5, 0.5], [0.3, 0.7]]]
manual = measure(torch.tensor(example)).item()
print(f"the manual's example: expected {(1 - 0.7 + 1 - 0.6) / 2:.2f}, seen {manual:.2f}")
expected, seen, swapped = [], [], []
for name, noise in {"copies of one network": 0, "similar networks": 1, "different networks": 100}.items():
    probabilities = ensemble(noise)
    whole, tenths = (measure(probabilities, batches, probabilistic=False).item() for batches in (1, 10))
    expected.append(by_hand(probabilities))
    seen.append(whole)
    swapped.append(measure(probabilities.transpose(0, 1), probabilistic=False).item())
    disagreement = measure(probabilities, metric=Disagreement).item()
    print(f"{name}: expected {expected[-1]:.2f}, seen {whole:.2f}, in ten batches {tenths:.2f},", end=" ")
    print(f"with swapped dimensions {swapped[-1]:.2f}; Disagreement {disagreement:.2f}")
each = measure(probabilities, probabilistic=False, reduction="none")
print(f"values for {IMAGES} images and {NETWORKS} networks: {len(each)}")
wrong = [
    abs(manual - 0.45) < 0.001,
    max(abs(right - value) for right, value in zip(expected, swapped)) < 0.001,
    expected[0] == 0 and expected[1] < 0.3 and min(seen) > 0.8,
    len(each) == NETWORKS,
]
if not all(wrong):
    sys.exit("CHANGED")
PYTHON
env/bin/python ensembles.py 2> errors || { cat errors; exit 1; }
