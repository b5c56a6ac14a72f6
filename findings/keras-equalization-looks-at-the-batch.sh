#!/usr/bin/env bash
# Keras 3.15.1: the layer Equalization equalizes a batch as if it were one image, and leaves out evaluation.
# Expected: an image is equalized by its own histogram, as Pillow and torchvision do, whatever else is in the batch.
# Seen: a dark image gets all levels from 0 to 255 if it comes alone, and 0 to 31 in a batch with seven bright ones, as
# the darkest eighth of the batch. The histogram is counted over the whole batch.
# The manual says, "At inference time, the equalization is consistently applied". With `training=False`, as in a model's
# `evaluate` and `predict`, the images come out as they went in.
# There is no warning. The manual speaks of "image channels" that are equalized independently, and accepts batches; no
# issue or pull request was found that names either behavior. RandAugment and AugMix use this layer.
# It matters to scans, characters or street scenes, where equalization is to undo the exposure: the exposure stays, an
# image depends on which others the shuffling puts next to it, and test images are not equalized.
# Needs about 1 GB for JAX while it is installed and runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install keras==3.15.1 jax==0.10.2 numpy==2.4.6 pillow==13.0.0
cat > equalize.py << 'PYTHON'
import sys

import keras
import numpy as np
from PIL import Image, ImageOps

random = np.random.default_rng(0)
dark = random.integers(0, 64, (1, 32, 32, 3), dtype=np.uint8)
bright = random.integers(192, 256, (7, 32, 32, 3), dtype=np.uint8)
batch = np.concatenate([dark, bright])
equalization = keras.layers.Equalization()


def levels(image):
    image = np.asarray(image)
    return int(image.min()), int(image.max())


seen = {
    "before": levels(dark[0]),
    "by Pillow": levels(ImageOps.equalize(Image.fromarray(dark[0]))),
    "by Keras, alone": levels(equalization(dark, training=True)[0]),
    "by Keras, with seven bright ones": levels(equalization(batch, training=True)[0]),
    "by Keras, training=False": levels(equalization(dark, training=False)[0]),
}
print(f"Keras {keras.__version__}; darkest and brightest level of the dark image:")
for name, (low, high) in seen.items():
    print(f"{name}: {low} to {high}")
wide = {"by Pillow", "by Keras, alone"}
apart = seen["by Keras, with seven bright ones"]
unchanged = seen["by Keras, training=False"] == seen["before"] == (0, 63)
if not (all(seen[name] == (0, 255) for name in wide) and apart[1] < 40 and unchanged):
    sys.exit("CHANGED")
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu env/bin/python equalize.py 2> errors || { cat errors; exit 1; }
