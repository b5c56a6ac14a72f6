#!/usr/bin/env bash
# FFCV 1.0.2: two augmented views of an image that start from one decoder are the same image, with both augmentations.
# Expected of two pipelines, the second with the first one's decoder as its source (FFCV's issue 82: "multiple distinct
# pipelines out of the same source"): each has its own augmentation, drawn anew. Seen: brightness, contrast,
# saturation, translation, cutout and Poison change the decoded batch itself, which both pipelines share, so that both
# views are equal to the last bit, and a second output without augmentation, meant as the clean image, has that of the
# first. RandomHorizontalFlip writes into memory of its own and does not. Two decoders, each with the field's name as
# its source, give different views, at the price of decoding twice. The manual has no such example, and no issue was
# found.
# It matters to contrastive and consistency training, where the distance of two views is the loss: it is 0 here; and to
# whoever compares clean and augmented images in one pass.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > views.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline import PipelineSpec
from ffcv.transforms import Cutout, RandomBrightness, RandomContrast, RandomHorizontalFlip, RandomTranslate, ToTensor
from ffcv.writer import DatasetWriter

IMAGES, SIDE = 1000, 32
images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset([(each, i) for i, each in enumerate(images)])


def share_changed(first, second):
    """Mean of whether two batches of images differ, per image."""
    return float((first != second).any((1, 2, 3)).mean())


def views(make, decoders):
    """Shares of images: of which two views differ, and whose clean output is not the image."""
    decoder = SimpleRGBImageDecoder()
    source = decoder if decoders == 1 else "image"
    pipelines = {
        "image": [decoder, make(), ToTensor()],
        "label": [IntDecoder(), ToTensor()],
        "second": PipelineSpec(source, transforms=[make(), ToTensor()]),
    }
    options = dict(num_workers=1, order=OrderOption.SEQUENTIAL)
    different = [
        share_changed(first.numpy(), second.numpy())
        for first, _, second in Loader("data.beton", 100, pipelines=pipelines, **options)
    ]
    decoder = SimpleRGBImageDecoder()
    source = decoder if decoders == 1 else "image"
    pipelines |= {"image": [decoder, make(), ToTensor()], "second": PipelineSpec(source, transforms=[ToTensor()])}
    unclean = [
        share_changed(clean.numpy(), images[labels.numpy()[:, 0]])
        for _, labels, clean in Loader("data.beton", 100, pipelines=pipelines, **options)
    ]
    return float(np.mean(different)), float(np.mean(unclean))


print("FFCV", version("ffcv"), "numba", version("numba"), "NumPy", np.__version__)
augmentations = {
    "brightness": lambda: RandomBrightness(0.9, p=1.0),
    "contrast": lambda: RandomContrast(0.9, p=1.0),
    "translation": lambda: RandomTranslate(4),
    "cutout": lambda: Cutout(8),
    "flip": lambda: RandomHorizontalFlip(0.5),
}
text = "different views of {:.0%} of the images, a changed clean output of {:.0%}"
changed = False
for name, make in augmentations.items():
    shared, apart = views(make, 1), views(make, 2)
    print(f"{name}, one decoder: {text.format(*shared)}")
    print(f"{name}, two decoders: {text.format(*apart)}")
    as_seen = 0.4 < shared[0] < 0.6 and shared[1] == 0 if name == "flip" else shared[0] == 0 and shared[1] > 0.9
    changed |= not (as_seen and apart[0] > 0.4 and apart[1] == 0)
sys.exit("CHANGED" if changed else 0)
PYTHON
env/bin/python views.py 2> errors || { cat errors; exit 1; }
