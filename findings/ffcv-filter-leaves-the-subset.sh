#!/usr/bin/env bash
# FFCV 1.0.2: `Loader.filter` of a loader with `indices`, or of a filtered one, gives other samples than it tested.
# Expected: the samples of that loader which meet the condition. Seen: `filter` counts its samples from 0, and takes the
# counts for indices of the whole file. Of a loader of the second half of a file, the filter by a class gives samples
# of the first half, of another class; two filters in a row give samples that meet one condition or none. Nothing is
# reported, and the number of samples is right. Only of a loader of the whole file it is as expected.
# No page of the manual describes the method, FFCV's own test filters whole files only, and no issue was found.
# It matters to splits of one file: a part of the classes of the training split contains validation images instead.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > samples.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField
from ffcv.loader import Loader
from ffcv.writer import DatasetWriter

SAMPLES, CLASSES, BATCH = 96, 4, 3
fields = {"number": IntField(), "class": IntField(), "year": IntField()}
samples = [(number, number % CLASSES, 2000 + number // 12) for number in range(SAMPLES)]
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset(samples)


def loader(indices=None):
    return Loader("data.beton", BATCH, num_workers=1, drop_last=False, indices=indices)


def numbers(filtered):
    return np.concatenate([batch[0].numpy().ravel().copy() for batch in filtered]).tolist()


def second_class(value):
    return int(value) == 2


def late(value):
    return int(value) >= 2004


print(f"FFCV {version('ffcv')}: samples of {SAMPLES} that a filter gives; number % {CLASSES} is the class")
half = np.arange(SAMPLES // 2 + 1, SAMPLES)
expected = [number for number in half.tolist() if number % CLASSES == 2]  # also those of the class from 2004 on
found = {
    "whole file, class 2": numbers(loader().filter("class", second_class)),
    "second half, class 2": numbers(loader(half).filter("class", second_class)),
    "class 2, from 2004 on": numbers(loader().filter("class", second_class).filter("year", late)),
    "from 2004 on, class 2": numbers(loader().filter("year", late).filter("class", second_class)),
}
print("expected:", *expected)
for name, given in found.items():
    inside = len(set(given) & set(expected))
    print(f"{name}:", *given, f"({len(given)} samples, of which {inside} meet both conditions)")
whole = found.pop("whole file, class 2")
right = whole == [number for number in range(SAMPLES) if number % CLASSES == 2]
wrong = all(len(given) == len(expected) and not set(given) & set(expected) for given in found.values())
sys.exit(int(not right or not wrong))
PYTHON
env/bin/python samples.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
