#!/usr/bin/env bash
# FFCV 1.0.2: with `write_mode="smart"`, `smart_threshold` is a number of bytes, and not the ratio that is documented.
# Expected, as its description says: an image becomes a JPEG if it would take more than `smart_threshold` times as much
# space raw. Noise takes 2.9 times as much, so a threshold of 3 keeps it exact; a picture of one color takes 18 times
# as much and becomes a JPEG. Seen: both become JPEGs, since both have more than three bytes. Above their number of
# bytes, both stay raw, and so they do without a threshold, which is the default: "smart" is then "raw", at the price
# of encoding every image as a JPEG that nobody keeps.
# It matters to whoever wants JPEG only where it saves a lot: a small threshold makes every image lossy.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 numba==0.68.1
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > smart.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.reader import Reader
from ffcv.writer import DatasetWriter

print(f"FFCV {version('ffcv')}")
noise = np.random.default_rng(0).integers(256, size=(100, 64, 64, 3), dtype=np.uint8)
kinds = {"noise": noise, "one color": np.full_like(noise, 100)}
RAW = noise[0].nbytes


def size(images, **options):
    """Bytes per image in a file."""
    fields = {"image": RGBImageField(**options), "label": IntField()}
    DatasetWriter("data.beton", fields, page_size=2**21, num_workers=1).from_indexed_dataset([(i, 0) for i in images])
    return int(Reader("data.beton").alloc_table["size"].sum()) / len(images)


changed = False
for name, images in kinds.items():
    jpeg = size(images, write_mode="jpg")
    print(f"{name}: raw takes {RAW / jpeg:.1f} times as many bytes as JPEG")
    changed |= (RAW / jpeg > 3) != (name == "one color")
    for threshold, seen in ((3, jpeg), (RAW - 1, jpeg), (RAW, RAW), (None, RAW)):
        found = size(images, write_mode="smart", smart_threshold=threshold)
        print(f"  smart_threshold={threshold}: {'raw' if found == RAW else 'JPEG'}")
        changed |= found != seen
sys.exit(int(changed))
PYTHON
env/bin/python smart.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
