#!/usr/bin/env bash
# FFCV 1.0.2 and PyTorch 2.15.0: the orders of seed 1 are those of seed 0, one epoch later.
# Expected: trainings with seeds 0, 1 and 2 see their images in orders of their own. Seen: FFCV's Loader draws
# an epoch's order from the sum of seed and epoch alone, and so does PyTorch's DistributedSampler, which FFCV
# uses in distributed trainings: epoch 1 of seed 0 is epoch 0 of seed 1, image by image. No manual says so.
# It matters to a spread over seeds: three trainings of 100 epochs with seeds 0, 1 and 2 have 102 orders
# between them, not 300. Seeds that are at least as far apart as there are epochs share none.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > orders.py << 'PYTHON'
import sys
from importlib.metadata import version

from ffcv.fields import IntField
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter
from torch.utils.data import DistributedSampler

EPOCHS, LABELS = 4, range(64)
DatasetWriter("data.beton", {"label": IntField()}, num_workers=1).from_indexed_dataset([(i,) for i in LABELS])


def loader(seed):
    pipelines = {"label": [IntDecoder(), ToTensor()]}
    options = dict(num_workers=1, order=OrderOption.RANDOM, seed=seed, pipelines=pipelines)
    batches = Loader("data.beton", len(LABELS), **options)
    return [tuple(label.flatten().tolist()) for _ in range(EPOCHS) for (label,) in batches]


def sampler(seed):
    indices = DistributedSampler(LABELS, num_replicas=1, rank=0, seed=seed)
    return [tuple(indices) for epoch in range(EPOCHS) if indices.set_epoch(epoch) is None]


print(f"FFCV {version('ffcv')}, PyTorch {version('torch')}")
for name, orders in (("FFCV's Loader", loader), ("DistributedSampler", sampler)):
    first, second, third = orders(0), orders(1), orders(2)
    shifted, number = first[1:] == second[:-1] and second[1:] == third[:-1], len({*first, *second, *third})
    print(f"{name}: {number} orders in 3 seeds of {EPOCHS} epochs; each seed is one epoch on: {shifted}")
    shifted and number == EPOCHS + 2 or sys.exit(1)
PYTHON
env/bin/python orders.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
