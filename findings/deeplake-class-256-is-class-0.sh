#!/usr/bin/env bash
# deeplake 4.7.4: in a column of bytes, label 256 is stored as label 0, and images between 0 and 1 as black ones.
# Expected of ClassLabel("uint8") and Image(), whose pixels are bytes unless a type is stated: values that a byte cannot
# hold are refused, as by NumPy, where np.array([256], dtype="uint8") is an OverflowError.
# Seen: append takes them without a message. Of 1000 classes, 744 get the number of another one: label 256 is 0, and 999
# is 231. With ClassLabel("int8"), enough for CIFAR-100, label 128 of Tiny ImageNet's 200 classes is -128. Float images
# between 0 and 1, as ToTensor makes them, are 0 but for pixels at full white, which are 1. Of 16-bit images only the
# lower byte is kept, so that a smooth ramp is a sawtooth.
# The manual says nothing of it, and no issue was found.
# It matters to data sets that are exported to Deep Lake: training goes on with several classes merged or images that
# are black, and only the accuracy tells.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install deeplake==4.7.4 numpy==2.4.6
cat > bytes.py << 'PYTHON'
import sys
from importlib.metadata import version

import deeplake
import numpy as np
from deeplake import types

print("deeplake", version("deeplake"), "- NumPy", np.__version__)


def stored(name, column, values):
    """What a new data set gives back of these values."""
    dataset = deeplake.create(f"file://./{name}")
    dataset.add_column("x", column)
    dataset.append({"x": values})
    dataset.commit()
    dataset = deeplake.open_read_only(f"file://./{name}")
    return [np.asarray(dataset[place]["x"]) for place in range(len(values))]


labels = [0, 127, 128, 255, 256, 999]
as_bytes = [int(label) for label in stored("labels-uint8", types.ClassLabel("uint8"), labels)]
as_signed = [int(label) for label in stored("labels-int8", types.ClassLabel("int8"), labels[:4])]
print("labels", labels, "as uint8:", as_bytes)
print("labels", labels[:4], "as int8:", as_signed)

ramp = np.linspace(0, 1, 5, dtype=np.float32)[None, :, None].repeat(3, 2)  # an image of 1 x 5 pixels
(floats,) = stored("floats", types.Image(), [ramp])
(words,) = stored("words", types.Image(), [(1000 * ramp).astype(np.uint16)])
(right,) = stored("right", types.Image(), [(255 * ramp).astype(np.uint8)])
print("a ramp from 0 to 1:", floats[0, :, 0].tolist())
print("a ramp from 0 to 1000:", words[0, :, 0].tolist())
print("a ramp from 0 to 255:", right[0, :, 0].tolist())

wrapped = as_bytes == [0, 127, 128, 255, 0, 231] and as_signed == [0, 127, -128, -1]
dark = floats[0, :, 0].tolist() == [0, 0, 0, 0, 1] and words[0, :, 0].tolist() == [0, 250, 244, 238, 232]
if not (wrapped and dark and right[0, :, 0].tolist() == [0, 63, 127, 191, 255]):
    sys.exit("CHANGED")
PYTHON
env/bin/python bytes.py 2> errors || { cat errors; exit 1; }
