#!/usr/bin/env bash
# FFCV 1.0.2: a name shorter than the longest one is read with the end of an earlier name behind it: a ship is a
# "shipmobile" if an automobile was in its place five batches before.
# Expected of BytesField ("variable-length byte arrays", "such as text"): the bytes of the sample, followed by zeros or
# accompanied by their number. Seen: a batch has as many bytes per sample as the longest sample of the file, and no
# lengths. What follows a shorter sample is what the memory held before, and that is, more and more during an epoch,
# the ends of names from earlier batches. With CIFAR-10's class names, most names are read wrong.
# JSONField ends each text with a zero byte and is read correctly. No issue was found.
# It matters to whoever keeps file names, class names or captions next to the images: predictions are then grouped
# by classes that do not exist. Texts can be stored with a zero byte at their end.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > names.py << 'PYTHON'
import sys
from collections import Counter
from importlib.metadata import version

import numpy as np
from ffcv.fields import BytesField, IntField, JSONField
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
BATCH, BATCHES = 100, 60
labels = np.random.default_rng(0).integers(0, 10, BATCH * BATCHES)
samples = [(np.frombuffer(NAMES[i].encode(), np.uint8), {"name": NAMES[i]}, int(i)) for i in labels]
fields = {"text": BytesField(), "json": JSONField(), "label": IntField()}
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset(samples)

wrong, in_json, read_as = [], 0, Counter()
for texts, jsons, numbers in Loader("data.beton", BATCH, num_workers=1, order=OrderOption.SEQUENTIAL):
    true = [NAMES[i] for i in numbers.numpy()[:, 0]]
    read = [row.tobytes().rstrip(b"\0").decode("latin1") for row in texts.numpy()]
    mistakes = [(name, text) for name, text in zip(true, read) if name != text]
    wrong.append(len(mistakes))
    read_as.update(text for name, text in mistakes if text.startswith("ship"))
    in_json += sum(name != entry["name"] for name, entry in zip(true, JSONField.unpack(jsons)))

print("FFCV", version("ffcv"), "numba", version("numba"), "NumPy", np.__version__)
print(f"names read wrong, of {BATCH} in each batch:", *wrong)
print(f"a ship was read as one of {len(read_as)} other texts, such as:", *(text for text, _ in read_as.most_common(3)))
print(f"wrong in JSONField: {in_json}")
if min(wrong[-20:]) < 70 or "shipmobile" not in read_as or in_json:
    sys.exit("CHANGED")
PYTHON
env/bin/python names.py 2> errors || { cat errors; exit 1; }
