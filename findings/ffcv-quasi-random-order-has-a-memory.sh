#!/usr/bin/env bash
# FFCV 1.0.2: an epoch's QUASI_RANDOM order depends on the epochs that the same loader drew before, whatever the seed.
# Expected: as with RANDOM, the order of an epoch follows from the seed and the epoch's number, so that a training that
# is interrupted can go on: a new loader is told the number (`next_epoch`) and draws the same order. Seen: the order
# shuffles the samples of each page in place, on top of the shuffles of the epochs before. Of a new loader's third
# epoch, about as many samples are where the first loader had them as if one of the two orders were drawn by chance.
# It matters to whoever resumes a training with FFCV's order for data larger than memory: it goes on with other batches
# than without the interruption, although every seed is set. Every sample still comes once an epoch.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 numba==0.68.1
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > orders.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

SAMPLES = 3000
print(f"FFCV {version('ffcv')}")
fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
image = np.zeros((32, 32, 3), dtype=np.uint8)
writer = DatasetWriter("data.beton", fields, page_size=2**21, num_workers=1)
writer.from_indexed_dataset([(image, number) for number in range(SAMPLES)])


def loader(order):
    pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]}
    return Loader("data.beton", 50, num_workers=1, order=order, pipelines=pipelines, seed=0, os_cache=False)


def epoch(loader):
    return np.concatenate([labels.numpy().ravel().copy() for _, labels in loader])


changed = False
for order in (OrderOption.RANDOM, OrderOption.QUASI_RANDOM):
    first, second, resumed = loader(order), loader(order), loader(order)
    whole, again = ([epoch(each) for _ in range(3)] for each in (first, second))
    resumed.next_epoch = 2
    third = epoch(resumed)
    same = (third == whole[2]).mean()
    print(f"{order.name}: of the third epoch, {same:.1%} of the samples of a resumed loader are in their place")
    expected = same == 1 if order is OrderOption.RANDOM else same < 0.01
    whole_runs_are_equal = all((a == b).all() for a, b in zip(whole, again, strict=True))
    changed |= not (expected and whole_runs_are_equal and sorted(third) == list(range(SAMPLES)))
sys.exit(int(changed))
PYTHON
env/bin/python orders.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
