#!/usr/bin/env bash
# torcheval 0.0.7: the top-5 accuracy of a network whose outputs are all NaN, or all equal, is 100%.
# Expected: what torch.topk gives, which is chance, or NaN. Seen: `MulticlassAccuracy(k=5)` and `HitRate(k=5)` count an
# image as right unless five classes have larger outputs than the right one. No number is larger than NaN, and of equal
# outputs none is larger. So a training that diverged has the best top-5 accuracy of all, and a last layer of zeros is
# perfect before its first step. If a tenth of the images has NaN, top-1 accuracy falls, and top-5 accuracy rises. With
# k=1 the function takes another way, `argmax`, and nothing of this is seen. There is no warning.
# The manual calls k the number of top probabilities to be considered, and has no word on ties and NaN. We found no
# report; tf.nn.in_top_k of TensorFlow counts ties in the same way, which is in its manual, and NaN as wrong.
# It matters to choices by top-5 accuracy, as of a learning rate or of the best epoch: a diverged training wins.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torch==2.15.0 torcheval==0.0.7 numpy==2.4.6
cat > rates.py << 'PYTHON'
import sys
import warnings
from importlib.metadata import version

import torch

warnings.simplefilter("ignore")  # while importing
from torcheval.metrics import HitRate, MulticlassAccuracy  # noqa: E402

warnings.simplefilter("error")
CLASSES, IMAGES, PIXELS = 100, 4000, 64
random = torch.Generator().manual_seed(0)
labels = torch.arange(IMAGES) % CLASSES
images = torch.randn(CLASSES, PIXELS, generator=random)[labels] + 4 * torch.randn(IMAGES, PIXELS, generator=random)


def outputs(rate):
    """Logits of an MLP after 300 steps of SGD with a learning rate. Its last layer starts at zero."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(PIXELS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))
    for each in model[2].parameters():
        torch.nn.init.zeros_(each)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for step in range(300):
        batch = torch.arange(step * 200, (step + 1) * 200) % IMAGES
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model(images).detach()


def accuracies(logits):
    """Top-1, top-5 and the hit rate by torcheval, and top-5 by torch.topk, in percent."""
    both = [MulticlassAccuracy(k=k).update(logits, labels).compute() for k in (1, 5)]
    rate = HitRate(k=5).update(logits, labels).compute().mean()
    ranked = (logits.topk(5).indices == labels[:, None]).any(1).float().mean()
    return [round(100 * each.item(), 1) for each in (*both, rate, ranked)]


print(f"torcheval {version('torcheval')}, torch {version('torch')}: {CLASSES} classes, accuracies in percent")
cases = {f"learning rate {rate}": outputs(rate) for rate in (0, 0.01, 0.1, 1000)}
cases["learning rate 0.1, a tenth NaN"] = cases["learning rate 0.1"].clone()
cases["learning rate 0.1, a tenth NaN"][: IMAGES // 10] = torch.nan
found = {name: accuracies(logits) for name, logits in cases.items()}
for name, values in found.items():
    print("{}: top-1 {}, top-5 {}, hit rate {}; top-5 by topk {}".format(name, *values), end="")
    print(f"; {cases[name].isnan().float().mean():.0%} of the logits are NaN")
start, slow, good, diverged, broken = found.values()
agree = all(top5 == hits for _, top5, hits, _ in found.values()) and all(a[1] == a[3] < 90 for a in (slow, good))
perfect = all(a[0] < 3 and a[1] == 100 and a[3] < 10 for a in (start, diverged))
rises = broken[0] < good[0] - 2 and broken[1] > good[1] + 1 and broken[3] < good[3] - 3
sys.exit(int(not (agree and perfect and rises)))
PYTHON
env/bin/python rates.py || { echo "CHANGED"; exit 1; }
