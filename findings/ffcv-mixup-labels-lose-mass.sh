#!/usr/bin/env bash
# FFCV 1.0.2: MixUp of two images of one class makes a label that does not sum to one.
# Expected of MixUp, w of one image's label and 1 - w of the other's: a class mixed with itself has all of it.
# Seen: `MixupToOneHot` writes w and then 1 - w to the same place, so that the class is left with 1 - w, and the
# row sums to that. With ten balanced classes these are one image in ten; the others are right. Nothing warns.
# It matters to every training with FFCV's MixUp: cross-entropy weighs such an image by 1 - w instead of 1, the
# less the more of the picture is the image's own, and the fewer classes there are the more images it concerns.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > labels.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch
from ffcv.fields import IntField
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader
from ffcv.transforms import LabelMixup, MixupToOneHot, ToTensor
from ffcv.writer import DatasetWriter

CLASSES = 10
classes = torch.randint(CLASSES, (2000,), generator=torch.Generator().manual_seed(0))
samples = [(int(label),) for label in classes]
DatasetWriter("data.beton", {"label": IntField()}, num_workers=1).from_indexed_dataset(samples)
print(f"FFCV {version('ffcv')}: rows of mixed labels that sum to one")


def mixed(*last):
    pipelines = {"label": [IntDecoder(), LabelMixup(alpha=0.8, same_lambda=True), ToTensor(), *last]}
    ((labels,),) = Loader("data.beton", len(samples), num_workers=1, pipelines=pipelines)
    return labels.clone()


first, second, share = mixed().unbind(1)
sums = mixed(MixupToOneHot(CLASSES)).sum(1)
same, w = first == second, float(share[0])
whole = torch.isclose(sums, torch.ones(()))
print(f"two classes: {whole[~same].float().mean():.0%} of {int((~same).sum())}")
print(f"one class:   {whole[same].float().mean():.0%} of {int(same.sum())}; w {w:.3f}, sums {float(sums[same][0]):.3f}")
sys.exit(int(not whole[~same].all() or not torch.allclose(sums[same], torch.tensor(1 - w)) or not 0.1 < w < 0.9))
PYTHON
env/bin/python labels.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
