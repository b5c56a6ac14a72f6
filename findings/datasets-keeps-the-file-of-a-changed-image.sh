#!/usr/bin/env bash
# datasets 5.2.0: an image that was opened from a file and changed in place is stored as the file, without the change.
# Expected: a data set of the images that it is given: thumbnails of 16x16 pixels, or images with a blacked out part.
# Seen: `thumbnail`, `paste` and ImageDraw change an image that still knows its file's name, and whatever knows such
# a name is stored as a reference to the file (`encode_pil_image`). The data set has the original pixels, from
# `Dataset.from_dict`, `from_list` and `map` alike, while the image in hand has the new ones. `resize` and `crop` make
# new images, which are stored as they are. In `map`, the same function works on images that come as bytes, as from a
# parquet file, and not on ones from a folder. There is no warning. The description of the Image feature lists images of
# Pillow among what it takes, and says nothing of the files that they are from. We found no report.
# It matters to training on reduced, masked or occluded images: the step can do nothing to the data set's images, and
# whether it does depends on how they were stored before.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install datasets==5.2.0 pillow==13.0.0 numpy==2.4.6 pyarrow==26.0.1 pandas==3.1.1
export HF_HOME=$PWD/cache HF_DATASETS_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
cat > images.py << 'PYTHON'
import sys
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageDraw

SIDE, LESS = 64, 16
print(f"datasets {datasets.__version__}, Pillow {Image.__version__}: images of {SIDE}x{SIDE} pixels")
random = np.random.default_rng(0)
for name in ("cat", "dog"):
    Path("folder", name).mkdir(parents=True)
    Image.fromarray(random.integers(1, 256, (SIDE, SIDE, 3), np.uint8)).save(f"folder/{name}/0.png")


def shrunk(image):
    image.thumbnail((LESS, LESS))
    return image


def pasted(image):
    image.paste((0, 0, 0), (0, 0, SIDE // 2, SIDE))
    return image


def drawn(image):
    ImageDraw.Draw(image).rectangle((0, 0, SIDE // 2 - 1, SIDE), fill=0)
    return image


def resized(image):
    return image.resize((LESS, LESS))


def look(image):
    black = (np.asarray(image) == 0).all(-1).mean()
    return f"{image.width}x{image.height}, {black:.0%} black"


def stored(change):
    """The first image after a change: in hand, and of four data sets."""
    files = sorted(Path("folder").rglob("*.png"))
    images = [change(Image.open(file)) for file in files]
    yield "in hand", images[0]
    yield "from_dict", datasets.Dataset.from_dict({"image": images})[0]["image"]
    yield "from_list", datasets.Dataset.from_list([{"image": image} for image in images])[0]["image"]
    folder = datasets.load_dataset("imagefolder", data_dir="folder", split="train")
    parts = [{"bytes": file.read_bytes(), "path": None} for file in files]
    packed = datasets.Dataset.from_dict({"image": parts}, features=datasets.Features(image=datasets.Image()))
    for name, each in (("map of a folder", folder), ("map of bytes", packed)):
        yield name, each.map(lambda example: {"image": change(example["image"])})[0]["image"]


as_seen = True
for change, new in ((shrunk, "16x16, 0% black"), (pasted, "64x64, 50% black"), (drawn, "64x64, 50% black")):
    found = {name: look(image) for name, image in stored(change)}
    print(f"{change.__name__}:", "; ".join(f"{name}: {text}" for name, text in found.items()))
    lost = {name for name, text in found.items() if text == "64x64, 0% black"}
    kept = {name for name, text in found.items() if text == new}
    as_seen &= lost == {"from_dict", "from_list", "map of a folder"} and kept == {"in hand", "map of bytes"}
found = {name: look(image) for name, image in stored(resized)}
print(f"{resized.__name__}:", "; ".join(f"{name}: {text}" for name, text in found.items()))
sys.exit(int(not as_seen or set(found.values()) != {"16x16, 0% black"}))
PYTHON
env/bin/python -W error images.py || { echo "CHANGED"; exit 1; }
