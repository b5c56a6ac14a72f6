#!/usr/bin/env bash
# composer (mosaicml) 0.32.1: the smaller `cutmix_batch(length=...)` is, the larger is the box; 0.1 replaces most.
# Expected: "`length` is interpreted as a fraction of `H` and `W`, and the resulting box is of size
# `(length * H, length * W)`", less where it crosses the border, as with `cutout_batch(length=...)` of the same package.
# Seen: the box of `length=0.1` has sides of up to 30 of 32 pixels, and half of the pixels are replaced on average; that
# of 0.9 has 14. The box's share of the area is computed, and then taken for the share that is kept, as the paper's
# lambda is, so the sides are the root of 1 - length^2. Only 0.71 means what it says.
# The weight of the labels belongs to the box that was drawn, so nothing breaks: it is another augmentation.
# Pull request 3932 of mosaicml/composer was about height and width in the same place. We found no report of this.
# It matters to searches for the size of the box: they find the best one under a wrong name, and `length=0.25`, meant as
# a mild augmentation, replaces up to seven eighths of each image.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install mosaicml==0.32.1 torch==2.7.0 torchvision==0.22.0 numpy==2.1.3
cat > boxes.py << 'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import torch

warnings.simplefilter("ignore")  # while importing
from composer.functional import cutmix_batch, cutout_batch  # noqa: E402

SIDE, DRAWS = 32, 500
np.random.seed(0)
torch.manual_seed(0)
images = torch.ones(2, 3, SIDE, SIDE) * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
labels, swapped = torch.tensor([0, 1]), torch.tensor([1, 0])


def size(changed):
    """Longest side of the changed pixels, and their share of the image."""
    return max(changed.any(0).sum().item(), changed.any(1).sum().item()), changed.float().mean().item()


print(f"composer {version('mosaicml')}, torch {torch.__version__}: {DRAWS} boxes in {SIDE} x {SIDE} pixels")
found = {}
for length in (0.1, 0.25, 0.5, 0.75, 0.9):
    cut, mixed = [], []
    for _ in range(DRAWS):
        cut.append(size(cutout_batch(images, length=length)[0, 0] == 0))
        outputs, others, kept, _ = cutmix_batch(images, labels, length=length, indices=swapped)
        mixed.append(size(outputs[0, 0] == 2))
        assert others.tolist() == [1, 0] and abs(1 - kept - mixed[-1][1]) < 1e-6
    found[length] = [np.array(cut), np.array(mixed)]
    print(f"length {length}, expected: sides up to {SIDE * length:.1f}, {length**2:.1%} or less", end="")
    for name, each in zip(("cutout_batch", "cutmix_batch"), found[length], strict=True):
        print(f"; {name}: {each[:, 0].max():.0f}, {each[:, 1].mean():.1%} on average", end="")
    print()
as_seen = all(cut[:, 0].max() <= SIDE * length for length, (cut, _) in found.items())
as_seen &= [mixed[:, 0].max() for _, mixed in found.values()] == [30, 30, 26, 20, 14]
sys.exit(int(not (as_seen and found[0.1][1][:, 1].mean() > 0.4 and found[0.25][1][:, 1].max() > 0.8)))
PYTHON
env/bin/python boxes.py || { echo "CHANGED"; exit 1; }
